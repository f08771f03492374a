"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import pytest

from anyio_client import (
    URL,
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncPage,
    AsyncPaginator,
    BadRequestError,
    CursorPage,
    DecodeError,
    MockTransport,
    PageInfo,
    Request,
    RequestOptions,
    Response,
    async_to_raw_response_wrapper,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@attrs.define
class User:
    id: int


@attrs.define(slots=False)
class LinkedPage(AsyncPage[T], Generic[T]):
    data: list[T] = attrs.field(factory=list)
    next: str | None = None

    def _get_page_items(self) -> list[T]:
        return self.data

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(self.next) if self.next else None


@attrs.define(slots=False)
class BodyPage(AsyncPage[T], Generic[T]):
    data: list[T] = attrs.field(factory=list)
    token: str | None = None

    def _get_page_items(self) -> list[T]:
        return self.data

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(json={"token": self.token}) if self.token else None


class Server:
    """Serves these pages one after the other; keeps the requests."""

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        page = self.pages[min(len(self.requests), len(self.pages)) - 1]
        return page if isinstance(page, Response) else Response(200, json=page)

    @property
    def queries(self) -> list[str]:
        return [request.url.query for request in self.requests]

    def client(self, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
        return cls(**{"base_url": "https://h/v1", "http_client": MockTransport(self), "max_retries": 0, **options})


def users(*ids: int, **more: Any) -> dict[str, Any]:
    return {"data": [{"id": n} for n in ids], **more}


THREE = (users(1, 2, next_cursor="a"), users(next_cursor="b"), users(3))


def listing(client: AsyncAPIClient, page: Any = CursorPage, **options: Any) -> AsyncPaginator[Any, Any]:
    return client.get_api_list("/users", model=User, page=page, options=options)


async def test_await_gives_the_first_page() -> None:
    server = Server(*THREE)
    paginator = listing(server.client())
    assert isinstance(paginator, AsyncPaginator)
    assert server.requests == []  # nothing is sent before it is asked for
    page = await paginator
    assert isinstance(page, CursorPage)
    assert page.data == [User(1), User(2)]
    assert page.has_next_page()
    assert page.next_page_info() == PageInfo(params={"cursor": "a"})
    assert page._options.params is not None
    assert len(server.requests) == 1


async def test_iteration_goes_over_all_pages_also_empty_ones() -> None:
    server = Server(*THREE)
    assert [user async for user in listing(server.client(), params={"limit": 2})] == [User(1), User(2), User(3)]
    assert server.queries == ["limit=2", "limit=2&cursor=a", "limit=2&cursor=b"]


async def test_pages_are_asked_for_when_they_are_wanted() -> None:
    server = Server(*THREE)
    async for user in listing(server.client()):
        if user.id == 2:
            break
    assert len(server.requests) == 1


async def test_every_way_to_iterate() -> None:
    client = Server(*THREE).client()
    assert [len(page.data) async for page in listing(client).iter_pages()] == [2, 0, 1]
    page = await listing(Server(*THREE).client())
    assert [user.id async for user in page] == [1, 2, 3]
    page = await listing(Server(*THREE).client())
    assert [len(other.data) async for other in page.iter_pages()] == [2, 0, 1]
    page = await listing(Server(*THREE).client())
    second = await page.get_next_page()
    third = await second.get_next_page()
    assert type(third) is type(page)
    assert (second.data, third.data, third.has_next_page()) == ([], [User(3)], False)
    with pytest.raises(RuntimeError, match="no next page"):
        await third.get_next_page()
    paginator = listing(Server(*THREE, *THREE).client())
    assert [user.id async for user in paginator] == [1, 2, 3]


async def test_has_next_page_of_ones_own_is_asked() -> None:
    @attrs.define(slots=False)
    class Until(CursorPage[T], Generic[T]):
        more: bool = True

        def has_next_page(self) -> bool:
            return self.more and super().has_next_page()

    server = Server(users(1, next_cursor="a"), users(2, next_cursor="b", more=False), users(3))
    assert [user.id async for user in listing(server.client(), Until)] == [1, 2]


async def test_a_page_class_with_its_own_type_of_items() -> None:
    @attrs.define(slots=False)
    class UserPage(CursorPage[User]):
        cursor_param = "after"

    server = Server(*THREE)
    assert [user async for user in listing(server.client(), UserPage)] == [User(1), User(2), User(3)]
    assert server.queries[1] == "after=a"


async def test_a_page_that_names_itself_is_an_error() -> None:
    for page_cls, page in ((CursorPage, users(1, next_cursor="a")), (LinkedPage, users(1, next="https://h/v1/x"))):
        server = Server(page)
        seen = []
        with pytest.raises(APIResponseValidationError, match="circle"):
            async for user in listing(server.client(), page_cls):
                seen.append(user.id)  # noqa: PERF401
        assert seen == [1]
        assert len(server.requests) == 2


async def test_errors_come_out_of_the_iteration() -> None:
    server = Server(users(1, next_cursor="a"), Response(400))
    seen = []
    with pytest.raises(BadRequestError):
        async for user in listing(server.client()):
            seen.append(user.id)  # noqa: PERF401
    assert seen == [1]
    with pytest.raises(DecodeError) as caught:
        await listing(Server({"data": [{}]}).client())
    assert caught.value.problems == ["$.data[0].id: missing"]
    with pytest.raises(DecodeError):
        await listing(Server([]).client())


async def test_headers_and_options_hold_for_every_page() -> None:
    server = Server(*THREE)
    client = server.client(auth="t", custom_query={"c": 1})
    async for _ in listing(client, headers={"X": "1"}):
        pass
    assert [request.headers["x"] for request in server.requests] == ["1"] * 3
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer t"] * 3
    assert server.queries == ["c=1", "c=1&cursor=a", "c=1&cursor=b"]


async def test_changes_of_a_hook_do_not_reach_the_next_page() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            assert isinstance(options.params, dict)
            options.params["n"] = options.params.get("n", 0) + 1
            return options

    server = Server(*THREE)
    async for _ in listing(server.client(Client), params={"limit": 2}):
        pass
    assert server.queries == ["limit=2&n=1", "limit=2&cursor=a&n=1", "limit=2&cursor=b&n=1"]


# --- json ----------------------------------------------------------------------------------------------------------


async def test_pages_by_changes_to_the_body() -> None:
    server = Server(users(1, token="a"), users(2, token="b"), users(3))
    body = {"filter": (n for n in [1, 2])}
    paginator: Any = server.client().get_api_list(
        "/search", model=User, page=BodyPage, body=body, method="post", options={"extra_json": {"x": iter([9])}}
    )
    assert [user.id async for user in paginator] == [1, 2, 3]
    base = {"filter": [1, 2], "x": [9]}
    assert [request.json() for request in server.requests] == [base, {**base, "token": "a"}, {**base, "token": "b"}]
    assert {request.method for request in server.requests} == {"POST"}


# --- url -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://h/v1/users?page=2", "https://h/v1/users?page=2&limit=2&ids%5B%5D=7"),
        ("?page=2", "https://h/v1/users?page=2&limit=2&ids%5B%5D=7"),
        ("/v1/users?page=2&limit=9", "https://h/v1/users?page=2&limit=9&ids%5B%5D=7"),
        ("/v2/x?ids%5B%5D=1&ids[]=2", "https://h/v2/x?ids%5B%5D=1&ids[]=2&limit=2"),
        ("more?ids[0]=1&li+mit=1", "https://h/v1/more?ids[0]=1&li+mit=1&limit=2"),
        ("//h/v1/x", "https://h/v1/x?limit=2&ids%5B%5D=7"),
    ],
)
async def test_the_urls_own_parameters_win(link: str, expected: str) -> None:
    server = Server(users(1, next=link), users(2))
    options = {"params": {"limit": 2, "ids": [7]}}
    assert [user.id async for user in listing(server.client(auth="t"), LinkedPage, **options)] == [1, 2]
    assert str(server.requests[1].url) == expected
    assert server.requests[1].headers["authorization"] == "Bearer t"


