"""Retries through the client: which answers and failures are tried again, after how long, and what the error tells."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from anyio_client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncAPIClient,
    ConnectionLostError,
    ConnectTimeoutError,
    ContentDecodingError,
    DeadlineExceededError,
    LocalProtocolError,
    MockTransport,
    Outcome,
    Phase,
    RateLimitError,
    ReadTimeoutError,
    Request,
    Response,
    RetryBudget,
    RetryPolicy,
    omit,
)

pytestmark = pytest.mark.anyio


class Script:
    """A server that answers with these, the last one for ever; and the waits that the client made."""

    def __init__(self, *answers: Response | Exception | Callable[[], Response]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.waits: list[float] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else answer()

    @property
    def counts(self) -> list[str | None]:
        return [request.headers.get("x-stainless-retry-count") for request in self.requests]

    @property
    def keys(self) -> list[str | None]:
        return [request.headers.get("idempotency-key") for request in self.requests]

    def client(self, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
        script = self

        class Quick(cls):  # type: ignore[misc, valid-type]
            async def _sleep_for_retry(self, **facts: Any) -> None:
                from anyio_client._calling import retry_wait

                script.waits.append(round(retry_wait.get(), 3))

        return Quick(**{"base_url": "http://h", "http_client": MockTransport(self), **options})


class Safe(AsyncAPIClient):
    idempotency_header = "Idempotency-Key"


async def call(client: AsyncAPIClient, method: str = "GET", **options: Any) -> Any:
    return await client.request(int, {"method": method, **options})


async def failure(client: AsyncAPIClient, method: str = "GET", **options: Any) -> Any:
    with pytest.raises(APIError) as caught:
        await call(client, method, **options)
    return caught.value


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    yield


# --- statuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
async def test_statuses_that_are_retried_whatever_the_method(status: int, method: str) -> None:
    script = Script(Response(status), Response(200, json=1))
    assert await call(script.client(), method) == 1
    assert script.counts == ["0", "1"]


@pytest.mark.parametrize("status", [300, 301, 304, 400, 401, 403, 404, 410, 412, 413, 418, 422, 425, 428, 451])
async def test_statuses_that_are_not(status: int) -> None:
    script = Script(Response(status))
    error = await failure(script.client())
    assert error.status_code == status
    assert script.counts == ["0"]
    assert [attempt.status_code for attempt in error.attempts] == [status]


@pytest.mark.parametrize(
    ("status", "said", "attempts"),
    [
        (400, "true", 3),
        (500, "false", 1),
        (429, "false", 1),
        (400, "True", 1),
        (500, "False", 3),
        (500, "no", 3),
        (304, "true", 1),
        (302, "true", 1),
    ],
)
async def test_the_server_may_overrule_in_exactly_these_letters(status: int, said: str, attempts: int) -> None:
    script = Script(Response(status, headers={"x-should-retry": said}))
    await failure(script.client())
    assert len(script.requests) == attempts


async def test_a_success_that_says_retry_is_a_success() -> None:
    script = Script(Response(200, json=1, headers={"x-should-retry": "true"}))
    assert await call(script.client()) == 1
    assert len(script.requests) == 1


async def test_three_failures(no_jitter: None) -> None:
    script = Script(Response(500))
    error = await failure(script.client())
    assert script.waits == [0.5, 1.0]
    assert script.counts == ["0", "1", "2"]
    assert [attempt.wait for attempt in error.attempts] == [0.5, 1.0, None]
    assert [attempt.status_code for attempt in error.attempts] == [500, 500, 500]
    assert [attempt.error for attempt in error.attempts] == [None] * 3
    assert error.attempts[0].started == 0
    assert all(attempt.elapsed >= 0 for attempt in error.attempts)
    assert str(error) == "Error code: 500 (3 attempts)"
    assert error.story.count("\n") == 2


async def test_the_wait_doubles_up_to_a_limit(no_jitter: None) -> None:
    script = Script(Response(500))
    await failure(script.client(max_retries=7))
    assert script.waits == [0.5, 1, 2, 4, 8, 8, 8]


async def test_jitter_makes_waits_shorter_by_a_quarter_at_most() -> None:
    script = Script(Response(500))
    await failure(script.client(max_retries=50))
    assert all(6 <= wait <= 8 for wait in script.waits[4:])
    assert len(set(script.waits[4:])) > 10


async def test_the_policy_says_how_long_and_for_what(no_jitter: None) -> None:
    script = Script(Response(500))
    policy = RetryPolicy(wait_initial=1, wait_max=3, statuses={500})
    await failure(script.client(retry=policy, max_retries=3))
    assert script.waits == [1, 2, 3]
    script = Script(Response(503))
    await failure(script.client(retry=policy))
    assert script.waits == []


async def test_the_default_hook_really_waits() -> None:
    answers = [Response(500), Response(200, json=1)]
    client = AsyncAPIClient(
        base_url="http://h",
        http_client=MockTransport(lambda request: answers.pop(0)),
        retry=RetryPolicy(wait_initial=0.1, wait_jitter=0),
    )
    began = anyio.current_time()
    assert await call(client) == 1
    assert 0.09 < anyio.current_time() - began < 2


# --- advice of the server ------------------------------------------------------------------------------------------


def date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After-Ms": "0.5", "retry-after": "7"}, 0.001),  # 0.0005, rounded by the script
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7.25"}, 7.25),
        ({"retry-after": "120"}, 120),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7),
        ({"retry-after-ms": "-5", "retry-after": "7"}, 7),
        ({"retry-after-ms": "0", "retry-after": "7"}, 7),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1e1"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_servers_delay_is_used_as_it_is(
    no_jitter: None, headers: dict[str, str], wait: float | None, status: int
) -> None:
    script = Script(Response(status, headers=headers), Response(200, json=1))
    assert await call(script.client()) == 1
    assert script.waits == [pytest.approx(0.5 if wait is None else wait, abs=0.0006)]

    script = Script(Response(status, headers=headers))
    error = await failure(script.client(), max_retries=0)
    assert error.retry_after == (None if wait is None else pytest.approx(wait, abs=0.0006))


async def test_a_date_is_a_delay_too() -> None:
    script = Script(Response(503, headers={"retry-after": date(10)}), Response(200, json=1))
    assert await call(script.client()) == 1
    assert 8 < script.waits[0] <= 10


@pytest.mark.parametrize("advice", ["121", "120.5", "1000000"])
async def test_a_longer_delay_than_we_wait_ends_the_call_at_once(advice: str) -> None:
    script = Script(Response(429, headers={"retry-after": advice}))
    error = await failure(script.client())
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, len(script.requests)) == (float(advice), 1)


async def test_a_wait_past_the_deadline_is_not_begun() -> None:
    script = Script(Response(429, headers={"retry-after": "3"}))
    error = await failure(script.client(deadline=2))
    assert (error.retry_after, error.status_code, len(script.requests)) == (3, 429, 1)
    script = Script(Response(500))
    error = await failure(script.client(deadline=0.2))
    assert (error.status_code, len(script.requests)) == (500, 1)


async def test_advice_stands_on_errors_that_are_not_retried() -> None:
    error = await failure(Script(Response(404, headers={"retry-after": "3"})).client())
    assert error.retry_after == 3


# --- no answer -----------------------------------------------------------------------------------------------------

ALWAYS = {Outcome.NOT_SENT, Outcome.REFUSED}
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("method", [*IDEMPOTENT, "POST", "PATCH", "QUERY"])
async def test_the_outcome_and_the_method_decide(method: str, outcome: Outcome) -> None:
    script = Script(ConnectionLostError("lost", phase=Phase.RECEIVE, outcome=outcome))
    error = await failure(script.client(), method)
    expected = 3 if outcome in ALWAYS or method in IDEMPOTENT else 1
    assert len(script.requests) == expected
    assert len(error.attempts) == expected
    assert {(a.error, a.phase, a.outcome) for a in error.attempts} == {
        ("ConnectionLostError: lost", Phase.RECEIVE, outcome)
    }
    assert error.request is not None and error.request.method == method


@pytest.mark.parametrize("cls", [ConnectTimeoutError, ReadTimeoutError, APITimeoutError, APIConnectionError])
async def test_the_name_of_the_error_does_not(cls: type[APIConnectionError]) -> None:
    for outcome, attempts in ((Outcome.NOT_SENT, 3), (Outcome.UNKNOWN, 1)):
        script = Script(cls(outcome=outcome))
        await failure(script.client(), "POST")
        assert len(script.requests) == attempts


async def test_what_makes_a_post_safe() -> None:
    lost = ConnectionLostError("lost", outcome=Outcome.UNKNOWN)
    for client, options, attempts in [
        (AsyncAPIClient, {}, 1),
        (Safe, {}, 3),
        (AsyncAPIClient, {"idempotency_key": "k"}, 3),
        (AsyncAPIClient, {"headers": {"IDEMPOTENCY-key": "k"}}, 3),
        (Safe, {"idempotency_key": None}, 1),
        (Safe, {"headers": {"idempotency-key": omit}}, 1),
    ]:
        script = Script(lost)
        await failure(script.client(client), "POST", **options)
        assert len(script.requests) == attempts, (client, options)
    script = Script(lost)
    await failure(script.client(retry=RetryPolicy(retry_unsafe=True)), "POST")
    assert len(script.requests) == 3


async def test_a_lost_body_is_an_attempt_that_failed() -> None:
    def broken() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"1"
            raise ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED)

        return Response(200, content=body())

    script = Script(broken, Response(200, json=2))
    assert await call(script.client()) == 2
    script = Script(broken)
    error = await failure(script.client(), "POST")
    assert (len(script.requests), error.attempts[0].status_code) == (1, 200)


@pytest.mark.parametrize(
    "error",
    [
        LocalProtocolError("no", outcome=Outcome.NOT_SENT),
        ContentDecodingError("no", outcome=Outcome.ANSWERED),
        DeadlineExceededError("no", outcome=Outcome.NOT_SENT),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_never_retried(error: APIConnectionError) -> None:
    script = Script(error)
    raised = await failure(script.client())
    assert type(raised) is type(error)
    assert len(script.requests) == 1
    assert len(raised.attempts) == 1


@pytest.mark.parametrize("error", [OSError("x"), ValueError("x"), TimeoutError("x"), ConnectionResetError("x")])
async def test_exceptions_of_others_come_out_unretried(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        await call(script.client())
    assert caught.value is error
    assert len(script.requests) == 1


async def test_what_does_not_decode_is_not_retried() -> None:
    script = Script(Response(200, content=b"{", headers={"Content-Type": "application/json"}))
    error = await failure(script.client())
    assert isinstance(error, APIResponseValidationError)
    assert (len(script.requests), len(error.attempts)) == (1, 1)
    script = Script(Response(200, content=b"no gzip", headers={"Content-Encoding": "gzip"}))
    assert isinstance(await failure(script.client()), ContentDecodingError)
    assert len(script.requests) == 1


async def test_an_error_body_that_fails_does_not_change_the_error() -> None:
    def broken(raised: Exception | None) -> Callable[[], Response]:
        async def body() -> AsyncIterator[bytes]:
            yield b"what was"
            if raised is not None:
                raise raised
            await anyio.sleep(60)

        return lambda: Response(418, content=body())

    for raised in (ConnectionLostError("lost"), ReadTimeoutError("slow"), None):
        error = await failure(Script(broken(raised)).client(deadline=0.1))
        assert (error.status_code, error.body) == (418, "what was")
    # One that fails while it is thrown away does no harm either.
    script = Script(broken(None), Response(200, json=1))
    script.answers[0] = lambda: Response(500, content=broken(ConnectionLostError("lost"))()._raw)
    assert await call(script.client()) == 1


async def test_a_body_that_cannot_be_made_again_is_sent_once() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"

    for content, attempts in ((pieces(), 1), (pieces, 3), ([b"a"], 3), (b"a", 3)):
        script = Script(Response(503))
        await failure(script.client(), "PUT", content=content)
        assert len(script.requests) == attempts
        assert {request.content for request in script.requests} == {b"a"}


# --- counting ------------------------------------------------------------------------------------------------------


async def test_the_count_may_be_overridden_left_out_or_renamed() -> None:
    script = Script(Response(500))
    await failure(script.client(), headers={"X-Stainless-Retry-Count": "9"})
    assert script.counts == ["9"] * 3
    script = Script(Response(500))
    await failure(script.client(custom_headers={"X-Stainless-Retry-Count": omit}))
    assert script.counts == [None] * 3

    class Renamed(AsyncAPIClient):
        retry_count_header = "X-Tries"

    class Without(AsyncAPIClient):
        retry_count_header = None

    script = Script(Response(500))
    await failure(script.client(Renamed))
    assert [request.headers["x-tries"] for request in script.requests] == ["0", "1", "2"]
    script = Script(Response(500))
    await failure(script.client(Without))
    assert script.counts == [None] * 3


async def test_a_budget_that_is_half_spent_lets_errors_pass() -> None:
    budget = RetryBudget(max_tokens=8, token_ratio=1)
    script = Script(Response(500))
    clients = [script.client(retry=RetryPolicy(budget=budget)) for _ in range(2)]
    await failure(clients[0])
    await failure(clients[1])
    assert len(script.requests) == 4  # 8 -> 5 with three failures, then 4: half
    good = Script(Response(200, json=1))
    for _ in range(3):
        await call(good.client(retry=RetryPolicy(budget=budget)))
    await failure(clients[0])
    assert len(script.requests) == 7  # 7 -> 6 -> 5 retried, 4 is the last


# --- idempotency keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "method", "options", "expected"),
    [
        (None, "POST", {}, None),
        ("Idempotency-Key", "POST", {}, "generated"),
        ("Idempotency-Key", "PATCH", {}, "generated"),
        ("Idempotency-Key", "PUT", {}, None),
        ("Idempotency-Key", "GET", {}, None),
        ("Idempotency-Key", "DELETE", {}, None),
        ("Idempotency-Key", "GET", {"idempotency_key": "k"}, "k"),
        (None, "GET", {"idempotency_key": "k"}, "k"),
        (None, "POST", {"idempotency_key": "k"}, "k"),
        ("Idempotency-Key", "POST", {"idempotency_key": None}, None),
        ("Idempotency-Key", "POST", {"headers": {"idempotency-key": "mine"}}, "mine"),
        ("Idempotency-Key", "POST", {"idempotency_key": None, "headers": {"idempotency-key": "mine"}}, "mine"),
        ("Idempotency-Key", "POST", {"headers": {"idempotency-key": omit}}, None),
        ("Idempotency-Key", "POST", {"idempotency_key": "k", "headers": {"idempotency-key": omit}}, "k"),
    ],
)
async def test_which_key_is_sent(
    header: str | None, method: str, options: dict[str, Any], expected: str | None
) -> None:
    cls = type("Client", (AsyncAPIClient,), {"idempotency_header": header})
    script = Script(Response(500))
    await failure(script.client(cls), method, **options)
    assert len(set(script.keys)) == 1  # the same on every attempt
    key = script.keys[0]
    if expected == "generated":
        assert key and len(key) > 20
        again = Script(Response(200, json=1))
        await call(again.client(cls), method, **options)
        assert again.keys[0] != key
    else:
        assert key == expected


async def test_the_key_has_the_name_that_the_client_says() -> None:
    class Client(AsyncAPIClient):
        idempotency_header = "X-Request-Token"

    script = Script(ConnectionLostError("lost"))
    await failure(script.client(Client), "POST")
    assert len({request.headers["x-request-token"] for request in script.requests}) == 1
    assert script.keys == [None] * 3
    script = Script(ConnectionLostError("lost"))
    await failure(script.client(Client), "POST", idempotency_key="k")
    assert [request.headers["x-request-token"] for request in script.requests] == ["k"] * 3


async def test_status_errors_are_status_errors() -> None:
    error = await failure(Script(Response(500)).client())
    assert isinstance(error, APIStatusError)
    assert error.response.status_code == 500
