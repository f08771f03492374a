"""How TLS is done: whom to trust, who we are, what is the least; and in plain words why a handshake failed."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import ssl
from collections.abc import Iterable
from typing import Final, TypeAlias, cast

import attrs

__all__ = ["TLS", "default_context", "explain", "is_final"]

ClientCert: TypeAlias = "str | os.PathLike[str] | tuple[str | os.PathLike[str], ...] | None"

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def _to_ca(value: object) -> str | None:
    """A path, or PEM text. TypeError for anything else."""
    if value is None:
        return None
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("ascii")
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    raise TypeError(f"ca= takes a path, or certificates as PEM text, not {type(value).__name__}")


def _to_client_cert(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    parts: tuple[object, ...] = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    if (isinstance(value, tuple) and not 2 <= len(parts) <= 3) or not all(
        isinstance(part, str | os.PathLike) for part in parts
    ):
        raise TypeError("client_cert= takes a path, or (certificate, key), or (certificate, key, password)")
    return tuple(os.fspath(cast("str | os.PathLike[str]", part)) for part in parts)


def _to_pins(value: object) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError("pins= takes a list of SHA-256 fingerprints")
    pins: list[str] = []
    for pin in cast("Iterable[object]", value):
        if not isinstance(pin, str):
            raise TypeError(f"a pin is a SHA-256 fingerprint as text, not {type(pin).__name__}")
        plain = pin.replace(":", "").lower()
        if not re.fullmatch(r"[0-9a-f]{64}", plain):
            raise ValueError("a pin is the SHA-256 fingerprint of a certificate: 64 hexadecimal digits")
        pins.append(plain)
    return tuple(pins)


def _check_bool(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name}= must be True or False, not {type(value).__name__}")


def _check_sni(instance: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._:-]+", value)):
        raise ValueError("sni= must be a host name in ASCII, or None")


def _check_version(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or value not in _VERSIONS:
        raise ValueError(f"min_version= must be '1.2' or '1.3', not {value!r}")


def _show_cert(value: tuple[str, ...] | None) -> str:
    return repr(value if value is None or len(value) < 3 else (*value[:2], "***"))


@attrs.frozen(kw_only=True)
class TLS:
    """How TLS is done, for ``HTTPTransport(tls=)``. Wrong values are a TypeError or ValueError at construction.

    ``ca``: whom to trust in place of the platform's store: a file or a directory of certificates (PEM), or PEM text.
    ``client_cert``: who we are: a path (certificate and key), or ``(certificate, key)``, or with the key's password
    as a third. ``verify=False`` trusts everybody: anybody on the way can read and change everything. ``sni``: the name that
    is asked for and must be in the certificate, where it is not the URL's host. ``min_version``: ``"1.2"`` or
    ``"1.3"``. ``pins``: SHA-256 fingerprints, one of which the server's own certificate must have, besides all else.
    """

    ca: str | None = attrs.field(default=None, converter=_to_ca, repr=lambda ca: repr(ca and ca[:40]))
    client_cert: tuple[str, ...] | None = attrs.field(default=None, converter=_to_client_cert, repr=_show_cert)
    verify: bool = attrs.field(default=True, validator=_check_bool)
    sni: str | None = attrs.field(default=None, validator=_check_sni)
    min_version: str = attrs.field(default="1.2", validator=_check_version)
    pins: tuple[str, ...] = attrs.field(default=(), converter=_to_pins)

    def __attrs_post_init__(self) -> None:
        if self.ca is not None or self.client_cert is not None:
            self.make_context([])  # the files are looked at now, and not in the middle of a call

    def make_context(self, alpn: list[str]) -> ssl.SSLContext:
        """A context that does this. ValueError for files that cannot be used."""
        if self.ca is None:
            context = ssl.create_default_context()
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _trust(context, self.ca)
        if self.client_cert is not None:
            _present(context, *self.client_cert)
        context.minimum_version = _VERSIONS[self.min_version]
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def accepts(self, certificate: bytes | None) -> bool:
        """Whether the server's certificate (DER) is one that was pinned; always where nothing is."""
        return not self.pins or hashlib.sha256(certificate or b"").hexdigest() in self.pins

    @property
    def for_proxy(self) -> TLS:
        """The same for a proxy: trust, and nothing that is meant for an origin."""
        return TLS(ca=self.ca, verify=self.verify, min_version=self.min_version)


