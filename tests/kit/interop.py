"""HTTP/2 servers that are not ours, over TLS with ALPN: tests/install_interop.sh installs them.

``with start("nginx", authority) as server:`` runs one in a process of its own, on loopback only, from when it answers to
the end of the block; the test is skipped where the server is not installed. ``SERVERS`` says which there are, and what
each of them offers:

small, big       ``GET /small``, ``GET /big``: SMALL; BIG_BYTES bytes with the digest BIG_SHA256
upload           ``POST /upload``, or PUT: ``{"bytes": ..., "sha256": ...}`` of what came
echo             ``POST /echo``: the body, after its end
echo-stream      ``POST /echo-stream``: the body while it comes, the head of the response before it
early413         ``POST /early413``: 413, from the head of a request that announces more than a few bytes
trailers         ``GET /trailers``: SMALL, then the trailer ``x-checksum: 42``
hints            ``GET /hints``: 103 with a ``link``, then SMALL
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import pytest
import trustme

from tests.kit.servers import SERVERS as INSTALLED
from tests.kit.servers import DidNotStart, ServerProcess, free_port

SMALL = b"a few bytes"
BIG_BYTES = 20_000_000
BIG_SHA256 = "042a75c59a816fb68ad7af9b5b8c2ed220052162354ae272637d09c8ffed7153"
LINK = "</style.css>; rel=preload; as=style"

_KIT = pathlib.Path(__file__).parent
_NODE = _KIT / "interop_node.cjs"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@attrs.frozen
class Server:
    """A running server. ``ca``: the PEM file to trust; ``reload``: its graceful reload, if it has one."""

    name: str
    url: str
    ca: pathlib.Path
    offers: frozenset[str]
    process: ServerProcess
    reload: Callable[[], None] | None


@attrs.frozen
class _Place:
    """What a server is started with. ``requests``: how many a connection may have; None is its own default."""

    root: pathlib.Path  # where its package is unpacked, or /
    folder: pathlib.Path
    port: int
    backend: int
    certificate: pathlib.Path
    key: pathlib.Path
    requests: int | None
    options: Sequence[str]  # nghttpd only: more of its command line

    @property
    def files(self) -> pathlib.Path:
        return self.folder / "files"

    def write(self, name: str, text: str) -> pathlib.Path:
        (self.folder / name).write_text(text)
        return self.folder / name


_Command = list[str | pathlib.Path]


@attrs.frozen
class Kind:
    """``limits_requests``: whether ``start(..., requests_per_connection=)`` is understood."""

    command: Callable[[_Place], _Command]
    program: str  # below the root of its package
    package: str  # the folder in .servers
    offers: frozenset[str]
    limits_requests: bool = False
    reload: signal.Signals | Callable[[_Place], _Command] | None = None


def _nginx(at: _Place) -> _Command:
    user = "user root;" if os.getuid() == 0 else ""
    conf = f"""
{user}
daemon off;
worker_processes 1;
pid {at.folder}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {at.folder}/t1; proxy_temp_path {at.folder}/t2; fastcgi_temp_path {at.folder}/t3;
    uwsgi_temp_path {at.folder}/t4; scgi_temp_path {at.folder}/t5;
    client_max_body_size 0;
    keepalive_requests {at.requests or 1000};
    server {{
        listen 127.0.0.1:{at.port} ssl http2;
        ssl_certificate {at.certificate};
        ssl_certificate_key {at.key};
        root {at.files};
        location = /small {{ }}
        location = /big {{ }}
        location = /trailers {{ alias {at.files}/small; add_trailer x-checksum 42; }}
        location = /early413 {{ client_max_body_size 16; proxy_pass http://127.0.0.1:{at.backend}; }}
        location = /echo-stream {{
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass http://127.0.0.1:{at.backend};
        }}
        location / {{ proxy_pass http://127.0.0.1:{at.backend}; }}
    }}
}}
"""
    return ["nginx", "-c", at.write("conf", conf), "-p", at.folder, "-e", "stderr"]


def _nghttpd(at: _Place) -> _Command:
    shutil.copy(at.files / "small", at.files / "trailers")  # every response has the trailer
    # Either the body is sent back, or a file is sent before the body has come: then without the trailer, which that
    # stream would be reset before.
    mode = [] if "--early-response" in at.options else ["--echo-upload", "--trailer=x-checksum: 42"]
    command: _Command = [at.root / "usr/sbin/nghttpd", "--address=127.0.0.1", "--htdocs", at.files, *mode, *at.options]
    return [*command, str(at.port), at.key, at.certificate]


def _apache(at: _Place) -> _Command:
    modules = at.root / "usr/lib/apache2/modules"
    names = "mpm_event authz_core http2 ssl headers alias proxy proxy_http"
    load = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names.split())
    # Its workers leave root, and may read what all may read.
    user = "User nobody\nGroup nogroup" if os.getuid() == 0 else ""
    conf = f"""
{load}
{user}
ServerRoot {at.folder}
ServerName 127.0.0.1
PidFile {at.folder}/pid
DefaultRuntimeDir {at.folder}
ErrorLog /dev/stderr
LogLevel warn
Mutex pthread
Listen 127.0.0.1:{at.port}
StartServers 2
ThreadsPerChild 25
Protocols h2 http/1.1
H2EarlyHints on
SSLEngine on
SSLCertificateFile {at.certificate}
SSLCertificateKeyFile {at.key}
SSLSessionCache none
DocumentRoot {at.files}
Redirect 413 /early413
ProxyPass /small !
ProxyPass /big !
ProxyPass /early413 !
ProxyPass / http://127.0.0.1:{at.backend}/
"""
    return [at.root / "usr/sbin/apache2", "-f", at.write("conf", conf), "-D", "FOREGROUND"]


def _haproxy(at: _Place) -> _Command:
    both = at.write("both.pem", at.certificate.read_text() + at.key.read_text())
    small = f"http-request return status 200 content-type text/plain string '{SMALL.decode()}'"
    conf = f"""
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend door
    bind 127.0.0.1:{at.port} ssl crt {both} alpn h2,http/1.1
    http-request return status 413 content-type text/plain string 'too large' if {{ path /early413 }}
    http-request early-hint link '{LINK}' if {{ path /hints }}
    {small} if {{ path /small /hints }}
    default_backend node
backend node
    server node 127.0.0.1:{at.backend}
"""
    # A master and its worker: the master reloads.
    return [at.root / "usr/sbin/haproxy", "-W", "-f", at.write("conf", conf)]


def _caddy(at: _Place) -> _Command:
    conf = f"""
{{
    admin unix/{at.folder}/admin
    auto_https off
    grace_period 5s
    servers {{
        protocols h1 h2
    }}
    storage file_system {at.folder}
}}
https://127.0.0.1:{at.port} {{
    bind 127.0.0.1
    tls {at.certificate} {at.key}
    root * {at.files}
    handle /early413 {{
        respond "too large" 413
    }}
    handle /hints {{
        header +link "{LINK}"
        respond 103
        respond "{SMALL.decode()}" 200
    }}
    @files path /small /big
    handle @files {{
        file_server
    }}
    handle {{
        reverse_proxy 127.0.0.1:{at.backend} {{
            flush_interval -1
        }}
    }}
}}
"""
    at.write("conf", conf)
    return [at.root / "usr/bin/caddy", "run", "--config", at.folder / "conf", "--adapter", "caddyfile"]


def _reload_caddy(at: _Place) -> _Command:
    options: _Command = ["--config", at.folder / "conf", "--adapter", "caddyfile", "--force"]
    return [at.root / "usr/bin/caddy", "reload", "--address", f"unix/{at.folder}/admin", *options]


def _lighttpd(at: _Place) -> _Command:
    conf = f"""
