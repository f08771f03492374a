"""Where sockets go: Unix sockets, local addresses, options, resolvers, several addresses, IPv6 zones, odd names."""

from __future__ import annotations

import contextlib
import errno
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import TLS, AsyncAPIClient, ConnectError, ConnectTimeoutError, HTTPTransport, Outcome, Phase, Timeout
from tests.kit.cancel import cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import answer_each, ok, serve
from tests.kit.scripted_proxies import CA, QUICK, connect_proxy, origin_context, socks_proxy

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

ONE = answer_each(ok(b"1"))


def client_of(base: str, *, timeout: float | Timeout = 10.0, retries: int = 0, **transport: Any) -> AsyncAPIClient:
    made = HTTPTransport(**{"trust_env": False, **transport})
    return AsyncAPIClient(base_url=base, http_client=made, retry=QUICK, max_retries=retries, timeout=timeout)


async def failure_of(client: AsyncAPIClient, words: str) -> ConnectError:
    async with client:
        with pytest.raises(ConnectError, match=words) as caught:
            await client.post("/", cast_to=int)
        assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]
    assert (caught.value.phase, caught.value.outcome) == (Phase.CONNECT, Outcome.NOT_SENT)
    return caught.value


# --- Unix sockets ------------------------------------------------------------------------------------------------------


def unix_listener(path: Any, backlog: int = 100) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)
    return listener


