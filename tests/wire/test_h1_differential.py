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
@settings(max_examples=examples(2000))
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
