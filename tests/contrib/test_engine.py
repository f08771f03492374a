"""EngineTransport: our connections under the clients of httpx and httpx2. What they ask for, and what they get."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from anyio_client import Limits
from tests.contrib.kit import Library, needs_both
from tests.kit import certs
from tests.kit.frames import data as data_frame
from tests.kit.h2peer import Asked, H2Peer, Signal, head, scripted, serving
from tests.kit.leaks import task_count
from tests.kit.peers import Peer, answer_each, chunk, ok, serve

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    # httpx drops its own generators, and with them the caller's. A generator of ours would not be excused.
    pytest.mark.filterwarnings("ignore:Async generator '(httpx|tests[.]contrib)[.]:ResourceWarning"),
    needs_both,
]


def lines_of(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_methods(library: Library, method: str) -> None:
    with serve(answer_each(ok(b"") if method == "HEAD" else ok(b"[1]"))) as server:
        async with library.client() as client:
            response = await client.request(method, server.url + "/a?b=c")
            assert (response.status_code, response.http_version, response.reason_phrase) == (200, "HTTP/1.1", "OK")
            assert response.content == (b"" if method == "HEAD" else b"[1]")
    assert lines_of(server.requests[0])[0] == b"%b /a?b=c HTTP/1.1" % method.encode()


async def test_fields_are_sent_and_come_as_they_are(library: Library) -> None:
    answer = b"HTTP/1.1 299 Strange\r\nX-A: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-B: \xe9\r\nContent-Length: 0\r\n\r\n"
    with serve(answer_each(answer)) as server:
        async with library.client() as client:
            fields = [(b"X-Raw", b"1"), (b"x-RAW", b"\xe9"), (b"Other", b"3"), (b"X-Raw", b"2")]
            response = await client.get(server.url, headers=fields)
        assert response.status_code == 299
        raw = [(name.lower(), value) for name, value in response.headers.raw]
        assert [value for name, value in raw if name == b"set-cookie"] == [b"a=1", b"b=2"]
        assert (b"x-b", b"\xe9") in raw
        assert dict(client.cookies) == {"a": "1", "b": "2"}
    sent = lines_of(server.requests[0])[1:]
    assert [line for line in sent if b"raw" in line.lower()] == [b"X-Raw: 1", b"x-RAW: \xe9", b"X-Raw: 2"]
    assert b"Host: 127.0.0.1:%d" % server.port in sent
    assert len({line.partition(b":")[0] for line in sent}) == len(sent) - 1  # nothing of ours is added twice


TARGETS = [
    "/a%2Fb/%41?x=%20+%2B&y=%e9",
    "/%7E~!$&'()*+,;=:@",
    "/a//b",
    "/?",
    "/?a=b?c=d",
    "/%C3%A9?%",
    "/a%zz",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_targets_go_out_as_their_own_transport_sends_them(library: Library, target: str) -> None:
    with serve(answer_each(ok())) as server:
        async with library.client() as ours:
            await ours.get(server.url + target)
        async with library.own_client() as theirs:
            await theirs.get(server.url + target)
    ours_sent, theirs_sent = (lines_of(request)[0] for request in server.requests)
    assert ours_sent == theirs_sent


async def test_dot_segments_are_theirs_to_remove(library: Library) -> None:
    """A base path cannot be left here: what they send is sent."""
    with serve(answer_each(ok())) as server:
        async with library.client(base_url=server.url + "/base/") as client:
            await client.send(client.build_request("GET", server.url + "/a/../b/./c"))
            await library.own_send(server.url + "/a/../b/./c")
    assert lines_of(server.requests[0])[0] == lines_of(server.requests[1])[0]


@pytest.mark.parametrize("kind", ["bytes", "str", "json", "form", "async", "files", "file", "empty", "declared"])
async def test_bodies(library: Library, kind: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    given: dict[str, dict[str, Any]] = {
        "bytes": {"content": b"onetwo"},
        "str": {"content": "onetwo"},
        "json": {"json": "onetwo"},
        "form": {"data": {"onetwo": "1"}},
        "async": {"content": pieces()},
        "files": {"files": {"f": ("name", io.BytesIO(b"onetwo"), "text/plain")}, "data": {"a": "b"}},
        "file": {"files": {"f": io.BytesIO(b"onetwo" * 50_000)}},
        "empty": {"content": b""},
        "declared": {"content": pieces(), "headers": {"Content-Length": "6"}},
    }
    with serve(answer_each(ok())) as server:
        async with library.client() as client:
            assert (await client.post(server.url, **given[kind])).status_code == 200
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head.split(b"\r\n")[1:]}
    if kind == "async":
        assert fields[b"transfer-encoding"] == b"chunked" and b"content-length" not in fields
        assert body == chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"
    else:
        assert int(fields[b"content-length"]) == len(body) and b"transfer-encoding" not in fields
        assert (b"onetwo" in body) is (kind != "empty")
        assert body.count(b"onetwo") == (50_000 if kind == "file" else kind != "empty")


async def test_a_body_that_does_not_fit_its_declared_length(library: Library) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    for declared in ("2", "4"):
        with serve(answer_each(ok())) as server:
            async with library.client() as client:
                with pytest.raises(library.module.LocalProtocolError):
                    await client.post(server.url, content=pieces(), headers={"Content-Length": declared})
                assert (await client.get(server.url)).status_code == 200


async def test_a_failing_upload_is_the_same_exception(library: Library) -> None:
    error = ZeroDivisionError("mine")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise error

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(ok())

    with serve(script) as server:
        async with library.client() as client:
            with pytest.raises(ZeroDivisionError) as caught:
                await client.post(server.url, content=pieces())
            assert caught.value is error
            assert (await client.get(server.url)).status_code == 200


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_streams_are_not_held_back(library: Library, http2: bool) -> None:
    got_first = Signal()

    def one(peer: Peer) -> None:
        while peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"first"))
            got_first.wait()
            peer.send(chunk(b"second") + b"0\r\n\r\n")

    def two(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.send(head(asked), data_frame(asked.stream, b"first"))
        got_first.wait()
        peer.send(data_frame(asked.stream, b"second", end=True))
        peer.until_gone()

    with serve(scripted(two) if http2 else one) as server:
        async with library.client(http1=not http2) as client:
            async with client.stream("GET", server.url) as response:
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                pieces = response.aiter_raw()
                with anyio.fail_after(5):
                    assert await anext(pieces) == b"first"
                got_first.set()
                assert [piece async for piece in pieces] == [b"second"]
                assert response.num_bytes_downloaded == 11


async def test_http2_with_many_calls_at_once(library: Library) -> None:
    def app(asked: Asked) -> bytes:
        return asked.path.encode() + bytes(asked.body)

    with serve(serving(app)) as server:
        async with library.client(http1=False) as client:
            got: dict[int, bytes] = {}

            async def call(number: int) -> None:
                response = await client.post(f"{server.url}/{number}", content=b"x" * number)
                assert (response.http_version, response.reason_phrase) == ("HTTP/2", "OK")
                got[number] = response.content

            await call(0)
            async with anyio.create_task_group() as group:
                for number in range(1, 50):
                    group.start_soon(call, number)
        assert got == {number: b"/%d" % number + b"x" * number for number in range(50)}
        assert server.connections == 1


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
async def test_tls_agrees_on_the_version(library: Library, alpn: str) -> None:
    made = certs.made()
    context = certs.server_context(made.good, alpn=[alpn])
    client_context = certs.trusting_context(made.authority)
    client_context.set_alpn_protocols(["h2", "http/1.1"])

    def two(peer: H2Peer) -> None:
        peer.send(head(peer.ask(), end=True))
        peer.until_gone()

    with serve(scripted(two) if alpn == "h2" else answer_each(ok()), context) as server:
        async with library.client(tls=client_context) as client:
            response = await client.get(server.url)
            assert response.http_version == ("HTTP/2" if alpn == "h2" else "HTTP/1.1")


@pytest.mark.parametrize("given", [False, True])
async def test_sni_hostname_is_what_is_asked_for_and_verified(library: Library, given: bool) -> None:
    made = certs.made()
    context = certs.server_context(made.other_host)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with serve(answer_each(ok()), context) as server:
        async with library.client(tls=certs.trusting_context(made.authority)) as client:
            extensions = {"sni_hostname": certs.OTHER_HOST} if given else {}
            if given:
                assert (await client.get(server.url, extensions=extensions)).status_code == 200
                assert asked == [certs.OTHER_HOST]
            else:
                with pytest.raises(library.module.ConnectError, match="certificate"):
                    await client.get(server.url, extensions=extensions)


# --- what is theirs, on top ----------------------------------------------------------------------------------------


async def test_their_redirects_cookies_auth_and_codings(library: Library) -> None:
    import gzip

    moved = b"HTTP/1.1 302 Found\r\nLocation: /to\r\nSet-Cookie: c=1\r\nContent-Length: 4\r\n\r\nbody"
    answers = answer_each(moved, ok(gzip.compress(b"{}"), headers="Content-Encoding: gzip\r\n"))
    with serve(answers) as server:
        async with library.client(auth=("user", "pass")) as client:
            assert (await client.get(server.url + "/from")).status_code == 302
            server.requests.clear()
        async with library.client(auth=("user", "pass"), follow_redirects=True) as client:
            response = await client.get(server.url + "/from")
            assert response.json() == {}
    with serve(answer_each(moved, ok())) as server:
        async with library.client(auth=("user", "pass"), follow_redirects=True) as client:
            response = await client.post(server.url + "/from", content=b"x")
            assert [old.status_code for old in response.history] == [302]
        assert server.connections == 1
    first, second = server.requests
    assert lines_of(second)[0] == b"GET /to HTTP/1.1" and b"Cookie: c=1" in lines_of(second)
    assert b"Authorization: Basic dXNlcjpwYXNz" in lines_of(first)


async def test_their_digest_and_event_hooks(library: Library) -> None:
    challenge = (
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\nContent-Length: 0\r\n\r\n'
    )
    seen: list[Any] = []

    async def on_request(request: Any) -> None:
        seen.append(request.method)

    async def on_response(response: Any) -> None:
        seen.append((response.status_code, await response.aread()))

    with serve(answer_each(challenge, ok(b"[]"))) as server:
        hooks = {"request": [on_request], "response": [on_response]}
        async with library.client(auth=library.module.DigestAuth("u", "p"), event_hooks=hooks) as client:
            assert (await client.post(server.url, content=b"x")).json() == []
    assert seen == ["POST", (401, b""), "POST", (200, b"[]")]
    assert b"authorization: digest" in server.requests[1].lower()


async def test_a_proxy_of_ours(library: Library) -> None:
    with serve(answer_each(ok(b"[1]"))) as proxy:
        async with library.client(proxy=proxy.url) as client:
            assert (await client.get("http://nowhere.example/a?b")).json() == [1]
    assert lines_of(proxy.requests[0])[0] == b"GET http://nowhere.example/a?b HTTP/1.1"


# --- its life ------------------------------------------------------------------------------------------------------


async def test_early_break_close_and_reuse(library: Library) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"first"))
            if peer.server.requests[-1].startswith(b"GET /short"):
                peer.send(b"0\r\n\r\n")
            else:
                peer.wait_closed()
                return

    before = task_count()
    with serve(script) as server:
        async with library.client() as client:
            async with client.stream("GET", server.url + "/long") as response:
                pieces = response.aiter_bytes()
                assert await anext(pieces) == b"first"
                await pieces.aclose()
            assert server.wait_for_open(0) == 0  # there was more to come: it is closed
            for _ in range(2):
                async with client.stream("GET", server.url + "/short") as response:
                    assert response.status_code == 200  # and its rest is read
            assert server.connections == 2
            async with client.stream("GET", server.url + "/short") as response:
                assert await response.aread() == await response.aread() == b"first"
        assert server.wait_for_open(0) == 0
    assert task_count() == before


async def test_limits_of_the_pool(library: Library) -> None:
    def script(peer: Peer) -> None:
        while request := peer.read_request():
            peer.server.pause(0.002)
            held = request.startswith(b"GET /held")
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" if held else ok())

    with serve(script) as server:
        async with library.client(limits=Limits(max_connections=2)) as client:
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(client.get, server.url)
            assert server.connections <= 2 and len(server.requests) == 20
            async with client.stream("GET", server.url), client.stream("GET", server.url):
                pass
        async with library.client(limits=Limits(max_connections=1)) as client:
            async with client.stream("GET", server.url + "/held"):
                with pytest.raises(library.module.PoolTimeout):
                    await client.get(server.url, timeout=library.module.Timeout(5, pool=0.02))


async def test_use_after_close(library: Library) -> None:
    transport = library.transport()
    client = library.module.AsyncClient(transport=transport)
    with serve(answer_each(ok())) as server:
        async with client:
            await client.get(server.url)
            assert len(transport.transport.snapshot().connections) == 1
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(server.url)
        with pytest.raises(RuntimeError, match="closed"):
            await library.module.AsyncClient(transport=transport).get(server.url)
        await transport.aclose()
        await client.aclose()


async def test_the_transport_itself(library: Library) -> None:
    """As they document their transports: entered, asked, read, closed."""
    with serve(answer_each(ok(b"[1]"))) as server:
        async with library.transport() as transport:
            assert isinstance(transport, library.module.AsyncBaseTransport)
            response = await transport.handle_async_request(library.module.Request("GET", server.url))
            assert isinstance(response.stream, library.module.AsyncByteStream)
            assert await response.aread() == b"[1]"
            response = await transport.handle_async_request(library.module.Request("GET", server.url))
            await response.aclose()
            await response.aclose()


def test_arguments_are_those_of_ours(library: Library) -> None:
    with pytest.raises(TypeError, match="verify"):
        library.transport(verify=False)


async def test_a_sync_body_is_refused_with_words(library: Library) -> None:
    def pieces() -> Any:
        yield b"1"

    with serve(answer_each(ok())) as server:
        async with library.client() as client:
            with pytest.raises(RuntimeError):
                await client.post(server.url, content=pieces())
