"""Dialogues with the two codecs of HTTP/1.1: what they are made from, what can be seen of a codec, and a codec for fuzzers.

A dialogue is a list of steps: ``("open", request, end)``, ``("send", data)``, ``("finish", trailers)`` and
``("receive", data)``. The strict path (H1Wire) and h11 alone (H11Wire) must show the same in each of them. Hypothesis
builds dialogues in tests/wire/test_h1_differential.py; a fuzzer, and the files of tests/fuzz/corpus/h1, give bytes.
"""

from __future__ import annotations

import functools
import random
from typing import Any

from anyio_client._model.headers import Headers
from anyio_client._model.request import Request
from anyio_client._wire.h1 import H1Wire
from anyio_client._wire.h11wire import H11Wire
from anyio_client._wire.protocol import DataReceived, InterimReceived, ResponseReceived, WireMisuse

__all__ = ["BETWEEN", "BODIES", "FIELDS", "LIMIT", "LINES", "METHODS", "STATUS", "both", "dialogue", "run"]

LIMIT = 300  # bytes of a head, so that it is met

# --- what dialogues are made from ------------------------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"]
FIELDS = [
    ("Accept", "*/*"), ("Connection", "close"), ("Connection", "keep-alive"), ("Expect", "100-continue"),
    ("X-A", "ü"), ("Upgrade", "h2c"), ("te", "trailers"),
]  # fmt: skip
STATUS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 \r\n", b"HTTP/1.1 404\r\n", b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 101 Switching\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\n", b"HTTP/1.1  200 OK\r\n",
    b"HTTP/1.1 200\tOK\r\n", b"HTTP/1.1 600 X\r\n", b"http/1.1 200 OK\r\n", b"HTTP/1.1 200 \xc3\xbc\r\n", b"HTTP/2 200\r\n", b"\r\n",
]  # fmt: skip
LINES = [
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length: 6\r\n", b"Content-Length: 05\r\n", b"Content-Length:  5\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: \r\n", b"Content-Length : 5\r\n", b"Content-Length: 5 \r\n", b"Content-Length: 5\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: CHUNKED\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Close, x\r\n",
    b"Connection: upgrade\r\n", b"Keep-Alive: timeout=5\r\n", b"X: a\tb  c\r\n", b"X:\r\n", b"X: \x01\r\n", b"X: \xff\r\n", b" folded\r\n",
    b"X\r\n", b": x\r\n", b"X: y\r\r\n", b"Bad Name: x\r\n", b"Set-Cookie: a=b\r\n", b"X: " + b"y" * 200 + b"\r\n",
]  # fmt: skip
BODIES = [
    b"hello", b"hell", b"hello!", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"5 \r\nhello\r\n",
    b"5;a=b\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n", b"5\nhello\r\n", b"5\r\nhelloX\r\n",
    b"5\r\nhello\n0\n\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"000000000000000000005\r\nhello\r\n", b"0\r\n\n", b"0\r\n \r\n",
    b"00\r\n\r\n", b"\r\n", b"", b"5\r\nhello\r\n5;" + b"x" * 400, b"0\r\nX: " + b"y" * 400,
]  # fmt: skip

# --- dialogues from bytes --------------------------------------------------------------------------------------------

BETWEEN = b"||"  # two exchanges
PIECES = (b"ab", b"c" * 17, b"")  # of a request's body: only their sizes count