@pytest.mark.parametrize("form", [str, pathlib.Path, lambda path: bytes(pathlib.Path(path))])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_unix_socket_takes_all_connections(
    form: Callable[[str], Any], encrypted: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")  # which nobody is
    path = str(tmp_path / "s")
    scheme = "https" if encrypted else "http"
    with serve(ONE, origin_context() if encrypted else None, unix_listener(path)) as server:
        # Nothing is resolved.
        options = {"uds": form(path), "trust_env": True, "tls": TLS(ca=CA, sni="localhost")}
        async with client_of(f"{scheme}://no.such.name.invalid:81", **options) as client:
            assert await client.get("/x", cast_to=int) == 1
            assert await client.get(f"{scheme}://other.invalid/y", cast_to=int) == 1
        first, second = server.requests
    assert first.startswith(b"GET /x HTTP/1.1\r\nHost: no.such.name.invalid:81\r\n")
    assert second.startswith(b"GET /y HTTP/1.1\r\nHost: other.invalid\r\n")


async def test_a_unix_socket_with_an_abstract_name(tmp_path: pathlib.Path) -> None:
    name = f"\0anyio-client-{tmp_path}"[:100]
    with serve(ONE, None, unix_listener(name)):
        async with client_of("http://h", uds=name) as client:
            assert await client.get("/", cast_to=int) == 1


async def test_nobody_at_the_path(tmp_path: pathlib.Path) -> None:
    await failure_of(client_of("http://h", uds=tmp_path / "missing"), r"(?i)no such file")
    path = tmp_path / "closed"
    unix_listener(str(path)).close()
    await failure_of(client_of("http://h", uds=path), r"(?i)refused")
    await failure_of(client_of("http://h", uds=tmp_path), r"(?i)refused|permission|socket")


async def test_a_path_may_have_107_bytes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = "p" * 107
    with serve(ONE, None, unix_listener(path)):
        async with client_of("http://h", uds=path) as client:
            assert await client.get("/", cast_to=int) == 1
    with pytest.raises(ValueError, match="107 bytes, this one has 108"):
        HTTPTransport(uds="p" * 108)
    with pytest.raises(ValueError, match="this one has 108"):
        HTTPTransport(uds="ü" * 54)


async def test_a_queue_that_is_full_is_waited_for(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "s")
    listener = unix_listener(path, backlog=0)
    with contextlib.ExitStack() as stack:
        fillers = stack.enter_context(contextlib.ExitStack())
        while True:
            sock = fillers.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            if sock.connect_ex(path):
                break
        sockets, tasks = open_sockets(), task_count()
        async with client_of("http://h", uds=path, timeout=Timeout(10.0, connect=0.1)) as client:
            with pytest.raises(ConnectTimeoutError) as caught:
                await client.get("/", cast_to=int)
            assert (caught.value.phase, caught.value.outcome) == (Phase.CONNECT, Outcome.NOT_SENT)
        assert (open_sockets(), task_count()) == (sockets, tasks)
        async with client_of("http://h", uds=path) as client, anyio.create_task_group() as group:

            async def call() -> None:
                assert await client.get("/", cast_to=int) == 1

            group.start_soon(call)
            await anyio.sleep(0.03)
            stack.enter_context(serve(ONE, None, listener))
        fillers.close()


# --- local addresses and options ---------------------------------------------------------------------------------------


async def test_where_connections_come_from() -> None:
    with serve(ONE) as server:
        for address in ("127.0.0.2", "127.0.0.3"):
            async with client_of(server.url, local_address=address) as client:
                assert await client.get("/", cast_to=int) == 1
        assert [client[0] for client in server.clients] == ["127.0.0.2", "127.0.0.3"]
        url = f"http://localhost:{server.port}"

        async def resolver(host: str, port: int) -> list[str]:
            return ["::1", "127.0.0.1"]

        async with client_of(
            url, local_address="127.0.0.4", resolver=resolver
        ) as client:  # the other family is left out
            assert await client.get("/", cast_to=int) == 1
        assert server.clients[-1][0] == "127.0.0.4"
        assert server.connections == 3


async def test_a_local_address_that_cannot_be() -> None:
    with serve(ONE) as server:
        await failure_of(client_of(server.url, local_address="192.0.2.77"), r"(?i)assign|address")
        await failure_of(client_of(server.url, local_address="::1"), "no address of the family of local_address=::1")
        assert server.connections == 0


async def test_a_local_address_counts_on_the_way_to_a_proxy() -> None:
    with serve(socks_proxy(ONE)) as proxy:
        url = f"socks5h://127.0.0.1:{proxy.port}"
        async with client_of("http://h.test", proxy=url, local_address="127.0.0.5") as client:
            assert await client.get("/", cast_to=int) == 1
        assert proxy.clients[0][0] == "127.0.0.5"


async def test_socket_options_are_set_after_our_own(tmp_path: pathlib.Path) -> None:
    options = [
        (socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
        (socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\x02\0\0\0"),
    ]
    found: list[tuple[int, ...]] = []

    async def look(base: str, **transport: Any) -> None:
        async with client_of(base, **transport) as client:
            assert await client.get("/", cast_to=int) == 1
            (connection,) = client._transport.pool._connections.values()  # type: ignore[attr-defined]
            sock = connection.stream._sock
            options = [socket.SO_RCVBUF, socket.SO_KEEPALIVE, socket.SO_LINGER]
            found.append(tuple(sock.getsockopt(socket.SOL_SOCKET, option) for option in options))

    with serve(ONE) as server:
        await look(server.url, socket_options=options)
        await look(server.url)
    path = str(tmp_path / "s")
    with serve(ONE, None, unix_listener(path)):
        await look("http://h", uds=path, socket_options=options)
    assert found[0] == found[2] == (40_000, 0, 1)
    assert found[1][0] != 40_000
    assert found[1][1:] == (1, 0)


async def test_an_option_that_the_system_does_not_know() -> None:
    with serve(ONE) as server:
        await failure_of(client_of(server.url, socket_options=[(socket.SOL_SOCKET, 9999, 1)]), r"(?i)protocol|option")
        assert server.connections == 0


WRONG: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"uds": 5}, TypeError),
    ({"uds": ""}, ValueError),
    ({"uds": "a\0b"}, ValueError),
    ({"uds": "/x", "proxy": "http://p"}, ValueError),
    ({"uds": "/x", "local_address": "127.0.0.1"}, ValueError),
    ({"local_address": "localhost"}, ValueError),
    ({"local_address": "127.0.0.1:80"}, ValueError),
    ({"local_address": ("127.0.0.1", 0)}, TypeError),
    ({"socket_options": "abc"}, TypeError),
    ({"socket_options": 5}, TypeError),
    ({"socket_options": [(1, 2)]}, TypeError),
    ({"socket_options": [5]}, TypeError),
    ({"socket_options": [(1, "2", 3)]}, TypeError),
    ({"socket_options": [(1, 2, None)]}, TypeError),
    ({"socket_options": [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 2**40)]}, ValueError),  # no C int
    ({"resolver": "8.8.8.8"}, TypeError),
    ({"proxy": 5}, TypeError),
    ({"proxy": "http://p\r\nx"}, ValueError),
]


