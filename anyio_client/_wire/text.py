"""Text of bodies: which codec a Content-Type names, and decoding that never fails."""

from __future__ import annotations

import codecs
import re

__all__ = ["charset_of", "decode_text"]

_PYTHON_CODECS = frozenset(
    ["idna", "mbcs", "oem", "palmos", "punycode", "raw-unicode-escape", "raw_unicode_escape", "undefined", "utf-7"]
) | {"unicode-escape", "unicode_escape"}
_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE)


def charset_of(content_type: str | None) -> str:
    """The codec that a Content-Type names, where it is a text codec that Python knows; else UTF-8."""
    match = _CHARSET.search(content_type or "")
    if match:
        try:
            info = codecs.lookup(match[1] or match[2] or "")
            if getattr(info, "_is_text_encoding", True) and info.name not in _PYTHON_CODECS:
                return info.name
        except (LookupError, ValueError):
            pass
    return "utf-8"


def decode_text(data: bytes, content_type: str | None) -> str:
    """*data* as text, by the charset of the Content-Type; what cannot be decoded becomes U+FFFD. Never fails."""
    try:
        return data.decode(charset_of(content_type), "replace")
    except (UnicodeError, ValueError):
        return data.decode("utf-8", "replace")
