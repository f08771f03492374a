"""The handshakes that open tunnels: CONNECT and SOCKS5, good answers and bad, at every split, and any bytes at all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire.h1 import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES
from anyio_client._wire.tunnel import MAX_ANSWER_SIZE, ConnectHandshake, Handshake, ProxyRefused, SocksHandshake
from tests.kit.fuzz import examples

Make: TypeAlias = Callable[[], Handshake]
SECRET = "s3cr-t9"


def connect() -> ConnectHandshake:
    return ConnectHandshake("h.test:443", "Basic dTpw")


def run(make: Make, pieces: Sequence[bytes]) -> bool | ProxyRefused:
    """What becomes of a handshake whose proxy sends *pieces*, each once everything has been sent that there is."""
    handshake = make()
    assert handshake.take_output()
    opened = False
    for piece in pieces:
        assert not opened
        try:
            opened = handshake.receive(piece)
        except ProxyRefused as exc:
            return exc
        unsent = handshake.take_output()
        assert not (opened and unsent), "the tunnel is said to be open before everything was sent"
    return opened


def facts(result: bool | ProxyRefused) -> Any:
    if isinstance(result, bool):
        return result
    head = result.head
    return str(result), result.retryable, head and (head.status_code, head.headers.raw), result.body


def splits(data: bytes) -> Iterator[list[bytes]]:
    """In two at every place, byte by byte, and in threes."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    for size in (1, 3):
        yield [data[i : i + size] for i in range(0, len(data), size)]


def same_at_every_split(make: Make, data: bytes, *, closed: bool = False) -> bool | ProxyRefused:
    end = [b""] if closed else []
    whole = run(make, [data, *end])
    for pieces in splits(data):
        assert facts(run(make, [*pieces, *end])) == facts(whole), pieces
    return whole


def refused(result: bool | ProxyRefused, words: str, *, retryable: bool = False) -> ProxyRefused:
    assert isinstance(result, ProxyRefused)
    assert words in str(result)
    assert result.retryable is retryable
    return result


# --- CONNECT -----------------------------------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    handshake = ConnectHandshake("h.test:443")
    assert handshake.take_output() == b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n"
    assert handshake.take_output() == b""
    handshake = ConnectHandshake("[::1]:8443", "Basic dTpw")
    assert handshake.take_output() == (
        b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    )


# RFC 9110 section 9.3.6: any 2xx opens it, and "a client MUST ignore any Content-Length or Transfer-Encoding".
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
        b"HTTP/1.1 299 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM_RESPONSES + b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_answers_that_open_the_tunnel(answer: bytes) -> None:
    assert run(connect, [answer]) is True
    assert len(answer) > 1000 or same_at_every_split(connect, answer) is True
    # All but its end opens nothing.
    assert run(connect, [answer[:-1]]) is False


