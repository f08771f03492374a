"""Servers that are not ours, which tests/install_servers.sh installs: each in a process of its own, on loopback only.

Every context manager here starts one server, waits until it answers, and stops it for sure. What it printed stays in the
file ``log`` of its folder, and its end is shown when it does not start, or does not live to the end.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import pytest

SERVERS = pathlib.Path(__file__).parents[2] / ".servers"
ETCD = SERVERS / "etcd-server/usr/bin/etcd"
DATASETTE = SERVERS / "datasette/bin/datasette"
NCHAN = SERVERS / "libnginx-mod-nchan/usr/lib/nginx/modules/ngx_nchan_module.so"
POUCHDB = SERVERS / "node_modules/pouchdb-server/bin/pouchdb-server"
MCP = SERVERS / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
LOOPBACK = pathlib.Path(__file__).with_name("loopback.cjs")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def need(name: str, *files: pathlib.Path, programs: Sequence[str] = ()) -> None:
    """Skip the test unless all this is there."""
    if not all(file.exists() for file in files) or not all(map(shutil.which, programs)):
        pytest.skip(f"{name} is not installed: make servers")


class DidNotStart(Exception):
    """A server ended, or did not answer in time: the text has the end of its log."""


class ServerProcess:
    """A running server. ``url``: where it answers; ``folder``: its files, the ``log`` among them."""

    def __init__(
        self, command: Sequence[str | pathlib.Path], folder: pathlib.Path, url: str, environment: Mapping[str, str]
    ) -> None:
        self.url = url
        self.folder = folder
        # Where there is setpriv, the server dies with us even if we are killed.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with open(folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*guard, *map(str, command)],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a process group of its own, which is killed as a whole
            )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def terminate(self) -> None:
        """Ask the server to stop; it may go on with what it is doing."""
        self._process.terminate()

    def stop(self) -> None:
        if self.runs:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


@contextlib.contextmanager
def _running(
    folder: pathlib.Path,
    command: Callable[[int], Sequence[str | pathlib.Path]],
    *,
    path: str = "/",
    environment: Callable[[int], Mapping[str, str]] = lambda port: {},
    may_end: bool = False,
) -> Iterator[ServerProcess]:
    """*command* for a free port, from when it answers *path* to the end of the block."""
    for left in (2, 1, 0):
        port = free_port()  # which another program may take before the server does: then once more
        server = ServerProcess(command(port), folder, f"http://127.0.0.1:{port}", environment(port))
        try:
            _wait_until_it_answers(server, port, path)
            break
        except DidNotStart:
            server.stop()
            if not left:
                raise
        except BaseException:
            server.stop()
            raise
    try:
        yield server
        if not may_end and not server.runs:
            raise AssertionError(f"the server ended before its time:\n{server.log_end()}")
    finally:
        server.stop()


def _wait_until_it_answers(server: ServerProcess, port: int, path: str) -> None:
    until = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            if not server.runs or time.monotonic() > until:
                raise DidNotStart(server.log_end()) from None
            time.sleep(0.03)
        finally:
            connection.close()


@contextlib.contextmanager
def datasette(folder: pathlib.Path) -> Iterator[ServerProcess]:
    """Datasette with a database ``zoo``: 250 animals, of which every hundredth has no name. SQL may take 1 s."""
    need("Datasette", DATASETTE)
    with contextlib.closing(sqlite3.connect(folder / "zoo.db")) as database, database:
        database.execute("create table animals (id integer primary key, name text, kind text, weight real)")
        database.executemany(
            "insert into animals values (?, ?, ?, ?)",
            [(n, None if n % 100 == 0 else f"animal {n}", ("cat", "dog")[n % 2], n / 4) for n in range(1, 251)],
        )
    # Its Python shall not see what ours was told.
    ours = {"PYTHONDEVMODE": "", "PYTHONWARNINGS": ""}

    def command(port: int) -> list[str | pathlib.Path]:
        return [DATASETTE, "zoo.db", "--port", str(port), "--setting", "sql_time_limit_ms", "1000"]

    with _running(folder, command, path="/-/versions.json", environment=lambda port: ours) as server:
        yield server


@attrs.frozen
class Etcd:
    """``url`` without TLS, ``tls_url`` with it."""

    process: ServerProcess
    url: str
    tls_url: str


@contextlib.contextmanager
def etcd(
    folder: pathlib.Path, *, certificate: pathlib.Path, key: pathlib.Path, may_end: bool = False
) -> Iterator[Etcd]:
    """One etcd with two doors, both to the same keys; ``certificate`` and ``key`` are PEM files."""
    need("etcd", ETCD)
    ports: dict[int, tuple[int, int]] = {}

    def command(port: int) -> list[str | pathlib.Path]:
        ports[port] = tls, peer = free_port(), free_port()
        clients = f"http://127.0.0.1:{port},https://127.0.0.1:{tls}"
        peers = f"http://127.0.0.1:{peer}"
        return [
            *(ETCD, "--data-dir", folder / f"data-{port}", "--cert-file", certificate, "--key-file", key),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}", "--log-level", "warn"),
        ]

    # It does not run on every processor without this.
    supported = {"ETCD_UNSUPPORTED_ARCH": "arm64"} if os.uname().machine == "aarch64" else {}
    with _running(folder, command, path="/health", environment=lambda port: supported, may_end=may_end) as server:
        port = int(server.url.rpartition(":")[2])
        yield Etcd(server, server.url, f"https://127.0.0.1:{ports[port][0]}")


@contextlib.contextmanager
def mcp(folder: pathlib.Path) -> Iterator[ServerProcess]:
    """The reference server of the Model Context Protocol; its endpoint is ``/mcp``."""
    need("the MCP server", MCP, programs=["node"])
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"the MCP server needs Node 20, this is {version.strip()}")
    command: list[str | pathlib.Path] = ["node", "--require", LOOPBACK, MCP, "streamableHttp"]
    with _running(folder, lambda port: command, environment=lambda port: {"PORT": str(port)}) as server:
        yield server


@contextlib.contextmanager
def pouchdb(folder: pathlib.Path) -> Iterator[ServerProcess]:
    """PouchDB Server, which speaks CouchDB's protocol. Its databases are in memory."""
    need("PouchDB Server", POUCHDB, programs=["node"])

    def command(port: int) -> list[str | pathlib.Path]:
        return ["node", POUCHDB, "--in-memory", "--host", "127.0.0.1", "--port", str(port), "--no-color"]

    with _running(folder, command) as server:
        yield server


