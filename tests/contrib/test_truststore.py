"""The trust store of the operating system. On Linux that is what OpenSSL has: here, a file that SSL_CERT_FILE names."""

from __future__ import annotations

import pathlib
import ssl

import pytest

from anyio_client import AsyncAPIClient, HTTPTransport, TLSError
from tests.kit import certs
from tests.kit.peers import answer_each, ok, serve

pytest.importorskip("truststore")
from anyio_client.contrib.truststore import make_context

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("trusted", [True, False])
async def test_it_verifies_by_the_systems_store(
    trusted: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certs.made()
    file = tmp_path / "store.pem"
    (made.authority if trusted else made.stranger).cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serve(answer_each(ok(b"7")), certs.server_context(made.good, alpn=["http/1.1"])) as server:
        transport = HTTPTransport(tls=make_context())
        async with AsyncAPIClient(base_url=server.url, http_client=transport, max_retries=0) as client:
            if trusted:
                assert await client.get("/", cast_to=int) == 7
            else:
                with pytest.raises(TLSError, match="certificate"):
                    await client.get("/", cast_to=int)


async def test_the_host_is_checked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certs.made()
    made.authority.cert_pem.write_to_path(tmp_path / "store.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "store.pem"))
    with serve(answer_each(ok()), certs.server_context(made.other_host)) as server:
        transport = HTTPTransport(tls=make_context())
        async with AsyncAPIClient(base_url=server.url, http_client=transport, max_retries=0) as client:
            with pytest.raises(TLSError, match="certificate"):
                await client.get("/", cast_to=object)


@pytest.mark.parametrize(("alpn", "chosen"), [(None, "h2"), (["http/1.1"], "http/1.1")])
async def test_alpn(
    alpn: list[str] | None, chosen: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certs.made()
    made.authority.cert_pem.write_to_path(tmp_path / "store.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "store.pem"))
    agreed: list[str | None] = []

    def script(peer: object) -> None:
        sock = peer.sock  # type: ignore[attr-defined]
        agreed.append(sock.selected_alpn_protocol())

    with serve(script, certs.server_context(made.good, alpn=["h2", "http/1.1"])) as server:
        transport = HTTPTransport(tls=make_context() if alpn is None else make_context(alpn))
        async with AsyncAPIClient(base_url=server.url, http_client=transport, max_retries=0) as client:
            with pytest.raises(Exception):
                await client.get("/", cast_to=object)
    assert agreed[0] == chosen


def test_the_context() -> None:
    context = make_context()
    assert isinstance(context, ssl.SSLContext)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
