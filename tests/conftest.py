"""Backends: every async test runs on asyncio, on asyncio with uvloop, and on trio."""

from __future__ import annotations

import gc
import os
import re
import sys
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.leaks import open_sockets, settled_sockets

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.platform != "win32":
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))

# A machine behind a proxy tests the same as any other.
for name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]:
    del os.environ[name]

settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# For `make mutants`, where every test runs thousands of times: the named cases find most faults.
settings.register_profile("mutants", settings.get_profile("tests"), max_examples=30)
# For `make fuzz`: another seed each time; it is printed, and given again it repeats the run.
settings.register_profile("fuzz", settings.get_profile("tests"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


modules = len(sys.modules)


@pytest.fixture(autouse=True)
def nothing_left_to_collect(request: pytest.FixtureRequest) -> Iterator[None]:
    """What an async test dropped is collected inside it, so that its ResourceWarning is that test's failure."""
    global modules
    yield
    if "anyio_backend" in request.fixturenames:
        gc.collect()
        if len(sys.modules) > modules:  # what was imported is kept for good: later collections need not look at it
            modules = len(sys.modules)
            gc.freeze()


@pytest.fixture
def no_socket_is_left() -> Iterator[None]:
    """For modules that count: as many sockets are open after each test as were before it."""
    before = open_sockets()
    yield
    assert settled_sockets(before) <= before


def _is_left_out(item: pytest.Item) -> bool:
    loop = re.search(r"\b(asyncio|uvloop|trio)\b", item.name)
    if loop is None:
        return False
    row = zlib.crc32(item.nodeid.replace(loop[1], "").encode())
    if item.get_closest_marker("spread"):
        return loop[1] != ("asyncio", "uvloop", "trio")[row % 3]
    # These rooms do not know which loop of asyncio runs.
    room = item.path.parent.name
    return loop[1] == "uvloop" and row % {"front": 4, "contrib": 4, "transports": 4, "io": 2}.get(room, 1) != 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every fourth test of the front rooms, doors and leaves, and every other one of the engine room, runs on uvloop, and long tables marked "spread" have each row on one loop.

    ALL_LOOPS=1 runs everything everywhere, as `make test-all` does.
    """
    if os.environ.get("ALL_LOOPS"):
        return
    left_out = {item for item in items if _is_left_out(item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """What collecting made is kept for good: the collections above need not look at it."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names without addresses: every worker must collect the same ones."""
    if callable(val) and hasattr(val, "__name__"):
        return None
    compressed = isinstance(val, bytes) and val.startswith(b"\x1f\x8b")  # gzip writes the time
    return argname if compressed or " at 0x" in repr(val) else None
