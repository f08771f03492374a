"""Proxies that are not ours: squid and microsocks. `make proxies` asks more of them, and of more of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from tests.kit import real_proxies
from tests.kit.proxy_checks import CHECKS, MODES, Mode, Place, is_offered, run
from tests.kit.proxy_origin import Origin, origin
from tests.kit.real_proxies import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

PROXIES = ["squid+auth", "socks5h+auth"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Proxy]:
    with real_proxies.start(request.param, authority) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def recorded(authority: trustme.CA) -> Iterator[Origin]:
    with origin(authority) as started:
        yield started


@pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in ("http", "h2")])
@pytest.mark.parametrize("check", CHECKS)
async def test_a_proxy_that_is_not_ours(proxy: Proxy, recorded: Origin, mode: Mode, check: str) -> None:
    if is_offered(check, proxy):
        await run(check, Place(proxy, mode, recorded))
