"""Whatever a program passes on from its users: nothing of it can end a line of the head, or begin a second request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anyio_client import (
    AsyncAPIClient,
    BasicAuth,
    BearerAuth,
    DigestAuth,
    HeaderAuth,
    HTTPTransport,
    RequestOptions,
    path_template,
)
from tests.kit.peers import ok, serve

pytestmark = pytest.mark.anyio

EVIL = ["\r\nX-Evil: 1", "\n", "\r", "\0", "a\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"]
Act = Callable[[str, str], Any]  # (base URL, evil text) -> an awaitable, or what was raised on the way


def client(base: str, **arguments: Any) -> AsyncAPIClient:
    return AsyncAPIClient(base_url=base, max_retries=0, **arguments)


async def call(base: str, made: AsyncAPIClient | None = None, /, **options: Any) -> Any:
    async with made or client(base) as used:
        return await used.request(object, {"method": "post", "url": "/a", **options})


async def prepared(base: str, change: Callable[[Any], None]) -> Any:
    class Signing(AsyncAPIClient):
        async def _prepare_request(self, request: Any) -> None:
            change(request)

    return await call(base, Signing(base_url=base))


async def in_middleware(base: str, change: Callable[[Any], None]) -> Any:
    async def middleware(request: Any, call_next: Any) -> Any:
        change(request)
        return await call_next(request)

    return await call(base, client(base, middleware=[middleware]))


async def provided(evil: str) -> str:
    return evil


async def idempotent(base: str, evil: str) -> Any:
    class Keyed(AsyncAPIClient):
        idempotency_header = "Idempotency-Key"

    return await call(base, Keyed(base_url=base), idempotency_key=f"k{evil}")


REFUSED: dict[str, Act] = {
    "method": lambda base, evil: call(base, method=f"GET{evil}"),
    "method set by a hook": lambda base, evil: prepared(base, lambda request: setattr(request, "method", f"GET{evil}")),
    "path": lambda base, evil: call(base, url=f"/a{evil}"),
    "absolute URL": lambda base, evil: call(base, url=f"{base}/a{evil}"),
    "host": lambda base, evil: call(base, url=f"http://local{evil}host/"),
    "userinfo": lambda base, evil: call(base, url=f"http://u{evil}:p@localhost/"),
    "percent-encoded userinfo of a proxy": lambda base, evil: HTTPTransport(
        proxy=f"http://u%0D%0A{evil}:p@localhost:1"
    ),
    "base URL": lambda base, evil: client(f"{base}/{evil}"),
    "proxy URL": lambda base, evil: HTTPTransport(proxy=f"http://local{evil}host:1"),
    "proxy mapping": lambda base, evil: HTTPTransport(proxy={f"http://h{evil}": "http://localhost:1"}),
    "header value": lambda base, evil: call(base, headers={"X-A": f"b{evil}"}),
    "header name": lambda base, evil: call(base, headers={f"X-A{evil}": "b"}),
    "header set by a hook": lambda base, evil: prepared(base, lambda r: r.headers.update({"X-A": f"b{evil}"})),
    "header set by a middleware": lambda base, evil: in_middleware(base, lambda r: r.headers.add("X-A", f"b{evil}")),
    "custom header": lambda base, evil: client(base, custom_headers={"X-A": f"b{evil}"}),
    "version": lambda base, evil: call(base, client(base, version=f"1{evil}")),
    "token": lambda base, evil: client(base, auth=f"token{evil}"),
    "BearerAuth": lambda base, evil: BearerAuth(f"token{evil}"),
    "BearerAuth of a function": lambda base, evil: call(
        base, client(base, auth=BearerAuth(lambda: provided(f"t{evil}")))
    ),
    "HeaderAuth": lambda base, evil: HeaderAuth("X-Key", f"k{evil}"),
    "HeaderAuth's name": lambda base, evil: HeaderAuth(f"X-Key{evil}", "k"),
    "BasicAuth": lambda base, evil: BasicAuth("u", f"p{evil}"),
    "DigestAuth": lambda base, evil: DigestAuth(f"u{evil}", "p"),
    "idempotency key": idempotent,
    "media type of a part": lambda base, evil: call(base, files={"f": ("n", b"x", f"a/b{evil}")}),
    "header of a part": lambda base, evil: call(base, files={"f": ("n", b"x", "a/b", {"X-A": f"b{evil}"})}),
    "header name of a part": lambda base, evil: call(base, files={"f": ("n", b"x", "a/b", {f"X{evil}": "b"})}),
    "trailer": lambda base, evil: call(base, content=b"x", trailers=lambda: {"X-Sum": f"1{evil}"}),
    "server name": lambda base, evil: prepared(base, lambda request: setattr(request, "server_name", f"h{evil}")),
}
# Where the head is on its way before the text is asked for, the request is never completed.
AFTER_THE_HEAD = {"trailer"}


@pytest.mark.parametrize("evil", EVIL, ids=repr)
@pytest.mark.parametrize("place", REFUSED)
async def test_refused_before_anything_is_sent(place: str, evil: str) -> None:
    def script(peer: Any) -> None:
        while peer.read_request():
            peer.send(ok())

    with serve(script) as server:
        with pytest.raises(ValueError):
            await REFUSED[place](server.url, evil)
        assert not server.requests
        if place not in AFTER_THE_HEAD:
            assert server.connections == 0


async def seen(options: dict[str, Any]) -> bytes:
    """The request that leaves."""

    def script(peer: Any) -> None:
        while peer.read_request():
            peer.send(ok())

    with serve(script) as server:
        await call(server.url, **options)
        [request] = server.requests
        return request


@pytest.mark.parametrize("evil", EVIL, ids=repr)
async def test_parameters_and_path_values_arrive_percent_encoded(evil: str) -> None:
    encoded = "".join(f"%{octet:02X}" for octet in evil.encode() if octet < 32)
    for options in (
        {"params": {"q": evil}},
        {"params": {evil: "v"}},
        {"url": path_template("/x/{id}", id=f"v{evil}")},
    ):
        request = await seen(options)
        line = request.partition(b"\r\n")[0].decode()
        assert line.startswith("POST /") and line.endswith(" HTTP/1.1") and line.count(" ") == 2
        for octet in encoded.split("%")[1:]:
            assert f"%{octet}" in line
        assert b"\r\nX-Evil" not in request and request.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("evil", [text for text in EVIL if text != "\0"], ids=repr)
async def test_names_of_a_form_arrive_percent_encoded(evil: str) -> None:
    for files in ({f"f{evil}": b"x"}, {"f": (f"n{evil}", b"x")}):
        body = (await seen({"files": files})).partition(b"\r\n\r\n")[2]
        [line] = [line for line in body.split(b"\r\n") if b"Content-Disposition" in line]
        assert b"%0D" in line or b"%0A" in line
        assert b"\n" not in line and b"\r" not in line and b"\r\nX-Evil" not in body


async def test_nul_in_a_name_of_a_form_is_refused() -> None:
    with serve(lambda peer: None) as server:
        for files in ({"f\0": b"x"}, {"f": ("n\0", b"x")}):
            with pytest.raises(ValueError):
                await call(server.url, files=files)
        assert server.connections == 0


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="no token"):
        RequestOptions(method="GET /evil HTTP/1.1\r\n\r\n")