_NGINX = """
{modules}
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: pathlib.Path, server: str, *, modules: str = "") -> Iterator[ServerProcess]:
    """nginx, what its one ``server`` block says being *server*; it must answer ``/``."""
    need("nginx", programs=["nginx"])
    folder.chmod(0o755)

    def command(port: int) -> list[str | pathlib.Path]:
        user = "user root;" if os.getuid() == 0 else ""
        text = _NGINX.format(folder=folder, port=port, modules=modules, user=user, server=server)
        (folder / "conf").write_text(text)
        return ["nginx", "-c", folder / "conf", "-p", folder, "-e", folder / "error.log"]

    with _running(folder, command) as process:
        yield process


_NCHAN = r"""
        location = / { return 204; }
        location ~ ^/publish/(\w+)$ { nchan_publisher; nchan_channel_id $1; }
        location ~ ^/events/(\w+)$ {
            nchan_subscriber eventsource; nchan_channel_id $1;
            nchan_subscriber_first_message oldest;
            nchan_eventsource_ping_interval 1;
        }
"""


@contextlib.contextmanager
def nchan(folder: pathlib.Path) -> Iterator[ServerProcess]:
    """nginx with nchan: ``POST /publish/NAME`` sends to whoever reads ``/events/NAME``; pings every second."""
    need("nginx with nchan", NCHAN, programs=["nginx"])

    try:
        with nginx(folder, _NCHAN, modules=f"load_module {NCHAN};") as server:
            yield server
    except DidNotStart as exc:
        if "binary compatible" in str(exc):  # an nginx that is not Debian's
            pytest.skip("nchan does not fit the nginx of this machine")
        raise
