"""Content codings (RFC 9110 section 8.4): undoing ``Content-Encoding``, piece by piece, with a guard against bombs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["ACCEPT_ENCODING", "ContentDecoder", "DecodingFailed", "make_decoder"]

ACCEPT_ENCODING: Final = "gzip, deflate"

# The output may be this many times the input, beyond a first part that is always allowed. zlib's best is about 1030:1,
# and real JSON stays below 100:1.
FREE_OUTPUT: Final = 16 * 2**20
# Input is taken in slices: zlib copies what it has not used after each member of a gzip file, and the guard against
# bombs counts what was taken so far.
_SLICE: Final = 2**14
_MAX_CODINGS: Final = 10  # of one body; two are rare
_STEP: Final = 2**18  # output is made in pieces of at most this size


class DecodingFailed(ValueError):
    """The bytes are not what the Content-Encoding says, or decode to more than is allowed."""


class _Inflater(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class _Zlib:
    """gzip (RFC 1952, several members allowed), and deflate in both kinds met: zlib (RFC 1950) and raw (RFC 1951)."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._z = zlib.decompressobj(31 if gzip else 15)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        # RFC 1950: the low four bits of the first byte are 8. Raw deflate from real encoders does not begin so.
        if not self._begun and data and not self._gzip and data[0] & 0x0F != 8:
            self._z = zlib.decompressobj(-15)
        self._begun = self._begun or bool(data)
        while data:
            if self._z.eof:
                if not self._gzip:
                    return  # garbage after the end of deflate is ignored, as browsers do
                if not data.strip(b"\0"):
                    return  # padding
                self._z = zlib.decompressobj(31)
            piece = self._z.decompress(data, _STEP)
            if piece:
                yield piece
            data = self._z.unused_data if self._z.eof else self._z.unconsumed_tail

    def finish(self) -> None:
        if self._begun and not self._z.eof:
            raise DecodingFailed("the compressed body is truncated")


class ContentDecoder:
    """Undoes a stack of codings. ``feed`` takes bytes of the body, ``finish`` checks that nothing is missing."""

    def __init__(self, layers: list[_Inflater], max_ratio: float | None) -> None:
        self._layers = layers
        self._max_ratio = max_ratio
        self._taken = 0
        self._made = 0

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes. :class:`DecodingFailed` for malformed data, and for a bomb."""
        out: list[bytes] = []
        for place in range(0, len(data), _SLICE):
            taken = data[place : place + _SLICE]
            self._taken += len(taken)
            pieces = [taken]
            try:
                for layer in self._layers:
                    pieces = [made for piece in pieces for made in self._guarded(layer, piece)]
            except zlib.error as exc:
                raise DecodingFailed(f"the body is not what its Content-Encoding says: {exc}") from exc
            out += pieces
        return b"".join(out)

    def _guarded(self, layer: _Inflater, data: bytes) -> Iterator[bytes]:
        for piece in layer.feed(data):
            self._made += len(piece)
            if self._max_ratio is not None and self._made > FREE_OUTPUT + self._max_ratio * self._taken:
                raise DecodingFailed(f"the body decodes to more than {self._max_ratio:g} times its size")
            yield piece

    def finish(self) -> None:
        """The body has ended. :class:`DecodingFailed` if its last part is missing."""
        for layer in self._layers:
            layer.finish()


def make_decoder(content_encoding: str | None, max_ratio: float | None) -> ContentDecoder | None:
    """A decoder for the field's value, None where nothing is to be undone. DecodingFailed for an unknown coding."""
    if not content_encoding:
        return None
    layers: list[_Inflater] = []
    codings = [part.strip().lower() for part in content_encoding.split(",")]
    if len(codings) > _MAX_CODINGS:
        raise DecodingFailed(f"the body has more than {_MAX_CODINGS} content codings")
    for coding in reversed(codings):
        match coding:
            case "" | "identity":
                pass
            case "gzip" | "x-gzip":
                layers.append(_Zlib(gzip=True))
            case "deflate":
                layers.append(_Zlib(gzip=False))
            case _:
                raise DecodingFailed(f"the Content-Encoding {coding!r} was not asked for and cannot be undone")
    return ContentDecoder(layers, max_ratio) if layers else None
