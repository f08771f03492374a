"""What SDK authors build with: resources, options, raw and streamed access."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    AsyncStream,
    CursorPage,
    MockTransport,
    NotFoundError,
    Omit,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    Timeout,
    async_to_raw_response_wrapper,
    async_to_streamed_response_wrapper,
    make_request_options,
    not_given,
    omit,
)
from tests.kit.peers import Peer, serve

pytestmark = pytest.mark.anyio


@attrs.define
class Thing:
    id: int


class Things(AsyncAPIResource):
    """Written as generated SDKs write them."""

    async def retrieve(self, id: int, *, extra_headers: Mapping[str, str | Omit] | None = None) -> Thing:
        return await self._get(
            f"/things/{id}", cast_to=Thing, options=make_request_options(extra_headers=extra_headers)
        )

    async def merged(self, *, extra_headers: Mapping[str, str | Omit] | None = None) -> Thing:
        extra_headers = {"Accept": "x", **(extra_headers or {})}
        return await self._post(
            "/things", body={"a": 1}, cast_to=Thing, options=make_request_options(extra_headers=extra_headers)
        )

    async def merged_below(self, *, extra_headers: Mapping[str, str | Omit] | None = None) -> Thing:
        given = {name: value for name, value in (extra_headers or {}).items() if value is not not_given}
        return await self._put(
            "/things", cast_to=Thing, options=make_request_options(extra_headers={**given, "Accept": "y"})
        )

    async def watch(self, *, extra_headers: Mapping[str, str | Omit] | None = None) -> AsyncStream[Thing]:
        return await self._get(
            "/watch",
            cast_to=Thing,
            options=make_request_options(extra_headers=extra_headers),
            stream=True,
            stream_cls=AsyncStream[Thing],
        )

    async def remove(self, *, extra_headers: Mapping[str, str | Omit] | None = None) -> None:
        await self._delete("/things", cast_to=None, options=make_request_options(extra_headers=extra_headers))

    async def change(self, **options: Any) -> Thing:
        return await self._patch("/things", cast_to=Thing, options=make_request_options(**options))

    def list(self) -> Any:
        return self._get_api_list("/things", model=Thing, page=CursorPage)

    @cached_property
    def with_raw_response(self) -> ThingsWithRawResponse:
        return ThingsWithRawResponse(self)


class ThingsWithRawResponse:
    def __init__(self, things: Things) -> None:
        self.retrieve = async_to_raw_response_wrapper(things.retrieve)
        self.merged = async_to_raw_response_wrapper(things.merged)


class SDK(AsyncAPIClient):
    @cached_property
    def things(self) -> Things:
        return Things(self)


class Server:
    def __init__(self, answer: Callable[[Request], Response] | None = None) -> None:
        self.requests: list[Request] = []
        self.answer = answer or (lambda request: Response(200, json={"id": 7}))

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answer(request)

    @property
    def sdk(self) -> SDK:
        return SDK(base_url="http://h", http_client=MockTransport(self), retry=RetryPolicy(wait_initial=0))

    @property
    def last(self) -> Request:
        return self.requests[-1]


# --- resources and options -----------------------------------------------------------------------------------------


async def test_the_verbs_of_a_resource() -> None:
    server = Server()
    things = server.sdk.things
    assert await things.retrieve(7) == Thing(7)
    assert await things.merged() == Thing(7)
    assert await things.merged_below() == Thing(7)
    assert await things.remove() is None  # type: ignore[func-returns-value]
    assert await things.change() == Thing(7)
    assert [(request.method, request.url.path) for request in server.requests] == [
        ("GET", "/things/7"),
        ("POST", "/things"),
        ("PUT", "/things"),
        ("DELETE", "/things"),
        ("PATCH", "/things"),
    ]
    assert (await Server(lambda r: Response(200, json={"data": [{"id": 1}]})).sdk.things.list()).data == [Thing(1)]
    began = anyio.current_time()
    await things._sleep(0.02)
    assert anyio.current_time() - began >= 0.019


async def test_what_resource_methods_say_reaches_the_request() -> None:
    server = Server()
    await server.sdk.things.change(
        query={"a": 1, "b": 1},
        extra_query={"b": 2},
        extra_headers={"X": "1", "User-Agent": omit},
        extra_body={"c": 3},
        idempotency_key="key",
        timeout=3,
        post_parser=not_given,
        security={"whatever": True},
        span_name="x",
    )
    sent = server.last
    assert sent.url.query == "a=1&b=2"
    assert (sent.headers["x"], sent.headers["idempotency-key"], sent.json()) == ("1", "key", {"c": 3})
    assert "user-agent" not in sent.headers
    result: Any = await server.sdk.things.change(post_parser=lambda thing: thing.id)
    assert result == 7


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"query": None, "extra_headers": None, "extra_query": None, "extra_body": None}, {}),
        ({"timeout": not_given, "idempotency_key": not_given, "post_parser": not_given}, {}),
        ({"security": {}, "span_name": "x", "anything": 1}, {}),
        ({"timeout": None}, {"timeout": Timeout(None)}),
        ({"timeout": 3}, {"timeout": Timeout(3)}),
        ({"query": {}}, {"params": {}}),
        ({"query": {"a": 1}, "extra_query": {"a": 2}}, {"params": {"a": 2}}),
        ({"extra_body": {}}, {"extra_json": {}}),
        ({"extra_headers": {"a": omit}}, {"headers": {"a": omit}}),
        ({"idempotency_key": "k"}, {"idempotency_key": "k"}),
    ],
)
async def test_make_request_options(given: dict[str, Any], expected: dict[str, Any]) -> None:
    made = RequestOptions.of(make_request_options(**given))
    assert made == RequestOptions(**expected)


# --- raw -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retrieve", "merged", "merged_below"])
@pytest.mark.parametrize("extra", [None, {}, {"X-Own": "1", "Accept": omit}, {"raw": "1", "streamed": "2"}])
async def test_raw_access(name: str, extra: Any) -> None:
    for wrap in (async_to_raw_response_wrapper, async_to_streamed_response_wrapper):
        server = Server()
        function: Any = getattr(server.sdk.things, name)
        arguments = ((7,) if name == "retrieve" else (), {} if extra is None else {"extra_headers": extra})
        before = copy.copy(extra)
        if wrap is async_to_raw_response_wrapper:
            response = await wrap(function)(*arguments[0], **arguments[1])
            assert response.is_closed or response.http_response.content
        else:
            async with wrap(function)(*arguments[0], **arguments[1]) as response:
                assert await response.parse() == Thing(7)
        assert isinstance(response, AsyncAPIResponse)
        assert response.status_code == 200
        assert await response.parse() == Thing(7)
        assert extra == before
        # The marker is no header: the request is what it would have been without it.
        plain = Server()
        await getattr(plain.sdk.things, name)(*arguments[0], **arguments[1])
        assert server.last.headers.multi_items() == plain.last.headers.multi_items()
        assert len(server.requests) == 1
        for shown in (repr(response), repr(server.last), repr(server.last.headers), str(response.http_request)):
            assert "arker" not in shown


async def test_the_markers_do_not_show_where_options_are_printed_or_copied() -> None:
    seen: list[RequestOptions] = []

    class Client(SDK):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            seen.append(options)
            return options

        async def _process_response(self, *, options: RequestOptions, **others: Any) -> Any:
            seen.append(options)
            return await super()._process_response(options=options, **others)

    client = Client(base_url="http://h", http_client=MockTransport(lambda r: Response(200, json={"id": 7})))
    response = await client.things.with_raw_response.merged(extra_headers={"X": "1"})
    assert await response.parse() == Thing(7)
    for options in seen:
        assert options.headers == {"Accept": "x", "X": "1"}
        assert "raw" not in repr(options).lower()
        assert pickle.loads(pickle.dumps(options)) == options


async def test_raw_access_keeps_the_rest_of_the_call() -> None:
    answers = [Response(500), Response(200, json={"id": 7})]
    server = Server(lambda request: answers.pop(0))
    response = await server.sdk.things.with_raw_response.retrieve(7)
    assert response.retries_taken == 1
    with pytest.raises(NotFoundError):
        await Server(lambda request: Response(404)).sdk.things.with_raw_response.retrieve(7)
    with pytest.raises(NotFoundError):
        async with async_to_streamed_response_wrapper(Server(lambda r: Response(404)).sdk.things.retrieve)(7):
            pass


async def test_raw_access_to_a_call_without_result_and_to_a_stream() -> None:
    response: Any = await async_to_raw_response_wrapper(Server().sdk.things.change)()
    assert await response.parse() == Thing(7)

    sse = Server(lambda r: Response(200, headers={"Content-Type": "text/event-stream"}, content=b'data: {"id": 1}\n\n'))
    response = await async_to_raw_response_wrapper(sse.sdk.things.watch)()
    assert [thing async for thing in await response.parse()] == [Thing(1)]
    async with async_to_streamed_response_wrapper(sse.sdk.things.watch)() as response:
        assert [thing async for thing in await response.parse()] == [Thing(1)]


async def test_streamed_access_reads_nothing_and_closes_at_the_end() -> None:
    read, closed = [], []

    async def body() -> AsyncIterator[bytes]:
        try:
            for piece in (b'{"id"', b": 7}"):
                read.append(piece)
                yield piece
        finally:
            closed.append(True)

    sdk = Server(lambda request: Response(200, content=body())).sdk
    wrapped = async_to_streamed_response_wrapper(sdk.things.retrieve)
    async with wrapped(7) as response:
        assert read == []
        async for piece in response.iter_bytes():
            assert piece == b'{"id"'
            break
    assert (read, closed, response.is_closed) == ([b'{"id"'], [True], True)
    async with wrapped(7) as response:
        assert await response.parse() == Thing(7)
    wrapped(7)  # without an async with nothing happens, and nothing is left behind
    gc.collect()
    assert len(read) == 3


async def test_streamed_access_frees_the_connection() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
        peer.wait_closed()

    with serve(script) as peer:
        async with SDK(base_url=peer.url) as sdk:
            with pytest.raises(ZeroDivisionError):
                async with async_to_streamed_response_wrapper(sdk.things.retrieve)(7):
                    raise ZeroDivisionError
            assert peer.wait_for_open(0) == 0
            with anyio.move_on_after(0.1):
                async with async_to_streamed_response_wrapper(sdk.things.retrieve)(7) as response:
                    await response.read()
            assert peer.wait_for_open(0) == 0


# --- views of a whole resource, and of a client --------------------------------------------------------------------


class Parts(AsyncAPIResource):
    async def count(self, *, extra_headers: Mapping[str, str | Omit] | None = None) -> int:
        return await self._get("/parts", cast_to=int, options=make_request_options(extra_headers=extra_headers))


class Store(AsyncAPIResource):
    """No view of its own; another resource below it, and a list method that passes on what it is given."""

    unit = "piece"

    @cached_property
    def parts(self) -> Parts:
        return Parts(self._client)

    @property
    def others(self) -> Store:
        return Store(self._client)

    async def retrieve(self, id: int, *, extra_headers: Mapping[str, str | Omit] | None = None) -> Thing:
        """Get one."""
        return await self._get(f"/store/{id}", cast_to=Thing, options=make_request_options(extra_headers=extra_headers))

    def list(self, *, extra_headers: Mapping[str, str | Omit] | None = None, extra_query: Any = None) -> Any:
        options = make_request_options(extra_headers=extra_headers, extra_query=extra_query)
        return self._get_api_list("/store", model=Thing, page=CursorPage, options=options)

    async def _hidden(self) -> None: ...


class BigSDK(SDK):
    @cached_property
    def store(self) -> Store:
        return Store(self)


def big(answer: Any = None) -> tuple[BigSDK, Server]:
    server = Server(answer if answer is None else lambda request: answer)
    return BigSDK(base_url="http://h", http_client=MockTransport(server), retry=RetryPolicy(wait_initial=0)), server


async def test_a_view_of_a_resource_gives_responses() -> None:
    sdk, server = big()
    response = await sdk.store.with_raw_response.retrieve(7, extra_headers={"X": "1"})
    assert isinstance(response, AsyncAPIResponse)
    assert response.http_response.content == b'{"id":7}'
    assert await response.parse() == Thing(7)
    assert (server.last.url.path, server.last.headers["x"]) == ("/store/7", "1")
    async with sdk.store.with_streaming_response.retrieve(8) as response:
        assert isinstance(response, AsyncAPIResponse)
        assert await response.parse() == Thing(7)
    assert response.is_closed
    assert server.last.url.path == "/store/8"
    assert await sdk.store.retrieve(9) == Thing(7)  # the resource itself is as it was
    for name in server.last.headers:
        assert name.lower() not in ("raw", "streamed")


@pytest.mark.parametrize(
    "view",
    [
        lambda sdk: sdk.with_raw_response.store.parts,
        lambda sdk: sdk.store.with_raw_response.parts,
        lambda sdk: sdk.store.parts.with_raw_response,
        lambda sdk: sdk.with_raw_response.store.others.others.parts,
    ],
)
async def test_nested_resources_are_seen_the_same_way(view: Callable[[Any], Any]) -> None:
    sdk, server = big(Response(200, json=3))
    response = await view(sdk).count()
    assert isinstance(response, AsyncAPIResponse)
    assert await response.parse() == 3
    assert server.last.url.path == "/parts"


async def test_the_streaming_view_of_a_client() -> None:
    sdk, _ = big(Response(200, json=3))
    async with sdk.with_streaming_response.store.parts.count() as response:
        assert await response.parse() == 3
    assert response.is_closed
    with pytest.raises(NotFoundError):
        async with big(Response(404))[0].with_streaming_response.store.retrieve(1):
            raise AssertionError("not reached")


async def test_lists_in_views() -> None:
    pages = [{"data": [{"id": 1}], "next_cursor": "n"}, {"data": [{"id": 2}]}]
    server = Server(lambda request: Response(200, json=pages[1 if "cursor" in request.url.query else 0]))
    sdk = BigSDK(base_url="http://h", http_client=MockTransport(server))
    response = await sdk.store.with_raw_response.list(extra_headers={"X": "1"}, extra_query={"q": "1"})
    assert isinstance(response, AsyncAPIResponse)
    assert (server.last.url.query, server.last.headers["x"]) == ("q=1", "1")
    page = await response.parse()
    assert page.data == [Thing(1)]
    assert [thing async for thing in page] == [Thing(1), Thing(2)]  # the next page is a page
    assert (server.last.url.query, server.last.headers["x"]) == ("q=1&cursor=n", "1")
    async with sdk.with_streaming_response.store.list() as response:
        assert not response.is_closed
        page = await response.parse()
    assert [thing.id for thing in page.data] == [1]
    assert [thing.id async for thing in page] == [1, 2]


async def test_a_view_of_ones_own_stands_before_ours() -> None:
    class OwnView:
        def __init__(self, store: Store) -> None:
            self.retrieve = async_to_raw_response_wrapper(store.retrieve)
            self.is_own = True

    class Own(Store):
        @cached_property
        def with_raw_response(self) -> OwnView:  # type: ignore[override]
            return OwnView(self)

        @cached_property
        def with_streaming_response(self) -> str:  # type: ignore[override]
            return "mine"

    sdk, server = big()
    own = Own(sdk)
    assert own.with_raw_response is own.with_raw_response
    assert own.with_raw_response.is_own
    assert own.with_streaming_response == "mine"
    response = await own.with_raw_response.retrieve(7)
    assert await response.parse() == Thing(7)
    assert len(server.requests) == 1

    class Client(BigSDK):
        @cached_property
        def with_raw_response(self) -> tuple[Any]:  # type: ignore[override]
            return (self.store,)

    client = Client(base_url="http://h", http_client=MockTransport(server))
    assert client.with_raw_response == (client.store,)
    # A copy has its own, since it holds the copy.
    other = client.with_options(max_retries=0)
    assert other.with_raw_response[0]._client is other


@pytest.mark.parametrize("name", ["unit", "nothing", "_get", "_client", "_hidden", "__wrapped__"])
async def test_what_is_no_method_of_a_resource_is_an_attribute_error(name: str) -> None:
    sdk, _ = big()
    for view in (sdk.store.with_raw_response, sdk.store.with_streaming_response):
        with pytest.raises(AttributeError):
            getattr(view, name)
        assert not hasattr(view, name)


@pytest.mark.parametrize("name", ["get", "post", "request", "close", "with_options", "timeout", "_get", "nothing"])
async def test_the_view_of_a_client_has_its_resources_only(name: str) -> None:
    sdk, _ = big()
    for view in (sdk.with_raw_response, sdk.with_streaming_response):
        with pytest.raises(AttributeError):
            getattr(view, name)


async def test_views_of_copies_use_the_copys_options() -> None:
    sdk, server = big()
    await sdk.with_options(custom_headers={"X-Copy": "1"}).with_raw_response.store.retrieve(1)
    assert server.last.headers["x-copy"] == "1"
    response = await sdk.store.with_options(custom_headers={"X-Copy": "2"}).with_raw_response.retrieve(1)
    assert await response.parse() == Thing(7)
    assert server.last.headers["x-copy"] == "2"
    await sdk.with_raw_response.store.retrieve(1)
    assert "x-copy" not in server.last.headers


async def test_methods_in_views_keep_their_names_and_words() -> None:
    sdk, _ = big()
    for view in (sdk.store.with_raw_response, sdk.store.with_streaming_response):
        assert view.retrieve.__name__ == "retrieve"
        assert view.retrieve.__doc__ == "Get one."
    with pytest.raises(TypeError):
        await sdk.store.with_raw_response.retrieve()


async def test_streams_in_views() -> None:
    sse = Response(200, headers={"Content-Type": "text/event-stream"}, content=b'data: {"id": 1}\n\n')
    sdk, _ = big(sse)
    response = await sdk.with_raw_response.things.watch()
    assert isinstance(response, AsyncAPIResponse)
    assert [thing async for thing in await response.parse()] == [Thing(1)]


async def test_a_view_of_a_real_connection_frees_it() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")

    with serve(script) as peer:
        async with BigSDK(base_url=peer.url) as sdk:
            async with sdk.with_streaming_response.store.retrieve(1) as response:
                assert response.status_code == 200
            assert peer.wait_for_open(0) == 0
