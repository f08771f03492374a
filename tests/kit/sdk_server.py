"""tests/kit/sdk_app.py under Hypercorn, on loopback only; and what it saw, asked without any HTTP client of ours."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import ssl
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import attrs
import trustme

from tests.kit.servers import SERVERS, DidNotStart, ServerProcess, free_port, need

HYPERCORN = SERVERS / "interop/bin/hypercorn"
_KIT = pathlib.Path(__file__).parent


@attrs.frozen
class Run:
    """What a group of requests has in common, which say ``x-run: key``."""

    key: str
    port: int

    def headers(self, behave: str | None = None) -> dict[str, str]:
        return {"x-run": self.key, **({"x-behave": behave} if behave else {})}

    async def _ask(self, method: str, path: str) -> dict[str, Any]:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        async with stream:
            await stream.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
            answer = b"".join([piece async for piece in stream])
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    async def requests(self) -> list[dict[str, Any]]:
        """The requests that came: ``method``, ``path``, ``version`` and ``headers`` of each."""
        found: list[dict[str, Any]] = (await self._ask("GET", f"/control/{self.key}"))["requests"]
        return found

    async def wait_for(self, count: int) -> None:
        """Until the server has seen so many requests."""
        await _until(lambda: self._count("requests"), count)

    async def open(self) -> None:
        """Open the gate."""
        await self._ask("POST", f"/control/{self.key}/open")

    async def wait_for_answers(self, count: int) -> None:
        """Until the server has given so many; a door counts when it has closed its connection."""
        await _until(lambda: self._count("answered"), count)

    async def _count(self, what: str) -> int:
        found = (await self._ask("GET", f"/control/{self.key}"))[what]
        return found if isinstance(found, int) else len(found)


async def _until(count: Callable[[], Awaitable[int]], wanted: int) -> None:
    with anyio.fail_after(30):
        while await count() < wanted:  # noqa: ASYNC110, there is no event: the server is asked
            await anyio.sleep(0.01)


@attrs.frozen
class SDKServer:
    """``port``: HTTP/1.1 in plain text; ``tls_port``: HTTP/2. ``doors``: the same for tests/kit/sdk_door.py."""

    port: int
    tls_port: int
    doors: dict[str, int]
    process: ServerProcess
    _authority: trustme.CA

    def url(self, *, http2: bool) -> str:
        return f"https://localhost:{self.tls_port}" if http2 else f"http://127.0.0.1:{self.port}"

    def door(self, mode: str, *, http2: bool) -> str:
        scheme, host = ("https", "localhost") if http2 else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.doors[scheme]}/{mode}"

    def trust(self) -> ssl.SSLContext:
        """A context that trusts this server and offers HTTP/2; a new one, as httpx2 changes the list of what it offers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def run(self) -> Run:
        """A new key."""
        return Run(uuid.uuid4().hex, self.port)


def _doors(process: ServerProcess, port: int) -> dict[str, int]:
    until = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as sock, sock.makefile("rb") as answer:
                sock.sendall(b"GET /control/doors HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                doors: dict[str, int] = json.loads(answer.read().partition(b"\r\n\r\n")[2])["doors"]
                return doors
        except (OSError, ValueError):
            if not process.runs or time.monotonic() > until:
                raise DidNotStart(process.log_end()) from None
            time.sleep(0.03)


@contextlib.contextmanager
def start(authority: trustme.CA) -> Iterator[SDKServer]:
    """The test is skipped where Hypercorn is not installed: ``make servers``."""
    need("Hypercorn", HYPERCORN)
    with tempfile.TemporaryDirectory(prefix="sdk-") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        environment = {"PYTHONPATH": str(_KIT), "PYTHONDONTWRITEBYTECODE": "1", "SDK_DOOR": f"{certificate}:{key}"}
        environment |= {"PYTHONDEVMODE": "", "PYTHONWARNINGS": ""}  # its Python shall not see what ours was told
        for left in (2, 1, 0):
            port, tls_port = free_port(), free_port()
            conf = f"""
insecure_bind = "127.0.0.1:{port}"
bind = "127.0.0.1:{tls_port}"
certfile = "{certificate}"
keyfile = "{key}"
keep_alive_max_requests = 1_000_000
keep_alive_timeout = 60
graceful_timeout = 0.2
loglevel = "WARNING"
"""
            (folder / "conf.toml").write_text(conf)
            command = [HYPERCORN, "--config", folder / "conf.toml", "sdk_app:app"]
            process = ServerProcess(command, folder, f"http://127.0.0.1:{port}", environment)
            stack.callback(process.stop)
            try:
                doors = _doors(process, port)
                break
            except DidNotStart:
                if not left:
                    raise
        yield SDKServer(port, tls_port, doors, process, authority)
        if not process.runs:
            raise AssertionError(f"the server ended before its time:\n{process.log_end()}")
