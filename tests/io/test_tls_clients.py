"""TLS from the server's side: the certificate that a client shows, the session that it resumes."""

from __future__ import annotations

import pathlib
import ssl
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anyio_client import (
    TLS,
    APIConnectionError,
    AsyncAPIClient,
    ConnectionLostError,
    HTTPTransport,
    Outcome,
    Phase,
    RetryPolicy,
    TLSError,
)
from tests.kit.certs import (
    CLIENT,
    PASSWORD,
    TLS12,
    TLS13,
    ServerEnd,
    certificate,
    encrypted_key,
    fingerprint,
    made,
    offer,
    save,
    server_context,
    trusting_context,
)
from tests.kit.peers import Peer, Script, ScriptedServer, answer_each, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

QUICK = RetryPolicy(wait_initial=0.001)
CA = made().authority.cert_pem.bytes()
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


def client_of(peer: ScriptedServer, tls: TLS | ssl.SSLContext, **options: Any) -> AsyncAPIClient:
    transport = HTTPTransport(tls=tls)
    return AsyncAPIClient(base_url=f"https://localhost:{peer.port}", http_client=transport, retry=QUICK, **options)


# --- the client's certificate ------------------------------------------------------------------------------------------


def in_one_file(folder: pathlib.Path) -> Any:
    return str(save(folder, "both.pem", made().client.private_key_pem.bytes(), certificate(made().client)))


def in_two_files(folder: pathlib.Path) -> Any:
    return (
        save(folder, "cert.pem", certificate(made().client)),
        save(folder, "key.pem", made().client.private_key_pem.bytes()),
    )


def locked(folder: pathlib.Path) -> Any:
    return (*in_two_files(folder)[:1], str(save(folder, "locked.pem", encrypted_key(made().client))), PASSWORD)


