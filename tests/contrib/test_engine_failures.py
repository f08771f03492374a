"""EngineTransport where something goes wrong: which exception of theirs, beside what their own transport raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.contrib.kit import Library, needs_both
from tests.kit import certs, frames
from tests.kit.h2peer import H2Peer, head, scripted
from tests.kit.peers import Peer, Script, chunk, ok, serve
from tests.kit.servers import free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpcore|tests[.]contrib)[.]:ResourceWarning"),
    needs_both,
]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def after_a_request(do: Callable[[Peer], object]) -> Script:
    def script(peer: Peer) -> None:
        if peer.read_request():
            do(peer)

    return script


def silent(peer: Peer) -> None:
    peer.wait_closed()


def without_tls(peer: Peer) -> None:
    peer.receive()
    peer.send(b"HTTP/1.1 400 No\r\n\r\n")


def sends(data: bytes) -> Script:
    return after_a_request(lambda peer: peer.send(data))


def resets_after(data: bytes) -> Script:
    def do(peer: Peer) -> None:
        peer.send(data)
        peer.server.pause(0.02)  # a reset overtakes what has not been read
        peer.reset()

    return after_a_request(do)


# What the server does, which exception is due, and which their own transport raises where it is another.
PEERS: dict[str, tuple[Script, str, str | None]] = {
    "closes at once": (sends(b""), "RemoteProtocolError", None),
    "closes in the head": (sends(b"HTTP/1.1 200 OK\r\nContent-"), "RemoteProtocolError", None),
    "resets at once": (resets_after(b""), "ReadError", None),
    "garbage": (sends(b"\0\1garbage\r\n\r\n"), "RemoteProtocolError", None),
    "another protocol": (sends(b"SSH-2.0-OpenSSH_9.6\r\n"), "RemoteProtocolError", None),
    "bad status": (sends(b"HTTP/1.1 abc OK\r\n\r\n"), "RemoteProtocolError", None),
    "bad length": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "RemoteProtocolError", None),
    "two lengths": (
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        "RemoteProtocolError",
        None,
    ),
    "a bad field": (sends(b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n"), "RemoteProtocolError", None),
    "a huge head": (sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"), "RemoteProtocolError", None),
    "short body": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), "RemoteProtocolError", None),
    "short chunks": (sends(CHUNKED + chunk(b"short")), "RemoteProtocolError", None),
    "a bad chunk": (sends(CHUNKED + b"zz\r\nx"), "RemoteProtocolError", None),
    "reset in the body": (resets_after(CHUNKED + chunk(b"short")), "ReadError", None),
    "endless interim": (sends(b"HTTP/1.1 103 Early\r\n\r\n" * 500), "RemoteProtocolError", None),
}


async def name_of(client: Any, url: str) -> tuple[str, Any]:
    with pytest.raises(Exception) as caught:
        await client.get(url)
    return type(caught.value).__name__, caught.value


@pytest.mark.parametrize("name", list(PEERS))
async def test_a_server_that_breaks_the_rules(library: Library, name: str) -> None:
    script, due, _ = PEERS[name]
    with serve(script) as server:
        async with library.client() as client:
            got, error = await name_of(client, server.url)
    assert got == due
    assert isinstance(error, library.module.TransportError) and str(error)
    assert str(error.request.url).rstrip("/") == server.url
    assert type(error.__cause__).__module__.startswith("anyio_client")


@pytest.mark.parametrize("name", list(PEERS))
async def test_the_same_with_their_own_transport(library: Library, name: str) -> None:
    """Where the two differ it is said in the table."""
    script, due, theirs = PEERS[name]
    with serve(script) as server:
        async with library.own_client() as client:
            assert (await name_of(client, server.url))[0] == (theirs or due)


async def test_refused_unknown_and_no_scheme(library: Library) -> None:
    async with library.client() as ours, library.own_client() as theirs:
        for url, due in [
            (f"http://127.0.0.1:{free_port()}/", "ConnectError"),
            ("http://no-such-host.invalid/", "ConnectError"),
            ("ftp://localhost/", "UnsupportedProtocol"),
        ]:
            assert (await name_of(ours, url))[0] == (await name_of(theirs, url))[0] == due


@pytest.mark.parametrize("which", ["unknown_issuer", "expired", "other_host", "no TLS"])
async def test_tls_that_cannot_be_trusted(library: Library, which: str) -> None:
    made = certs.made()
    context = None if which == "no TLS" else certs.server_context(getattr(made, which))
    trust = certs.trusting_context(made.authority)
    with serve(without_tls, context) as server:
        url = f"https://127.0.0.1:{server.port}"
        async with library.client(tls=trust) as ours, library.own_client(verify=trust) as theirs:
            assert (await name_of(ours, url))[0] == (await name_of(theirs, url))[0] == "ConnectError"


@pytest.mark.parametrize("what", ["head", "body", "after pieces"])
async def test_a_read_timeout(library: Library, what: str) -> None:
    def do(peer: Peer) -> None:
        if what != "head":
            peer.send(CHUNKED)
        if what == "after pieces":
            for _ in range(5):
                peer.send(chunk(b"piece"))
                peer.server.pause(0.05)
        peer.wait_closed()

    timeout = library.module.Timeout(None, read=0.15)
    with serve(after_a_request(do)) as server:
        async with library.client(timeout=timeout) as client:
            with anyio.fail_after(5):
                assert (await name_of(client, server.url))[0] == "ReadTimeout"


async def test_a_write_timeout(library: Library) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.server.wait_for_requests(1)

    async def endless() -> Any:
        while True:
            yield bytes(65536)

    with serve(script) as server:
        async with library.client(timeout=library.module.Timeout(None, write=0.05)) as client:
            with pytest.raises(library.module.WriteTimeout), anyio.fail_after(5):
                await client.post(server.url, content=endless())
        server.requests.append(b"")


async def test_a_connect_timeout(library: Library) -> None:
    """TLS belongs to connecting: the server never says a word."""
    with serve(silent) as server:
        async with library.client(timeout=library.module.Timeout(None, connect=0.05)) as client:
            with anyio.fail_after(5):
                assert (await name_of(client, f"https://127.0.0.1:{server.port}"))[0] == "ConnectTimeout"


@pytest.mark.parametrize("limits", [{"timeout": None}, {"timeout": 10}, {}])
async def test_without_limits(library: Library, limits: dict[str, Any]) -> None:
    def do(peer: Peer) -> None:
        peer.server.pause(0.05)
        peer.send(ok(b"[]"))

    with serve(after_a_request(do)) as server:
        async with library.client(**limits) as client:
            assert (await client.get(server.url)).json() == []


# (connect: a connection on this machine may be made before anybody looks at the time.)
@pytest.mark.parametrize(("kind", "due"), [("read", "ReadTimeout")])
async def test_a_limit_of_nothing_is_over_at_once(library: Library, kind: str, due: str) -> None:
    with serve(after_a_request(lambda peer: peer.wait_closed())) as server:
        async with library.client(timeout=library.module.Timeout(None, **{kind: 0})) as client:
            with anyio.fail_after(1):
                assert (await name_of(client, server.url))[0] == due


async def test_a_request_made_by_hand_without_limits(library: Library) -> None:
    with serve(sends(ok(b"[]"))) as server:
        request = library.module.Request("GET", server.url)
        assert "timeout" not in request.extensions
        async with library.transport() as transport:
            response = await transport.handle_async_request(request)
            assert await response.aread() == b"[]"


@pytest.mark.parametrize("how", ["refuses", "answers 407", "is not there"])
async def test_a_proxy_that_fails(library: Library, how: str) -> None:
    answer = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n" if how == "answers 407" else b"HTTP/1.1 502 Bad\r\n\r\n"
    with serve(sends(answer)) as server:
        port = free_port() if how == "is not there" else server.port
        proxy = f"http://user:secret@127.0.0.1:{port}"
        async with library.client(proxy=proxy) as client:
            name, error = await name_of(client, "https://localhost/")
    assert name == "ProxyError"  # theirs: ConnectError where it is not there
    assert "secret" not in f"{error!r} {error}"


async def test_fields_that_we_do_not_send(library: Library) -> None:
    """What they allow and HTTP does not is refused before anything is sent."""
    with serve(sends(ok())) as server:
        async with library.client() as client:
            for fields in ([(b"X", b"a\r\nY: b")], [(b"a b", b"c")], [(b"X", b"\0")], [(b"", b"c")]):
                assert (await name_of_request(client, server.url, fields)) == "LocalProtocolError"
        assert server.requests == []


async def name_of_request(client: Any, url: str, fields: list[tuple[bytes, bytes]]) -> str:
    with pytest.raises(Exception) as caught:
        await client.get(url, headers=fields)
    return type(caught.value).__name__


@pytest.mark.parametrize("how", ["reset", "closed"])
async def test_http2_streams_that_are_ended(library: Library, how: str) -> None:
    def two(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.send(head(asked), frames.data(asked.stream, b"first"))
        if how == "reset":
            peer.send(frames.rst(asked.stream, 2))
            peer.until_gone()

    with serve(scripted(two)) as server:
        async with library.client(http1=False) as client:
            name, error = await name_of(client, server.url)
    assert name in ("RemoteProtocolError", "ReadError") and isinstance(error, library.module.TransportError)


async def test_cancelled_while_reading(library: Library) -> None:
    def do(peer: Peer) -> None:
        peer.send(CHUNKED + chunk(b"first"))
        peer.wait_closed()

    with serve(after_a_request(do)) as server:
        async with library.client() as client:
            with anyio.move_on_after(0.1) as scope:
                async with client.stream("GET", server.url) as response:
                    async for _ in response.aiter_raw():
                        pass
            assert scope.cancelled_caught
            assert server.wait_for_open(0) == 0
            assert client._transport.transport.snapshot().connections == ()
