"""Real TLS servers, good ones and bad: what is verified, what the errors say, and that nothing leaves before that."""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

import anyio
import pytest
import trustme

from anyio_client import (
    TLS,
    AsyncAPIClient,
    ConnectionLostError,
    ConnectTimeoutError,
    HTTPTransport,
    Outcome,
    Phase,
    RetryPolicy,
    Timeout,
    TLSError,
)
from tests.kit.certs import (
    OTHER_HOST,
    TLS12,
    TLS13,
    ServerEnd,
    certificate,
    fingerprint,
    made,
    save,
    server_context,
    trusting_context,
)
from tests.kit.peers import Peer, ScriptedServer, answer_each, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

QUICK = RetryPolicy(wait_initial=0.001)
CA = made().authority.cert_pem.bytes()
ONE = answer_each(ok(b"1"))


def client_of(
    peer: ScriptedServer, tls: TLS | ssl.SSLContext | None, host: str = "localhost", **options: Any
) -> AsyncAPIClient:
    transport = HTTPTransport(tls=tls)
    return AsyncAPIClient(base_url=f"https://{host}:{peer.port}", http_client=transport, retry=QUICK, **options)


async def failure_of(client: AsyncAPIClient, *words: str) -> TLSError:
    """The error of a call that must fail in the handshake, and whose message has *words* (regular expressions)."""
    with pytest.raises(TLSError) as caught:
        await client.post("/", cast_to=int)
    for word in words:
        assert caught.match(word)
    error = caught.value
    assert (error.phase, error.outcome) == (Phase.TLS, Outcome.NOT_SENT)
    assert error.request is not None
    assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]
    return error


def assert_refused_once(peer: ScriptedServer, error: TLSError) -> None:
    assert error.retryable is False
    assert len(error.attempts) == 1
    assert (peer.connections, peer.requests) == (1, [])


# --- verification ------------------------------------------------------------------------------------------------------

# The name of the server's certificate, the host of the URL, what the message has to say.
BAD = [
    ("expired", "localhost", ["expired"]),
    ("not_yet_valid", "localhost", ["not yet valid"]),
    ("other_host", "localhost", [r"not (valid )?for '?localhost\b"]),
    ("other_host", "127.0.0.1", [r"not (valid )?for '?127\.0\.0\.1\b"]),
    ("unknown_issuer", "localhost", ["issuer", r"\bca="]),
    ("whole_chain", "localhost", ["issuer|self-signed", r"\bca="]),
    ("self_signed", "localhost", ["self-signed"]),
]


def leaf(name: str) -> trustme.LeafCert:
    found: trustme.LeafCert = getattr(made(), name)
    return found


@pytest.mark.spread
@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize(("name", "host", "words"), BAD)
async def test_a_certificate_that_is_no_good_is_refused_once(
    name: str, host: str, words: list[str], version: ssl.TLSVersion
) -> None:
    with serve(ONE, server_context(leaf(name), version=version)) as peer:
        async with client_of(peer, TLS(ca=CA), host, max_retries=2) as client:
            error = await failure_of(client, *words)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert_refused_once(peer, error)


@pytest.mark.spread
@pytest.mark.parametrize(("name", "host", "words"), BAD)
async def test_verification_can_be_switched_off(name: str, host: str, words: list[str]) -> None:
    with serve(ONE, server_context(leaf(name))) as peer:
        async with client_of(peer, TLS(verify=False), host) as client:
            assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("version", [TLS12, TLS13])
async def test_a_good_certificate_is_accepted(host: str, version: ssl.TLSVersion) -> None:
    with serve(ONE, server_context(made().good, version=version)) as peer:
        async with client_of(peer, TLS(ca=CA), host) as client:
            assert await client.get("/", cast_to=int) == 1


async def test_calls_at_the_same_time_each_get_an_error_of_their_own() -> None:
    with serve(ONE, server_context(made().expired)) as peer:
        async with client_of(peer, TLS(ca=CA)) as client:
            errors: list[TLSError] = []

            async def call() -> None:
                errors.append(await failure_of_one_of_many(client))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(call)
        assert len({id(error) for error in errors}) == 3
        assert len({id(error.request) for error in errors}) == 3
        assert all(error.retryable is False and len(error.attempts) == 1 for error in errors)
        assert peer.requests == []


async def failure_of_one_of_many(client: AsyncAPIClient) -> TLSError:
    with pytest.raises(TLSError, match="expired") as caught:
        await client.get("/", cast_to=int)
    assert (caught.value.phase, caught.value.outcome) == (Phase.TLS, Outcome.NOT_SENT)
    return caught.value


