"""The trust store of the operating system, by the package truststore: on macOS and Windows, where OpenSSL has none.

```python
HTTPTransport(tls=make_context())
```
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import truststore

__all__ = ["make_context"]


def make_context(alpn: Sequence[str] = ("h2", "http/1.1")) -> ssl.SSLContext:
    """A context that asks the operating system whom to trust; TLS 1.2 and later. ``alpn``: what is offered (RFC 7301)."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    return context
