"""One secret of each kind, planted; looked for in everything that is shown."""

from __future__ import annotations

import io
import logging
import pathlib
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import pytest
import trustme

from anyio_client import (
    URL,
    APIError,
    APITimeoutError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    AsyncJSONLStream,
    AsyncPage,
    AsyncStream,
    Codec,
    ConnectionLostError,
    CursorPage,
    DecodeError,
    Headers,
    HTTPTransport,
    JSONLine,
    Middleware,
    MockTransport,
    NotFoundError,
    PageInfo,
    Querystring,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServerSentEvent,
    StreamTruncatedError,
    TLSError,
    sansio,
)
from anyio_client._log import logger, setup_from_environment
from tests.kit.peers import Peer, answer_each, ok, serve

pytestmark = pytest.mark.anyio

BEARER = "bearer-s3cret"
PASSWORD = "p4ssw0rd"
API_KEY = "key-s3cret"
COOKIE = "session=c00kie"
QUERY = "query-s3cret"
BODY = "body-s3cret"
ANSWER = "answer-s3cret"
IDEMPOTENCY = "idem-s3cret"
SECRETS = (BEARER, PASSWORD, "cDRzc3cwcmQ", "cDRzc3", API_KEY, COOKIE, QUERY, BODY, ANSWER, IDEMPOTENCY)

SSE = {"Content-Type": "text/event-stream"}


def assert_clean(*texts: str) -> None:
    for text in texts:
        for secret in SECRETS:
            assert secret not in text, f"{secret!r} in {text!r}"


def shown(value: Any) -> list[str]:
    return [repr(value), str(value), f"{value}"]


class SDK(AsyncAPIClient):
    idempotency_header = "Idempotency-Key"

    @property
    def auth_headers(self) -> Mapping[str, str]:
        return {**super().auth_headers, "X-Api-Key": API_KEY}


OPTIONS: dict[str, Any] = {
    "params": {"q": QUERY},
    "headers": {"X-Other-Key": API_KEY, "Cookie": COOKIE},
    "idempotency_key": IDEMPOTENCY,
    "extra_json": {"more": BODY},
}


def client_of(transport: Any, **options: Any) -> SDK:
    return SDK(
        **{
            "base_url": f"http://user:{PASSWORD}@h/v1?base={QUERY}",
            "auth": BEARER,
            "custom_query": {"key": QUERY},
            "custom_headers": {"X-Third": API_KEY},
            "http_client": transport,
            "retry": RetryPolicy(wait_initial=0),
            **options,
        }
    )


@attrs.define
class Thing:
    id: int


async def broken() -> AsyncIterator[bytes]:
    yield ANSWER.encode()
    raise ConnectionLostError("lost")


def sse(data: str, event: str = "") -> Response:
    return Response(200, headers=SSE, content=f"{event}data: {data}\n\n".encode())


FAILURES: dict[str, Any] = {
    "status": lambda: Response(500, json={"secret": ANSWER}, headers={"Set-Cookie": COOKIE, "X-Api-Key": API_KEY}),
    "text status": lambda: Response(404, content=ANSWER),
    "redirect": lambda: Response(302, headers={"Location": f"ftp://u:{PASSWORD}@h:21/?q={QUERY}"}),
    "redirect to no URL": lambda: Response(302, headers={"Location": f"http://u:{PASSWORD}@h:{QUERY}/?q={QUERY}"}),
    "redirects without end": lambda: Response(307, headers={"Location": f"?a={QUERY}&b={QUERY}&c={QUERY}&d={QUERY}"}),
    "no json": lambda: Response(200, content=f"<{ANSWER}>"),
    "broken json": lambda: Response(200, content=f'{{"{ANSWER}": ', headers={"Content-Type": "application/json"}),
    "no utf-8": lambda: Response(200, content=b'"\xff' + ANSWER.encode() + b'"'),
    "wrong value": lambda: Response(200, json={"id": ANSWER}),
    "missing": lambda: Response(200, json={"other": ANSWER}),
    "wrong shape": lambda: Response(200, json=[ANSWER]),
    "lost": lambda: ConnectionLostError("lost"),
    "lost body": lambda: Response(200, content=broken()),
    "coding": lambda: Response(200, content=ANSWER.encode(), headers={"Content-Encoding": "gzip"}),
}
STREAM_FAILURES: dict[str, Any] = {
    "no stream": lambda: Response(200, json={"a": ANSWER}),
    "event no json": lambda: sse(f"{{{ANSWER}"),
    "event wrong": lambda: sse(f'{{"id": "{ANSWER}"}}'),
    "event missing": lambda: sse(f'{{"{"a"}": "{ANSWER}"}}'),
    "error event": lambda: sse(f'{{"error": {{"type": "api_error", "secret": "{ANSWER}"}}}}', "event: error\n"),
}


