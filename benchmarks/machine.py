"""What the figures are of: the machine, the versions of everything, and our own sources."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform

import attrs

PACKAGES = ["anyio-client", "anyio", "h11", "h2", "hpack", "attrs", "cattrs", "msgspec", "trio", "uvloop"]
PACKAGES += [
    "httpx2",
    "httpcore2",
    "pydantic",
    "pydantic-core",
    "aiohttp",
    "pyqwest",
    "pyreqwest",
    "anthropic",
    "openai",
]


def processor() -> str:
    """The model's name; ``platform`` does not know it on Linux."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sources() -> str:
    """A digest of our package as it is now: rounds of two versions of it must not become one table."""
    spec = importlib.util.find_spec("anyio_client")
    assert spec is not None and spec.origin is not None
    digest = hashlib.sha256()
    root = pathlib.Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@attrs.frozen
class Machine:
    pinned: bool
    load: tuple[float, float]  # the average of a minute, before and after
    digest: str  # of our sources

    def lines(self) -> list[str]:
        where = "server and clients each on a core of its own" if self.pinned else "not pinned to cores"
        python = f"{platform.python_implementation()} {platform.python_version()}"
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
        return [
            f"- Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"{' '.join(platform.libc_ver())}; {where}; load average {self.load[0]:.1f} at the start, "
            f"{self.load[1]:.1f} at the end (the run itself is about 1).",
            f"- {python}; {versions}; sources of anyio_client: {self.digest}.",
        ]
