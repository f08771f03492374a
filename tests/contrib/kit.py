"""The two libraries, and our transports with them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import attrs
import pytest

__all__ = ["Library", "needs_both"]


@attrs.frozen
class Library:
    name: str
    module: ModuleType = attrs.field(repr=False)
    ours: ModuleType = attrs.field(repr=False)

    def transport(self, **arguments: Any) -> Any:
        return self.ours.EngineTransport(**{"proxy": None, **arguments})

    def client(self, **arguments: Any) -> Any:
        """Their client on our connections; an argument that it does not have is the transport's."""
        its = {"http1", "http2", "tls", "limits", "proxy"} & set(arguments)
        transport = self.transport(**{name: arguments.pop(name) for name in its})
        return self.module.AsyncClient(transport=transport, **{"timeout": 10, **arguments})

    def own_client(self, **arguments: Any) -> Any:
        """Their client on their own connections."""
        return self.module.AsyncClient(trust_env=False, **{"timeout": 10, **arguments})

    async def own_send(self, url: str) -> None:
        async with self.own_client() as client:
            await client.get(url)

    def under_ours(self, client: Any = None, **arguments: Any) -> Any:
        """A transport of ours that is a client of theirs."""
        return self.ours.HTTPXTransport(client or self.own_client(**arguments))


def load(name: str) -> Library | None:
    try:
        return Library(name, importlib.import_module(name), importlib.import_module(f"anyio_client.contrib.{name}"))
    except ImportError:
        return None


LIBRARIES = [library for library in map(load, ("httpx", "httpx2")) if library is not None]
needs_both = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
