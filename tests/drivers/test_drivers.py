"""Two drivers, one machine: the blocking and the async one write the same transcripts."""

from __future__ import annotations

import pathlib
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anyio_client import APIConnectionError, APIStatusError, AsyncAPIClient, RetryPolicy
from tests.drivers.blocking import BlockingClient, StatusError
from tests.kit.peers import Peer, Script, answer_each, ok, serve

pytestmark = pytest.mark.anyio


@attrs.define
class Item:
    id: int
    name: str


ITEM = ok(b'{"id": 1, "name": "a"}')
FAILED = ok(b'{"message": "no"}', status="500 No")


def dies(*when: int) -> Callable[[], Script]:
    """A server whose connections close without an answer at these requests (counted over all connections)."""

    def make() -> Script:
        def script(peer: Peer) -> None:
            while peer.read_request():
                if len(peer.server.requests) in when:
                    return
                peer.send(ITEM)

        return script

    return make


def cut_body() -> Script:
    def script(peer: Peer) -> None:
        while peer.read_request():
            if len(peer.server.requests) == 1:
                peer.send(ITEM[:-3])
                return
            peer.send(ITEM)

    return script


# name -> a fresh script, the calls
SCENARIOS: dict[str, tuple[Callable[[], Script], list[tuple[str, Any]]]] = {
    "good": (lambda: answer_each(ITEM), [("GET", None), ("POST", {"a": 1})]),
    "500, 500, 200": (lambda: answer_each(FAILED, FAILED, ITEM), [("GET", None)]),
    "500, 500, 500": (lambda: answer_each(FAILED), [("POST", {"a": 1})]),
    "404": (lambda: answer_each(ok(status="404 No")), [("GET", None)]),
    "a delay": (lambda: answer_each(ok(status="429 No", headers="retry-after-ms: 20\r\n"), ITEM), [("POST", {})]),
    "too long a delay": (lambda: answer_each(ok(status="429 No", headers="Retry-After: 100000\r\n")), [("GET", None)]),
    "x-should-retry": (lambda: answer_each(ok(status="500 No", headers="x-should-retry: false\r\n")), [("GET", None)]),
    "GET lost": (dies(1), [("GET", None)]),
    "POST lost": (dies(1), [("POST", {"a": 1})]),
    "dead idle GET": (dies(2), [("GET", None), ("GET", None)]),
    "dead idle POST": (dies(2), [("GET", None), ("POST", {})]),
    "a body cut": (cut_body, [("GET", None)]),
    "garbage": (lambda: answer_each(b"garbage\r\n\r\n"), [("POST", {})]),
    "close after each": (
        lambda: answer_each(ok(b'{"id": 1, "name": "a"}', headers="Connection: close\r\n")),
        [("GET", None)] * 3,
    ),
}


def without_times(value: Any) -> Any:
    """An event or a command as plain values: times and the texts of errors removed, errors by class."""
    if isinstance(value, APIConnectionError):
        return (type(value).__name__, value.phase, value.outcome)
    if isinstance(value, tuple | list):
        return [without_times(item) for item in value]
    if isinstance(value, str):
        return re.sub(r": .*", "", value, flags=re.DOTALL)
    if attrs.has(type(value)):
        fields = {f.name: getattr(value, f.name) for f in attrs.fields(type(value))}
        for name in ("now", "posix_now", "started", "elapsed"):
            fields.pop(name, None)
        return (type(value).__name__, {name: without_times(item) for name, item in fields.items()})
    return value


@pytest.mark.parametrize("name", SCENARIOS)
async def test_both_drivers_write_the_same_transcript(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, calls = SCENARIOS[name]
    transcripts: list[Any] = []
    results: list[list[Any]] = []
    seen: list[list[bytes]] = []
    port = re.compile(rb"Host: [^\r]*")

    with serve(make()) as peer:
        recorded: list[Any] = []
        monkeypatch.setattr(random, "random", random.Random(7).random)
        async with AsyncAPIClient(base_url=peer.url, retry=RetryPolicy(wait_initial=0.01)) as client:
            client._record = lambda event, command: recorded.append((event, command))
            headers = dict(client.default_headers)
            outcome: list[Any] = []
            for method, body in calls:
                try:
                    outcome.append(await client.request(Item, {"method": method, "url": "/x", "json_data": body}))
                except APIStatusError as exc:
                    outcome.append((exc.status_code, exc.retry_after, len(exc.attempts)))
                except APIConnectionError as exc:
                    outcome.append(without_times(exc))
        results.append(outcome)
        transcripts.append(without_times(recorded))
        seen.append([port.sub(b"", request) for request in peer.requests])

    with serve(make()) as peer:
        blocking = BlockingClient(peer.url, headers=headers, random=random.Random(7).random)
        outcome = []
        for method, body in calls:
            try:
                outcome.append(blocking.request(method, "/x", Item, body=body))
            except StatusError as exc:
                outcome.append((exc.status_code, exc.retry_after, len(exc.attempts)))
            except APIConnectionError as exc:
                outcome.append(without_times(exc))
        blocking.close()
        results.append(outcome)
        transcripts.append(without_times(blocking.transcript))
        seen.append([port.sub(b"", request) for request in peer.requests])

    def hostless(value: Any) -> str:
        return re.sub(r"127\.0\.0\.1:\d+", "", repr(value))

    assert results[0] == results[1]
    assert [hostless(pair) for pair in transcripts[0]] == [hostless(pair) for pair in transcripts[1]]
    assert seen[0] == seen[1]


def test_the_blocking_driver_is_short_and_needs_no_event_loop() -> None:
    path = pathlib.Path(__file__).parent / "blocking.py"
    assert len(path.read_text().splitlines()) < 150
    code = (
        "import sys, tests.drivers.blocking; print(sorted({'anyio', 'trio', 'asyncio', 'sniffio'} & set(sys.modules)))"
    )
    root = pathlib.Path(__file__).parent.parent.parent
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "[]"