class First(AsyncStream[Thing]):
    wait_first_event = True


def texts_of(error: BaseException) -> list[str]:
    texts = [*shown(error), "".join(traceback.format_exception(error))]
    if isinstance(error, APIError):
        texts += [*shown(error.request), error.message, error.story, repr(error.attempts), str(error.attempts)]
        texts += [str(attempt) for attempt in error.attempts]
    response = getattr(error, "response", None)
    if response is not None:
        texts += [*shown(response), *shown(response.headers)]
    return texts


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="anyio_client")
    return caplog


@pytest.mark.parametrize("kind", FAILURES)
async def test_failures_of_calls(kind: str, log: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Response:
        assert {BEARER, API_KEY, COOKIE} <= {v.removeprefix("Bearer ") for _, v in request.headers.multi_items()}
        assert request.url.query.count(QUERY) == 4
        answer = FAILURES[kind]()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    client = client_of(MockTransport(handler), _strict_response_validation=True)
    with pytest.raises(APIError) as caught:
        await client.post(f"/x?path={QUERY}", cast_to=Thing, body={"password": BODY}, options=OPTIONS)
    assert_clean(*texts_of(caught.value), log.text)
    assert "POST http://h/v1/x?base=***&key=***&path=***&q=***" in log.text


@pytest.mark.parametrize("stream_cls", [AsyncStream[Thing], First])
@pytest.mark.parametrize("kind", STREAM_FAILURES)
async def test_failures_of_streams(kind: str, stream_cls: Any, log: pytest.LogCaptureFixture) -> None:
    client = client_of(MockTransport(lambda request: STREAM_FAILURES[kind]()), _strict_response_validation=True)
    with pytest.raises(APIError) as caught:
        stream = await client.post("/", cast_to=Thing, body=BODY, stream=True, stream_cls=stream_cls)
        assert_clean(*shown(stream))
        await anext(stream)
    assert_clean(*texts_of(caught.value), log.text)


async def test_an_error_events_message_is_in_the_error_and_in_no_log(log: pytest.LogCaptureFixture) -> None:
    event = f'{{"error": {{"type": "overloaded_error", "message": "{ANSWER}"}}}}'
    client = client_of(MockTransport(lambda request: sse(event, "event: error\n")))
    with pytest.raises(APIError) as caught:
        await client.get("/", cast_to=Thing, stream=True, stream_cls=First)
    assert ANSWER in caught.value.message
    assert "retry 2 of 2" in log.text
    assert_clean(log.text, repr(caught.value.attempts))


async def test_success_on_real_connections(log: pytest.LogCaptureFixture) -> None:
    with serve(answer_each(ok(b'{"id": 7}', headers=f"Set-Cookie: {COOKIE}\r\nX-Secret: {ANSWER}\r\n"))) as peer:
        transport = HTTPTransport()
        base = peer.url.replace("http://", f"http://user:{PASSWORD}@")
        async with client_of(transport, base_url=f"{base}/?base={QUERY}", auth=None) as client:
            response = await client.post(
                "/", cast_to=AsyncAPIResponse, body=BODY, options=OPTIONS | {"extra_json": None}
            )
            assert await response.parse(to=Thing) == Thing(7)
            assert_clean(
                *shown(client),
                repr(client.base_url),
                *shown(transport),
                *shown(transport.pool),
                *shown(response),
                *shown(response.headers),
                *shown(response.http_response),
                *shown(response.http_request),
                *shown(response.http_request.headers),
                repr(response.url),
                *shown(response.timings),
            )
            async with client.open("GET", "/", options=OPTIONS | {"extra_json": None}) as raw:
                assert_clean(*shown(raw), *shown(raw.http_response))
    assert b"Basic " in peer.requests[0]
    assert "status 200" in log.text
    assert_clean(log.text)


async def test_connections_that_cannot_be_made(log: pytest.LogCaptureFixture) -> None:
    with serve(lambda peer: None) as peer:
        pass
    client = client_of(HTTPTransport(), base_url=f"http://user:{PASSWORD}@127.0.0.1:{peer.port}/{'x'}?k={QUERY}")
    async with client:
        with pytest.raises(APIError) as caught:
            await client.get("/", cast_to=Thing, options={"params": {"q": QUERY}})
    assert "INFO" in log.text
    assert_clean(*texts_of(caught.value), log.text)


async def test_reprs_of_what_users_hold() -> None:
    @attrs.define(slots=False)
    class Page(CursorPage[Thing]): ...

    client = client_of(MockTransport(lambda request: Response(200, json={"data": []})))
    url = URL(f"http://user:{PASSWORD}@h/x?q={QUERY}")
    paginator = client.get_api_list("/x", model=Thing, page=Page, options=OPTIONS | {"extra_json": None})
    page: AsyncPage[Any] = await paginator
    request = Request("POST", url, headers={"Authorization": BEARER, "Cookie": COOKIE}, content=BODY)
    for value in (
        client,
        client.with_options(auth=("user", PASSWORD)),
        client.base_url,
        AsyncAPIResource(client),
        RequestOptions(url=str(url).replace("***", f"user:{PASSWORD}"), json_data=BODY, **OPTIONS),
        RequestOptions(url=url, content=BODY, form={"a": BODY}, files=BODY),
        request,
        request.headers,
        Response(200, json=ANSWER, headers={"Set-Cookie": COOKIE}, request=request),
        ServerSentEvent(None, ANSWER, None, None),
        paginator,
        page,
        page._options,
        client.stream("GET", f"/?q={QUERY}", cast_to=Thing),
        client.open("GET", f"/?q={QUERY}"),
    ):
        assert_clean(repr(value))
        if not isinstance(value, URL):
            assert_clean(str(value))
    assert_clean(repr(url))
    assert PASSWORD not in str(url)
    assert QUERY in str(url)  # as documented: str() is the URL
    assert PageInfo("/x").url == "/x"


@pytest.mark.parametrize(
    "make",
    [
        lambda: AsyncAPIClient(base_url=f"user:{PASSWORD}@h"),
        lambda: AsyncAPIClient(base_url=f"ftp://user:{PASSWORD}@h:21/?{QUERY}"),
        lambda: AsyncAPIClient(base_url=f"http://user:{PASSWORD}@h:port/"),
        lambda: AsyncAPIClient(base_url="http://h", custom_headers={"X": f"{API_KEY}\n"}),
        lambda: AsyncAPIClient(base_url="http://h", auth=[BEARER]),  # type: ignore[arg-type]
        lambda: AsyncAPIClient(base_url="http://h", auth=("a:b", PASSWORD)),
        lambda: AsyncAPIClient(base_url="http://h", auth=("a", PASSWORD, "c")),  # type: ignore[arg-type]
        lambda: AsyncAPIClient(base_url="http://h", http_client=f"http://u:{PASSWORD}@proxy"),  # type: ignore[arg-type]
        lambda: AsyncAPIClient(base_url="http://h", custom_query=f"key={QUERY}"),  # type: ignore[arg-type]
        lambda: RequestOptions(headers=API_KEY),  # type: ignore[arg-type]
        lambda: RequestOptions(params=QUERY),  # type: ignore[arg-type]
        lambda: RequestOptions.of(QUERY),  # type: ignore[arg-type]
    ],
)
async def test_errors_about_arguments_do_not_repeat_them(make: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert_clean(*texts_without_source(caught.value))


def texts_without_source(error: BaseException) -> list[str]:
    """Repr and text of an error and of what stands behind it; the traceback would quote the test's own lines."""
    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        found += shown(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return found


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, {"headers": {"Authorization": f"{BEARER}\r\n"}}),
        ({}, {"params": {"a": QUERY.encode()}}),
        ({"body": {"a": BODY.encode()}}, {}),
        ({"body": {"a": {BODY}, "b": object()}}, {}),
        ({"body": {"a": f"{BODY}\ud800"}}, {}),
        ({"content": {BODY: BODY}}, {}),
        ({"content": lambda: [BODY]}, {}),
        ({"body": [BODY]}, {"extra_json": {"a": BODY}}),
    ],
)
async def test_errors_about_requests_do_not_repeat_them(
    arguments: dict[str, Any], options: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    client = client_of(MockTransport(lambda request: Response()))
    with pytest.raises((TypeError, ValueError)) as caught:
        await client.post(f"/?q={QUERY}", cast_to=None, options=options, **arguments)
    assert_clean(*texts_without_source(caught.value), log.text)


async def test_a_bearer_token_that_is_no_header_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="control character") as caught:
        await client_of(MockTransport(lambda request: Response()), auth=f"{BEARER}\n").get("/", cast_to=None)
    assert_clean(*texts_without_source(caught.value))


