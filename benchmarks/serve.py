"""Starts the servers in one process: prints their addresses as JSON, and ends when its stdin does.

So no way for the parent to die leaves it running.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import ssl
import sys
import tempfile
from collections.abc import Callable

import trustme
from servers import http1, http2

BACKLOG = 2048  # a thousand connections are opened at once


async def main() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")

    def context(protocol: str) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(made)
        made.set_alpn_protocols([protocol])
        return made

    async def port(made: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None) -> int:
        server = await loop.create_server(made, "127.0.0.1", 0, ssl=tls, backlog=BACKLOG)
        listening.append(server)  # a server that nobody holds is closed
        number: int = server.sockets[0].getsockname()[1]
        return number

    listening: list[asyncio.Server] = []
    with tempfile.TemporaryDirectory() as directory:
        ca = pathlib.Path(directory) / "ca.pem"
        ca.write_bytes(authority.cert_pem.bytes())
        addresses = {
            "plain": f"http://127.0.0.1:{await port(http1.Answering, None)}",
            "tls": f"https://localhost:{await port(http1.Answering, context('http/1.1'))}",
            "h2": f"https://localhost:{await port(http2.Answering, context('h2'))}",
            "ca": str(ca),
        }
        print(json.dumps(addresses), flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
