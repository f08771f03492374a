"""``TLS``: what it takes, what it refuses before anything is sent, what it shows."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anyio_client import TLS, AsyncAPIClient, HTTPTransport
from tests.kit.certs import PASSWORD, certificate, encrypted_key, made, save, server_context
from tests.kit.peers import answer_each, ok, serve

CA = made().authority.cert_pem.bytes()
PIN = "0123456789abcdef" * 4


def test_without_arguments() -> None:
    tls = TLS()
    assert (tls.ca, tls.client_cert, tls.verify, tls.sni, tls.min_version, tls.pins) == (
        *(None, None, True, None, "1.2"),
        (),
    )


def test_it_is_a_frozen_value() -> None:
    assert TLS(sni="a.example", pins=[PIN]) == TLS(sni="a.example", pins=(PIN,))
    assert TLS(sni="a.example") != TLS(sni="b.example")
    assert hash(TLS(pins=[PIN])) == hash(TLS(pins=[PIN]))
    tls: Any = TLS()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        tls.verify = False


def test_verification_is_switched_off_by_name_only() -> None:
    with pytest.raises(TypeError):
        TLS(None, None, False)  # type: ignore[call-arg]
    assert TLS(verify=False).verify is False


# --- files -------------------------------------------------------------------------------------------------------------


def path_text(folder: pathlib.Path) -> Any:
    return str(save(folder, "ca.pem", CA))


def path(folder: pathlib.Path) -> Any:
    return save(folder, "ca.pem", CA)


def bundle(folder: pathlib.Path) -> Any:
    return save(folder, "ca.pem", b"# others first\n", made().stranger.cert_pem.bytes(), b"\n", CA)


def directory(folder: pathlib.Path) -> Any:
    """As ``openssl rehash`` makes it."""
    if not shutil.which("openssl"):
        pytest.skip("the command openssl is not installed")
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(save(folder, "ca", CA))]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / "hashed").mkdir()
    save(folder / "hashed", f"{name}.0", CA)
    return folder / "hashed"


def text(folder: pathlib.Path) -> Any:
    return CA.decode()


def data(folder: pathlib.Path) -> Any:
    return CA


@pytest.mark.anyio
@pytest.mark.spread
@pytest.mark.parametrize("given", [path_text, path, bundle, directory, text, data], ids=lambda given: given.__name__)
async def test_certificates_of_authorities(given: Callable[[pathlib.Path], Any], tmp_path: pathlib.Path) -> None:
    with serve(answer_each(ok(b"1")), server_context(made().good)) as peer:
        transport = HTTPTransport(tls=TLS(ca=given(tmp_path)))
        async with AsyncAPIClient(base_url=f"https://localhost:{peer.port}", http_client=transport) as client:
            assert await client.get("/", cast_to=int) == 1


@pytest.mark.anyio
async def test_a_self_signed_certificate_may_be_trusted_by_itself() -> None:
    with serve(answer_each(ok(b"1")), server_context(made().self_signed)) as peer:
        transport = HTTPTransport(tls=TLS(ca=certificate(made().self_signed)))
        async with AsyncAPIClient(base_url=f"https://localhost:{peer.port}", http_client=transport) as client:
            assert await client.get("/", cast_to=int) == 1


# --- wrong values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"ca": 1}, TypeError),
        ({"ca": "/nowhere/ca.pem"}, ValueError),
        ({"ca": "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"}, ValueError),
        ({"ca": b"-----BEGIN CERTIFICATE-----\n"}, ValueError),
        ({"ca": b"neither PEM nor \xff ASCII"}, ValueError),
        ({"ca": ""}, ValueError),
        ({"client_cert": 1}, TypeError),
        ({"client_cert": "/nowhere/cert.pem"}, ValueError),
        ({"client_cert": ()}, (TypeError, ValueError)),
        ({"client_cert": ("a", "b", "c", "d")}, (TypeError, ValueError)),
        ({"verify": "false"}, TypeError),
        ({"verify": None}, TypeError),
        ({"sni": 1}, (TypeError, ValueError)),
        ({"sni": ""}, ValueError),
        ({"sni": "a b"}, ValueError),
        ({"min_version": "1.1"}, ValueError),
        ({"min_version": 1.3}, (TypeError, ValueError)),
        ({"min_version": None}, (TypeError, ValueError)),
        ({"min_version": ["1.2"]}, (TypeError, ValueError)),
        ({"pins": PIN}, (TypeError, ValueError)),
        ({"pins": 1}, TypeError),
        ({"pins": [b"\0" * 32]}, (TypeError, ValueError)),
        ({"pins": [PIN[:-1]]}, ValueError),
        ({"pins": [PIN + "0"]}, ValueError),
        ({"pins": ["g" * 64]}, ValueError),
        ({"pins": [PIN, "sha256/AAAA"]}, ValueError),
        ({"pins": [""]}, ValueError),
        ({"nothing": 1}, TypeError),
    ],
)
def test_wrong_values(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        TLS(**given)
    assert next(iter(given)) in str(caught.value) or "pin" in str(caught.value)


def test_files_without_a_certificate(tmp_path: pathlib.Path) -> None:
    key = made().client.private_key_pem.bytes()
    for name, content in {"empty": b"", "text": b"hello\n", "key": key}.items():
        with pytest.raises(ValueError, match="ca="):
            TLS(ca=save(tmp_path, name, content))
        with pytest.raises(ValueError, match="client_cert="):
            TLS(client_cert=save(tmp_path, name, content))
    (tmp_path / "nothing").mkdir()
    for nothing in (key, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="ca="):
            TLS(ca=nothing)


def test_a_key_that_does_not_fit(tmp_path: pathlib.Path) -> None:
    cert = save(tmp_path, "cert.pem", certificate(made().client))
    other = save(tmp_path, "other.pem", made().good.private_key_pem.bytes())
    for given in ((cert, other), (cert, tmp_path / "nowhere"), (cert, cert), cert):
        with pytest.raises(ValueError, match="client_cert="):
            TLS(client_cert=given)


def test_the_password_of_a_key(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    cert = save(tmp_path, "cert.pem", certificate(made().client))
    key = save(tmp_path, "key.pem", encrypted_key(made().client))
    with pytest.raises(ValueError, match="password") as caught:
        TLS(client_cert=(cert, key, "wrong-8c1d"))
    assert "wrong-8c1d" not in str(caught.value)
    with pytest.raises(ValueError, match="password"):
        TLS(client_cert=(cert, key))
    out, err = capfd.readouterr()
    assert out + err == ""  # nobody was asked on the terminal
    tls = TLS(client_cert=(cert, key, PASSWORD))
    for shown in (repr(tls), str(tls), f"{tls}", repr([tls]), repr(HTTPTransport(tls=tls))):
        assert PASSWORD not in shown
    assert "cert.pem" in repr(tls)


@pytest.mark.parametrize(
    "tls", [True, False, "ca.pem", {"verify": False}, object()], ids=["True", "False", "str", "dict", "object"]
)
def test_a_transport_takes_tls_or_a_context(tls: Any) -> None:
    with pytest.raises(TypeError, match="tls must be|tls="):
        HTTPTransport(tls=tls)