@pytest.mark.parametrize(
    ("value", "level"),
    [("debug", logging.DEBUG), ("INFO", logging.INFO), ("", logging.NOTSET), ("what", logging.NOTSET)],
)
async def test_the_environment_sets_the_level(value: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setenv("ANYIO_CLIENT_LOG", value)
    try:
        setup_from_environment()
        assert logger.level == level
    finally:
        logger.setLevel(logging.NOTSET)


# --- bodies of every kind ---------------------------------------------------------------------------------------------

BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "json": lambda: {"body": {"password": BODY, BODY: [BODY]}},
    "form": lambda: {"form": {"password": BODY, BODY: "1"}},
    "files": lambda: {"files": {"file": ("name.txt", BODY.encode(), "text/plain", {"X-Own": API_KEY})}, "body": {"field": BODY}},
    "file object": lambda: {"files": [("file", io.BytesIO(BODY.encode()))]},
    "bytes": lambda: {"content": BODY.encode()},
    "str": lambda: {"content": BODY},
    "pieces": lambda: {"content": [BODY.encode()]},
    "callable": lambda: {"content": lambda: iter([BODY.encode()])},
}  # fmt: skip


@pytest.mark.parametrize("failure", ["status", "lost", "missing", "lost body"])
@pytest.mark.parametrize("kind", BODIES)
async def test_bodies_of_every_kind(kind: str, failure: str, log: pytest.LogCaptureFixture) -> None:
    sent: list[bytes] = []

    def handler(request: Request) -> Response:
        sent.append(request.content)
        answer = FAILURES[failure]()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    seen: list[RequestOptions] = []

    class Client(SDK):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            seen.append(options)
            return options

        async def _prepare_request(self, request: Request) -> None:
            assert_clean(*shown(request), *shown(request.headers), repr(request.body) if kind == "pieces" else "")

    client = Client(base_url="http://h", http_client=MockTransport(handler), retry=RetryPolicy(wait_initial=0))
    with pytest.raises(APIError) as caught:
        await client.post("/x", cast_to=Thing, **BODIES[kind]())
    assert BODY.encode() in sent[0]
    assert_clean(*texts_of(caught.value), *[text for options in seen for text in shown(options)], log.text)


