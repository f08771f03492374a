"""What the documents show is run."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    match = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert match
    return match[1]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_first_example_prints_what_it_says() -> None:
    shown = re.search(r"<!-- output: offline -->\n```\n(.*?)```", README, re.DOTALL)
    assert shown
    assert run(example("offline")) == shown[1]
    trio = example("offline").replace("anyio.run(main)", 'anyio.run(main, backend="trio")')
    assert run(trio) == shown[1]


def test_the_readmes_sdk_works() -> None:
    use = """
import anyio
from anyio_client import MockTransport, Response

def server(request):
    if request.method == "POST":
        assert request.headers["idempotency-key"]
        return Response(json={"id": 2, **request.json()})
    if request.url.path.endswith("/watch"):
        text = 'data: {"id": 1, "name": "Ada"}\\n\\ndata: [DONE]\\n\\n'
        return Response(headers={"Content-Type": "text/event-stream"}, content=text)
    if request.url.path.endswith("/pets"):
        if "cursor" in request.url.query:
            return Response(json={"data": [{"id": 2, "name": "Bo"}], "next_cursor": None})
        return Response(json={"data": [{"id": 1, "name": "Ada"}], "next_cursor": "x"})
    return Response(json={"id": 1, "name": "Ada"})

async def main():
    async with PetStore(base_url="https://pets.example", http_client=MockTransport(server)) as client:
        assert await client.pets.retrieve(1) == Pet(1, "Ada")
        assert await client.pets.create("Bo") == Pet(2, "Bo")
        assert [pet.name async for pet in client.pets.list()] == ["Ada", "Bo"]
        async with await client.pets.watch() as pets:
            print([pet async for pet in pets])

anyio.run(main)
"""
    assert run(example("sdk") + use) == "[Pet(id=1, name='Ada')]\n"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len([line for line in example("sdk").splitlines() if line.strip()]) <= 28


def test_the_tables_of_the_design_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_diagrams.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_of_the_guide_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    run("\n".join(blocks))