async def test_the_store_that_is_given_replaces_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(save(tmp_path, "platform.pem", CA)))
    with serve(ONE, server_context(made().good)) as peer:
        async with client_of(peer, TLS()) as client:  # the platform's store is as we have just said
            assert await client.get("/", cast_to=int) == 1
        async with client_of(peer, TLS(ca=made().stranger.cert_pem.bytes())) as client:
            await failure_of(client, "issuer")


# --- names -------------------------------------------------------------------------------------------------------------


def names_seen(context: ssl.SSLContext) -> list[str | None]:
    """Filled with the name that each client of *context* sends."""
    seen: list[str | None] = []
    context.sni_callback = lambda sock, name, of: seen.append(name)
    return seen


@pytest.mark.parametrize(
    ("host", "sni", "sent"),
    [
        ("localhost", None, "localhost"),
        ("127.0.0.1", None, None),  # never an address: RFC 6066 section 3
        ("localhost", OTHER_HOST, OTHER_HOST),
        ("127.0.0.1", OTHER_HOST, OTHER_HOST),
    ],
)
async def test_the_name_that_is_sent_and_verified(host: str, sni: str | None, sent: str | None) -> None:
    context = server_context(made().good if sni is None else made().other_host)
    seen = names_seen(context)
    with serve(ONE, context) as peer:
        async with client_of(peer, TLS(ca=CA, sni=sni), host) as client:
            assert await client.get("/", cast_to=int) == 1
        assert seen == [sent]
        assert f"\r\nhost: {host}:{peer.port}\r\n".encode() in peer.requests[0].lower()


async def test_the_urls_host_does_not_count_where_another_name_is_asked_for() -> None:
    with serve(ONE, server_context(made().good)) as peer:
        async with client_of(peer, TLS(ca=CA, sni=OTHER_HOST)) as client:
            error = await failure_of(client, rf"not (valid )?for '?{OTHER_HOST}")
        assert_refused_once(peer, error)


# --- pins --------------------------------------------------------------------------------------------------------------

PIN = fingerprint(certificate(made().good))
WRONG_PIN = fingerprint(certificate(made().expired))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "pins",
    [[PIN], [PIN.upper()], (":".join(PIN[i : i + 2] for i in range(0, 64, 2)),), [WRONG_PIN, PIN]],
    ids=["lower", "upper", "colons", "two"],
)
@pytest.mark.spread
async def test_one_pin_that_matches_is_enough(pins: Any, verify: bool) -> None:
    with serve(ONE, server_context(made().good)) as peer:
        async with client_of(peer, TLS(ca=CA, pins=pins, verify=verify)) as client:
            assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("pin", [WRONG_PIN, fingerprint(CA)], ids=["other", "of the authority"])
@pytest.mark.spread
async def test_a_request_is_never_sent_to_a_server_with_another_pin(
    pin: str, verify: bool, version: ssl.TLSVersion
) -> None:
    with serve(ONE, server_context(made().good, version=version)) as peer:
        async with client_of(peer, TLS(ca=CA, pins=[pin], verify=verify), max_retries=2) as client:
            assert_refused_once(peer, await failure_of(client, "pin"))


async def test_a_pin_does_not_replace_verification() -> None:
    with serve(ONE, server_context(made().expired)) as peer:
        async with client_of(peer, TLS(ca=CA, pins=[WRONG_PIN])) as client:
            assert_refused_once(peer, await failure_of(client, "expired"))


# --- versions ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_speaks_only_older_versions_than_allowed() -> None:
    with serve(ONE, server_context(made().good, version=TLS12)) as peer:
        async with client_of(peer, TLS(ca=CA, min_version="1.3"), max_retries=0) as client:
            error = await failure_of(client, r"(?i)version", r"min_version|1\.3")
        assert isinstance(error.__cause__, ssl.SSLError)
        async with client_of(peer, TLS(ca=CA, min_version="1.2")) as client:
            assert await client.get("/", cast_to=int) == 1
    with serve(ONE, server_context(made().good, version=TLS13)) as peer:
        async with client_of(peer, TLS(ca=CA, min_version="1.3")) as client:
            assert await client.get("/", cast_to=int) == 1


# --- servers that are none ---------------------------------------------------------------------------------------------

HTTP_400 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.spread
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (HTTP_400, "does not speak TLS on this port"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "TLS handshake|does not speak TLS"),
        (bytes(range(255, 0, -1)), "TLS handshake|does not speak TLS"),
        (b"\x16\x03\x03\x00\x05hello", "TLS handshake"),  # a record of the handshake, with nonsense in it
        (b"\x15\x03\x01\x00\x02\x02\x46", "(?i)version"),  # the alert protocol_version: TLS 1.1 and older only
        (b"\x15\x03\x03\x00\x02\x02\x70", r"(?i)unrecognized.name|\(SNI\)"),
    ],
    ids=["http", "ssh", "noise", "false record", "too old", "unknown name"],
)
async def test_what_answers_is_no_tls_server_for_us(data: bytes, words: str) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(data)
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            error = await failure_of(client, words)
        assert isinstance(error.__cause__, ssl.SSLError)