# --- streams of both kinds ---------------------------------------------------------------------------------------------

LINES: dict[str, bytes] = {
    "bad line": b'{"id": 1}\n{"' + ANSWER.encode() + b"\n",
    "wrong value": b'{"id": "' + ANSWER.encode() + b'"}\n',
    "wrong shape": b'"' + ANSWER.encode() + b'"\n',
    "missing": b'{"other": "' + ANSWER.encode() + b'"}\n',
    "no utf-8": b'"\xff' + ANSWER.encode() + b'"\n',
    "large": b'"' + ANSWER.encode() * 50 + b'"\n',
    "error": b'{"error": {"type": "api_error", "secret": "' + ANSWER.encode() + b'"}}\n',
}


@pytest.mark.parametrize("kind", LINES)
async def test_lines_that_fail(kind: str, log: pytest.LogCaptureFixture) -> None:
    class Client(SDK):
        max_event_size = 500

    client = Client(
        base_url="http://h",
        http_client=MockTransport(lambda _: Response(headers={"X-Secret": ANSWER}, content=LINES[kind])),
        _strict_response_validation=True,
    )
    stream: Any = await client.get(
        "/", cast_to=Thing, stream=True, stream_cls=AsyncJSONLStream[Thing], options=OPTIONS_OF_GET
    )
    with pytest.raises(APIError) as caught:
        async for thing in stream:
            assert_clean(*shown(stream), *shown(thing))
    assert_clean(*texts_of(caught.value), *shown(stream), log.text)


