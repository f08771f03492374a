"""Header compression (RFC 7541) by hpack, with what it made before kept: fields repeat from request to request.

A field's encoding, and the meaning of a block, stay the same as long as the table does not change. So requests put only
fields that repeat into the table (``fields`` says which), and both directions forget when the table changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from hpack import Decoder, Encoder, HeaderTuple

__all__ = ["RepeatingDecoder", "RepeatingEncoder"]

MAX_KEPT_FIELDS: Final = 256
MAX_KEPT_BLOCKS: Final = 32  # what a peer can make us keep is small: these,
MAX_KEPT_BLOCK_SIZE: Final = 512  # each of so many bytes before decoding

# hpack writes every field that it sees at DEBUG, secrets too. Who wants that has to ask for it by the logger's name.
_logger = logging.getLogger("hpack")
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


class RepeatingEncoder(Encoder):
    """hpack's encoder, which encodes a field once as long as its table does not change."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[bytes, bytes], bytes] = {}

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        parts: list[bytes] = []
        if self.header_table.resized:
            self._kept.clear()
        for field in headers:
            part = self._kept.get(field)
            parts.append(part if part is not None else self._encode_new(field, huffman))
        return b"".join(parts)

    def _encode_new(self, field: Any, huffman: bool) -> bytes:
        entries = self.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        part = super().encode([field], huffman)
        if len(entries) != size or (size and entries[0] is not newest) or len(self._kept) >= MAX_KEPT_FIELDS:
            self._kept.clear()  # what stands in the table stands elsewhere now
        else:
            self._kept[field] = part
        return part


class RepeatingDecoder(Decoder):
    """hpack's decoder, which decodes a block once as long as its table does not change."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[bytes, list[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        known = self._kept.get(data)
        if known is not None:
            return known
        table = self.header_table
        entries = table.dynamic_entries
        size, newest, limit = len(entries), entries[0] if entries else None, table.maxsize
        decoded = list(super().decode(data, raw))
        if len(entries) != size or (size and entries[0] is not newest) or table.maxsize != limit:
            self._kept.clear()
        elif len(data) <= MAX_KEPT_BLOCK_SIZE and len(self._kept) < MAX_KEPT_BLOCKS:
            self._kept[data] = decoded
        return decoded
