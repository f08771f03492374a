"""The other end: fixed answers from a bare asyncio protocol, so that the server is never what is measured.

It prints its port, and ends when its stdin does: no way for the parent to die leaves it running.
"""

from __future__ import annotations

import asyncio
import sys

BODY = b'{"id":7,"name":"a small item","price":12.5,"tags":["red","round"],"available":true}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: bench\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


class Answering(asyncio.Protocol):
    """The same answer to every request with no body, or with one of a known length."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(HEAD_END)) >= 0:  # each pass takes one request off the buffer
            head = self.data[:end].lower() + b"\r\n"
            _, found, rest = head.partition(LENGTH)
            size = end + len(HEAD_END) + (int(rest.partition(b"\r\n")[0]) if found else 0)
            if b"\r\ntransfer-encoding:" in head:
                raise ValueError("this server reads no chunked bodies")
            if len(self.data) < size:
                return
            self.data = self.data[size:]
            self.transport.write(ANSWER)


async def main() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
