"""The other end over HTTP/2 and TLS: the same fixed answer to every request, by h2's server side.

It prints its port and the path of the certificate authority's file, and ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import pathlib
import ssl
import sys
import tempfile

import h2.config
import h2.connection
import h2.events
import trustme
from server import BODY

CONFIG = h2.config.H2Configuration(client_side=False, header_encoding=None)
HEAD = [
    (":status", "200"),
    ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ("server", "bench"),
    ("content-type", "application/json"),
    ("content-length", str(len(BODY))),
]


class Answering(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(CONFIG)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.h2.initiate_connection()
        transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                assert event.stream_id is not None
                self.h2.send_headers(event.stream_id, HEAD)
                self.h2.send_data(event.stream_id, BODY, end_stream=True)
            elif isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        self.transport.write(self.h2.data_to_send())


async def main() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as directory:
        ca = pathlib.Path(directory) / "ca.pem"
        ca.write_bytes(authority.cert_pem.bytes())
        server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], ca, flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
