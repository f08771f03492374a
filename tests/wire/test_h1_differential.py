"""The strict path against h11: for any bytes in any split, both say the same, and can carry the same afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.headers import Headers
from anyio_client._model.request import Request
from anyio_client._wire.h1 import ONLY_H11, H1Wire
from anyio_client._wire.h11wire import H11Wire
from tests.kit.dialogues import BODIES, FIELDS, LINES, METHODS, STATUS, both, run
from tests.kit.fuzz import examples

# --- requests ------------------------------------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> tuple[Request, list[bytes]]:
    """A request and the pieces of its body."""
    fields = [("Host", "h"), *draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique_by=lambda field: field[0]))]
    pieces = draw(st.lists(st.binary(min_size=1, max_size=4), max_size=3))
    if pieces and draw(st.booleans()):
        fields.append(("Content-Length", str(sum(map(len, pieces)) + draw(st.sampled_from([0, 0, 0, 1, -1])))))
    draw(st.randoms()).shuffle(fields)
    return Request(draw(st.sampled_from(METHODS)), "http://h/x?y", headers=Headers(fields)), pieces


# --- answers -------------------------------------------------------------------------------------------------------

HEADS = st.builds(
    lambda status, lines, end: status + b"".join(lines) + end,
    st.sampled_from(STATUS) | st.sampled_from(STATUS[:3]),
    st.lists(st.sampled_from(LINES) | st.sampled_from(LINES[:2]) | st.just(LINES[13]), max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
)
ANSWERS = st.lists(HEADS | st.sampled_from(BODIES) | st.sampled_from(BODIES) | st.binary(max_size=6), max_size=6).map(
    b"".join
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An answer with a few bytes changed."""
    answer = bytearray(draw(ANSWERS))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        if answer:
            place = draw(st.integers(0, len(answer) - 1))
            how = draw(st.sampled_from(["change", "delete", "insert"]))
            byte = draw(st.sampled_from(list(b"\r\n :;0159afAF,\t\0\x7f\xffx")))
            if how == "insert":
                answer.insert(place, byte)
            elif how == "delete":
                del answer[place]
            else:
                answer[place] = byte
    return bytes(answer)


@st.composite
def split(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(set(draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=6))))
    if draw(st.sampled_from([False, False, False, True])):
        cuts = list(range(1, len(data)))  # bytewise
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if data[start:end]]
    return [*pieces, b""] if draw(st.booleans()) else pieces


@st.composite
def dialogues(draw: st.DrawFn) -> list[Any]:
    """Exchanges on one connection: what is sent, and what comes in between."""
    steps: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        request, pieces = draw(requests())
        steps.append(("open", request, not pieces))
        sending: list[Any] = [("send", piece) for piece in pieces]
        if pieces:
            sending.append(("finish", Headers(draw(st.sampled_from([[], [], [("X-Sum", "1")]])))))
        coming: list[Any] = [("receive", piece) for piece in draw(split(draw(mutated())))]
        while sending or coming:  # in any order of the two
            first = sending and (not coming or draw(st.sampled_from([True, True, False])))
            steps.append(sending.pop(0) if first else coming.pop(0))
    return steps


# --- both -----------------------------------------------------------------------------------------------------------


@given(dialogues())
@settings(max_examples=examples(700))
def test_any_dialogue_is_the_same(steps: list[Any]) -> None:
    strict, plain = both(steps)
    assert strict == plain


@pytest.mark.parametrize("forwarded", [False, True])
@given(requests())
@settings(max_examples=examples(300))
def test_any_request_is_written_the_same(forwarded: bool, given_request: tuple[Request, list[bytes]]) -> None:
    request, pieces = given_request
    steps = [("open", request, not pieces), *(("send", piece) for piece in pieces)]
    if pieces:
        steps.append(("finish", Headers([("X-Sum", "1")])))
    options: dict[str, Any] = {"forwarded": forwarded, "proxy_authorization": "Basic eA==" if forwarded else None}
    assert run(H1Wire(**options), steps) == run(H11Wire(**options), steps)


# --- any fields -----------------------------------------------------------------------------------------------------

TOKEN = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=6)
FIELD_NAMES = TOKEN | st.sampled_from(
    ["Host", "host", "Content-Length", "Connection", "TE", "Expect", "Upgrade", "X-A", "x-a", "Cookie"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.just("\t"), max_size=6)
FIELD_VALUES = TEXTS | st.sampled_from(
    ["", "0", "3", "close", "ü", "日本", "\x80\x9f".encode().decode("latin-1"), "a\tb", "\u2028", "\ufeff"]
)
# What another codec let pass: any octets but control characters, and no white space at the ends.
OCTETS = st.binary(max_size=6).map(lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F).strip())


@st.composite
def any_headers(draw: st.DrawFn) -> Headers:
    headers = Headers(draw(st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=5)))
    from_wire = Headers.from_wire(
        (name.encode(), value) for name, value in draw(st.lists(st.tuples(FIELD_NAMES, OCTETS), max_size=4))
    )
    match draw(st.sampled_from(["apart", "of", "fields", "pairs", "mapping"])):
        case "apart":
            pass
        case "of":
            headers = Headers(from_wire)
        case "fields":
            headers.fields += from_wire.fields
        case "pairs":
            for name, value in from_wire.multi_items():
                if not any("\x7f" <= character < "\xa0" for character in value):
                    headers.add(name, value)
        case _:
            headers = Headers(dict(headers))
    if draw(st.sampled_from([True, True, True, False])):
        headers.setdefault("Host", "h")
    draw(st.randoms()).shuffle(headers.fields)
    return headers.copy() if draw(st.booleans()) else headers


