"""Lists that come in pages."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio
import attrs
import pytest

from anyio_client import (
    URL,
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncPage,
    AsyncPaginator,
    BadRequestError,
    CursorPage,
    DecodeError,
    LinkPage,
    MockTransport,
    OffsetPage,
    PageInfo,
    PageNumberPage,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    Timeout,
    TokenPage,
    async_to_raw_response_wrapper,
)
from tests.conftest import BACKENDS
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import task_count
from tests.kit.peers import Peer, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

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


# --- the built-in kinds ----------------------------------------------------------------------------------------------


def linked(*ids: int, link: Any = None) -> Response:
    """An array, and the field Link; a list of values: several fields."""
    values = [link] if isinstance(link, str) else link or []
    return Response(200, json=[{"id": n} for n in ids], headers=[("Link", value) for value in values])


N = "https://h/v1/users"


@pytest.mark.parametrize(
    ("page_cls", "pages", "asked_for"),
    [
        pytest.param(CursorPage, THREE, ["", "cursor=a", "cursor=b"], id="cursor"),
        pytest.param(
            CursorPage, (users(1, next_cursor="a&b=ü"), users()), ["", "cursor=a%26b%3D%C3%BC"], id="any cursor"
        ),
        pytest.param(CursorPage, (users(1, next_cursor=""),), [""], id="empty cursor"),
        pytest.param(CursorPage, (users(1, next_cursor=None),), [""], id="null cursor"),
        pytest.param(CursorPage, (users(1, has_more=True),), [""], id="no cursor"),
        pytest.param(
            TokenPage,
            (users(1, next_page_token="a"), users(next_page_token="b"), users(2, next_page_token="")),
            ["", "page_token=a", "page_token=b"],
            id="token",
        ),
        pytest.param(TokenPage, (users(1, next_page_token=7), users(2)), ["", "page_token=7"], id="token as a number"),
        pytest.param(
            PageNumberPage,
            (users(1, page=1, total_pages=3), users(page=2, total_pages=3), users(3, page=3, total_pages=3)),
            ["", "page=2", "page=3"],
            id="page number",
        ),
        pytest.param(
            PageNumberPage,
            (users(1), users(2), users()),
            ["", "page=2", "page=3"],
            id="page number, server says nothing",
        ),
        pytest.param(
            PageNumberPage,
            (users(1, total_pages=2), users(2, total_pages=2)),
            ["", "page=2"],
            id="page number, only the total",
        ),
        pytest.param(
            PageNumberPage,
            (users(1, page="1", total_pages="2"), users(2, page="2", total_pages="2")),
            ["", "page=2"],
            id="page number as text",
        ),
        pytest.param(PageNumberPage, (users(page=1, total_pages=0),), [""], id="no pages at all"),
        pytest.param(
            PageNumberPage,
            (users(1, page="x", total_pages="y"), users()),
            ["", "page=2"],
            id="page number that is none",
        ),
        pytest.param(
            OffsetPage,
            (users(1, 2, offset=0, total=5), users(3, 4, offset=2, total=5), users(5, offset=4, total=5)),
            ["", "offset=2", "offset=4"],
            id="offset",
        ),
        pytest.param(
            OffsetPage, (users(1, 2), users(3), users()), ["", "offset=2", "offset=3"], id="offset, server says nothing"
        ),
        pytest.param(OffsetPage, (users(1, 2, total=2),), [""], id="offset, all at once"),
        pytest.param(OffsetPage, (users(offset=0, total=9),), [""], id="offset, nothing although there is more"),
        pytest.param(
            LinkPage,
            (linked(1, link=f'<{N}?p=2>; rel="next"'), linked(link=f"<{N}?p=3>; rel=next"), linked(3)),
            ["", "p=2", "p=3"],
            id="link",
        ),
        pytest.param(
            LinkPage,
            (Response(200, json=users(1), headers={"Link": f"<{N}?p=2>; rel=next"}), Response(200, json=users(2))),
            ["", "p=2"],
            id="link, an object as the body",
        ),
        # arrays as the whole body
        pytest.param(
            PageNumberPage, ([{"id": 1}], [{"id": 2}], []), ["", "page=2", "page=3"], id="page number, arrays"
        ),
        pytest.param(OffsetPage, ([{"id": 1}, {"id": 2}], []), ["", "offset=2"], id="offset, arrays"),
    ],
)
async def test_each_kind_of_page_asks_for_the_next(page_cls: Any, pages: tuple[Any, ...], asked_for: list[str]) -> None:
    server = Server(*pages)
    ids = [user.id async for user in listing(server.client(), page_cls)]
    assert server.queries == asked_for
    for request in server.requests:
        assert (request.method, request.url.path) == ("GET", "/v1/users")
    bodies = [page.json() if isinstance(page, Response) else page for page in pages]
    assert ids == [user["id"] for body in bodies for user in (body if isinstance(body, list) else body["data"])]


@pytest.mark.parametrize(
    ("page_cls", "params", "asked_for"),
    [
        (PageNumberPage, {"page": 5}, ["page=5", "page=6"]),
        (PageNumberPage, {"page": "5", "limit": 2}, ["page=5&limit=2", "page=6&limit=2"]),
        (PageNumberPage, {"page": 0}, ["page=0", "page=1"]),
        (OffsetPage, {"offset": 7, "limit": 2}, ["offset=7&limit=2", "offset=9&limit=2"]),
        (OffsetPage, {"offset": "x"}, ["offset=x", "offset=2"]),
    ],
)
async def test_counting_goes_on_from_what_was_asked_for(page_cls: Any, params: Any, asked_for: list[str]) -> None:
    server = Server(users(1, 2), users())
    async for _ in listing(server.client(), page_cls, params=params):
        pass
    assert server.queries == asked_for


async def test_what_the_client_adds_to_every_request_counts_as_asked_for() -> None:
    server = Server(users(1), users())
    async for _ in listing(server.client(custom_query={"page": 3}), PageNumberPage):
        pass
    assert server.queries == ["page=3", "page=4"]


async def test_what_the_server_says_counts_more_than_what_was_asked_for() -> None:
    server = Server(users(1, page=9), users())
    async for _ in listing(server.client(), PageNumberPage, params={"page": 2}):
        pass
    assert server.queries == ["page=2", "page=10"]
    server = Server(users(1, offset=9), users())
    async for _ in listing(server.client(), OffsetPage, params={"offset": 2}):
        pass
    assert server.queries == ["offset=2", "offset=10"]


@pytest.mark.parametrize(("page_cls", "field"), [(PageNumberPage, "page"), (OffsetPage, "offset")])
async def test_a_number_that_no_int_can_hold_is_none(page_cls: Any, field: str) -> None:
    page = await listing(Server(users(1, **{field: "9" * 5000})).client(), page_cls)
    assert page.next_page_info() == PageInfo(params={field: 2 if field == "page" else 1})


# --- names of their own ----------------------------------------------------------------------------------------------


async def test_fields_and_parameters_may_have_other_names() -> None:
    @attrs.define(slots=False, kw_only=True)
    class After(CursorPage[T], Generic[T]):
        items_field = "results"
        cursor_field = "after"
        cursor_param = "since"

    @attrs.define(slots=False, kw_only=True)
    class Token(TokenPage[T], Generic[T]):
        items_field = "results"
        token_field = "continuation"
        token_param = "ct"

    @attrs.define(slots=False, kw_only=True)
    class Numbered(PageNumberPage[T], Generic[T]):
        items_field = "results"
        page_param = "p"
        first_page = 0

    @attrs.define(slots=False, kw_only=True)
    class Skipping(OffsetPage[T], Generic[T]):
        items_field = "results"
        offset_param = "skip"

    def found(*ids: int, **more: Any) -> dict[str, Any]:
        return {"results": [{"id": n} for n in ids], **more}

    for page_cls, pages, asked_for in [
        (After, (found(1, after="a"), found(2, next_cursor="no")), ["", "since=a"]),
        (Token, (found(1, continuation="a"), found(2, next_page_token="no")), ["", "ct=a"]),
        (Numbered, (found(1, total_pages=2), found(2, total_pages=2)), ["", "p=1"]),
        (Skipping, (found(1, total=2), found(2, total=2)), ["", "skip=1"]),
    ]:
        server = Server(*pages)
        assert [user async for user in listing(server.client(), page_cls)] == [User(1), User(2)]
        assert server.queries == asked_for


async def test_a_page_may_keep_its_items_in_fields_of_its_own() -> None:
    @attrs.define(slots=False, kw_only=True)
    class Found(CursorPage[User]):
        best: User
        others: list[User] = attrs.field(factory=list)

        def _get_page_items(self) -> list[User]:
            return [self.best, *self.others]

    server = Server({"best": {"id": 1}, "others": [{"id": 2}], "next_cursor": "a"}, {"best": {"id": 3}})
    assert [user.id async for user in listing(server.client(), Found)] == [1, 2, 3]
    with pytest.raises(DecodeError) as caught:
        await listing(Server(users(1)).client(), Found)
    assert caught.value.problems == ["$.best: missing"]


async def test_a_page_may_have_further_fields() -> None:
    @attrs.define(slots=False, kw_only=True)
    class Counted(OffsetPage[T], Generic[T]):
        took: int = 0

    page = await listing(Server(users(1, took=5, total=1)).client(), Counted)
    assert (page.took, page.total, page.data) == (5, 1, [User(1)])


@pytest.mark.parametrize("page_cls", [CursorPage, TokenPage, PageNumberPage, OffsetPage, LinkPage])
async def test_a_subclass_may_leave_out_the_type_argument(page_cls: Any) -> None:
    @attrs.define(slots=False, kw_only=True)
    class Bare(page_cls):  # type: ignore[misc]
        pass

    page = await listing(Server(users(1, 2)).client(), Bare)
    assert isinstance(page, Bare)
    assert [user["id"] if isinstance(user, dict) else user.id for user in page._get_page_items()] == [1, 2]


@pytest.mark.parametrize("page_cls", [CursorPage, TokenPage])
async def test_an_array_has_no_place_for_a_cursor(page_cls: Any) -> None:
    with pytest.raises(DecodeError, match="expected an object"):
        await listing(Server([{"id": 1}]).client(), page_cls)


@pytest.mark.parametrize("page_cls", [CursorPage, TokenPage, PageNumberPage, OffsetPage, LinkPage])
@pytest.mark.parametrize("body", [{}, {"items": []}, 5, "x", None])
async def test_a_body_without_items_is_a_decode_error_and_no_empty_list(page_cls: Any, body: object) -> None:
    with pytest.raises(DecodeError):
        await listing(Server(Response(200, json=body)).client(), page_cls)


@pytest.mark.parametrize("page_cls", [CursorPage, TokenPage, PageNumberPage, OffsetPage, LinkPage])
async def test_null_in_place_of_the_items_is_an_empty_page(page_cls: Any) -> None:
    # Servers in Go write an empty list like this. (If it were an error, then one of ours.)
    assert [user async for user in listing(Server({"data": None}).client(), page_cls)] == []


async def test_problems_name_the_path_in_the_body() -> None:
    @attrs.define(slots=False, kw_only=True)
    class Results(PageNumberPage[T], Generic[T]):
        items_field = "results"

    with pytest.raises(DecodeError) as caught:
        await listing(Server({"results": [{"id": 1}, {}]}).client(), Results)
    assert caught.value.problems == ["$.results[1].id: missing"]
    assert caught.value.body == {"results": [{"id": 1}, {}]}
    with pytest.raises(DecodeError) as caught:
        await listing(Server([{"id": 1}, {}]).client(), OffsetPage)
    assert caught.value.problems == ["$[1].id: missing"]
    assert caught.value.body == [{"id": 1}, {}]


# --- Link ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("<https://h/v1/users?p=2>; rel=next", "https://h/v1/users?p=2&limit=2"),
        ("<https://h/v1/other?p=2&limit=5>; rel=next", "https://h/v1/other?p=2&limit=5"),
        ("<?p=2>; rel=next", "https://h/v1/users?p=2&limit=2"),
        ("<users?p=2>; rel=next", "https://h/v1/users?p=2&limit=2"),
        ("<../v2/users>; rel=next", "https://h/v2/users?limit=2"),
        ("</users?p=2>; rel=next", "https://h/users?p=2&limit=2"),
        ("<//h/v1/x>; rel=next", "https://h/v1/x?limit=2"),
        ('<a?p=1,2;3>; title="x, y; z"; rel="next"', "https://h/v1/a?p=1,2;3&limit=2"),
        ("<a>; rel=prev, <b>; rel=next, <c>; rel=last", "https://h/v1/b?limit=2"),
        ('<a>; rel="prev", <b>; rel="last NEXT"', "https://h/v1/b?limit=2"),
        (["<a>; rel=prev", "<b>; rel=next"], "https://h/v1/b?limit=2"),
        (["<b>; rel=next", "<c>; rel=next"], "https://h/v1/b?limit=2"),
        ("<a>; rel=next; anchor=x, <b>; rel=next", "https://h/v1/b?limit=2"),
        ("<a>; rel=prev; rel=next", None),
        ("<a>; rel=nextpage", None),
        ("<a>; rev=next", None),
        ("a; rel=next", None),
        ("", None),
    ],
)
async def test_where_a_link_leads(link: Any, url: str | None) -> None:
    server = Server(linked(1, link=link), linked(2))
    page = await listing(server.client(auth="t"), LinkPage, params={"limit": 2}, headers={"X-Own": "o"})
    assert page.has_next_page() is (url is not None)
    if url is not None:
        assert (await page.get_next_page()).data == [User(2)]
        sent = server.requests[1]
        assert str(sent.url) == url
        assert (sent.headers["authorization"], sent.headers["x-own"]) == ("Bearer t", "o")


@pytest.mark.parametrize(
    "target", ["https://other/x?p=2", "//other/x?p=2", "http://h/v1/users?p=2", "https://h:444/?p=2"]
)
async def test_a_link_to_another_origin_takes_no_credentials_there(target: str) -> None:
    server = Server(linked(1, link=f"<{target}>; rel=next"), linked(2, link="<?p=3>; rel=next"), linked(3))
    client = server.client(auth="t", custom_query={"key": "k"}, custom_headers={"X-Client": "c"})
    options = {"params": {"limit": 2}, "headers": {"X-Own": "1", "Accept-Language": "eo", "Cookie": "c"}}
    assert [user.id async for user in listing(client, LinkPage, **options)] == [1, 2, 3]
    for sent, query in zip(server.requests[1:], ("p=2", "p=3"), strict=True):
        assert sent.url.origin == URL(target if ":" in target else f"https:{target}").origin
        assert sent.url.query == query
        names = {name.lower() for name in sent.headers}
        assert not names & {"authorization", "x-client", "x-own", "cookie"}
        assert sent.headers["accept-language"] == "eo"


@pytest.mark.parametrize(
    "target",
    ["http://[bad", "ftp://h/x", "http://h:99999/", "https://", "mailto:x", "javascript:1", "https://h/\xa0\xad?é"],
)
async def test_a_link_that_no_request_can_follow_is_the_servers_mistake(target: str) -> None:
    server = Server(linked(1, link=f"<{target}>; rel=next"), linked(2))
    seen = []
    try:
        async for user in listing(server.client(), LinkPage):
            seen.append(user.id)  # noqa: PERF401
    except APIError:
        assert seen == [1]  # neither the caller's mistake, nor another library's error
    else:
        assert seen == [1, 2]


# --- circles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page_cls", "page"),
    [
        (CursorPage, users(1, next_cursor="a")),
        (TokenPage, users(1, next_page_token="a")),
        (PageNumberPage, users(1, page=1, total_pages=9)),
        (PageNumberPage, users(1, page=1)),
        (OffsetPage, users(1, offset=0, total=9)),
        (OffsetPage, users(1, offset=0)),
        (LinkPage, linked(1, link="<?p=2>; rel=next")),
        (LinkPage, linked(1, link=f"<{N}?p=2>; rel=next")),
        (LinkPage, linked(1, link="<>; rel=next")),
        (CursorPage, users(next_cursor="a")),  # also if there are no items
        (LinkPage, linked(link="<?p=2>; rel=next")),
    ],
)
@pytest.mark.parametrize("prefetch", [False, True])
async def test_a_page_of_any_kind_that_names_itself_is_an_error(page_cls: Any, page: Any, prefetch: bool) -> None:
    server = Server(page)
    seen = []
    with pytest.raises(APIResponseValidationError, match="circle") as caught, anyio.fail_after(5):
        if prefetch:
            async with listing(server.client(), page_cls).prefetch() as items:
                async for user in items:
                    seen.append(user.id)  # noqa: PERF401
        else:
            async for user in listing(server.client(), page_cls):
                seen.append(user.id)  # noqa: PERF401
    body = page.json() if isinstance(page, Response) else page
    assert seen == [user["id"] for user in (body if isinstance(body, list) else body["data"])]
    assert len(server.requests) == 2
    assert caught.value.response is not None


async def test_the_last_page_may_name_itself_where_it_says_that_it_is_the_last() -> None:
    @attrs.define(slots=False, kw_only=True)
    class Until(CursorPage[T], Generic[T]):
        more: bool = True

        def has_next_page(self) -> bool:
            return self.more

    server = Server(users(1, next_cursor="a"), users(2, next_cursor="a", more=False))
    assert [user.id async for user in listing(server.client(), Until)] == [1, 2]


# --- what holds for all pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page_cls", "pages"),
    [
        (CursorPage, THREE),
        (TokenPage, (users(1, next_page_token="a"), users(2, next_page_token="b"), users(3))),
        (PageNumberPage, (users(1), users(2), users())),
        (OffsetPage, (users(1), users(2), users())),
        (LinkPage, (linked(1, link="<?p=2>; rel=next"), linked(2, link="<?p=3>; rel=next"), linked(3))),
    ],
)
async def test_options_hold_for_every_page(page_cls: Any, pages: tuple[Any, ...]) -> None:
    timeouts: list[Timeout] = []
    left: list[float | None] = []
    server = Server(*pages)

    class Transport(MockTransport):
        async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
            timeouts.append(timeout)
            left.append(None if deadline is None else deadline - anyio.current_time())
            return await super().send(request, timeout=timeout, deadline=deadline)

    client = server.client(http_client=Transport(server))
    options = {
        "timeout": 7,
        "deadline": 20,
        "headers": {"X-Own": "o"},
        "params": {"ids": [1, 2]},
        "idempotency_key": "k",
    }
    async for _ in listing(client, page_cls, **options):
        await anyio.sleep(0.06)
    assert timeouts == [Timeout(7)] * 3
    # A page is a call: each has the whole time.
    assert all(seconds is not None and 19.95 < seconds <= 20 for seconds in left)
    for request in server.requests:
        assert request.headers["x-own"] == "o"
        assert request.headers["idempotency-key"] == "k"
        assert "ids%5B%5D=1&ids%5B%5D=2" in request.url.query


async def test_each_page_is_retried_by_itself_and_strictness_holds() -> None:
    server = Server(Response(500), users(1, next_cursor="a"), Response(500), users(2))
    client = server.client(retry=RetryPolicy(wait_initial=0))
    assert [user.id async for user in listing(client, max_retries=1)] == [1, 2]
    assert server.queries == ["", "", "cursor=a", "cursor=a"]

    server = Server(users(1, next_cursor="a"), {"data": [{"id": "x"}]})
    assert [user.id async for user in listing(server.client())] == [1, "x"]
    server = Server(users(1, next_cursor="a"), {"data": [{"id": "x"}]})
    with pytest.raises(DecodeError):
        async for _ in listing(server.client(), strict=True):
            pass


@pytest.mark.parametrize(
    ("page_cls", "pages"),
    [
        (TokenPage, (users(1, next_page_token="a"), users(2))),
        (PageNumberPage, (users(1), users(2), users())),
        (OffsetPage, (users(1), users(2), users())),
        (LinkPage, (linked(1, link="<?p=2>; rel=next"), linked(2))),
    ],
)
async def test_a_raw_page_of_any_kind_goes_on(page_cls: Any, pages: tuple[Any, ...]) -> None:
    server = Server(*pages)
    client = server.client()

    def users_of(*, extra_headers: Any = None) -> AsyncPaginator[Any, Any]:
        return listing(client, page_cls, headers=extra_headers or {})

    wrapped: Callable[..., Any] = async_to_raw_response_wrapper(users_of)
    page = await (await wrapped()).parse()
    assert [user.id async for user in page] == [1, 2]


# --- limit_pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "ids"), [(1, [1, 2]), (2, [1, 2]), (3, [1, 2, 3]), (9, [1, 2, 3])])
async def test_at_most_so_many_pages_are_asked_for(count: int, ids: list[int]) -> None:
    server = Server(*THREE)
    paginator = listing(server.client())
    limited = paginator.limit_pages(count)
    assert isinstance(limited, AsyncPaginator)
    assert [user.id async for user in limited] == ids
    assert len(server.requests) == min(count, 3)
    server.requests.clear()
    assert len([page async for page in limited.iter_pages()]) == min(count, 3)
    server.requests.clear()
    async with limited.prefetch() as items:
        assert [user.id async for user in items] == ids
    assert len(server.requests) == min(count, 3)
    server.requests.clear()
    assert (await limited).data == [User(1), User(2)]
    assert len(server.requests) == 1
    server.requests.clear()
    assert [user.id async for user in paginator] == [1, 2, 3]  # which was not changed


@pytest.mark.parametrize(("count", "cls"), [(0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)])
async def test_a_limit_that_is_none(count: Any, cls: type[Exception]) -> None:
    with pytest.raises(cls, match="limit_pages"):
        listing(Server().client()).limit_pages(count)
    with pytest.raises(TypeError, match="limit_pages"):
        listing(Server().client()).limit_pages(None)  # type: ignore[arg-type]


# --- prefetch --------------------------------------------------------------------------------------------------------

FOUR = (users(1, 2, next_cursor="a"), users(3, next_cursor="b"), users(next_cursor="c"), users(4))


async def test_prefetched_items_are_the_same() -> None:
    server = Server(*FOUR)
    async with listing(server.client(), params={"limit": 2}).prefetch() as items:
        assert [user.id async for user in items] == [1, 2, 3, 4]
        assert [user.id async for user in items] == []
    assert server.queries == ["limit=2"] + [f"limit=2&cursor={c}" for c in "abc"]
    async with listing(Server(*FOUR).client()).prefetch() as items:
        assert [len(page.data) async for page in items.iter_pages()] == [2, 1, 0, 1]
    async with listing(Server(users()).client()).prefetch() as items:
        assert [user async for user in items] == []


async def test_it_is_one_page_ahead_and_no_more() -> None:
    server = Server(*FOUR)
    paginator = listing(server.client())
    block = paginator.prefetch()
    assert server.requests == []
    async with block as items:
        for taken, asked in ((0, 1), (1, 2), (2, 2), (3, 3)):
            if taken:
                assert (await anext(aiter(items))).id == taken
            await anyio.wait_all_tasks_blocked()
            assert (taken, len(server.requests)) == (taken, asked)
    assert len(server.requests) == 3


async def test_the_next_page_is_asked_for_while_the_items_are_used() -> None:
    class Slow(Server):
        async def answer(self, request: Request) -> Response:
            response = Server.__call__(self, request)
            events.append(f"asked {len(self.requests)}")
            await anyio.sleep(0.02)
            return response

        __call__ = answer  # type: ignore[assignment]

    events: list[str] = []
    async with listing(
        Slow(users(1, next_cursor="a"), users(2, next_cursor="b"), users(3)).client()
    ).prefetch() as items:
        async for user in items:
            await anyio.sleep(0.05)
            events.append(f"used {user.id}")
    assert events == ["asked 1", "asked 2", "used 1", "asked 3", "used 2", "used 3"]


async def test_its_task_lives_exactly_in_the_block() -> None:
    before = task_count()
    async with listing(Server(*FOUR).client()).prefetch() as items:
        assert task_count() == before + 1
        async for user in items:
            if user.id == 3:
                break
        assert task_count() == before + 1
    assert task_count() == before
    async with listing(Server(*FOUR).client()).prefetch():
        pass
    assert task_count() == before


async def test_a_block_that_is_never_entered_leaves_nothing() -> None:
    paginator = listing(Server(*FOUR).client())
    before = task_count()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        paginator.prefetch()
        gc.collect()
    assert warned == []
    assert task_count() == before


async def test_exceptions_of_the_body_come_out_as_they_are() -> None:
    error = ZeroDivisionError()
    for server in (Server(*FOUR), Server(users(1, next_cursor="a"), Response(400))):
        with pytest.raises(ZeroDivisionError) as caught:
            async with listing(server.client()).prefetch() as items:
                async for _ in items:
                    await anyio.wait_all_tasks_blocked()
                    raise error
        assert caught.value is error
        assert error.__context__ is None


async def test_errors_of_a_page_come_out_where_it_is_wanted() -> None:
    server = Server(users(1, 2, next_cursor="a"), Response(400, json={"message": "no"}))
    seen = []
    async with listing(server.client()).prefetch() as items:
        async for user in items:
            await anyio.wait_all_tasks_blocked()  # it has failed by now
            seen.append(user.id)
            if user.id == 2:
                break
        with pytest.raises(BadRequestError) as caught:
            await anext(aiter(items))
        with pytest.raises(StopAsyncIteration):
            await anext(aiter(items))
    assert seen == [1, 2]
    assert caught.value.body == {"message": "no"}
    assert [attempt.status_code for attempt in caught.value.attempts] == [400]

    with pytest.raises(BadRequestError):
        async with listing(Server(Response(400)).client()).prefetch() as items:
            async for _ in items:
                pass


async def test_errors_of_a_page_that_nobody_wants_come_out_nowhere() -> None:
    async with listing(Server(users(1, next_cursor="a"), Response(400)).client()).prefetch() as items:
        assert (await anext(aiter(items))).id == 1
        await anyio.wait_all_tasks_blocked()
    async with listing(Server(Response(400)).client()).prefetch():
        await anyio.wait_all_tasks_blocked()


async def test_exceptions_of_ones_own_hooks_come_out_as_they_are() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            if options.params:
                raise error
            return options

    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        async with listing(Server(*FOUR).client(Client)).prefetch() as items:
            async for _ in items:
                pass
    assert caught.value is error


async def test_leaving_early_ends_what_is_under_way() -> None:
    ended = []

    class Slow(Server):
        async def answer(self, request: Request) -> Response:
            response = Server.__call__(self, request)
            if len(self.requests) > 1:
                try:
                    await anyio.sleep(30)
                finally:
                    ended.append(True)
            return response

        __call__ = answer  # type: ignore[assignment]

    with anyio.fail_after(5):
        async with listing(Slow(*FOUR).client()).prefetch() as items:
            async for user in items:
                if user.id == 2:
                    await anyio.wait_all_tasks_blocked()
                    break
    assert ended == [True]


async def test_after_the_block_nothing_more_is_asked_for() -> None:
    server = Server(*FOUR)
    async with listing(server.client()).prefetch() as items:
        await anext(aiter(items))
        await anyio.wait_all_tasks_blocked()
    asked = len(server.requests)
    left = []
    with anyio.fail_after(5):
        try:
            async for user in items:
                left.append(user.id)  # noqa: PERF401
        except RuntimeError:
            pass
    assert left in ([], [2])  # of the page that was there
    assert len(server.requests) == asked


async def test_two_blocks_at_a_time_do_not_know_each_other() -> None:
    server = Server(users(1, next_cursor="a"), users(1, next_cursor="b"), users(2), users(2))
    paginator = listing(server.client())
    async with paginator.prefetch() as one, paginator.prefetch() as other:
        first = [(await anext(aiter(one))).id, (await anext(aiter(other))).id]
    assert first == [1, 1]


async def test_a_cancelled_consumer_leaves_the_block_in_order() -> None:
    class Never(Server):
        async def answer(self, request: Request) -> Response:
            await anyio.sleep(30)
            return Response()

        __call__ = answer  # type: ignore[assignment]

    before = task_count()
    with anyio.move_on_after(0.05) as scope:
        async with listing(Never().client()).prefetch() as items:
            async for _ in items:
                pass
    assert scope.cancelled_caught
    assert task_count() == before


async def test_a_cancelled_wait_for_a_page_is_no_end_of_the_list() -> None:
    # What comes after the loop would take a part of the list for all of it.
    class Slow(Server):
        async def answer(self, request: Request) -> Response:
            response = Server.__call__(self, request)
            await anyio.sleep(0 if len(self.requests) == 1 else 30)
            return response

        __call__ = answer  # type: ignore[assignment]

    after_the_loop = []
    with anyio.CancelScope() as scope:
        async with listing(Slow(*FOUR).client()).prefetch() as items:
            assert [(await anext(aiter(items))).id for _ in (1, 2)] == [1, 2]
            await anyio.wait_all_tasks_blocked()
            scope.cancel()  # the task that asks for pages may hear of it first
            after_the_loop = [[user.id async for user in items]]
    assert scope.cancelled_caught
    assert after_the_loop == []


# --- on real connections ---------------------------------------------------------------------------------------------


def shelves(peer: Peer) -> None:
    """Five pages of two numbers each, by cursor; a little slow, so that there is something to wait for."""
    while request := peer.read_request():
        target = request.split()[1]
        if target.startswith(b"/plain"):
            peer.send(ok(b"1"))
            continue
        number = int(target.partition(b"cursor=")[2] or 0)
        peer.server.pause(0.002)
        cursor = b'"%d"' % (number + 1) if number < 4 else b"null"
        body = b'{"data": [%d, %d], "next_cursor": %b}' % (2 * number, 2 * number + 1, cursor)
        peer.send(ok(body))


async def test_all_pages_take_one_connection() -> None:
    with serve(shelves) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            numbers: AsyncPaginator[int, Any] = client.get_api_list("/n", model=int, page=CursorPage)
            assert [n async for n in numbers] == list(range(10))
            async with numbers.prefetch() as items:
                assert [n async for n in items] == list(range(10))
        assert (peer.connections, len(peer.requests)) == (1, 10)


async def test_a_lost_connection_comes_out_at_the_consumer() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number == 1:
            peer.send(ok(b'{"data": [1], "next_cursor": "a"}'))
            peer.read_request()
        peer.reset()

    for prefetch in (False, True):
        with serve(script) as peer:
            async with AsyncAPIClient(base_url=peer.url, max_retries=0) as client:
                numbers: AsyncPaginator[int, Any] = client.get_api_list("/n", model=int, page=CursorPage)
                seen = []
                with pytest.raises(APIConnectionError):
                    if prefetch:
                        async with numbers.prefetch() as items:
                            async for n in items:
                                seen.append(n)  # noqa: PERF401
                    else:
                        async for n in numbers:
                            seen.append(n)  # noqa: PERF401
                assert seen == [1]


async def test_leaving_a_prefetch_early_frees_its_connection() -> None:
    with serve(shelves) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            numbers: AsyncPaginator[int, Any] = client.get_api_list("/n", model=int, page=CursorPage)
            for _ in range(3):
                async with numbers.prefetch() as items:
                    assert await anext(aiter(items)) == 0
                    assert await anext(aiter(items)) == 1
                assert await client.get("/plain", cast_to=int) == 1
                assert peer.wait_for_open(1) == 1


# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param(backend.values[0], how, prefetch, id=f"{backend.id}-{how}-{'prefetch' if prefetch else 'plain'}")
    for backend in BACKENDS
    for how in ("scope", "native")
    for prefetch in (False, True)
    if backend.id != "trio" or how == "scope"
]


@pytest.mark.parametrize(("anyio_backend", "how", "prefetch"), SETTINGS)
async def test_cancelled_at_every_checkpoint_nothing_is_left(anyio_backend: Any, how: How, prefetch: bool) -> None:
    with serve(shelves) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            tasks = task_count()
            numbers: AsyncPaginator[int, Any] = client.get_api_list("/n", model=int, page=CursorPage)

            async def operation() -> None:
                if prefetch:
                    async with numbers.limit_pages(3).prefetch() as items:
                        assert [n async for n in items] == list(range(6))
                else:
                    assert [n async for n in numbers.limit_pages(3)] == list(range(6))

            n = 1
            while await cancelled_at(n, how, operation):
                assert await client.get("/plain", cast_to=int) == 1
                assert task_count() == tasks
                assert peer.wait_for_open(1) == 1
                n += 1
            assert n >= 4