@pytest.mark.spread
@VERSIONS
@pytest.mark.parametrize("given", [in_one_file, in_two_files, locked], ids=["one file", "two files", "locked"])
async def test_the_server_sees_the_clients_certificate(
    given: Callable[[pathlib.Path], Any], version: ssl.TLSVersion, tmp_path: pathlib.Path
) -> None:
    seen: list[Any] = []

    def script(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        seen.append(peer.sock.getpeercert())
        answer_each(ok(b"1"))(peer)

    with serve(script, server_context(made().good, version=version, clients=made().authority)) as peer:
        async with client_of(peer, TLS(ca=CA, client_cert=given(tmp_path))) as client:
            assert await client.get("/", cast_to=int) == 1
    assert [cert["subjectAltName"] for cert in seen] == [(("email", CLIENT),)]


async def test_without_a_certificate_a_tls_1_2_handshake_fails() -> None:
    def script(peer: Peer) -> None:
        tls = ServerEnd(peer, server_context(made().good, version=TLS12, clients=made().authority))
        assert tls.handshake() is not None
        peer.send(tls.made())  # the alert
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            with pytest.raises(TLSError, match="certificate|handshake.failure") as caught:
                await client.post("/", cast_to=int)
        assert (caught.value.phase, caught.value.outcome) == (Phase.TLS, Outcome.NOT_SENT)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert peer.connections == 1


BODY = b"x" * 20_000  # more than everything that a handshake sends


async def failure_after_the_handshake(
    end: Callable[[ServerEnd], None], tls: TLS, clients: Any
) -> tuple[APIConnectionError, int]:
    """What a POST meets whose TLS 1.3 server wants a certificate, and how many connections were made.

    The client's handshake is done before the server has looked at its certificate (RFC 8446 section 4.4); the server
    acts when the whole request has come.
    """

    def script(peer: Peer) -> None:
        server = ServerEnd(peer, server_context(made().good, version=TLS13, clients=clients))
        assert server.handshake() is not None
        while server.received < len(BODY):
            server.pull()
        end(server)

    with serve(script) as peer:
        async with client_of(peer, tls, max_retries=2) as client:
            with pytest.raises(APIConnectionError) as caught:
                await client.post("/", cast_to=int, content=BODY)
        return caught.value, peer.connections


def alert(server: ServerEnd) -> None:
    server.peer.send(server.made())
    server.peer.wait_closed()


async def test_without_a_certificate_a_tls_1_3_server_says_so_after_the_request() -> None:
    error, connections = await failure_after_the_handshake(alert, TLS(ca=CA), made().authority)
    assert type(error) is TLSError
    assert "certificate" in str(error)
    assert (error.phase, error.outcome) == (Phase.RECEIVE, Outcome.UNKNOWN)
    assert isinstance(error.__cause__, ssl.SSLError)
    assert connections == 1


async def test_a_certificate_of_somebody_whom_the_server_does_not_know(tmp_path: pathlib.Path) -> None:
    tls = TLS(ca=CA, client_cert=in_one_file(tmp_path))
    error, connections = await failure_after_the_handshake(alert, tls, made().stranger)
    assert type(error) is TLSError
    assert "certificate" in str(error) or "unknown ca" in str(error)
    assert error.outcome is Outcome.UNKNOWN
    assert connections == 1


async def test_a_server_that_resets_instead_of_saying_what_it_wants() -> None:
    error, connections = await failure_after_the_handshake(
        lambda server: server.peer.reset(), TLS(ca=CA), made().authority
    )
    assert type(error) is ConnectionLostError
    assert error.outcome is Outcome.UNKNOWN
    assert connections == 1


async def test_an_alert_that_is_there_before_the_request_keeps_it_from_being_sent() -> None:
    told = threading.Event()
    rest: list[int] = []

    def script(peer: Peer) -> None:
        server = ServerEnd(peer, server_context(made().good, version=TLS13, clients=made().authority))
        assert server.handshake() is not None
        peer.send(server.made())
        told.set()
        try:
            while True:
                server.pull()
        except ConnectionError:
            rest.append(server.received)

    with serve(script) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            pool = client._transport.pool  # type: ignore[attr-defined]
            connect = pool._connector.connect

            async def slow(*args: Any) -> Any:
                """Gives the server the time to look."""
                made = await connect(*args)
                await anyio.to_thread.run_sync(told.wait, 5)
                return made

            pool._connector.connect = slow
            with pytest.raises((TLSError, ConnectionLostError)) as caught:
                await client.post("/", cast_to=int, content=BODY)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert peer.connections == 1
    assert rest[0] < len(BODY)


# --- sessions ----------------------------------------------------------------------------------------------------------


class Sessions:
    """A script that answers every request with 1 and remembers which connections resumed a session, in their order.

    ``end``: how it ends a connection after its first answer, if at all. A request for ``/held`` waits for ``go_on``.
    """

    def __init__(self, end: str = "") -> None:
        self.resumed: list[bool | None] = []
        self.go_on = threading.Event()
        self._end = end

    def __call__(self, peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        self.resumed.append(peer.sock.session_reused)
        while request := peer.read_request():
            if b" /held " in request:
                self.go_on.wait(5)
            peer.send(ok(b"1", headers="Connection: close\r\n" if self._end == "connection: close" else ""))
            if self._end == "fin":
                return
            if self._end == "close_notify":
                peer.sock.settimeout(0.02)  # the client, idle, does not answer it
                peer.sock.unwrap()  # so this is a TimeoutError, which ends the script and the connection


def pinned() -> TLS:
    return TLS(ca=CA, pins=[fingerprint(certificate(made().good))])


def trusting() -> ssl.SSLContext:
    return trusting_context(made().authority)


@pytest.mark.spread
@VERSIONS
@pytest.mark.parametrize("end", ["connection: close", "fin", "close_notify"])
@pytest.mark.parametrize("tls", [pinned, trusting], ids=["TLS", "context"])
async def test_a_session_is_resumed_where_the_connection_was_closed(
    end: str, version: ssl.TLSVersion, tls: Callable[[], TLS | ssl.SSLContext]
) -> None:
    script = Sessions(end)
    with serve(script, server_context(made().good, version=version)) as peer:
        async with client_of(peer, tls(), max_retries=0) as client:
            for _ in range(3):
                assert await client.get("/", cast_to=int) == 1
                await anyio.to_thread.run_sync(peer.wait_for_open, 0)
    assert script.resumed == [False, True, True]


@VERSIONS
async def test_a_session_is_resumed_while_the_connection_is_still_busy(version: ssl.TLSVersion) -> None:
    script = Sessions()
    with serve(script, server_context(made().good, version=version)) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client, anyio.create_task_group() as group:
            assert await client.get("/", cast_to=int) == 1

            async def held() -> None:
                assert await client.get("/held", cast_to=int) == 1

            group.start_soon(held)
            await anyio.to_thread.run_sync(peer.wait_for_requests, 2)
            assert await client.get("/", cast_to=int) == 1
            script.go_on.set()
    assert script.resumed == [False, True]


@pytest.mark.spread
@VERSIONS
@pytest.mark.parametrize("end", ["connection: close", "fin"])  # whether the client knows at once that it is closed
async def test_sessions_do_not_cross_origins(end: str, version: ssl.TLSVersion) -> None:
    """Both servers have the same keys for tickets, so that either would take the other's sessions: see below."""
    first, second = Sessions(end), Sessions(end)
    context = server_context(made().good, version=version)
    with serve(first, context) as one, serve(second, context) as other:
        urls = [f"https://localhost:{one.port}/", f"https://localhost:{other.port}/", f"https://127.0.0.1:{one.port}/"]
        async with client_of(one, TLS(ca=CA), max_retries=0) as client:
            for url in urls * 2:
                assert await client.get(url, cast_to=int) == 1
                await anyio.to_thread.run_sync(one.wait_for_open, 0)
                await anyio.to_thread.run_sync(other.wait_for_open, 0)
    assert first.resumed == [False, False, True, True]  # localhost, 127.0.0.1, and both again
    assert second.resumed == [False, True]


@VERSIONS
async def test_sessions_do_not_cross_transports(version: ssl.TLSVersion) -> None:
    """A session that was made without verification is none for a client that verifies."""
    script = Sessions("fin")
    with serve(script, server_context(made().expired, version=version)) as peer:
        async with client_of(peer, TLS(ca=CA, verify=False)) as client:
            assert await client.get("/", cast_to=int) == 1
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            with pytest.raises(TLSError, match="expired"):
                await client.get("/", cast_to=int)
        async with client_of(peer, TLS(verify=False, pins=["0" * 64]), max_retries=0) as client:
            with pytest.raises(TLSError, match="pin"):
                await client.get("/", cast_to=int)


@VERSIONS
def test_the_bench_would_see_a_session_that_crosses_origins(version: ssl.TLSVersion) -> None:
    first, second = Sessions("fin"), Sessions("fin")
    context = server_context(made().good, version=version)
    ours = trusting()
    scripts: list[Script] = [first, second]
    with serve(scripts[0], context) as one, serve(scripts[1], context) as other:
        session = offer(one.port, ours, None)
        offer(other.port, ours, session)
    assert (first.resumed, second.resumed) == ([False], [True])


async def test_a_server_that_has_forgotten_the_session_gets_a_whole_handshake() -> None:
    script = Sessions("fin")
    context = server_context(made().good, version=TLS13)
    with serve(script, context) as peer:
        async with client_of(peer, TLS(ca=CA), max_retries=0) as client:
            for _ in range(2):
                assert await client.get("/", cast_to=int) == 1
                await anyio.to_thread.run_sync(peer.wait_for_open, 0)
            peer.context = server_context(made().good, version=TLS12)  # other keys, and another version
            assert await client.get("/", cast_to=int) == 1
    assert script.resumed == [False, True, False]
