"""With httpx, both ways: our connections under its clients, or its clients under ours.

```python
AsyncAnthropic(http_client=httpx.AsyncClient(transport=EngineTransport()))
AsyncAPIClient(base_url=..., http_client=HTTPXTransport(httpx.AsyncClient()))
```
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpx

from ._bridge import Client, Engine, EngineStream

__all__ = ["EngineTransport", "HTTPXTransport"]


class _Stream(EngineStream, httpx.AsyncByteStream):
    pass


class EngineTransport(Engine, httpx.AsyncBaseTransport):
    """Our connections as a transport of httpx: ``httpx.AsyncClient(transport=EngineTransport())``, on asyncio and trio.

    The arguments are those of :class:`~anyio_client.HTTPTransport`. Raises the exceptions of httpx.
    """

    _lib: ClassVar[Any] = httpx
    _stream_class: ClassVar[Any] = _Stream


class HTTPXTransport(Client):
    """An ``httpx.AsyncClient`` as a transport of ours: ``http_client=HTTPXTransport(client)``; closing it closes the client."""

    _lib: ClassVar[Any] = httpx
