"""Between Python values and JSON: the only room that knows cattrs.

Decoding is the last step of a call: bytes -> JSON -> ``cast_to``; encoding the first. Neither coerces: cattrs' own
defaults make the string ``'None'`` of null and a list of characters of a string, which hides what the server sent.

* ``_decode``: from JSON to a type; ``_records`` what the fields of a class are; ``_encode``: from values to JSON.
* ``_models``: classes of pydantic and msgspec, where they are installed.
"""

from __future__ import annotations

import cattrs

from ._decode import Decoder, DoesNotFit
from ._encode import Encoder
from ._records import extra_fields

__all__ = ["Codec", "DoesNotFit", "extra_fields"]


class Codec:
    """Encodes and decodes for one client. ``converter``: the user's own, whose hooks for classes are kept."""

    def __init__(self, converter: cattrs.Converter | None = None) -> None:
        base = cattrs.Converter() if converter is None else converter
        decoder, encoder = Decoder(base), Encoder(base)
        self.decode = decoder.decode
        self.encode = encoder.encode
        self.to_plain = encoder.to_plain