OPTIONS_OF_GET = {name: value for name, value in OPTIONS.items() if name != "extra_json"}


async def test_a_stream_that_is_resumed(log: pytest.LogCaptureFixture) -> None:
    class Resuming(AsyncStream[Thing]):
        terminator = "[DONE]"
        max_resumes = 2

    async def cut() -> AsyncIterator[bytes]:
        yield f'id: {ANSWER}\ndata: {{"id": 1}}\n\n'.encode()
        raise ConnectionLostError("lost")

    client = client_of(MockTransport(lambda _: Response(headers=SSE, content=cut())), max_retries=0)
    with pytest.raises(APIError) as caught:
        stream: Any = await client.get("/", cast_to=Thing, stream=True, stream_cls=Resuming, options=OPTIONS_OF_GET)
        for _ in range(30):
            await anext(stream)
            if len(log.records) > 20:
                raise APIError("enough", None)
    assert "resume" in log.text.lower()
    assert_clean(*texts_of(caught.value), *shown(stream), log.text)


async def test_a_download_that_is_resumed(log: pytest.LogCaptureFixture, tmp_path: pathlib.Path) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number > 1:
            peer.send(f"HTTP/1.1 404 {ANSWER}\r\nContent-Length: 0\r\nX-Secret: {ANSWER}\r\n\r\n".encode())
            return
        peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "{ANSWER}"\r\n\r\n'.encode())
        peer.send(ANSWER.encode())

    with serve(script) as server:
        async with client_of(HTTPTransport(), base_url=f"{server.url}/?base={QUERY}", max_retries=1) as client:
            with pytest.raises(APIError) as caught:
                async with client.open("GET", "/", options=OPTIONS_OF_GET) as response:
                    await response.stream_to_file(tmp_path / "file", resume=True)
    assert "resume at byte" in log.text
    assert_clean(*texts_of(caught.value), log.text)


# --- failures on real connections -----------------------------------------------------------------------------------------