@pytest.mark.parametrize("forwarded", [False, True])
@given(any_headers(), st.booleans(), st.sampled_from([[], [b"abc"], [b"a", b"bc"]]))
@settings(max_examples=examples(300))
def test_any_fields_are_written_the_same(
    forwarded: bool, headers: Headers, trailers: bool, pieces: list[bytes]
) -> None:
    request = Request("POST", "http://h/x", headers=headers)
    steps: list[Any] = [("open", request, not pieces), *(("send", piece) for piece in pieces)]
    if pieces:
        steps.append(("finish", Headers([("X-Sum", "ü")] if trailers else [])))
    options: dict[str, Any] = {"forwarded": forwarded, "proxy_authorization": "Basic eA==" if forwarded else None}
    assert run(H1Wire(**options), steps) == run(H11Wire(**options), steps)


def written(headers: Headers) -> bytes:
    wire = H1Wire()
    wire.open(Request("GET", "http://h/", headers=headers), end=True)
    return wire.take_output()


@given(any_headers())
@settings(max_examples=examples(300))
def test_each_field_is_one_line_with_the_octets_that_it_has(headers: Headers) -> None:
    headers = Headers.of_fields(
        [field for field in headers.fields if field[0] in ("x-a", "te", "cookie") or len(field[0]) < 3]
    )
    for lower, name, value, raw, line in headers.fields:
        assert lower == name.lower()
        assert line in (b"", name.encode() + b": " + raw + b"\r\n")
        assert raw in (value.encode(), value.encode("latin-1", errors="replace"))
    head = written(Headers.of_fields([*Headers({"Host": "h"}).fields, *headers.fields]))
    lines = b"".join(name + b": " + raw + b"\r\n" for name, raw in headers.raw)
    assert head == b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"


@pytest.mark.parametrize(
    ("line", "again"),
    [
        (b"X-A: plain\r\n", b"X-A: plain\r\n"),
        (b"x-a:plain\r\n", b"x-a: plain\r\n"),
        (b"X-A:  plain \t\r\n", b"X-A: plain\r\n"),
        (b"X-A:\r\n", b"X-A: \r\n"),
        ("X-A: ü 日本\r\n".encode(), "X-A: ü 日本\r\n".encode()),
        (b"X-A: \xfc\r\n", b"X-A: \xfc\r\n"),
        (b"Server:nginx\r\n", b"Server: nginx\r\n"),
    ],
)
def test_a_field_that_a_server_sent_goes_out_again_as_its_octets(line: bytes, again: bytes) -> None:
    for _ in range(2):  # lines that were read may be remembered
        wire = H1Wire()
        wire.open(Request("GET", "http://h/", headers={"Host": "h"}), end=True)
        head = wire.receive(b"HTTP/1.1 200 OK\r\n" + line + b"Content-Length: 0\r\n\r\n")[0]
        answered: Headers = head.head.headers  # type: ignore[union-attr]
        del answered["content-length"]
        for copied in (Headers(answered), answered.copy(), Headers.from_wire(answered.raw)):
            copied["Host"] = "h"
            assert written(copied) == b"GET / HTTP/1.1\r\nHost: h\r\n" + again + b"\r\n"
        ((name, value),) = answered.multi_items()
        expected = again.replace(b"\xfc", "ü".encode()) if b"\xfc\r" in again else again
        assert written(Headers([("Host", "h"), (name, value)])) == b"GET / HTTP/1.1\r\nHost: h\r\n" + expected + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        HEAD + b"X: y\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",  # not all of it
        HEAD + b"\r\n",  # up to the end of the connection
        HEAD + b"Content-Length: +5\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
        HEAD + b"Content-Length : 5\r\n\r\nhello",
        HEAD + b"Content-Length:  5\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Connection: close, x\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"X: \xff\r\nContent-Length: 0\r\n\r\n",
        HEAD + b" folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        CHUNKED + b"5 \r\nhello\r\n",
        CHUNKED + b"5;a=b\r\nhello\r\n",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"+5\r\nhello\r\n",
        CHUNKED + b"5\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        CHUNKED + b"0\r\n\n",
    ],
)
def test_what_is_not_strictly_canonical_is_handed_to_h11(answer: bytes) -> None:
    wire = H1Wire()
    wire.open(Request("GET", "http://h/", headers={"Host": "h"}), end=True)
    wire.receive(answer)
    assert wire._slow is not None


@pytest.mark.skipif(ONLY_H11, reason="the strict path is switched off")
@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 5\r\n\r\nhello",
        HEAD + b"Content-Length:5\r\nConnection: keep-alive\r\nX:\r\n\r\nhel",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 204\r\nConnection: close\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n",
    ],
)
def test_what_is_canonical_is_not(answer: bytes) -> None:
    wire = H1Wire()
    wire.open(Request("GET", "http://h/", headers={"Host": "h"}), end=True)
    wire.receive(answer)
    assert wire._slow is None