server.modules = ("mod_openssl", "mod_proxy")
server.bind = "127.0.0.1"
server.port = {at.port}
server.document-root = "{at.files}"
server.upload-dirs = ("{at.folder}")
server.feature-flags = ("server.graceful-restart-bg" => "enable", "server.graceful-shutdown-timeout" => 5)
ssl.engine = "enable"
ssl.pemfile = "{at.certificate}"
ssl.privkey = "{at.key}"
mimetype.assign = ("" => "application/octet-stream")
$HTTP["url"] !~ "^/(small|big|early413)$" {{
    proxy.server = ("" => (("host" => "127.0.0.1", "port" => {at.backend})))
}}
$HTTP["url"] == "/echo-stream" {{
    server.stream-request-body = 2
    server.stream-response-body = 2
}}
$HTTP["url"] == "/early413" {{
    server.max-request-size = 1
}}
"""
    modules = at.root / "usr/lib/lighttpd"
    return [at.root / "usr/sbin/lighttpd", "-D", "-f", at.write("conf", conf), "-m", modules]


def _h2o(at: _Place) -> _Command:
    user = "user: root" if os.getuid() == 0 else ""
    conf = f"""
{user}
num-threads: 1
listen:
  host: 127.0.0.1
  port: {at.port}
  ssl:
    certificate-file: {at.certificate}
    key-file: {at.key}
