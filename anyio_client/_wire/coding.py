"""Content codings (RFC 9110 section 8.4), piece by piece: undone with a guard against bombs, and done on request.

gzip and deflate are always there; ``br`` (RFC 7932) where the package ``brotli`` is installed, ``zstd`` (RFC 8878) from
Python 3.14 on, or where ``backports.zstd`` is. They are looked for when they are first needed.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, Protocol

__all__ = [
    "Compressor",
    "ContentDecoder",
    "DecodingFailed",
    "accept_encoding",
    "make_compressor",
    "make_decoder",
]

# The output may be this many times the input, beyond a first part that is always allowed. zlib's best is about 1030:1,
# and real JSON stays below 100:1.
FREE_OUTPUT: Final = 16 * 2**20
# Input is taken in slices: zlib copies what it has not used after each member of a gzip file, and the guard against
# bombs counts what was taken so far.
_SLICE: Final = 2**14
_MAX_CODINGS: Final = 10  # of one body; two are rare
# A frame of zstd costs some 10 microseconds, even an empty one: beyond a first thousand they must be worth it.
_MANY_FRAMES: Final = 1000
_BYTES_A_FRAME: Final = 256
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


class _Brotli:
    """``br``: one stream, and nothing behind it."""

    def __init__(self, module: Any) -> None:
        self._error: type[Exception] = module.error
        self._d = module.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        if data and self._d.is_finished():
            raise DecodingFailed("there are bytes after the end of the compressed body")
        try:
            while not self._d.is_finished():
                piece = self._d.process(data, output_buffer_limit=_STEP)
                data = b""
                if not piece:  # can_accept_more_data() may be true while there is more to come out
                    return
                yield piece
        except self._error as exc:
            raise DecodingFailed(f"the body is not what its Content-Encoding says: {exc}") from exc

    def finish(self) -> None:
        if self._begun and not self._d.is_finished():
            raise DecodingFailed("the compressed body is truncated")


class _Zstd:
    """``zstd``: frames one after the other (RFC 8878 section 3); windows up to 8 MiB (RFC 9659)."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._d = self._fresh()
        self._begun = False
        self._within = False  # a frame has begun and not ended
        self._frames = 0
        self._taken = 0

    def _fresh(self) -> Any:
        return self._module.ZstdDecompressor(options={self._module.DecompressionParameter.window_log_max: 23})

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        self._taken += len(data)
        try:
            while data or not self._d.needs_input:
                if self._d.eof:
                    if not data:
                        return
                    self._d = self._fresh()
                    self._frames += 1
                    if self._frames > _MANY_FRAMES + self._taken // _BYTES_A_FRAME:
                        raise DecodingFailed("the compressed body has too many frames for its size")
                self._within = True
                piece = self._d.decompress(data, _STEP)
                data = b""
                if piece:
                    yield piece
                if self._d.eof:
                    self._within = False
                    data = self._d.unused_data
                    if not data:
                        return
        except self._module.ZstdError as exc:
            raise DecodingFailed(f"the body is not what its Content-Encoding says: {exc}") from exc

    def finish(self) -> None:
        if self._begun and self._within:
            raise DecodingFailed("the compressed body is truncated")


@functools.cache
def _brotli() -> Any:
    """The module, None where it is not installed, or is too old to bound its output."""
    try:
        module = import_module("brotli")
    except ImportError:
        return None
    return module if hasattr(module.Decompressor, "can_accept_more_data") else None


@functools.cache
def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


@functools.cache
def accept_encoding() -> str:
    """The codings that can be undone here, as the value of Accept-Encoding."""
    return "gzip, deflate" + (", br" if _brotli() else "") + (", zstd" if _zstd() else "")


class ContentDecoder:
    """Undoes a stack of codings. ``feed`` takes bytes of the body, ``finish`` checks that nothing is missing."""

    def __init__(self, layers: list[_Inflater], max_ratio: float | None) -> None:
        self._layers = layers
        self._max_ratio = max_ratio
        self._taken = 0
        self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces that are made one by one. :class:`DecodingFailed` for malformed data, and a bomb.

        Each piece is bounded, and so is the work for it: whoever takes them may let others work in between.
        """
        for place in range(0, len(data), _SLICE):
            taken = data[place : place + _SLICE]
            self._taken += len(taken)
            try:
                yield from self._through(taken, 0)
            except zlib.error as exc:
                raise DecodingFailed(f"the body is not what its Content-Encoding says: {exc}") from exc

    def _through(self, data: bytes, level: int) -> Iterator[bytes]:
        if level == len(self._layers):
            yield data
            return
        for piece in self._layers[level].feed(data):
            self._made += len(piece)
            if self._max_ratio is not None and self._made > FREE_OUTPUT + self._max_ratio * self._taken:
                raise DecodingFailed(f"the body decodes to more than {self._max_ratio:g} times its size")
            yield from self._through(piece, level + 1)

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
            case "br" if _brotli():
                layers.append(_Brotli(_brotli()))
            case "zstd" if _zstd():
                layers.append(_Zstd(_zstd()))
            case _:
                raise DecodingFailed(f"the Content-Encoding {coding[:40]!r} was not asked for and cannot be undone")
    return ContentDecoder(layers, max_ratio) if layers else None


class Compressor(Protocol):
    """Makes one compressed body: ``compress`` each piece, ``flush`` at the end."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def make_compressor(coding: str) -> Compressor:
    """A compressor for ``"gzip"`` or ``"zstd"``; the same input gives the same bytes. ValueError for another coding."""
    match coding:
        case "gzip":
            return zlib.compressobj(wbits=31)  # its header has no time in it
        case "zstd":
            module = _zstd()
            if module is None:
                raise ValueError("compress='zstd' needs Python 3.14, or the package backports.zstd")
            made: Compressor = module.ZstdCompressor()
            return made
        case _:
            raise ValueError(f"compress= takes 'gzip' or 'zstd', not {coding!r}")
