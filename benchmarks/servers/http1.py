"""HTTP/1.1 by a bare asyncio protocol, so that the server is never what is measured.

==================  ===========================================================================================
``/item``           the item; any method, with no body or one of a known length
``/events``         a stream of events: the head and all chunks in one write, one chunk an event
``/file``           100 MiB of a known length, in writes of 256 KiB, as fast as they are taken
``/sink``           takes a body of any framing, and answers with the number of its bytes
``/together/N``     nothing, until N such requests wait on N connections; then the item to all of them
==================  ===========================================================================================
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from shapes import BODY, EVENTS, SIZE, event

HEAD = b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: bench\r\n"


def answer(body: bytes) -> bytes:
    return HEAD + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ITEM = answer(BODY)
STREAM = HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM += b"".join(chunk(event(index)) for index in range(EVENTS)) + b"0\r\n\r\n"
FILE_HEAD = HEAD + b"content-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % SIZE
FILE = memoryview(bytes(SIZE))
PART = 256 * 1024
HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
CHUNKED = b"\r\ntransfer-encoding:"


class Answering(asyncio.Protocol):
    transport: asyncio.Transport
    together: ClassVar[list[Answering]] = []

    def __init__(self) -> None:
        self.data = b""
        self.sent = SIZE  # of the file
        self.taken = -1  # of a body for the sink; -1 where none is on its way
        self.due: int | None = None  # its length, None where it is chunked
        self.paused = False
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.taken >= 0:
            self.take(data)
            return
        self.data = self.data + data if self.data else data
        while (end := self.data.find(HEAD_END)) >= 0:  # each pass takes one request off the buffer
            end += len(HEAD_END)
            path = self.data[: self.data.index(b"\r\n")].split(b" ")[1]
            head = self.data[:end].lower()
            _, found, rest = head.partition(LENGTH)
            length = int(rest.partition(b"\r\n")[0]) if found else 0
            if path == b"/sink":
                self.taken, self.due, self.tail = 0, None if CHUNKED in head else length, b""
                data, self.data = self.data[end:], b""
                self.take(data)
                return
            if CHUNKED in head:
                raise ValueError("only /sink reads chunked bodies")
            if len(self.data) < end + length:
                return
            self.data = self.data[end + length :]
            self.answer(path)

    def answer(self, path: bytes) -> None:
        if path == b"/events":
            self.transport.write(STREAM)
        elif path == b"/file":
            self.transport.write(FILE_HEAD)
            self.sent = 0
            self.go_on()
        elif path.startswith(b"/together/"):
            waiting = type(self).together
            waiting.append(self)
            if len(waiting) == int(path.rpartition(b"/")[2]):
                for one in waiting:
                    one.transport.write(ITEM)
                waiting.clear()
        else:
            self.transport.write(ITEM)

    def go_on(self) -> None:
        while self.sent < SIZE and not self.paused:
            self.transport.write(FILE[self.sent : self.sent + PART])
            self.sent += PART

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.go_on()

    def take(self, data: bytes) -> None:
        """Count, and do not parse: no piece of a body that is sent here holds the last chunk's bytes."""
        self.taken += len(data)
        self.tail = (self.tail + data[-8:])[-8:]
        if self.tail.endswith(b"\r\n0\r\n\r\n") if self.due is None else self.taken >= self.due:
            self.transport.write(answer(b"%d" % self.taken))
            self.taken = -1
