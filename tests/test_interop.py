"""HTTP/2 with servers that are not ours: nginx, Node, Hypercorn. `make interop` asks more of them, and more of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import trustme

from tests.kit import interop
from tests.kit.interop_checks import CHECKS, LIMIT, SHORT, Check, Place, run

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

SERVERS = ["nginx", "node", "hypercorn"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=SERVERS)
def place(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Place]:
    name: str = request.param
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(interop.start(name, authority))
        limited = None
        if interop.SERVERS[name].limits_requests:
            limited = stack.enter_context(interop.start(name, authority, requests_per_connection=LIMIT))
        yield Place(server, limited, SHORT)


@pytest.mark.parametrize("check", [pytest.param(CHECKS[name], id=name) for name in CHECKS if name != "soak"])
async def test_a_server_that_is_not_ours(place: Place, check: Check) -> None:
    if check.is_offered(place.server):
        await run(check, place)