@pytest.mark.parametrize(("options", "error"), WRONG)
async def test_wrong_values_are_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        HTTPTransport(**options)


# --- names and addresses -----------------------------------------------------------------------------------------------


def resolving(*addresses: Any) -> Any:
    async def resolver(host: str, port: int) -> Any:
        await anyio.lowlevel.checkpoint()
        return list(addresses)

    return resolver


async def test_the_resolver_is_asked_for_names_and_not_for_addresses() -> None:
    asked: list[tuple[str, int]] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    with serve(ONE) as server:
        async with client_of(f"http://Bücher.invalid:{server.port}", resolver=resolver) as client:
            assert await client.get("/", cast_to=int) == 1
            assert await client.get(f"http://127.0.0.1:{server.port}/", cast_to=int) == 1
        assert f"\r\nHost: xn--bcher-kva.invalid:{server.port}\r\n".encode() in server.requests[0]
    assert asked == [("xn--bcher-kva.invalid", server.port)]


async def test_the_next_address_is_tried_at_once_where_one_fails() -> None:
    with serve(ONE) as server:
        resolver = resolving("127.0.0.9", "::1", "127.0.0.8", "127.0.0.1")  # nobody listens at the first three
        async with client_of(f"http://h.invalid:{server.port}", resolver=resolver) as client:
            began = time.monotonic()
            assert await client.get("/", cast_to=int) == 1
            assert time.monotonic() - began < 0.2  # less than one delay of Happy Eyeballs
        assert server.connections == 1


async def test_the_next_address_is_tried_after_a_moment_where_one_says_nothing() -> None:
    """A queue that is full: the SYN is not answered."""
    with socket.socket() as silent, contextlib.ExitStack() as stack, serve(ONE) as server:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.7", server.port))
        silent.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.7", server.port))
        await anyio.sleep(0.02)
        sockets, tasks = open_sockets(), task_count()
        base = f"http://h.invalid:{server.port}"
        async with client_of(base, resolver=resolving("127.0.0.7", "127.0.0.1")) as client:
            began = time.monotonic()
            assert await client.get("/", cast_to=int) == 1
            assert 0.2 < time.monotonic() - began < 3.0
            assert task_count() == tasks
        assert server.clients[0][0] == "127.0.0.1"
        limit = Timeout(10.0, connect=0.4)
        async with client_of(base, resolver=resolving("127.0.0.7", "127.0.0.9", "127.0.0.7"), timeout=limit) as client:
            with pytest.raises(ConnectTimeoutError):
                await client.get("/", cast_to=int)
        assert settled_sockets(sockets) <= sockets


async def test_the_order_of_the_resolver_is_kept_and_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Socket(socket.socket):
        def connect_ex(self, address: Any) -> int:
            tried.append(address[0])
            return errno.ECONNREFUSED

    monkeypatch.setattr("anyio_client._io.dial.socket.socket", Socket)
    given = ["10.0.0.3", "10.0.0.1", "10.0.0.2", "fd00::2", "fd00::1"]
    await failure_of(client_of("http://h.invalid", resolver=resolving(*given)), "refused")
    assert tried == ["10.0.0.3", "fd00::2", "10.0.0.1", "fd00::1", "10.0.0.2"]


async def test_cancelled_at_every_checkpoint_of_several_addresses() -> None:
    with serve(ONE) as server:
        resolver = resolving("127.0.0.9", "127.0.0.1", "127.0.0.1")
        sockets = settled_sockets(0, 0.0)
        for n in range(1, 100):
            async with client_of(f"http://h.invalid:{server.port}", resolver=resolver) as client:
                tasks = task_count()
                reached = await cancelled_at(n, "scope", lambda client=client: client.get("/", cast_to=int))  # type: ignore[misc]
                assert task_count() == tasks
            assert settled_sockets(sockets) <= sockets
            if not reached:
                break
        assert 3 < n < 99


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    "error", [Odd("x"), ValueError("x"), RuntimeError("x")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("proxy", [None, "http://p.invalid", "socks5://127.0.0.1:{port}"])
async def test_what_the_resolver_raises_comes_out_as_it_is(error: Exception, proxy: str | None) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise error

    with serve(socks_proxy(ONE)) as server:
        url = proxy and proxy.format(port=server.port)
        async with client_of("http://h.invalid", resolver=resolver, proxy=url, retries=2) as client:
            with pytest.raises(type(error)) as caught:
                await client.get("/", cast_to=int)
            assert caught.value is error
            assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]


