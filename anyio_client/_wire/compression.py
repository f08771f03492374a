"""Header compression (RFC 7541) by hpack, with what it made before kept: fields repeat from request to request.

A field's encoding, and the meaning of a block, stay the same as long as the table does not change. So requests put only
fields that repeat into the table (``fields`` says which), and both directions forget when the table changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hpack.hpack import encode_integer

from .frames import ConnectionViolation, ErrorCode

__all__ = ["MAX_TABLE_SIZE", "BlockDecoder", "RepeatingEncoder"]

MAX_TABLE_SIZE: Final = 4096  # of our encoder, whatever the peer would keep: its search is a scan
MAX_KEPT_FIELDS: Final = 256
MAX_KEPT_BLOCKS: Final = 32  # what a peer can make us keep is small: these,
MAX_KEPT_BLOCK_SIZE: Final = 512  # each of so many bytes before decoding

# hpack writes every field that it sees at DEBUG, secrets too. Who wants that has to ask for it by the logger's name.
_logger = logging.getLogger("hpack")
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


class RepeatingEncoder(Encoder):
    """hpack's encoder, which encodes a field once as long as its table does not change.

    The size of the table is the peer's to say, up to ``MAX_TABLE_SIZE``. A new one is announced at the beginning of the
    next block: the least that was said since the last one, then the last (RFC 7541 section 4.2).
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[bytes, bytes], bytes] = {}
        self._least = self._last = self.header_table.maxsize

    @property
    def header_table_size(self) -> int:
        return self._last

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self._last = min(value, MAX_TABLE_SIZE)
        self._least = min(self._least, self._last)

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        table = self.header_table
        parts = [] if self._least == self._last == table.maxsize else self._resize()
        for field in headers:
            part = self._kept.get(field)
            parts.append(part if part is not None else self._encode_new(field, huffman))
        return b"".join(parts)

    def _resize(self) -> list[bytes]:
        """Bring the table to its new size; the updates that say so."""
        parts: list[bytes] = []
        for size in (self._least, self._last) if self._least < self._last else (self._last,):
            self.header_table.maxsize = size
            update = encode_integer(size, 5)
            update[0] |= 0x20
            parts.append(bytes(update))
        self.header_table.resized = False  # hpack's own note, which forgets a size that is said twice
        self._least = self._last
        self._kept.clear()
        return parts

    def _encode_new(self, field: Any, huffman: bool) -> bytes:
        entries = self.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        part = super().encode([field], huffman)
        if len(entries) != size or (size and entries[0] is not newest) or len(self._kept) >= MAX_KEPT_FIELDS:
            self._kept.clear()  # what stands in the table stands elsewhere now
        else:
            self._kept[field] = part
        return part


class BlockDecoder:
    """hpack's decoder, which decodes a block once as long as its table does not change."""

    def __init__(self, max_list_size: int) -> None:
        self._decoder = Decoder(max_list_size)
        self._kept: dict[bytes, list[tuple[bytes, bytes]]] = {}

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of *block*. ConnectionViolation where it cannot be decoded: the table is unknown from there on."""
        known = self._kept.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        entries = table.dynamic_entries
        size, newest, limit = len(entries), entries[0] if entries else None, table.maxsize
        try:
            fields: list[tuple[bytes, bytes]] = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            reason = f"a header list is larger than {self._decoder.max_header_list_size} bytes"
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, reason) from None
        except (HPACKError, IndexError, TypeError, ValueError):
            # Its text is not passed on: it may quote a field that holds a cookie.
            raise ConnectionViolation(ErrorCode.COMPRESSION_ERROR, "a header block cannot be decoded") from None
        if len(entries) != size or (size and entries[0] is not newest) or table.maxsize != limit:
            self._kept.clear()
        elif len(block) <= MAX_KEPT_BLOCK_SIZE and len(self._kept) < MAX_KEPT_BLOCKS:
            self._kept[block] = fields
        return fields
