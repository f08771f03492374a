"""The server that the calls of tests/kit/proxy_checks.py go to: not ours, and it records what comes."""

from __future__ import annotations

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
import trustme

from tests.kit.interop import _KIT, SMALL, _connects, _running
from tests.kit.real_proxies import NAME
from tests.kit.servers import SERVERS as INSTALLED
from tests.kit.servers import free_port

_HYPERCORN = INSTALLED / "interop/bin/hypercorn"


@attrs.frozen
class Origin:
    """A Hypercorn with the application of tests/kit/recording_app.py, with and without TLS."""

    ports: Mapping[str, int]  # by scheme
    ca: pathlib.Path
    _record: pathlib.Path

    def text(self) -> str:
        """All requests that came, as JSON lines: so that nothing of them is overlooked."""
        return self._record.read_text()

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@contextlib.contextmanager
def origin(authority: trustme.CA) -> Iterator[Origin]:
    """Where the calls go, as 127.0.0.1, localhost and ``NAME``; the test is skipped where Hypercorn is not installed."""
    if not _HYPERCORN.exists():
        pytest.skip("Hypercorn is not installed: sh tests/install_interop.sh --short")
    with tempfile.TemporaryDirectory(prefix="origin-") as made, contextlib.ExitStack() as stack:
        folder = pathlib.Path(made)
        files = folder / "files"
        files.mkdir()
        for name, content in (("files/small", SMALL), ("files/big", b""), ("record", b"")):
            (folder / name).write_bytes(content)
        leaf = authority.issue_cert("127.0.0.1", "localhost", NAME)
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        ports: dict[str, int] = {}

        def command(port: int) -> list[str | pathlib.Path]:
            ports.update(https=port, http=free_port())
            conf = f"""
bind = "127.0.0.1:{port}"
insecure_bind = "127.0.0.1:{ports["http"]}"
certfile = "{folder}/both.pem"
keyfile = "{folder}/both.pem"
keep_alive_max_requests = 1_000_000
graceful_timeout = 0.2
loglevel = "WARNING"
"""
            (folder / "conf.toml").write_text(conf)
            return [_HYPERCORN, "--config", folder / "conf.toml", "recording_app:app"]

        environment = {
            "INTEROP_FILES": str(files),
            "RECORD": str(folder / "record"),
            "PYTHONPATH": str(_KIT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONDEVMODE": "",
            "PYTHONWARNINGS": "",
        }
        stack.enter_context(
            _running(command, folder, environment, lambda port: _connects(port) and _connects(ports["http"]))
        )
        yield Origin(ports, folder / "ca.pem", folder / "record")