def dialogue(data: bytes) -> list[Any]:
    """The steps that any *data* stands for: one to three exchanges on one connection.

    The exchanges are set apart by ``||``. Each begins with four bytes that choose, counted from ``0`` as a character,
    so that ``0000`` is a plain GET whose answer comes at once; all the rest is what the server sends:

    1. the method, one of METHODS;
    2. the fields, one bit for each of FIELDS;
    3. the request's body: two bits for the number of PIECES, two for its Content-Length (none, right, one too many,
       one too few), one for trailers, and one that ends the connection after the answer;
    4. the seed by which the answer is split, the sending of the body is mixed with it and the fields are shuffled.
       An odd seed lets the first head come whole, as the strict path wants it.
    """
    steps: list[Any] = []
    for part in data.split(BETWEEN, 2):
        method, fields, body, seed = ((byte - ord("0")) & 0xFF for byte in part[:4].ljust(4, b"0"))
        answer = part[4:]
        pieces = PIECES[: body & 3]
        steps.append(("open", _request(method % len(METHODS), fields & 0x7F, body & 0xF, seed), not pieces))
        sending: list[Any] = [("send", piece) for piece in pieces]
        if pieces:
            sending.append(("finish", Headers([("X-Sum", "1")] if body & 0x10 else [])))
        chance = random.Random(seed)
        coming: list[Any] = [("receive", piece) for piece in _split(answer, seed, chance)]
        if body & 0x20:
            coming.append(("receive", b""))
        while sending or coming:  # in any order of the two
            first = sending and (not coming or not seed or chance.random() < 0.67)
            steps.append(sending.pop(0) if first else coming.pop(0))
    return steps


@functools.lru_cache(maxsize=4096)
def _request(method: int, fields: int, body: int, seed: int) -> Request:
    chosen = [("Host", "h"), *(field for place, field in enumerate(FIELDS) if fields & 1 << place)]
    pieces = PIECES[: body & 3]
    if pieces and (wrong := body >> 2):
        chosen.append(("Content-Length", str(sum(map(len, pieces)) + (0, 0, 1, -1)[wrong])))
    if seed:
        random.Random(seed).shuffle(chosen)
    return Request(METHODS[method], "http://h/x?y", headers=Headers(chosen))


def _split(answer: bytes, seed: int, chance: random.Random) -> list[bytes]:
    """Pieces whose sizes do not depend on what comes after them, so that a change further on leaves them as they are."""
    if not seed:
        return [answer] if answer else []
    sizes = chance.choice([(1,), (1, 2, 3), (1, 3, 8, 40), (5, 100), (2, 2000)])
    pieces: list[bytes] = []
    place = 0
    while place < len(answer):
        size = chance.choice(sizes)
        if seed & 1 and not place:
            size += answer.find(b"\r\n\r\n") + 3
        pieces.append(answer[place : place + size])
        place += size
    return pieces


# --- both codecs -----------------------------------------------------------------------------------------------------


def both(steps: list[Any]) -> tuple[list[Any], list[Any]]:
    """What the strict path shows, and what h11 alone shows: the same."""
    return run(H1Wire(max_head_size=LIMIT), steps), run(H11Wire(max_head_size=LIMIT), steps)


def run(wire: Any, steps: list[Any]) -> list[Any]:
    """Everything that can be seen of a codec, event by event, data joined."""
    seen: list[Any] = []
    exchange = 0
    for step in steps:
        try:
            match step:
                case ("open", request, end):
                    if not wire.capacity() or (exchange and not over(seen)):
                        break
                    exchange = wire.open(request, end)
                    seen.append(("opened", exchange))
                case ("send", data):
                    if not over(seen):
                        seen.append(("sent", wire.send(exchange, data)))
                case ("finish", trailers):
                    if not over(seen):
                        wire.finish(exchange, trailers or None)
                        seen.append(("finished",))
                case ("receive", data):
                    for event in wire.receive(data):
                        last = seen[-1] if seen else None
                        if isinstance(event, DataReceived) and isinstance(last, DataReceived):
                            seen[-1] = DataReceived(event.exchange, bytes(last.data) + bytes(event.data))
                        else:
                            seen.append(event)
                        if isinstance(event, InterimReceived | ResponseReceived):
                            # Equal heads may differ in the case of names and in the order of different ones.
                            seen.append(("fields", event.head.headers.raw, event.head.headers.multi_items()))
        except WireMisuse as exc:
            seen.append(("misuse", str(exc)))
            break
        output = wire.take_output()
        if output:
            seen.append(("output", output))
    seen.append(("after", wire.capacity(), wire.closing, wire.keepalive()))
    return seen


def over(seen: list[Any]) -> bool:
    for item in reversed(seen):
        if type(item).__name__ in ("Ended", "Failed"):
            return True
        if isinstance(item, tuple) and item[0] == "opened":
            return False
    return True