async def test_plain_http_on_the_port_is_not_tried_again() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(HTTP_400)
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=2) as client:
            assert_refused_once(peer, await failure_of(client))


@pytest.mark.parametrize("cut", ["fin", "reset", "fin in the middle", "reset in the middle"])
async def test_a_connection_that_is_cut_in_the_handshake_is_tried_again(cut: str) -> None:
    context = server_context(made().good)

    def script(peer: Peer) -> None:
        if peer.number > 2:
            with context.wrap_socket(peer.sock, server_side=True) as peer.sock:
                ONE(peer)
            return
        flight = ServerEnd(peer, context).first_flight()
        if "middle" in cut:
            peer.send(flight[: len(flight) // 2])
        if "reset" in cut:
            peer.reset()

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            error = await failure_of(client)
            assert isinstance(error.__cause__, OSError)
            assert peer.connections == 1
        async with client_of(peer, TLS(ca=CA), max_retries=1) as client:
            assert await client.post("/", cast_to=int) == 1
        assert peer.connections == 3


@pytest.mark.parametrize("progress", ["none", "half a flight", "a byte now and then"])
async def test_a_handshake_that_hangs_ends_with_the_limit_for_connecting(progress: str) -> None:
    def script(peer: Peer) -> None:
        flight = ServerEnd(peer, server_context(made().good)).first_flight()
        if progress == "half a flight":
            peer.send(flight[: len(flight) // 2])
        if progress == "a byte now and then":
            for byte in flight:  # some 20 s in all
                peer.send(bytes([byte]))
                peer.server.pause(0.02)
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), timeout=Timeout(30, connect=0.2), max_retries=0) as client:
            with pytest.raises(ConnectTimeoutError) as caught:
                await client.get("/", cast_to=int)
        assert (caught.value.phase, caught.value.outcome) == (Phase.TLS, Outcome.NOT_SENT)
        assert peer.connections == 1


# --- ends --------------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


@pytest.mark.spread
@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize(
    ("framing", "end", "whole"),
    [
        (b"", "close_notify", True),
        (b"", "cut", False),
        (b"", "cut in a record", False),
        (b"Content-Length: 3\r\n", "cut", True),
        (b"Content-Length: 4\r\n", "close_notify", False),
    ],
)
async def test_an_end_counts_only_where_the_peer_has_said_it(
    framing: bytes, end: str, whole: bool, version: ssl.TLSVersion
) -> None:
    def script(peer: Peer) -> None:
        tls = ServerEnd(peer, server_context(made().good, version=version))
        assert tls.handshake() is None
        tls.read()
        tls.object.write(HEAD + framing + b"\r\n[1]")
        if end == "close_notify":
            tls.close_notify()
        data = tls.made()
        if end == "cut in a record":
            tls.object.write(b"[2]")
            data += tls.made()[:-1]
        peer.send(data)

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            if whole:
                assert await client.get("/", cast_to=list) == [1]
            else:
                with pytest.raises(ConnectionLostError) as caught:
                    await client.get("/", cast_to=list)
                assert (caught.value.phase, caught.value.outcome) == (Phase.BODY, Outcome.ANSWERED)
        assert peer.connections == 1


# --- contexts of the user's --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offered", "chosen"), [(None, None), (["http/1.1"], "http/1.1")])
async def test_a_context_of_the_users_is_not_changed(offered: list[str] | None, chosen: str | None) -> None:
    context = trusting_context(made().authority)
    if offered:
        context.set_alpn_protocols(offered)
    names = ("options", "verify_mode", "verify_flags", "check_hostname", "minimum_version", "maximum_version")
    before = [getattr(context, name) for name in names]
    agreed: list[str | None] = []

    def script(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        agreed.append(peer.sock.selected_alpn_protocol())
        ONE(peer)

    with serve(script, server_context(made().good, alpn=["h2", "http/1.1"])) as peer:
        for _ in range(2):
            async with client_of(peer, context) as client:
                assert await client.get("/", cast_to=int) == 1
        async with client_of(peer, context, "127.0.0.1") as client:
            assert await client.get("/", cast_to=int) == 1
    assert agreed == [chosen] * 3
    assert [getattr(context, name) for name in names] == before
    assert len(context.get_ca_certs()) == len(trusting_context(made().authority).get_ca_certs())