ANSWERS: dict[str, bytes] = {
    "status line": f"HTTP/9 {ANSWER}\r\n\r\n".encode(),
    "no http": f"{ANSWER}\r\n\r\n".encode(),
    "header line": f"HTTP/1.1 200 OK\r\nSet-Cookie : {COOKIE}\r\n\r\n".encode(),
    "folded": f"HTTP/1.1 200 OK\r\n {COOKIE}\r\n\r\n".encode(),
    "control": f"HTTP/1.1 200 OK\r\nX-Secret: {ANSWER}\x00\r\n\r\n".encode(),
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n".encode(),
    "framing": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {ANSWER}\r\n\r\n".encode(),
    "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{ANSWER}\r\n".encode(),
    "chunk end": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{ANSWER}\r\n".encode(),
    "trailer": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX {ANSWER}\r\n\r\n".encode(),
    "cut head": f"HTTP/1.1 200 OK\r\nSet-Cookie: {COOKIE}\r\n".encode(),
    "cut body": f"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{ANSWER}".encode(),
    "large head": f"HTTP/1.1 200 OK\r\nX: {ANSWER}".encode() + b"a" * 200_000,
    "unasked": f"HTTP/1.1 101 {ANSWER}\r\nUpgrade: {ANSWER}\r\nConnection: upgrade\r\n\r\n".encode(),
    "redirect": f"HTTP/1.1 302 Found\r\nLocation: ftp://u:{PASSWORD}@h/?q={QUERY}\r\nContent-Length: 0\r\n\r\n".encode(),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_failures_on_real_connections(kind: str, log: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(ANSWERS[kind])
            return

    with serve(script) as server:
        base = server.url.replace("http://", f"http://user:{PASSWORD}@")
        async with client_of(HTTPTransport(), base_url=f"{base}/?base={QUERY}", auth=None, max_retries=1) as client:
            with pytest.raises(APIError) as caught:
                await client.post("/", cast_to=Thing, body={"a": BODY}, options=OPTIONS)
            assert_clean(*shown(client), *shown(client._transport))
    assert server.requests
    assert_clean(*texts_of(caught.value), log.text)


async def test_a_server_whose_certificate_is_not_trusted(log: pytest.LogCaptureFixture) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serve(lambda peer: None, context) as server:
        base = server.url.replace("https://", f"https://user:{PASSWORD}@")
        async with client_of(HTTPTransport(), base_url=f"{base}/?base={QUERY}", max_retries=0) as client:
            with pytest.raises(TLSError) as caught:
                await client.post("/", cast_to=Thing, body={"a": BODY}, options=OPTIONS)
    assert_clean(*texts_of(caught.value), log.text)


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {"deadline": 0.05}])
async def test_time_that_is_over(options: dict[str, float], log: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait_closed()

    with serve(script) as server:
        async with client_of(HTTPTransport(), base_url=f"{server.url}/?base={QUERY}", max_retries=0) as client:
            with pytest.raises(APITimeoutError) as caught:
                await client.post("/", cast_to=Thing, body={"a": BODY}, options={**OPTIONS, **options})
    assert_clean(*texts_of(caught.value), log.text)


async def test_an_exception_of_the_callers_own_is_as_it_was(log: pytest.LogCaptureFixture) -> None:
    mine = KeyError(f"my {BODY}")

    async def middleware(request: Request, call_next: Any) -> Any:
        await call_next(request)
        raise mine

    client = client_of(MockTransport(lambda _: Response(json=ANSWER)), middleware=[middleware])
    with pytest.raises(KeyError) as caught:
        await client.post("/", cast_to=object, body={"a": BODY}, options=OPTIONS)
    assert caught.value is mine
    assert (mine.args, mine.__cause__, mine.__context__) == ((f"my {BODY}",), None, None)
    assert_clean(log.text)


# --- reprs, more of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: PageInfo(f"/x?cursor={QUERY}"),
        lambda: PageInfo(URL(f"http://user:{PASSWORD}@h/x?cursor={QUERY}")),
        lambda: PageInfo(params={"cursor": QUERY}),
        lambda: PageInfo(json={"cursor": BODY}),
        lambda: JSONLine(ANSWER.encode(), 1),
        lambda: ServerSentEvent("message", ANSWER, "1", 1),
        lambda: Headers({"Authorization": BEARER, "Cookie": COOKIE, "X-Anything": API_KEY, "Set-Cookie": COOKIE}),
        lambda: RequestOptions(url=f"/x?q={QUERY}"),
        lambda: RequestOptions(url=f"http://user:{PASSWORD}@h/x?q={QUERY}"),
        lambda: RequestOptions(files=[("a", BODY)], form={"a": BODY}, content=BODY, json_data=BODY),
        lambda: RequestOptions(extra_json={"a": BODY}, idempotency_key=IDEMPOTENCY, params={"a": QUERY}),
        lambda: RequestOptions(headers={"X": API_KEY}),
        lambda: Request("POST", f"http://user:{PASSWORD}@h/?q={QUERY}", content=[BODY.encode()]),
        lambda: Request("POST", f"http://user:{PASSWORD}@h/?q={QUERY}", content=[BODY.encode()]).body,
        lambda: Response(headers={"X": ANSWER}, content=ANSWER),
        lambda: HTTPTransport(),
        lambda: MockTransport(lambda _: Response(content=ANSWER)),
        lambda: Middleware(),
        lambda: RetryPolicy(),
        lambda: Querystring(),
        lambda: NotFoundError("no", response=Response(404, content=ANSWER, headers={"X": ANSWER}), body=ANSWER),
        lambda: DecodeError(response=Response(json=ANSWER), body=ANSWER, problems=["$: expected an integer"]),
        lambda: StreamTruncatedError("cut", request=Request("GET", f"http://h/?q={QUERY}")),
        lambda: Codec(),
        lambda: sansio.ResponseHead(200, Headers({"X": ANSWER})),
        lambda: sansio.Begin(0.0, Request("POST", f"http://h/?q={QUERY}", content=BODY)),
        lambda: sansio.Send(Request("POST", f"http://h/?q={QUERY}", content=BODY, headers={"X": API_KEY})),
        lambda: sansio.HeadReceived(0.0, 0.0, sansio.ResponseHead(200, Headers({"X": ANSWER}))),
        lambda: sansio.DataReceived(1, ANSWER.encode()),
        lambda: sansio.ResponseReceived(1, sansio.ResponseHead(200, Headers({"X": ANSWER}))),
    ],
)
async def test_reprs_of_public_values(make: Any) -> None:
    value = make()
    assert_clean(*shown(value))
    assert_clean(repr([value]), repr({"a": value}))


