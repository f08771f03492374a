"""One secret of each kind, planted; looked for in everything that is shown."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest

from anyio_client import (
    URL,
    APIError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    AsyncPage,
    AsyncStream,
    ConnectionLostError,
    CursorPage,
    HTTPTransport,
    MockTransport,
    PageInfo,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServerSentEvent,
)
from anyio_client._log import logger, setup_from_environment
from tests.kit.peers import answer_each, ok, serve

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
    "redirect": lambda: Response(302, headers={"Location": f"http://h/?q={QUERY}"}),
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
