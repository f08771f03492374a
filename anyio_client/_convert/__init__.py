"""Between Python values and JSON: the only room that knows cattrs.

Decoding is the last step of a call: bytes -> JSON -> ``cast_to``; encoding the first. Neither coerces: cattrs' own
defaults make the string ``'None'`` of null and a list of characters of a string, which hides what the server sent.

* ``_decode``: from JSON to a type; ``_records`` what the fields of a class are; ``_encode``: from values to JSON.
* ``_models``: classes of pydantic and msgspec, where they are installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._problems import DoesNotFit, key_path, kind_of

if TYPE_CHECKING:
    import cattrs

__all__ = ["Codec", "DoesNotFit", "key_path", "kind_of"]


class Codec:
    """Encodes and decodes, without a client or beside one. ``converter``: one's own, whose hooks for classes are kept.

    >>> Codec().decode({"a": 1}, dict[str, int])
    {'a': 1}
    """

    def __init__(self, converter: cattrs.Converter | None = None) -> None:
        import cattrs  # and what is built on it: as large as all the rest

        from ._decode import Decoder
        from ._encode import Encoder

        base = cattrs.Converter() if converter is None else converter
        self._decoder = Decoder(base)
        self._encoder = Encoder(base)

    def decode(self, value: object, cast_to: Any, *, strict: bool = False) -> Any:
        """The JSON *value* as *cast_to*; :class:`DoesNotFit` with every problem. TypeError for what is no type of data."""
        return self._decoder.decode(value, cast_to, strict=strict)

    def encode(self, value: object) -> bytes:
        """*value* as JSON. TypeError or ValueError where JSON cannot hold it; the message has the path inside it."""
        return self._encoder.encode(value)

    def to_plain(self, value: object) -> Any:
        """*value* in the types of JSON; iterators expanded, sentinels left out. The caller's objects are not changed."""
        return self._encoder.to_plain(value)