async def test_an_os_error_of_the_resolver_is_a_name_that_is_not_found() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "who?")

    error = await failure_of(client_of("http://h.invalid", resolver=resolver), r"Cannot connect to h\.invalid: .*who\?")
    assert isinstance(error.__cause__, socket.gaierror)


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (None, TypeError, "resolver"),
        ("127.0.0.1", TypeError, "resolver"),
        (5, TypeError, "resolver"),
        ([("127.0.0.1", 80)], ValueError, "no IP address"),
        (["localhost"], ValueError, "no IP address"),
        ([""], ValueError, "no IP address"),
        ([None], ValueError, "no IP address"),
        (["127.0.0.1", "x"], ValueError, "no IP address"),
        ([], ConnectError, "no address"),
        (["fe80::1%no-such-zone"], ConnectError, "(?i)no such device|interface|zone"),
        (["fe80::1%99999999999999999999"], ConnectError, "Cannot connect"),
    ],
)
async def test_rubbish_of_the_resolver(found: Any, error: type[Exception], words: str) -> None:
    async def resolver(host: str, port: int) -> Any:
        return found

    async with client_of("http://h.invalid", resolver=resolver) as client:
        with pytest.raises(error, match=words):
            await client.get("/", cast_to=int)
        assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]


# --- IPv6 --------------------------------------------------------------------------------------------------------------


def ipv6_listener(address: tuple[Any, ...] = ("::1", 0)) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_INET6)
        listener.bind(address)
    except OSError:
        listener.close()
        pytest.skip("no IPv6 here")
    listener.listen()
    return listener


async def test_an_ipv6_literal() -> None:
    with serve(ONE, None, ipv6_listener()) as server:
        async with client_of(f"http://[0:0::1]:{server.port}") as client:
            assert await client.get("/", cast_to=int) == 1
        assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.requests[0]


async def test_zones_do_not_share_connections_and_stay_here() -> None:
    index = socket.if_nametoindex("lo")
    with serve(ONE, None, ipv6_listener()) as server:
        async with client_of(f"http://[::1%25lo]:{server.port}") as client:
            for zone in ("%25lo", "", f"%25{index}", "%25lo"):
                assert await client.get(f"http://[::1{zone}]:{server.port}/", cast_to=int) == 1
            await failure_of_url(client, f"http://[::1%25no-such-zone]:{server.port}/")
            await failure_of_url(client, f"http://[::1%25{2**40}]:{server.port}/")
            await failure_of_url(client, f"http://[::1%25{'9' * 5000}]:{server.port}/")
        assert server.connections == 3
        assert all(f"\r\nHost: [::1]:{server.port}\r\n".encode() in request for request in server.requests)


async def failure_of_url(client: AsyncAPIClient, url: str) -> None:
    with pytest.raises(ConnectError) as caught:
        await client.get(url, cast_to=int)
    assert caught.value.outcome is Outcome.NOT_SENT


# --- names that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["h\r\nX-A: b", "h\nx", "h\x00x", "h\x7fx", "h x", "h%0d%0ax", "h%00", "[::1\r\n]", "[::1%25a\r\nb]", "[::1%25a b]", "a@b\r\nc"],
)  # fmt: skip
@pytest.mark.parametrize("through", [False, True])
async def test_a_host_with_odd_characters_is_refused_before_anything_happens(host: str, through: bool) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with serve(connect_proxy()) as server:
        options: dict[str, Any] = {"proxy": f"http://127.0.0.1:{server.port}"} if through else {}
        async with client_of(server.url, resolver=resolver, **options) as client:
            for url in (f"http://{host}:{server.port}/", f"https://{host}:{server.port}/"):
                with pytest.raises(ValueError, match="."):
                    await client.get(url, cast_to=int)
        assert (server.connections, asked) == (0, [])


@pytest.mark.parametrize("host", ["a" * 64, "a" * 300, "a..b", ".", "-", "_"])
async def test_a_name_that_cannot_be_is_a_connect_error(host: str) -> None:
    await failure_of(client_of(f"http://{host}.invalid"), "Cannot connect")
