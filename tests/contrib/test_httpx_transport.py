"""HTTPXTransport: the clients of httpx and httpx2 under ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    APIConnectionError,
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncStream,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceededError,
    HTTPTransport,
    InternalServerError,
    Outcome,
    Phase,
    PoolTimeoutError,
    ReadTimeoutError,
    RemoteProtocolError,
    RetryPolicy,
    ServerSentEvent,
    StreamTruncatedError,
    Timeout,
    TLSError,
    Transport,
    omit,
)
from tests.contrib.kit import Library, needs_both
from tests.kit import certs
from tests.kit.h2peer import Signal
from tests.kit.peers import Peer, Script, answer_each, chunk, ok, serve
from tests.kit.servers import free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    # Their own generators, which they leave to the garbage collector. One of ours, or of a caller's, is not excused.
    pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpx2|httpcore|httpcore2)[.]:ResourceWarning"),
    needs_both,
]

QUICK = RetryPolicy(wait_initial=0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@attrs.define
class Item:
    n: int


def client_of(library: Library, url: str, *, theirs: dict[str, Any] | None = None, **options: Any) -> AsyncAPIClient:
    transport = library.under_ours(**(theirs or {}))
    return AsyncAPIClient(base_url=url, http_client=transport, **{"retry": QUICK, **options})


def sends(*pieces: bytes) -> Script:
    """Answers the requests with these, one a connection, and closes."""

    def script(peer: Peer) -> None:
        if peer.read_request():
            peer.send(pieces[min(peer.number, len(pieces)) - 1])

    return script


def silent(peer: Peer) -> None:
    peer.wait_closed()


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def fields_of(request: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


async def test_typed_calls(library: Library) -> None:
    with serve(answer_each(ok(b'{"n":1}'))) as server:
        async with client_of(library, server.url + "/v1") as client:
            assert await client.post("/a%2Fb?x=%20", body={"a": 1}, cast_to=Item) == Item(1)
            assert await client.get("/", cast_to=Item) == Item(1)
        with pytest.raises(RuntimeError, match="closed"):
            await client.get("/", cast_to=Item)
    first = server.requests[0]
    assert first.startswith(b"POST /v1/a%2Fb?x=%20 HTTP/1.1\r\n") and body_of(first) == b'{"a":1}'
    fields = fields_of(first)
    assert all(len(values) == 1 for values in fields.values()), fields
    assert fields["accept"] == ["application/json"] and fields["user-agent"][0].startswith("AsyncAPIClient/Python")
    assert server.connections == 1


async def test_their_headers_lie_below_ours(library: Library) -> None:
    headers = {"X-Theirs": "1", "Accept": "theirs", "X-Both": "theirs"}
    with serve(answer_each(ok())) as server:
        options = {"headers": headers, "cookies": {"c": "1"}}
        async with client_of(library, server.url, theirs=options, custom_headers={"X-Both": "ours"}) as client:
            await client.get("/", cast_to=object)
    fields = fields_of(server.requests[0])
    assert (fields["x-theirs"], fields["x-both"], fields["accept"]) == (["1"], ["ours"], ["application/json"])
    assert fields["cookie"] == ["c=1"]


@pytest.mark.parametrize("ours", [None, "Bearer ours"])
async def test_one_authorization_theirs_or_ours(library: Library, ours: str | None) -> None:
    with serve(answer_each(ok())) as server:
        async with client_of(library, server.url, theirs={"auth": ("user", "pass")}) as client:
            await client.get("/", cast_to=object, options={"headers": {"Authorization": ours or omit}})
    assert fields_of(server.requests[0])["authorization"] == [ours or "Basic dXNlcjpwYXNz"]


@pytest.mark.parametrize("kind", ["async", "sync", "list", "callable", "files", "empty"])
async def test_uploads(library: Library, kind: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    def plain() -> Iterator[bytes]:
        yield from (b"one", b"two")

    given: dict[str, Any] = {
        "async": {"content": pieces()},
        "sync": {"content": plain()},
        "list": {"content": [b"one", b"two"]},
        "callable": {"content": lambda: pieces()},
        "files": {"files": {"f": ("f", b"onetwo")}},
        "empty": {"content": b""},
    }
    with serve(answer_each(ok())) as server:
        async with client_of(library, server.url) as client:
            await client.post("/", **given[kind], cast_to=object)
    fields, body = fields_of(server.requests[0]), body_of(server.requests[0])
    if kind in ("list", "files", "empty"):
        assert fields["content-length"] == [str(len(body))] and "transfer-encoding" not in fields
        assert (b"onetwo" in body) is (kind != "empty")
    else:
        assert fields["transfer-encoding"] == ["chunked"] and "content-length" not in fields
        assert body == chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"


async def test_events_are_not_held_back(library: Library) -> None:
    got_first = Signal()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"data: 1\n\n"))
        got_first.wait()
        peer.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        peer.wait_closed()

    with serve(script) as server:
        async with client_of(library, server.url) as client:
            with anyio.fail_after(5):
                stream: Any = await client.get(
                    "/", stream=True, stream_cls=AsyncStream[ServerSentEvent], cast_to=object
                )
                async with stream:
                    assert (await anext(stream)).data == "1"
                    got_first.set()
                    assert [event.data async for event in stream] == ["2"]


async def test_a_stream_left_early_closes_its_connection(library: Library) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"data: 1\n\n"))
        peer.wait_closed()

    with serve(script) as server:
        async with client_of(library, server.url) as client:
            with anyio.fail_after(5):
                async with client.open("GET", "/") as response:
                    assert await anext(response.iter_bytes()) == b"data: 1\n\n"
            assert server.wait_for_open(0) == 0


async def test_a_stream_that_is_cut(library: Library) -> None:
    class Done(AsyncStream[ServerSentEvent]):
        terminator = "[DONE]"

    for end, error in ((b"", ConnectionLostError), (b"0\r\n\r\n", StreamTruncatedError)):
        with serve(sends(HEAD + chunk(b"data: 1\n\n") + end)) as server:
            async with client_of(library, server.url) as client:
                got = []
                with pytest.raises(error):
                    async with await client.get("/", stream=True, stream_cls=Done, cast_to=object) as stream:
                        async for event in stream:
                            got.append(event.data)  # noqa: PERF401 - what came before the error counts
                assert got == ["1"]


# --- retries and redirects are ours ----------------------------------------------------------------------------------


async def test_a_status_is_retried_and_a_redirect_followed_by_us(library: Library) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    moved = b"HTTP/1.1 307 Moved\r\nLocation: /to\r\nContent-Length: 0\r\n\r\n"
    with serve(answer_each(busy, moved, ok(b'{"n":1}'))) as server:
        async with client_of(library, server.url, theirs={"follow_redirects": True}) as client:
            async with client.open("POST", "/from", content=b"x") as response:
                assert [old.status_code for old in response.history] == [307]
    assert [body_of(request) for request in server.requests] == [b"x"] * 3
    assert server.requests[2].startswith(b"POST /to ")


async def test_nothing_sent_is_retried_for_post(library: Library) -> None:
    async with client_of(library, f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectError) as caught:
            await client.post("/", content=b"x", cast_to=object)
    assert (caught.value.phase, caught.value.outcome) == (Phase.CONNECT, Outcome.NOT_SENT)
    assert len(caught.value.attempts) == 3


@pytest.mark.parametrize(
    ("answer", "error", "phase", "outcome"),
    [
        (b"", ConnectionLostError, Phase.RECEIVE, Outcome.UNKNOWN),
        (b"\0garbage\r\n\r\n", RemoteProtocolError, Phase.RECEIVE, Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", ConnectionLostError, Phase.BODY, Outcome.ANSWERED),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            RemoteProtocolError,
            Phase.BODY,
            Outcome.ANSWERED,
        ),
    ],
    ids=["nothing", "garbage", "short", "chunk"],
)
async def test_unknown_and_answered(
    library: Library, answer: bytes, error: type[APIConnectionError], phase: Phase, outcome: Outcome
) -> None:
    with serve(sends(answer)) as server:
        async with client_of(library, server.url) as client:
            with pytest.raises(error) as caught:
                await client.post("/", content=b"x", cast_to=object)
            assert type(caught.value) is error
            assert (caught.value.phase, caught.value.outcome) == (phase, outcome)
            assert isinstance(caught.value.__cause__, library.module.RequestError)
            assert server.connections == 1
            with pytest.raises(error):
                await client.get("/", cast_to=object)
            assert server.connections == 4
            with pytest.raises(error):
                await client.post("/", content=b"x", cast_to=object, options={"idempotency_key": "k"})
            assert server.connections == 7


@pytest.mark.parametrize("which", ["unknown_issuer", "other_host"])
async def test_a_certificate_that_is_wrong_is_final(library: Library, which: str) -> None:
    made = certs.made()
    with serve(sends(ok()), certs.server_context(getattr(made, which))) as server:
        trust = certs.trusting_context(made.authority)
        async with client_of(library, f"https://127.0.0.1:{server.port}", theirs={"verify": trust}) as client:
            with pytest.raises(TLSError) as caught:
                await client.get("/", cast_to=object)
        assert (caught.value.phase, caught.value.outcome) == (Phase.TLS, Outcome.NOT_SENT)
        assert server.connections == 1 and not caught.value.retryable
        assert isinstance(caught.value.__cause__, library.module.ConnectError)


@pytest.mark.parametrize("kind", ["read", "pool", "connect"])
async def test_their_timeouts_are_ours(library: Library, kind: str) -> None:
    scheme = "https" if kind == "connect" else "http"
    limits = library.module.Limits(max_connections=1)
    with serve(silent) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with client_of(library, url, theirs={"limits": limits}, max_retries=0) as client:
            timeout = Timeout(5, **{kind: 0.1})
            error = {"read": ReadTimeoutError, "pool": PoolTimeoutError, "connect": ConnectTimeoutError}[kind]
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    if kind == "pool":
                        group.start_soon(lambda: client.get("/", cast_to=object))
                        await anyio.wait_all_tasks_blocked()
                    with pytest.raises(error) as caught:
                        await client.get("/", cast_to=object, options={"timeout": timeout})
                    group.cancel_scope.cancel()
    assert caught.value.outcome is (Outcome.UNKNOWN if kind == "read" else Outcome.NOT_SENT)


async def test_the_deadline_ends_head_and_body(library: Library) -> None:
    def script(peer: Peer) -> None:
        if peer.read_request().startswith(b"GET /body"):
            peer.send(HEAD + chunk(b"first"))
        peer.wait_closed()

    with serve(script) as server:
        async with client_of(library, server.url) as client:
            for path in ("/head", "/body"):
                with pytest.raises(DeadlineExceededError), anyio.fail_after(5):
                    await client.get(path, cast_to=bytes, options={"deadline": 0.1})
        assert server.wait_for_open(0) == 0


# --- values ------------------------------------------------------------------------------------------------------------


async def test_whose_timeout_counts(library: Library) -> None:
    """Theirs where it is not their default, unless one is given to ours, None too (BEHAVIOUR 14)."""
    own = library.module.Timeout(7, connect=1)
    default = HTTPTransport()
    plain = AsyncAPIClient(base_url="http://h", http_client=default)
    rows: list[tuple[dict[str, Any], dict[str, Any], Any]] = [
        ({}, {}, plain.timeout),
        ({"timeout": own}, {}, Timeout(7, connect=1)),
        ({"timeout": None}, {}, Timeout(None)),
        ({"timeout": own}, {"timeout": 3.0}, Timeout(3.0)),
        ({"timeout": own}, {"timeout": None}, Timeout(None)),
    ]
    for theirs, given, due in rows:
        inner = library.module.AsyncClient(trust_env=False, **theirs)
        async with AsyncAPIClient(base_url="http://h", http_client=library.under_ours(inner), **given) as client:
            assert Timeout.of(client.timeout) == Timeout.of(due)
    await plain.close()


def test_wrong_types_name_what_to_pass(library: Library) -> None:
    name = library.name
    with library.module.Client(trust_env=False) as sync_client:
        with pytest.raises(TypeError, match=f"{name}.AsyncClient, not Client"):
            library.ours.HTTPXTransport(sync_client)
        for wrong in (sync_client, library.own_client()):
            with pytest.raises(TypeError, match=rf"anyio_client\.contrib\.{name}\.HTTPXTransport\(client\)"):
                AsyncAPIClient(base_url="http://h", http_client=wrong)
    with pytest.raises(TypeError, match="not NoneType"):
        library.ours.HTTPXTransport(None)


async def test_it_is_a_transport_and_closes_their_client(library: Library) -> None:
    inner = library.own_client()
    transport = library.under_ours(inner)
    assert isinstance(transport, Transport) and repr(transport) == "<HTTPXTransport>"
    async with AsyncAPIClient(base_url="http://h", http_client=transport):
        assert not inner.is_closed
    assert inner.is_closed
    await transport.aclose()


async def test_other_answers(library: Library) -> None:
    with serve(answer_each(ok(b"not json"), b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}")) as server:
        async with client_of(library, server.url, max_retries=0) as client:
            with pytest.raises(APIResponseValidationError):
                await client.get("/", cast_to=Item)
            with pytest.raises(InternalServerError):
                await client.get("/", cast_to=Item)
