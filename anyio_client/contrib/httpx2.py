"""With httpx2, both ways: our connections under its clients, or its clients under ours.

```python
AsyncAnthropic(http_client=httpx2.AsyncClient(transport=EngineTransport()))
AsyncAPIClient(base_url=..., http_client=HTTPXTransport(httpx2.AsyncClient()))
```
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpx2

from ._bridge import Client, Engine, EngineStream

__all__ = ["EngineTransport", "HTTPXTransport"]


class _Stream(EngineStream, httpx2.AsyncByteStream):
    pass


class EngineTransport(Engine, httpx2.AsyncBaseTransport):
    """Our connections as a transport of httpx2: ``httpx2.AsyncClient(transport=EngineTransport())``, on asyncio and trio.

    The arguments are those of :class:`~anyio_client.HTTPTransport`. Raises the exceptions of httpx2.
    """

    _lib: ClassVar[Any] = httpx2
    _stream_class: ClassVar[Any] = _Stream


class HTTPXTransport(Client):
    """An ``httpx2.AsyncClient`` as a transport of ours: ``http_client=HTTPXTransport(client)``; closing it closes the client."""

    _lib: ClassVar[Any] = httpx2
