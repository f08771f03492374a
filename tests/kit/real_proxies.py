"""Proxies that are not ours, on loopback only: tests/install_proxies.sh installs squid, tinyproxy and microsocks.

``with start("squid+auth", authority) as proxy:`` runs one in a process of its own, from when it accepts connections to the
end of the block; the test is skipped where the proxy is not installed. ``PROXIES`` says which there are. All of them go
wherever they are asked to, to any port; the user of those with a password is ``USER``.

They resolve names themselves: ``NAME`` is 127.0.0.1 for them, and nothing for anybody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote

import attrs
import pytest
import trustme

from tests.kit.interop import _connects, _running
from tests.kit.servers import SERVERS as INSTALLED

NAME = "only-the-proxy.test"
USER = "somebody"
PASSWORD = "s3cret:/%25+pass"  # which a URL must escape, and which is unescaped once
PLAIN_PASSWORD = "s3cret-pass"  # for tinyproxy, which allows letters, digits and a few more
WRONG = "wr0ng-password"

_Command = list[str | pathlib.Path]


@attrs.frozen
class _Place:
    """What a proxy is started with. ``service``: a name that no other running proxy has."""

    root: pathlib.Path  # where its package is unpacked, or /
    folder: pathlib.Path
    port: int
    service: str

    def write(self, name: str, text: str) -> pathlib.Path:
        (self.folder / name).write_text(text)
        return self.folder / name


@attrs.frozen
class Kind:
    """``refusals``: the status for a wrong password; ``closed``: for a port where nobody listens. SOCKS has none."""

    command: Callable[[_Place], _Command]
    program: str  # below the root of its package
    package: str  # the folder in .servers
    scheme: str
    log: str  # the file in its folder
    line: str  # of its log, for each thing that it was asked for
    password: str | None = None
    refusal: int | None = None
    closed: int | None = None

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")


@attrs.frozen
class Proxy:
    """A running proxy. ``knows_names``: whether it knows ``NAME``; else it only knows ``localhost``."""

    name: str
    kind: Kind
    port: int
    knows_names: bool
    _log: pathlib.Path

    @property
    def url(self) -> str:
        return self._url(f"{USER}:{quote(self.kind.password, safe='')}@" if self.kind.password else "")

    @property
    def wrong_url(self) -> str:
        """With a password that it does not accept."""
        return self._url(f"{USER}:{WRONG}@")

    @property
    def name_to_resolve(self) -> str:
        return NAME if self.knows_names else "localhost"

    def _url(self, credentials: str) -> str:
        return f"{self.kind.scheme}://{credentials}127.0.0.1:{self.port}"

    def seen(self) -> list[str]:
        """What it was asked for: ``CONNECT host:port`` or ``GET http://host:port/path``; a SOCKS proxy: ``host:port``.

        squid says so when a tunnel ends, the others when one begins. Of what SOCKS proxies refuse they say nothing.
        """
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return re.findall(self.kind.line, text, re.MULTILINE)


def _squid(at: _Place, *, password: bool = False, tls: bool = False) -> _Command:
    share, programs = at.root / "usr/share/squid", at.root / "usr/lib/squid"
    access = "http_access allow all"
    if password:
        # It knows passwords by their MD5 too, without salt.
        at.write("passwords", f"{USER}:{hashlib.md5(PASSWORD.encode()).hexdigest()}\n")
        access = f"""
auth_param basic program {programs}/basic_ncsa_auth {at.folder}/passwords
auth_param basic children 2 startup=1 idle=1
auth_param basic realm proxy
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""
    door = f"http_port 127.0.0.1:{at.port}"
    if tls:
        door = f"https_port 127.0.0.1:{at.port} tls-cert={at.folder}/both.pem"
    # Relative names are of the files that Debian has elsewhere; the workers leave root, and write in the folder.
    conf = f"""
{door}
{access}
hosts_file {at.folder}/hosts
pid_filename none
cache_log {at.folder}/cache.log
logformat seen %rm %ru %>Hs
access_log stdio:{at.folder}/seen seen
buffered_logs off
cache deny all
cache_mem 0
coredump_dir {at.folder}
error_directory {share}/errors/templates
err_page_stylesheet none
icon_directory {share}/icons
mime_table {share}/mime.conf
unlinkd_program {programs}/unlinkd
pinger_enable off
shutdown_lifetime 0 seconds
strip_query_terms off
{"cache_effective_user nobody" if os.getuid() == 0 else ""}
"""
    return [at.root / "usr/sbin/squid", "-N", "-d1", "-n", at.service, "-f", at.write("conf", conf)]


