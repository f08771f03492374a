"""Never run: type checkers read it, and fail if the public API gives other types than these."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

import attrs

from anyio_client import (
    URL,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    AsyncPaginator,
    AsyncStream,
    CursorPage,
    Headers,
    HTTPTransport,
    Limits,
    MockTransport,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    Timeout,
    Transport,
    async_to_raw_response_wrapper,
    async_to_streamed_response_wrapper,
    make_request_options,
    not_given,
    omit,
    path_template,
)


@attrs.define
class Item:
    id: int


class Items(AsyncStream[Item]):
    terminator = "[DONE]"


class Client(AsyncAPIClient):
    async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
        return await super()._prepare_options(options)

    async def _prepare_request(self, request: Request) -> None:
        request.headers["X-Signature"] = str(len(request.content))

    def _should_retry(self, response: Response) -> bool:
        return response.status_code == 500 or super()._should_retry(response)

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> APIStatusError:
        return super()._make_status_error(err_msg, body=body, response=response)


class Resource(AsyncAPIResource):
    async def retrieve(self, id: str, *, extra_headers: dict[str, str] | None = None) -> Item:
        options = make_request_options(extra_headers=extra_headers)
        return await self._get(path_template("/items/{id}", id=id), cast_to=Item, options=options)


async def upload() -> AsyncIterator[bytes]:
    yield b"x"


async def use() -> None:
    transport: Transport = HTTPTransport(limits=Limits(max_connections=5))
    transport = MockTransport(lambda request: Response(200, json={}))
    async with Client(
        base_url=URL("https://h"),
        http_client=transport,
        timeout=Timeout(30, connect=5),
        retry=RetryPolicy(wait_initial=1.0),
        custom_headers={"X": "y", "Accept": omit},
        auth=("user", "password"),
    ) as client:
        assert_type(client, Client)
        assert_type(await client.get("/", cast_to=Item), Item)
        assert_type(await client.get("/", cast_to=list[Item]), list[Item])
        assert_type(await client.post("/", cast_to=str, body={"a": 1}, options={"max_retries": 1}), str)
        assert_type(await client.put("/", cast_to=bytes, content=upload()), bytes)
        assert_type(await client.get("/", cast_to=Item, stream=True, stream_cls=Items), Items)
        async with client.stream("GET", "/", cast_to=Item) as plain:
            assert_type(plain, AsyncStream[Item])
        async with client.stream("GET", "/", cast_to=Item, stream_cls=Items) as events:
            assert_type(events, Items)
            async for event in events:
                assert_type(event, Item)
        async with client.open("GET", "/") as response:
            assert_type(response, AsyncAPIResponse[Any])
            assert_type(response.headers, Headers)
            assert_type(await response.read(), bytes)
        assert_type(client.get_api_list("/", model=Item, page=CursorPage[Item]), AsyncPaginator[Item, CursorPage[Item]])
        assert_type(client.with_options(timeout=not_given and 5), Client)
        resource = Resource(client)
        assert_type(await resource.retrieve("1"), Item)
        raw = async_to_raw_response_wrapper(resource.retrieve)
        assert_type(await raw("1"), AsyncAPIResponse[Item])
        streamed = async_to_streamed_response_wrapper(resource.retrieve)
        async with streamed("1", extra_headers={}) as item:
            assert_type(item, AsyncAPIResponse[Item])
