"""OAuth 2.0 client credentials: whoever fetches the token is cancelled, natively or by a scope."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from anyio_client import (
    AsyncAPIClient,
    DeadlineExceededError,
    HTTPTransport,
    Limits,
    MockTransport,
    OAuth2ClientCredentials,
    Request,
    Response,
    Timeout,
)
from anyio_client._core.oauth2 import Token
from tests.front.test_tokens import Gate, client_of, credentials, get
from tests.io.test_cancellation import SETTINGS
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import serve
from tests.kit.tokens import Guarded, token

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> tuple[Any, How]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def anyio_backend(setting: tuple[Any, How]) -> Any:
    return setting[0]


@pytest.fixture
def how(setting: tuple[Any, How]) -> How:
    return setting[1]


async def test_whoever_fetches_is_cancelled_and_another_goes_on(how: How) -> None:
    gate = Gate(token("lost"))
    script = Guarded(gate, token("t"))
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            results: list[str] = []
            scope = anyio.CancelScope()
            native: list[asyncio.Task[Any]] = []

            async def first() -> None:
                if how == "native":
                    native.append(asyncio.ensure_future(get(client)))
                    await asyncio.wait(native)
                else:
                    with scope:
                        await get(client)

            async def other() -> None:
                results.append(await get(client))

            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(first)
                    await gate.wait_reached()
                    for _ in range(10):
                        tasks.start_soon(other)
                    await anyio.wait_all_tasks_blocked()
                    for task in native:
                        task.cancel()
                    scope.cancel()
            gate.opened.set()
            assert all(task.cancelled() for task in native)
    assert results == ["Bearer t"] * 10
    assert len(script.asked) == 2


@pytest.mark.parametrize("kind", ["fetch", "refused"])
async def test_cancelled_at_every_checkpoint(kind: str, how: How) -> None:
    """Of a call that must get a token, or a new one after a 401: the next call is served, nothing is left behind."""
    script = Guarded(token("t"), valid={"t"})
    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with client_of(server, None, http_client=transport, timeout=Timeout(5, pool=5)) as parent:
            await parent.with_options(auth="t").get("/a", cast_to=str)
            sockets, tasks = open_sockets(), task_count()
            n, goes_on = 0, True
            while goes_on:
                n += 1
                auth = credentials(server)
                if kind == "refused":
                    auth._token = Token("revoked")
                client = parent.with_options(auth=auth)
                with anyio.fail_after(10):
                    goes_on = await cancelled_at(n, how, lambda client=client: get(client))
                    assert auth._flight is None
                    assert await get(client) == "Bearer t"
            assert n > 4
            assert task_count() == tasks
            assert settled_sockets(sockets) <= sockets


async def test_a_deadline_that_the_transport_notices_is_the_fetching_calls_own() -> None:
    """The transport keeps the deadline too, and may be first."""
    asked = 0

    async def handler(request: Request) -> Response:
        nonlocal asked
        if request.url.path != "/token":
            return Response(200, json=request.headers["authorization"])
        asked += 1
        if asked == 1:
            await anyio.wait_all_tasks_blocked()
            raise DeadlineExceededError("the deadline passed")
        return Response(200, json={"access_token": "t", "token_type": "Bearer"})

    results: list[str] = []
    auth = OAuth2ClientCredentials("http://h/token", "id", "s3cret")
    async with AsyncAPIClient(
        base_url="http://h", http_client=MockTransport(handler), auth=auth, max_retries=0
    ) as client:

        async def one() -> None:
            try:
                results.append(await get(client))
            except DeadlineExceededError:
                results.append("deadline")

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
    assert sorted(results) == ["Bearer t"] * 4 + ["deadline"]
    assert asked == 2