def _trust(context: ssl.SSLContext, ca: str) -> None:
    try:
        if "-----BEGIN" in ca:
            context.load_verify_locations(cadata=ca)
        elif os.path.isdir(ca):
            if not any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) for name in os.listdir(ca)):
                raise ValueError(f"ca={ca!r} has no certificates in it under the names that `openssl rehash` makes")
            context.load_verify_locations(capath=ca)
        else:
            context.load_verify_locations(cafile=ca)
    except OSError as exc:  # ssl.SSLError is one
        what = "the PEM text" if "-----BEGIN" in ca else repr(ca)
        reason = "there are no certificates in it" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise ValueError(f"ca={what} cannot be used: {reason}") from exc


def _present(context: ssl.SSLContext, cert: str, key: str | None = None, password: str | None = None) -> None:
    def no_password() -> str:  # OpenSSL would ask on the terminal
        raise ValueError(f"the key of client_cert={cert!r} is encrypted: give its password as a third")

    try:
        context.load_cert_chain(cert, key, no_password if password is None else password)
    except OSError as exc:
        if not isinstance(exc, ssl.SSLError):
            raise ValueError(f"client_cert={cert!r} cannot be used: {exc.strerror} ({exc.filename or cert})") from exc
        mismatch = exc.reason == "KEY_VALUES_MISMATCH"
        reason = (
            "the key does not belong to the certificate" if mismatch else "no certificate and key, or a wrong password"
        )
        raise ValueError(f"client_cert={cert!r} cannot be used: {reason}") from exc


def default_context(alpn: Iterable[str]) -> ssl.SSLContext:
    """The context of :class:`TLS` without arguments: made once (it costs milliseconds) and shared, never changed."""
    # OpenSSL looks at these variables when the store is read.
    return _default_context(tuple(alpn), os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=8)
def _default_context(alpn: tuple[str, ...], *where: str | None) -> ssl.SSLContext:
    return TLS().make_context(list(alpn))


# --- why it failed -------------------------------------------------------------------------------------------------

# X509_V_ERR_* of OpenSSL
_VERDICTS: Final = {
    9: "its certificate is not yet valid (is this machine's clock right?)",
    10: "its certificate has expired",
    18: "its certificate is self-signed; tls=TLS(ca=...) names whom to trust",
    19: "a self-signed certificate stands at the end of its chain, which is not trusted; tls=TLS(ca=...) names whom to trust",
    20: "the issuer of its certificate is unknown; tls=TLS(ca=...) names whom to trust",
    21: "the issuer of its certificate is unknown (it may send an incomplete chain)",
    23: "its certificate was revoked",
}
_NOT_FOR_THIS_HOST: Final = (62, 64)  # a name, an address

_REASONS: Final = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port; if it is plain HTTP, write http://",
    "HTTP_REQUEST": "it does not speak TLS on this port; if it is plain HTTP, write http://",
    "RECORD_LAYER_FAILURE": "it does not speak TLS on this port; if it is plain HTTP, write http://",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS on this port; if it is plain HTTP, write http://",
    "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS that is allowed here (min_version=)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no version of TLS that is allowed here (min_version=)",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "no application protocol: it speaks none of those that were offered (ALPN); "
    "http1=False offers HTTP/2 only",
    "TLSV1_ALERT_UNRECOGNIZED_NAME": "it knows no host of that name (SNI)",
    "TLSV1_UNRECOGNIZED_NAME": "it knows no host of that name (SNI)",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate: tls=TLS(client_cert=...)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused the client certificate, or wants one: tls=TLS(client_cert=...)",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the issuer of the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused the client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it ended the handshake: it agrees to nothing that was offered, or wants a client "
    "certificate (tls=TLS(client_cert=...))",
}

_MAY_PASS: Final = {"SSLV3_ALERT_HANDSHAKE_FAILURE"}  # a balancer without a server says so too


def explain(error: OSError, host: str) -> str:
    """Why a handshake with *host* failed, in words that say what to do; OpenSSL's own where nothing better is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_FOR_THIS_HOST:
            return f"its certificate is not for {host} ({error.verify_message.rstrip('.')})"
        return _VERDICTS.get(error.verify_code, error.verify_message)
    if isinstance(error, ssl.SSLEOFError):
        return "it closed the connection in the middle of the handshake"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", str(error))
    return str(error)


def is_final(error: OSError) -> bool:
    """Whether the same handshake would fail again."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return isinstance(error, ssl.SSLError) and (error.reason or "") in _REASONS.keys() - _MAY_PASS