async def test_reprs_of_what_is_under_way(tmp_path: pathlib.Path) -> None:
    """What a traceback with local variables would show, as the tools of error services do."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield ANSWER.encode()

    client = client_of(MockTransport(lambda _: Response(content=pieces(), headers={"ETag": f'"{ANSWER}"'})))
    async with client.open("GET", f"/?q={QUERY}", options=OPTIONS_OF_GET) as response:
        pieces_of = response.iter_bytes()
        await anext(pieces_of)
        assert_clean(*shown(response), *shown(pieces_of), *shown(response.http_response), *shown(response.http_request))
    async with client.open("GET", f"/?q={QUERY}", options=OPTIONS_OF_GET) as response:
        seen: list[str] = []

        def progress(done: int, total: int | None) -> None:
            frame: Any = sys._getframe(1)
            while frame is not None and "anyio_client" in frame.f_code.co_filename:
                seen.extend(repr(value) for name, value in frame.f_locals.items() if name == "self")
                frame = frame.f_back

        await response.stream_to_file(tmp_path / "file", resume=True, progress=progress)
        assert any("Download" in text for text in seen)
        assert_clean(*seen)
    lines = client.get_api_list(f"/?q={QUERY}", model=Thing, page=CursorPage, options=OPTIONS_OF_GET)
    assert_clean(*shown(lines), *shown(lines.iter_pages()), *shown(lines.limit_pages(2)), *shown(aiter(lines)))
    async with lines.limit_pages(1).prefetch() as items:
        assert_clean(*shown(items))
    assert_clean(*shown(client.with_raw_response), *shown(client.with_streaming_response))
