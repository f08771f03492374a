"""Credentials: those of a netrc file, and what middleware sees of a 401 that asks for fresh ones."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from anyio_client import (
    APIConnectionError,
    APIError,
    AsyncAPIClient,
    AuthenticationError,
    BadRequestError,
    BasicAuth,
    BearerAuth,
    ConnectError,
    Middleware,
    Request,
    Response,
)
from tests.front.test_auth import NO, Provider, client_of, sent
from tests.kit.peers import answer_each, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


class Failing:
    """Has a key at once, and no other."""

    def __init__(self, error: Exception, key: str | None = "k") -> None:
        self.error = error
        self.key = key

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        return None if self.key is None else {"X-Key": self.key}

    async def refresh(self, send: Any, response: Response | None) -> None:
        raise self.error


# --- netrc ------------------------------------------------------------------------------------------------------------

NETRC = "machine h login u password s3cret\nmachine bare login u\ndefault login any password other\n"


@pytest.mark.parametrize(("host", "pair"), [("h", b"u:s3cret"), ("bare", b"u:"), ("else", b"any:other")])
def test_netrc(tmp_path: pathlib.Path, host: str, pair: bytes) -> None:
    file = tmp_path / "rc"
    file.write_text(NETRC)
    for path in (file, str(file)):
        auth = BasicAuth.from_netrc(host, path)
        assert auth.constant == {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        assert "s3cret" not in repr(auth)


def test_netrc_of_the_user_is_read_when_asked_and_not_before(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"\.netrc' cannot be used: No such file or directory"):
        BasicAuth.from_netrc("h")
    (tmp_path / ".netrc").write_text(NETRC.partition("default")[0])
    assert BasicAuth.from_netrc("h").constant == {"Authorization": "Basic dTpzM2NyZXQ="}
    with pytest.raises(ValueError, match="says nothing of 'other'"):
        BasicAuth.from_netrc("other")
    assert "Authorization" not in AsyncAPIClient(base_url="http://h").default_headers


@pytest.mark.parametrize("text", ["machine", "password s3cret", "machine h login u:v password s3cret"])
def test_a_netrc_that_is_none(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "rc").write_text(text)
    with pytest.raises(ValueError) as caught:
        BasicAuth.from_netrc("h", tmp_path / "rc")
    assert "s3cret" not in str(caught.value)


# --- middleware -------------------------------------------------------------------------------------------------------


async def test_an_attempt_ring_sees_only_the_last_answer() -> None:
    seen: list[int] = []

    async def look(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        seen.append(response.status_code)
        return response

    with serve(answer_each(NO, ok(), NO, NO)) as server:
        async with client_of(server, BearerAuth(Provider()), middleware=[look]) as client:
            await client.get("/a", cast_to=object)
            with pytest.raises(AuthenticationError) as caught:
                await client.get("/a", cast_to=object)
    assert seen == [200, 401]
    assert len(caught.value.attempts) == 1
    assert sent(server) == [f"Bearer k{n}" for n in (1, 2, 3, 4)]


def connect_error(retryable: bool) -> ConnectError:
    error = ConnectError("away")
    error.retryable = retryable
    return error


@pytest.mark.parametrize("ring", ["none", "attempt", "call"])
@pytest.mark.parametrize(
    ("make", "raised", "attempts"),
    [
        (lambda: connect_error(False), ConnectError, 1),
        (lambda: connect_error(True), AuthenticationError, 2),  # a call refreshes once: the second 401 is the answer
        (lambda: APIError("of ours"), APIError, 1),
        (lambda: KeyError("mine"), KeyError, 1),
    ],
)
async def test_a_refresh_that_fails_in_a_ring(
    ring: str, make: Callable[[], Exception], raised: type[Exception], attempts: int
) -> None:
    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    class Around(Middleware):
        async def around_call(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    layers: list[Any] = {"none": [], "attempt": [pass_on], "call": [Around()]}[ring]
    error = make()
    with serve(answer_each(NO)) as server:
        async with client_of(server, Failing(error), middleware=layers) as client:
            with pytest.raises(raised) as caught:
                await client.get("/a", cast_to=object)
    assert (caught.value is error) is (raised is not AuthenticationError)
    if isinstance(caught.value, APIError) and raised is not APIError:
        assert len(caught.value.attempts) == attempts
    assert len(server.requests) == attempts


@pytest.mark.parametrize(
    ("given", "result"), [(lambda: Response(200, json=5), 5), (lambda: 7, 7), (lambda: Response(400), BadRequestError)]
)
async def test_a_middleware_that_has_an_answer_of_its_own(given: Callable[[], Any], result: Any) -> None:
    async def swallow(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception:
            return given()

    with serve(answer_each(NO)) as server:
        async with client_of(server, Failing(ConnectError("away")), middleware=[swallow]) as client:
            if isinstance(result, int):
                assert await client.get("/a", cast_to=int) == result
            else:
                with pytest.raises(result):
                    await client.get("/a", cast_to=int)
    assert len(server.requests) == 1


async def test_a_failure_to_get_credentials_is_a_connection_error_with_a_request() -> None:
    async with AsyncAPIClient(base_url="http://h", auth=Failing(ConnectError("x"), None), max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.post("/a", cast_to=object)
    assert caught.value.outcome == "not_sent"
    assert caught.value.request is not None