def _tinyproxy(at: _Place, *, password: bool = False) -> _Command:
    share = at.root / "usr/share/tinyproxy"
    conf = f"""
Listen 127.0.0.1
Port {at.port}
Timeout 60
MaxClients 200
LogLevel Connect
LogFile "{at.folder}/seen"
DefaultErrorFile "{share}/default.html"
StatFile "{share}/stats.html"
{f"BasicAuth {USER} {PLAIN_PASSWORD}" if password else ""}
"""
    return [at.root / "usr/bin/tinyproxy", "-d", "-c", at.write("conf", conf)]


def _microsocks(at: _Place, *, password: bool = False) -> _Command:
    command: _Command = [at.root / "usr/bin/microsocks", "-i", "127.0.0.1", "-p", str(at.port)]
    return [*command, "-u", USER, "-P", PASSWORD] if password else command


_SQUID = Kind(_squid, "usr/sbin/squid", "squid", "http", "seen", r"^(\S+ \S+) \d+$", closed=503)
_TINYPROXY = Kind(
    *(_tinyproxy, "usr/bin/tinyproxy", "tinyproxy", "http", "seen", r"Request .*: (\S+ \S+) HTTP/1.1$"), closed=500
)
_MICROSOCKS = Kind(
    *(_microsocks, "usr/bin/microsocks", "microsocks", "socks5", "log", r"^client.*: connected to (\S+)$")
)

PROXIES: Mapping[str, Kind] = {
    "squid": _SQUID,
    "squid+auth": attrs.evolve(_SQUID, command=lambda at: _squid(at, password=True), password=PASSWORD, refusal=407),
    "squid+tls": attrs.evolve(_SQUID, command=lambda at: _squid(at, tls=True), scheme="https"),
    "tinyproxy": _TINYPROXY,
    # It says 407 to whoever has no password, and 401 to whoever has the wrong one.
    "tinyproxy+auth": attrs.evolve(
        _TINYPROXY, command=lambda at: _tinyproxy(at, password=True), password=PLAIN_PASSWORD, refusal=401
    ),
    "socks5": _MICROSOCKS,
    "socks5+auth": attrs.evolve(_MICROSOCKS, command=lambda at: _microsocks(at, password=True), password=PASSWORD),
    "socks5h": attrs.evolve(_MICROSOCKS, scheme="socks5h"),
    "socks5h+auth": attrs.evolve(
        _MICROSOCKS, command=lambda at: _microsocks(at, password=True), scheme="socks5h", password=PASSWORD
    ),
}


def _root(package: str, program: str) -> pathlib.Path | None:
    """Below which the files of a package are, if it is installed at all."""
    return next((root for root in (INSTALLED / package, pathlib.Path("/")) if any(root.glob(program))), None)


def _environment(root: pathlib.Path, wrapper: pathlib.Path | None, folder: pathlib.Path) -> dict[str, str]:
    environment = {}
    libraries = [str(path) for path in (*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*"))]
    if root != pathlib.Path("/") and libraries:  # what is unpacked brings the libraries that the machine has not
        environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    if wrapper:
        environment |= {"LD_PRELOAD": str(wrapper), "NSS_WRAPPER_HOSTS": str(folder / "hosts")}
    return environment


@contextlib.contextmanager
def start(name: str, authority: trustme.CA) -> Iterator[Proxy]:
    """The proxy *name* of ``PROXIES``. *authority* makes the certificate of one that speaks TLS."""
    kind = PROXIES[name]
    root = _root(kind.package, kind.program)
    if root is None:
        pytest.skip(f"{kind.package} is not installed: sh tests/install_proxies.sh")
    library = "usr/lib/*/libnss_wrapper.so"
    wrappers = _root("libnss-wrapper", library)
    # squid reads the file of hosts itself.
    wrapper = next(wrappers.glob(library)) if wrappers and kind.package != "squid" else None
    # Not pytest's folder: only its owner may enter it, and squid's workers are somebody else.
    with tempfile.TemporaryDirectory(prefix="proxies-") as made, contextlib.ExitStack() as stack:
        folder = pathlib.Path(made)
        folder.chmod(0o755)
        (folder / "hosts").write_text(f"127.0.0.1 {NAME} localhost\n")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
        if os.getuid() == 0:
            shutil.chown(folder, "nobody")

        def command(port: int) -> Sequence[str | pathlib.Path]:
            service = f"proxy{os.getpid()}x{port}"
            stack.callback(_forget, service)
            return kind.command(_Place(root, folder, port, service))

        environment = _environment(root, wrapper, folder)
        process, port = stack.enter_context(_running(command, folder, environment, _connects))
        yield Proxy(name, kind, port, bool(wrapper) or kind.package == "squid", folder / kind.log)
        if not process.runs:
            raise AssertionError(f"the proxy ended before its time:\n{process.log_end()}")


def _forget(service: str) -> None:
    """Remove the shared memory of a squid that was killed."""
    for file in pathlib.Path("/dev/shm").glob(f"{service}-*"):
        file.unlink()
