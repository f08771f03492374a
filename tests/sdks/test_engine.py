"""The SDKs of Anthropic and of OpenAI, as they are installed, over our connections, with Hypercorn.

`make sdks` runs the same on every loop, and beside it the SDKs' own transport.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from tests.kit.sdk_server import SDKServer, start
from tests.sdks.engine_checks import CHECKS, Check, Place, run
from tests.sdks.engine_dialects import DIALECTS

pytest.importorskip("anyio_client.contrib.httpx2")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    # They leave their own generators to the garbage collector, of which trio warns: openai's after "[DONE]", both SDKs'
    # where a stream is left early. A generator of ours would not be excused.
    pytest.mark.filterwarnings("ignore:Async generator '(anthropic|openai|httpx2)[.]:ResourceWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[SDKServer]:
    with start(trustme.CA()) as server:
        yield server


ROWS = [
    pytest.param(CHECKS[name], version == "2", id=f"{name}-http{version[0]}")
    for version in ("1.1", "2")
    for name in CHECKS.of(version)
]


@pytest.mark.parametrize("sdk", list(DIALECTS))
@pytest.mark.parametrize(("check", "http2"), ROWS)
async def test_an_sdk_over_our_connections(server: SDKServer, check: Check, sdk: str, http2: bool) -> None:
    await run(check, Place(server, DIALECTS[sdk], http2))
