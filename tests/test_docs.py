"""What the documents show is run."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    match = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert match
    return match[1]


def run(code: str, *arguments: str, cwd: pathlib.Path = ROOT) -> str:
    """What the code prints, in a process of its own, in which every warning is an error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # The first client imports what a call needs, which on a busy machine is slow enough for asyncio's debug mode to say so.
    said = re.sub(r"^Executing <Task .* took 0\.[0-9]+ seconds\n", "", done.stderr, flags=re.MULTILINE)
    assert done.returncode == 0 and not said, said
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


# What shows Python for people to run; docs/design.md is about the library itself.
PAGES = sorted(
    path.name for path in (ROOT / "docs").glob("*.md") if path.name not in ("design.md", "http2.md", "benchmarks.md")
)

# Runs the blocks of one page in one namespace. Each is compiled at its place in the file, so that a traceback names it.
RUNNER = r"""
def run_page():
    import logging, pathlib, re, sys
    # -X dev lets asyncio report what holds up its loop for 0.1 s: a busy machine does, whatever the page says.
    logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
    page, backend = sys.argv[1:]
    text = pathlib.Path(page).read_text()
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        code = block[1]
        if backend == "trio":
            code = re.sub(r"anyio\.run\((\w+)\)", r'anyio.run(\1, backend="trio")', code)
        exec(compile("\n" * text.count("\n", 0, block.start(1)) + code, page, "exec"), globals())

run_page()
"""


def blocks_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(page: str, backend: str, tmp_path: pathlib.Path) -> None:
    assert blocks_of(page)
    run(RUNNER, str(ROOT / "docs" / page), backend, cwd=tmp_path)


def test_the_tutorial_begins_with_the_readmes_sdk() -> None:
    assert blocks_of("tutorial.md")[0] == example("sdk")


def test_the_tutorials_sdk_is_typed(tmp_path: pathlib.Path) -> None:
    sdk = max(blocks_of("tutorial.md"), key=len)
    assert 150 <= len(sdk.splitlines()) <= 220
    (tmp_path / "petstore.py").write_text(sdk)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={tmp_path / 'cache'}",
            "petstore.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYTHONDEVMODE": "", "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_test_file_of_the_page_about_testing_passes(tmp_path: pathlib.Path) -> None:
    (block,) = [block for block in blocks_of("howto-testing.md") if block.startswith("# test_pets.py")]
    (tmp_path / "test_pets.py").write_text(block)
    printed = run("import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))", cwd=tmp_path)
    assert "2 passed" in printed


@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_the_links_of_the_page_lead_somewhere(page: str) -> None:
    path = ROOT / "docs" / page
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text())
    for target, anchor in links:
        if target.startswith(("http:", "https:")):
            continue
        found = path.parent / target if target else path
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_every_test_that_the_table_of_http2_names_exists() -> None:
    root = pathlib.Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", (root.parent / "docs" / "http2.md").read_text()))
    files = [*(root / "wire").glob("*.py"), *(root / "io").glob("*.py")]
    there = {name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert len(named) > 40
    assert named - there == set()