hosts:
  default:
    paths:
      /small: {{file.file: {at.files}/small}}
      /big: {{file.file: {at.files}/big}}
      /: {{proxy.reverse.url: "http://127.0.0.1:{at.backend}/"}}
"""
    return [at.root / "usr/bin/h2o", "-m", "master", "-c", at.write("conf", conf)]


def _node(at: _Place) -> _Command:
    return ["node", _NODE, str(at.port), at.files, at.certificate, at.key]


def _hypercorn(at: _Place) -> _Command:
    # Of the requests that are on their way when it says GOAWAY it answers none, though it says that it will: it closes
    # the connection after this time of silence. So there is no limit where nobody asks for one; its default is 1000.
    silence = "keep_alive_timeout = 0.5" if at.requests else ""
    conf = f"""
bind = "127.0.0.1:{at.port}"
certfile = "{at.certificate}"
keyfile = "{at.key}"
keep_alive_max_requests = {at.requests or 1_000_000}
{silence}
graceful_timeout = 0.2
loglevel = "WARNING"
"""
    return [at.root / "bin/hypercorn", "--config", at.write("conf.toml", conf), "interop_app:app"]


def _granian(at: _Place) -> _Command:
    return [
        *(
            at.root / "bin/granian",
            "--interface=asgi",
            "--host=127.0.0.1",
            f"--port={at.port}",
            "--respawn-interval=0.3",  # how long after a reload it ends the old connections
            "--workers-kill-timeout=1",
        ),
        *("--ssl-certificate", at.certificate, "--ssl-keyfile", at.key, "--log-level=warning", "interop_app:app"),
    ]


_ALL = frozenset(["small", "big", "upload", "echo", "echo-stream", "early413", "trailers", "hints"])

SERVERS: Mapping[str, Kind] = {
    # This nginx takes a 103 of its backend for the response, and sends DATA before HEADERS.
    "nginx": Kind(_nginx, "nginx", "", _ALL - {"hints"}, limits_requests=True, reload=signal.SIGHUP),
    # The one without HTTP/1.1. Every path sends the body back.
    "nghttpd": Kind(_nghttpd, "usr/sbin/nghttpd", "nghttp2-server", frozenset({"small", "big", "echo", "trailers"})),
    # Apache and h2o do not read the backend's response while they send it the request. (Apache's limit of requests
    # counts those of HTTP/1.1 only.)
    "apache": Kind(_apache, "usr/sbin/apache2", "apache2-bin", _ALL - {"echo-stream"}, reload=signal.SIGUSR1),
    "haproxy": Kind(_haproxy, "usr/sbin/haproxy", "haproxy", _ALL, reload=signal.SIGUSR2),
    "caddy": Kind(_caddy, "usr/bin/caddy", "caddy", _ALL, reload=_reload_caddy),
    # POST without a content-length is 411 here; PUT is not. What the backend sends as trailers and 103 it passes on
    # malformed: a value that ends with CR, a name in upper case.
    "lighttpd": Kind(
        _lighttpd,
        "usr/sbin/lighttpd",
        "lighttpd-mod-openssl",
        _ALL - {"trailers", "hints"},
        reload=signal.SIGUSR1,
    ),
    "h2o": Kind(_h2o, "usr/bin/h2o", "h2o", frozenset({"small", "big", "upload", "echo"}), reload=signal.SIGHUP),
    "node": Kind(_node, "node", "", _ALL, reload=signal.SIGHUP),
    # Trailers go to who says "te: trailers". After /early413 the connection is closed when more of the body comes.
    "hypercorn": Kind(_hypercorn, "bin/hypercorn", "interop", _ALL, limits_requests=True),
    "granian": Kind(_granian, "bin/granian", "interop", _ALL - {"trailers", "hints"}, reload=signal.SIGHUP),
}


def _root(kind: Kind) -> pathlib.Path | None:
    """Below which the server's files are, if it is installed at all."""
    if not kind.package:
        return pathlib.Path("/") if shutil.which(kind.program) else None
    roots = (INSTALLED / kind.package, pathlib.Path("/"))
    return next((root for root in roots if (root / kind.program).exists()), None)


