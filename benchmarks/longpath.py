"""A large download over HTTP/2 on a path of 100 ms, beside curl: whether we wait for credit, and what memory it takes.

nginx serves a file over TLS; a relay between hands every piece on 50 ms later, in both directions, without a limit of
its own. Each client runs in a process of its own, in turns. See ``--help``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

DELAY = 0.05  # seconds, each way
CONF = """
daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir}; http2_chunk_size 16k; output_buffers 4 512k;
  server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
           root {dir}/files; }}
}}
"""


async def relay(listen: int, target: int) -> None:
    loop = asyncio.get_running_loop()

    class Side(asyncio.Protocol):
        def __init__(self) -> None:
            self.transport: asyncio.Transport | None = None
            self.other: Side | None = None
            self.early: list[bytes] = []

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            transport.set_write_buffer_limits(high=2**30)

        def pass_on(self, data: bytes) -> None:
            if self.transport is None:
                self.early.append(data)
            elif not self.transport.is_closing():
                self.transport.write(data)

        def data_received(self, data: bytes) -> None:
            assert self.other is not None
            loop.call_later(DELAY, self.other.pass_on, data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.other is not None and self.other.transport is not None:
                loop.call_later(DELAY, self.other.transport.close)

    class Accepted(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.other = Side()
            self.other.other = self
            self.task = asyncio.ensure_future(self.connect())

        async def connect(self) -> None:
            assert self.other is not None
            other = self.other
            await loop.create_connection(lambda: other, "127.0.0.1", target)
            for data in other.early:
                other.pass_on(data)

    await loop.create_server(Accepted, "127.0.0.1", listen)
    print("ready", flush=True)
    await asyncio.sleep(3600)


async def ours(url: str, ca: str) -> int:
    import anyio_client

    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    size = 0
    transport = anyio_client.HTTPTransport(tls=context)
    client = anyio_client.AsyncAPIClient(base_url=url, http_client=transport, timeout=60)
    async with client, client.open("GET", "/file") as response:
        assert response.http_version == "HTTP/2"
        async for piece in response.iter_bytes():
            size += len(piece)
    return size


def peak() -> int:
    """The most memory that this process ever had, in KiB; of its own address space (getrusage counts the parent's too)."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_ours(url: str, ca: str) -> None:
    import anyio_client

    assert anyio_client.HTTPTransport  # imported: what follows is the download's own
    before = peak()
    began = time.perf_counter()
    size = asyncio.run(ours(url, ca))
    print(size, time.perf_counter() - began, peak() - before)


def free_ports(count: int) -> list[int]:
    import socket

    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in socks]


@contextlib.contextmanager
def running(command: list[str], quiet: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB; 1024 unless told")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--relay", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.relay:
        asyncio.run(relay(*given.relay))
    elif given.ours:
        measure_ours(*given.ours)
    elif shutil.which("nginx") and shutil.which("curl") and shutil.which("openssl"):
        compare(given.size * 2**20, given.rounds)
    else:
        raise SystemExit("this needs nginx, curl and openssl")


def compare(size: int, rounds: int) -> None:
    me = [sys.executable, __file__]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        cert, key = directory / "cert.pem", directory / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
        subprocess.run(made, check=True, stderr=subprocess.DEVNULL)
        (directory / "files").mkdir()
        with (directory / "files" / "file").open("wb") as file:
            file.truncate(size)
        server, near = free_ports(2)
        (directory / "nginx.conf").write_text(CONF.format(dir=directory, port=server))
        with (
            running(["nginx", "-c", str(directory / "nginx.conf"), "-p", name]),
            running([*me, "--relay", str(near), str(server)]) as relaying,
        ):
            assert relaying.stdout is not None
            relaying.stdout.readline()
            time.sleep(0.5)
            url = f"https://localhost:{near}"
            curl = ["curl", "-s", "--http2", "--ipv4", "--cacert", str(cert), "-o", os.devnull, f"{url}/file"]
            curl += ["-w", "%{size_download} %{time_total} %{http_version}"]
            rates: list[tuple[float, float]] = []
            for number in range(rounds):
                found = [
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                    for command in (curl, [*me, "--ours", url, str(cert)])
                ]
                theirs, mine = (int(got[0]) / float(got[1]) / 2**20 for got in found)
                assert int(found[0][0]) == int(found[1][0]) == size
                rates.append((theirs, mine))
                more = int(found[1][2]) / 1024
                print(
                    f"round {number + 1}: curl (HTTP/{found[0][2]}) {theirs:.0f} MiB/s, ours {mine:.0f} MiB/s, ratio "
                    f"{mine / theirs:.2f}, our peak memory {more:.1f} MiB above the start",
                    flush=True,
                )
            print(f"median ratio {statistics.median(mine / theirs for theirs, mine in rates):.2f}")


if __name__ == "__main__":
    main()
