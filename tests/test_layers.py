"""Imports point down only (docs/design.md, "The rooms"); the sans-IO rooms stay sans-IO."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "anyio_client"

# room -> the rooms that it may import
ALLOWED = {
    "_model": {"_model"},
    "_core": {"_model", "_core"},
    "_wire": {"_model", "_wire"},
    "_io": {"_model", "_core", "_wire", "_io"},
    "transports": {"_model", "_core", "_wire", "_io", "transports"},
    "sansio": {"_model", "_core", "_wire"},
    "front": {"_model", "_core", "_wire", "_io", "transports", "front"},
    "contrib": {"_model", "_core", "_wire", "_io", "transports", "front", "contrib"},
}
# room -> the packages outside the standard library that it may import
OUTSIDE = {
    "_model": {"attrs", "idna"},
    "_core": {"attrs"},
    "_wire": {"attrs", "h11", "h2", "hpack"},
    "_io": {"anyio", "attrs"},
    "transports": {"anyio", "trio"},
    "sansio": set[str](),
    "front": {"anyio", "attrs"},
    "contrib": {"anyio", "attrs", "httpx", "httpx2", "truststore"},
}
ONLY_IN = {
    "cattrs": {"_convert", "_client.py", "_configuration.py"},
    "h11": {"h11wire.py", "tunnel.py"},
    "h2": {"h2.py"},
    "hpack": {"fields.py", "compression.py"},
    "trio": {"_asgi.py"},
    "httpx": {"httpx.py"},
    "httpx2": {"httpx2.py"},
    "truststore": {"truststore.py"},
}
FORBIDDEN_STDLIB = {"asyncio", "socket", "ssl", "select", "selectors", "threading", "subprocess"}


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module, given its path below the package, without .py."""
    if not parts or parts == ("__init__",):
        return "front"
    return parts[0] if parts[0] in ALLOWED else "front"


def imports_of(source: str, parts: tuple[str, ...]) -> list[tuple[str, str]]:
    """``(room, outside package)`` pairs, one of them empty; imports for type checkers only are not counted."""
    tree = ast.parse(source)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(n for child in node.body for n in ast.walk(child))
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.extend(("", alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.append(("", (node.module or "").partition(".")[0]))
                continue
            base = parts[: len(parts) - node.level]
            module = tuple((node.module or "").split(".")) if node.module else ()
            if module:
                found.append((room_of((*base, *module)), ""))
            else:
                found.extend((room_of((*base, alias.name)), "") for alias in node.names)
    return found


def problems_of(source: str, parts: tuple[str, ...]) -> list[str]:
    room = room_of(parts)
    file = parts[-1] + ".py"
    problems: list[str] = []
    for target, package in imports_of(source, parts):
        if target and target not in ALLOWED[room]:
            problems.append(f"{'/'.join(parts)}: {room} imports {target}, which is above or beside it")
        if package in sys.stdlib_module_names:
            if room in ("_model", "_core", "_wire", "sansio") and package in FORBIDDEN_STDLIB:
                problems.append(f"{'/'.join(parts)}: {package} does I/O")
        elif package and package not in OUTSIDE[room]:
            if package not in ONLY_IN:
                problems.append(f"{'/'.join(parts)}: {room} imports {package}")
        if package in ONLY_IN and not {file, parts[0]} & ONLY_IN[package]:
            problems.append(f"{'/'.join(parts)}: {package} belongs into {sorted(ONLY_IN[package])}")
    return problems


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: pathlib.Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    assert problems_of(path.read_text(), parts) == []


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("from .._io import pool", ("_core", "call")),
        ("from .._wire.h1 import H1Wire", ("_core", "call")),
        ("from .._core import pool", ("_wire", "h1")),
        ("from .._client import AsyncAPIClient", ("_io", "pool")),
        ("from ..transports import x", ("_io", "pool")),
        ("import anyio", ("_model", "url")),
        ("import socket", ("_core", "pool")),
        ("import h11", ("_io", "pool")),
        ("import cattrs", ("_pages",)),
        ("from ._io import pool", ("sansio",)),
    ],
)
def test_an_import_that_points_up_is_noticed(source: str, parts: tuple[str, ...]) -> None:
    assert problems_of(source, parts)


def test_the_sans_io_rooms_do_no_io() -> None:
    pattern = re.compile(r"await|import anyio|import trio|import socket")
    for room in ("_model", "_core", "_wire"):
        for path in (PACKAGE / room).rglob("*.py"):
            assert not pattern.search(path.read_text()), path


def test_the_machines_read_no_clock_and_make_no_random_numbers() -> None:
    pattern = re.compile(r"time\.(time|monotonic)|random\.|uuid")
    for path in (PACKAGE / "_core").rglob("*.py"):
        assert not pattern.search(path.read_text()), path


def test_sansio_imports_no_event_loop_and_no_sockets() -> None:
    code = "import sys, anyio_client.sansio; print(sorted({'anyio', 'trio', 'asyncio', 'socket', 'ssl', 'cattrs'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    import anyio_client
    from anyio_client import sansio

    for module in (anyio_client, sansio):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert "AsyncAPIClient" in dir(anyio_client)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = anyio_client.nothing