def _environment(root: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    libraries = [str(path) for path in (*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*"))]
    return {
        "INTEROP_FILES": str(folder / "files"),
        "H2O_ROOT": str(root / "usr"),
        "PYTHONPATH": str(_KIT),
        "PYTHONDONTWRITEBYTECODE": "1",
        # What is unpacked brings the libraries that the machine has not.
        **({"LD_LIBRARY_PATH": ":".join(libraries)} if root != pathlib.Path("/") and libraries else {}),
        # A Python that is not ours shall not see what ours was told.
        "PYTHONDEVMODE": "",
        "PYTHONWARNINGS": "",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }


@contextlib.contextmanager
def start(
    name: str,
    authority: trustme.CA,
    *,
    requests_per_connection: int | None = None,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """*requests_per_connection*: where the kind says so. *options*: for nghttpd, such as ``--padding=255``,
    ``--max-concurrent-streams=1``, or ``--early-response``: POST too is answered with the file, before its body.
    """
    kind = SERVERS[name]
    if requests_per_connection and not kind.limits_requests:
        raise ValueError(f"{name} has no limit of requests per connection")
    if options and name != "nghttpd":
        raise ValueError(f"{name} takes no options")
    root = _root(kind)
    if root is None or not shutil.which("node"):  # which is the backend of the others
        pytest.skip(f"{name} or node is not installed: sh tests/install_interop.sh")
    # Not pytest's folder: only its owner may enter it, and Apache's workers are somebody else.
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interop-")))
        folder.chmod(0o755)
        files = folder / "files"
        files.mkdir()
        (files / "small").write_bytes(SMALL)
        (files / "big").write_bytes(random.Random(0).randbytes(BIG_BYTES))
        ca, certificate, key = folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(ca)
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)

        def backend(port: int) -> _Command:
            return ["node", _NODE, str(port), files]

        backend_port = 0
        if name not in ("node", "nghttpd", "hypercorn", "granian"):
            backend_port = stack.enter_context(_running(backend, folder, {}, _connects))[1]
        environment = _environment(root, folder)
        places: dict[int, _Place] = {}

        def command(port: int) -> _Command:
            places[port] = _Place(root, folder, port, backend_port, certificate, key, requests_per_connection, options)
            return kind.command(places[port])

        trust = ssl.create_default_context(cafile=ca)
        trust.set_alpn_protocols(["h2"])
        process, port = stack.enter_context(
            _running(command, folder, environment, lambda port: _speaks_http2(port, trust))
        )

        def reload() -> None:
            if isinstance(kind.reload, signal.Signals):
                os.kill(process.pid, kind.reload)
            elif kind.reload:
                subprocess.run(
                    kind.reload(places[port]), env={**os.environ, **environment}, check=True, capture_output=True
                )

        url = f"https://127.0.0.1:{port}"
        yield Server(name, url, ca, kind.offers, process, reload if kind.reload else None)
        if not process.runs:
            raise AssertionError(f"the server ended before its time:\n{process.log_end()}")


@contextlib.contextmanager
def _running(
    command: Callable[[int], _Command],
    folder: pathlib.Path,
    environment: Mapping[str, str],
    answers: Callable[[int], bool],
) -> Iterator[tuple[ServerProcess, int]]:
    for left in (2, 1, 0):
        port = free_port()  # which another program may take before the server does: then once more
        process = ServerProcess(command(port), folder, f"https://127.0.0.1:{port}", environment)
        try:
            until = time.monotonic() + 30
            while not answers(port):
                if not process.runs or time.monotonic() > until:
                    raise DidNotStart(process.log_end())
                time.sleep(0.03)
            break
        except DidNotStart:
            process.stop()
            if not left:
                raise
        except BaseException:
            process.stop()
            raise
    try:
        yield process, port
    finally:
        process.stop()


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def _speaks_http2(port: int, trust: ssl.SSLContext) -> bool:
    """Whether the server sends its settings, which are the first frame on every connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            with trust.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                sock.sendall(_PREFACE)
                return sock.selected_alpn_protocol() == "h2" and sock.recv(9)[3:4] == b"\x04"
    except OSError:
        return False