@pytest.mark.parametrize("field", [b"Transfer-Encoding: gzip", b"Content-Length: x", b"Content-Length: 5, 6"])
def test_the_framing_of_a_good_answer_counts_for_nothing_even_where_it_is_wrong(field: bytes) -> None:
    assert run(connect, [b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n"]) is True


# The answer, its body, whether it may be worth another try.
REFUSALS = [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", b"no", False),
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"", False),
    (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n", b"no!", False),
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", b"bad", True),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 302 Found\r\nLocation: https://evil.test\r\nContent-Length: 0\r\n\r\n", b"", False),
    (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", False),
    (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nn", b"n", False),
    # What is wrong about the body costs no more than the body.
    (b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\nzz\r\n", b"no", False),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "body", "retryable"), REFUSALS)
def test_answers_that_refuse(answer: bytes, body: bytes, retryable: bool) -> None:
    result = same_at_every_split(connect, answer)
    head = refused(result, "it answered with status ", retryable=retryable)
    assert head.head is not None
    assert f"{head.head.status_code}" in str(head)
    assert head.body == body
    assert ("user" in str(head)) is (head.head.status_code == 407)


@pytest.mark.parametrize("head", [b"HTTP/1.1 403 No\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n"])
def test_the_end_of_the_connection_ends_a_refusal(head: bytes) -> None:
    result = same_at_every_split(connect, head + b"because", closed=True)
    assert refused(result, "status 403").body == b"because"
    # Until then more may come.
    handshake = connect()
    assert handshake.receive(head + b"be") is False
    assert handshake.is_refused
    with pytest.raises(ProxyRefused) as caught:
        handshake.give_up()
    assert caught.value.body == b"be"


def test_there_is_nothing_to_give_up_before_it_has_refused() -> None:
    handshake = connect()
    handshake.give_up()
    assert handshake.receive(b"HTTP/1.1 403") is False
    handshake.give_up()
    assert not handshake.is_refused


BAD = [
    b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 -20 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 403 No\r\nContent-Length: x\r\n\r\n",
    b"HTTP/1.1 403 No\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"\x05\x00",
    b"\x15\x03\x03\x00\x02\x02\x0a",
]


@pytest.mark.parametrize("answer", BAD)
def test_what_is_no_http(answer: bytes) -> None:
    result = same_at_every_split(connect, answer + SECRET.encode() + b"\r\n\r\n")
    error = refused(result, "its answer is no HTTP")
    assert (error.head, error.body) == (None, b"")
    assert SECRET not in str(error)
    assert error.__suppress_context__


@pytest.mark.parametrize("answer", [b"", b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n\r\n"])
def test_the_end_before_an_answer(answer: bytes) -> None:
    pieces = [answer, b""] if answer else [b""]
    refused(run(connect, pieces), "it closed the connection before it had answered", retryable=True)


@pytest.mark.parametrize("behind", [b"\x16", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 200_000])
def test_bytes_behind_a_good_answer_are_refused(behind: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    result = run(connect, [head + behind])
    assert refused(result, "bytes behind its answer").head is None
    for at in range(1, len(head)):
        assert facts(run(connect, [head[:at], head[at:] + behind])) == facts(result)


def padded(start: bytes, size: int) -> bytes:
    """A head of *size* bytes."""
    return start + b"\r\nX: " + b"x" * (size - len(start) - 9) + b"\r\n\r\n"


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 C\r\n\r\n"])
def test_the_size_of_a_head_is_bounded(before: bytes) -> None:
    """Of each by itself, interim ones too."""
    fits, too_long = (before + padded(b"HTTP/1.1 200 OK", MAX_HEAD_SIZE + more) for more in (0, 1))
    assert len(fits) == len(before) + MAX_HEAD_SIZE
    for at in (1, 20, 50_000, MAX_HEAD_SIZE - 3, MAX_HEAD_SIZE - 1):
        assert run(connect, [fits[:at], fits[at:]]) is True
    for at in (1, 20, 50_000, MAX_HEAD_SIZE - 3, MAX_HEAD_SIZE - 1, MAX_HEAD_SIZE):
        refused(run(connect, [too_long[:at], too_long[at:]]), f"more than {MAX_HEAD_SIZE} bytes")
    refused(run(connect, [too_long]), f"more than {MAX_HEAD_SIZE} bytes")


def test_a_head_without_end_is_given_up() -> None:
    handshake = connect()
    sent = 0
    with pytest.raises(ProxyRefused, match="more than"):
        while sent < 10 * MAX_HEAD_SIZE:
            handshake.receive(b"HTTP/1.1 200 OK\r\nA:" if not sent else b"a" * 1000)
            sent += 1000
    assert sent <= MAX_HEAD_SIZE + 1000


def test_interim_responses_are_bounded() -> None:
    answer = b"HTTP/1.1 100 C\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1)
    refused(run(connect, [answer]), "interim")
    refused(run(connect, [answer[i : i + 7] for i in range(0, len(answer), 7)]), "interim")


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 99999999\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("size", [1000, 70_000, 200_000])
def test_the_body_of_a_refusal_is_bounded(framing: bytes, size: int) -> None:
    handshake = connect()
    handshake.receive(b"HTTP/1.1 403 No\r\n" + framing + b"\r\n")
    piece = b"x" * size
    if framing.startswith(b"T"):
        piece = b"%x\r\n%b\r\n" % (size, piece)
    with pytest.raises(ProxyRefused) as caught:
        for _ in range(100):
            handshake.receive(piece)
    assert caught.value.body == b"x" * MAX_ANSWER_SIZE


def test_a_long_body_together_with_its_head() -> None:
    """A body may be longer than what a head may take."""
    body = b"x" * (2 * MAX_HEAD_SIZE)
    whole = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for at in (10, 45, 1000, MAX_HEAD_SIZE, MAX_HEAD_SIZE + 1):
        error = refused(run(connect, [whole[:at], whole[at:]]), "status 403")
        assert error.body == body[:MAX_ANSWER_SIZE]


# --- SOCKS -------------------------------------------------------------------------------------------------------------

USER, PASSWORD = "us\u00e9r", "p:w"
GREETING = b"\x05\x01\x00"
BOTH = b"\x05\x02\x00\x02"
CREDENTIALS = b"\x01\x05us\xc3\xa9r\x03p:w"
REQUEST = b"\x05\x01\x00\x03\x06h.test\x01\xbb"
BOUND = {
    "IPv4": b"\x01\x7f\x00\x00\x01\x04\x38",
    "IPv6": b"\x04" + b"\x00" * 15 + b"\x01\x04\x38",
    "name": b"\x03\x05x.com\x04\x38",
    "no name": b"\x03\x00\x04\x38",
    "long name": b"\x03\xff" + b"n" * 255 + b"\x04\x38",
}
REPLY = b"\x05\x00\x00" + BOUND["IPv4"]


def plain() -> SocksHandshake:
    return SocksHandshake("h.test", 443)


def with_credentials() -> SocksHandshake:
    return SocksHandshake("h.test", 443, (USER, PASSWORD))


def talk(handshake: SocksHandshake, *answers: bytes) -> bytes:
    """All that is sent to a proxy that answers each message; the last answer opens the tunnel."""
    sent = handshake.take_output()
    for number, answer in enumerate(answers, 1):
        assert handshake.receive(answer) is (number == len(answers))
        sent += b"|" + handshake.take_output()
    return sent


def answers_at_every_split(make: Callable[[], SocksHandshake], *answers: bytes) -> bool | ProxyRefused:
    """The same, whatever the split of each answer; a proxy does not say the next one before it was asked."""
    whole = run(make, answers)
    for number, answer in enumerate(answers):
        for pieces in splits(answer):
            split = run(make, [*answers[:number], *pieces, *answers[number + 1 :]])
            assert facts(split) == facts(whole), (number, pieces)
    return whole


@pytest.mark.parametrize("bound", BOUND.values(), ids=BOUND)
def test_a_tunnel_by_socks(bound: bytes) -> None:
    reply = b"\x05\x00\x00" + bound
    assert answers_at_every_split(plain, b"\x05\x00", reply) is True
    assert answers_at_every_split(with_credentials, b"\x05\x02", b"\x01\x00", reply) is True
    assert run(plain, [b"\x05\x00", reply[:-1]]) is False


def test_what_is_said_to_whom() -> None:
    assert talk(plain(), b"\x05\x00", REPLY) == b"|".join([GREETING, REQUEST, b""])
    asked = talk(with_credentials(), b"\x05\x02", b"\x01\x00", REPLY)
    assert asked == b"|".join([BOTH, CREDENTIALS, REQUEST, b""])
    # No credentials for who does not ask for them.
    assert talk(with_credentials(), b"\x05\x00", REPLY) == b"|".join([BOTH, REQUEST, b""])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("h.test", b"\x03\x06h.test"),
        ("a" * 255, b"\x03\xff" + b"a" * 255),
        ("10.0.0.1", b"\x01\x0a\x00\x00\x01"),
        ("::1", b"\x04" + socket.inet_pton(socket.AF_INET6, "::1")),
        ("2001:db8::ff", b"\x04" + socket.inet_pton(socket.AF_INET6, "2001:db8::ff")),
        ("fe80::1%eth0", b"\x04" + socket.inet_pton(socket.AF_INET6, "fe80::1")),
        ("1.2.3", b"\x03\x051.2.3"),
    ],
)
@pytest.mark.parametrize("port", [1, 80, 65535])
def test_how_an_origin_is_named(host: str, address: bytes, port: int) -> None:
    sent = talk(SocksHandshake(host, port), b"\x05\x00", REPLY)
    assert sent == GREETING + b"|\x05\x01\x00" + address + port.to_bytes(2, "big") + b"|"


def test_a_name_that_socks_cannot_say() -> None:
    with pytest.raises(ProxyRefused, match="255 bytes") as caught:
        SocksHandshake("a" * 256, 80)
    assert caught.value.retryable is False


def test_the_longest_credentials() -> None:
    sent = talk(SocksHandshake("h.test", 443, ("u" * 255, "p" * 255)), b"\x05\x02", b"\x01\x00", REPLY)
    assert b"|\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255 + b"|" in sent
    assert b"|\x01\x01u\x00|" in talk(SocksHandshake("h.test", 443, ("u", "")), b"\x05\x02", b"\x01\x00", REPLY)


RETRYABLE = {1, 3, 4, 5, 6}  # what passes; not what is forbidden or not known


@pytest.mark.parametrize("code", [*range(1, 10), 0x5B, 255])
def test_every_reply_code(code: int) -> None:
    texts = set[str]()
    for bound in BOUND.values():
        result = answers_at_every_split(plain, b"\x05\x00", b"\x05" + bytes([code]) + b"\x00" + bound[:6])
        error = refused(result, "it could not connect", retryable=code in RETRYABLE)
        assert (error.head, error.body) == (None, b"")
        texts.add(str(error))
    assert len(texts) == 1
    assert (f"code {code}" in texts.pop()) is (code > 8)


# Answers to each message, the words of the error.
BAD_SOCKS = [
    ((b"\x04\x00",), "no SOCKS version 5"),
    ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "no SOCKS version 5"),
    ((b"\x00\x5a\x00\x00\x00\x00\x00\x00",), "no SOCKS version 5"),  # version 4 speaks so
    ((b"\x05\x02",), "wants credentials"),
    ((b"\x05\xff",), "wants credentials"),
    ((b"\x05\x01",), "credentials"),
    ((b"\x05\x00", b"\x04\x00\x00" + BOUND["IPv4"]), "no SOCKS version 5"),
    ((b"\x05\x00", b"HTTP/1.1"), "no SOCKS version 5"),
    ((b"\x05\x00", b"\x05\x00\x00\x02\x00\x00\x00\x00\x00\x00"), "no known kind"),
    ((b"\x05\x00", b"\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "no known kind"),
    ((b"\x05\x00", b"\x05\x00\x00\xff\x00\x00\x00\x00\x00\x00"), "no known kind"),
]
BAD_WITH_CREDENTIALS = [
    ((b"\x05\xff",), "takes no user and password"),
    ((b"\x05\x01",), "takes no user and password"),
    ((b"\x05\x03",), "takes no user and password"),
    ((b"\x05\x02", b"\x01\x01"), "refused the user and the password"),
    ((b"\x05\x02", b"\x01\xff"), "refused the user and the password"),
    ((b"\x05\x02", b"\x05\x00"), "RFC 1929"),
    ((b"\x05\x02", b"\x01\x00", b"\x05\x02\x00" + BOUND["IPv4"]), "rules do not allow"),
]


@pytest.mark.parametrize(
    ("make", "answers", "words"),
    [(plain, *row) for row in BAD_SOCKS] + [(with_credentials, *row) for row in BAD_WITH_CREDENTIALS],
)
def test_bad_socks(make: Callable[[], SocksHandshake], answers: tuple[bytes, ...], words: str) -> None:
    error = refused(answers_at_every_split(make, *answers), words)
    assert not any(secret in str(error) for secret in (USER, PASSWORD))


@pytest.mark.parametrize(
    "answers", [(), (b"\x05",), (b"\x05\x00",), (b"\x05\x00", REPLY[:1]), (b"\x05\x00", REPLY[:-1])]
)
def test_the_end_before_the_reply(answers: tuple[bytes, ...]) -> None:
    refused(run(plain, [*answers, b""]), "it closed the connection", retryable=True)


@pytest.mark.parametrize(
    ("make", "answers"),
    [
        (plain, (b"\x05\x00", REPLY + b"H")),
        (plain, (b"\x05\x00", REPLY + b"x" * 100_000)),
        (plain, (b"\x05\x00" + REPLY,)),  # a reply to what was not asked yet: it would open a tunnel to nowhere
        (plain, (b"\x05\x00\x05",)),
        (with_credentials, (b"\x05\x02\x01\x00",)),  # a verdict before it has seen them
        (with_credentials, (b"\x05\x02\x01\x00" + REPLY,)),
        (with_credentials, (b"\x05\x02", b"\x01\x00" + REPLY)),
    ],
)
def test_bytes_that_nothing_asked_for(make: Make, answers: tuple[bytes, ...]) -> None:
    refused(run(make, answers), "bytes behind")


def test_what_socks_keeps_is_bounded() -> None:
    handshake = plain()
    handshake.receive(b"\x05\x00")
    taken = 0
    while not handshake.receive((b"\x05\x00\x00\x03\xff" + b"x" * 1000)[taken : taken + 1]):
        taken += 1
    assert taken < 4 + 1 + 255 + 2


# --- any bytes ---------------------------------------------------------------------------------------------------------

_LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 407 Who\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.0 502 \r\n", b"\r\n", b"\n",
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b": x\r\n",
        b"\x05\x00", b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01", b"\x05\x00\x00\x03\x02", b"\x00\x00\x00\x00", b"\x05\x05",
    ]
)  # fmt: skip
_BYTES = st.one_of(st.lists(_LINES, max_size=8).map(b"".join), st.binary(max_size=300))


@pytest.mark.parametrize("make", [connect, plain, with_credentials], ids=lambda make: make.__name__)
@settings(max_examples=examples(250))
@given(data=_BYTES, cuts=st.lists(st.integers(0, 300), max_size=8), closed=st.booleans())
def test_any_bytes_open_it_or_not_or_are_refused(make: Make, data: bytes, cuts: list[int], closed: bool) -> None:
    places = [0, *sorted(cuts), len(data)]
    pieces = [piece for i, j in zip(places, places[1:], strict=False) if (piece := data[i:j])]
    handshake = make()
    handshake.take_output()
    opened = False
    try:
        for piece in [*pieces, *[b""] * closed]:
            opened = handshake.receive(piece)
            assert opened in (True, False)
            if opened:
                break
            handshake.take_output()
    except ProxyRefused as exc:
        assert str(exc)
        assert (exc.head is None) or not 100 <= exc.head.status_code < 300
    else:
        assert opened or not closed
    if opened:
        assert data.startswith(b"HTTP/1." if make is connect else b"\x05")
