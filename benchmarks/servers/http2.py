"""HTTP/2 by h2's server side: the item to every request, but nothing to ``/never``."""

from __future__ import annotations

import asyncio
import contextlib

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from shapes import BODY

CONFIG = h2.config.H2Configuration(client_side=False, header_encoding=None)
STREAMS = 1000  # at once; h2's own 100 would make the clients wait
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
        self.held: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS})
        transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived(stream_id=int(stream), headers=list(headers)):
                    if (b":path", b"/never") in headers:
                        self.held.add(stream)
                case h2.events.StreamEnded(stream_id=int(stream)) if stream not in self.held:
                    with contextlib.suppress(h2.exceptions.ProtocolError):  # the client reset it meanwhile, or left
                        self.h2.send_headers(stream, HEAD)
                        self.h2.send_data(stream, BODY, end_stream=True)
                case h2.events.DataReceived(stream_id=int(stream)):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        self.transport.write(self.h2.data_to_send())
