"""Certificates and the server's end of TLS: everything is made here, nothing expires while the tests run.

The keys are made once a process (:func:`made`). ``localhost`` and ``127.0.0.1`` are whom the good ones are for.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import pathlib
import socket
import ssl
from collections.abc import Sequence

import attrs
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .peers import Peer

HOSTS = ("localhost", "127.0.0.1")
OTHER_HOST = "other.example"
CLIENT = "somebody@clients.example"
PASSWORD = "pass-7f3a-word"

TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3


@attrs.frozen(kw_only=True)
class Made:
    """``authority`` signs what is good or nearly so, ``stranger`` is one that nobody was told of."""

    authority: trustme.CA
    stranger: trustme.CA
    good: trustme.LeafCert
    expired: trustme.LeafCert
    not_yet_valid: trustme.LeafCert
    other_host: trustme.LeafCert
    unknown_issuer: trustme.LeafCert
    whole_chain: trustme.LeafCert  # of the stranger's too, with the root among what the server sends
    self_signed: trustme.LeafCert
    client: trustme.LeafCert


@functools.cache
def made() -> Made:
    now = datetime.datetime.now(datetime.UTC)
    days = datetime.timedelta(days=1)
    authority, stranger = trustme.CA(), trustme.CA()
    unknown = stranger.issue_cert(*HOSTS)
    return Made(
        authority=authority,
        stranger=stranger,
        good=authority.issue_cert(*HOSTS),
        expired=authority.issue_cert(*HOSTS, not_before=now - 9 * days, not_after=now - 2 * days),
        not_yet_valid=authority.issue_cert(*HOSTS, not_before=now + 2 * days, not_after=now + 9 * days),
        other_host=authority.issue_cert(OTHER_HOST),
        unknown_issuer=unknown,
        whole_chain=trustme.LeafCert(
            unknown.private_key_pem.bytes(), unknown.cert_chain_pems[0].bytes(), [stranger.cert_pem.bytes()]
        ),
        self_signed=_self_signed(now - days, now + 9 * days),
        client=authority.issue_cert(CLIENT),
    )


def _self_signed(begin: datetime.datetime, end: datetime.datetime) -> trustme.LeafCert:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return trustme.LeafCert(_key_pem(key, None), certificate.public_bytes(serialization.Encoding.PEM), [])


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str | None) -> bytes:
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        locked = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def encrypted_key(leaf: trustme.LeafCert, password: str = PASSWORD) -> bytes:
    """The key of *leaf* as PEM (PKCS #8), locked with *password*."""
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _key_pem(key, password)


def certificate(leaf: trustme.LeafCert) -> bytes:
    """The certificate of *leaf* itself, as PEM."""
    return leaf.cert_chain_pems[0].bytes()


def fingerprint(pem: bytes) -> str:
    """SHA-256 over the DER form, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def save(folder: pathlib.Path, name: str, *blobs: bytes) -> pathlib.Path:
    file = folder / name
    file.write_bytes(b"".join(blobs))
    return file


def server_context(
    leaf: trustme.LeafCert,
    *,
    version: ssl.TLSVersion | None = None,
    clients: trustme.CA | None = None,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """A server's context: *version* is the only one it speaks, *clients* signs the certificates that it requires."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def trusting_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context as a user would make it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class ServerEnd:
    """The server's end of TLS on a :class:`Peer` without TLS: what is sent, and when, is the script's to say.

    ``received`` counts the raw bytes that came.
    """

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self.received = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def pull(self) -> None:
        """Read once. ConnectionError at the end."""
        data = self.peer.receive()
        if not data:
            raise ConnectionError("the client has closed")
        self.received += len(data)
        self._incoming.write(data)

    def made(self) -> bytes:
        """What is to be sent."""
        return self._outgoing.read()

    def first_flight(self) -> bytes:
        """Read the ClientHello; the answer to it."""
        while True:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    return self.made()
                self.pull()

    def handshake(self) -> ssl.SSLError | None:
        """Do the handshake; None, or the failure, whose alert is then left in :meth:`made`."""
        while True:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                self.peer.send(self.made())
                self.pull()
            except ssl.SSLError as exc:
                return exc
            else:
                self.peer.send(self.made())
                return None

    def read(self) -> bytes:
        """Data of the client's, once there is any."""
        while True:
            try:
                return self.object.read(65536)
            except ssl.SSLWantReadError:
                self.pull()

    def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.unwrap()


def offer(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """One request with the standard library alone, offering *session*; the session that the server gave."""
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.recv(65536)
            return sock.session