@pytest.mark.parametrize("link", ["https://other/x?page=2", "http://h/x?page=2", "//other/x?page=2"])
async def test_a_link_to_another_origin_gets_nothing_of_ours(link: str) -> None:
    server = Server(users(1, next=link), users(2))
    client = server.client(auth="t", custom_query={"key": "k"}, custom_headers={"X-Client": "c"})
    options = {"params": {"limit": 2}, "headers": {"X-Own": "1", "Accept-Language": "eo", "Cookie": "c"}}
    assert [user.id async for user in listing(client, LinkedPage, **options)] == [1, 2]
    sent = server.requests[1]
    assert sent.url.query == "page=2"
    names = {name.lower() for name in sent.headers}
    assert not names & {"authorization", "x-client", "x-own", "cookie"}
    assert sent.headers["accept-language"] == "eo"


async def test_what_a_page_info_is() -> None:
    assert PageInfo("/x").url == "/x"
    assert PageInfo(URL("https://h/x")).url == URL("https://h/x")
    assert PageInfo(params={"a": 1}) == PageInfo(params={"a": 1})
    for wrong in ({}, {"url": "/x", "params": {}}, {"params": {}, "json": {}}):
        with pytest.raises(TypeError, match="exactly one"):
            PageInfo(**wrong)


async def test_a_page_class_must_say_what_it_is() -> None:
    @attrs.define(slots=False)
    class Empty(AsyncPage[T], Generic[T]): ...

    page = await listing(Server({}).client(), Empty)
    for missing in (page.next_page_info, page._get_page_items):
        with pytest.raises(TypeError, match="Empty must define"):
            missing()


# --- hooks, raw ----------------------------------------------------------------------------------------------------


async def test_the_hook_behind_lists() -> None:
    class Client(AsyncAPIClient):
        def _request_api_list(self, model: Any, page: Any, options: RequestOptions) -> Any:
            seen.append((model, page, options.method, options.url))
            return super()._request_api_list(model, page, options)

    seen: list[Any] = []
    assert len((await listing(Server(*THREE).client(Client))).data) == 2
    assert seen == [(User, CursorPage, "GET", "/users")]


async def test_a_raw_page_parses_to_a_page_that_goes_on() -> None:
    server = Server(*THREE)
    client = server.client()

    def users_of(*, extra_headers: Any = None) -> AsyncPaginator[User, CursorPage[User]]:
        return listing(client, headers=extra_headers or {})

    wrapped: Callable[..., Any] = async_to_raw_response_wrapper(users_of)
    response = await wrapped()
    assert response.status_code == 200
    page = await response.parse()
    assert [user.id async for user in page] == [1, 2, 3]
