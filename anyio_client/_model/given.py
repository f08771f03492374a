"""Two words for "nothing here", which differ in what a lower layer may say.

``not_given``: this layer says nothing, so the layer below decides. ``omit``: this layer says that the field or
parameter shall not be sent, whatever the layer below says. ``None`` stays free to mean "switched off". Neither
object ever reaches the wire: whoever builds a request resolves them first.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["NotGiven", "Omit", "not_given", "omit"]


@final
class NotGiven:
    """The type of :data:`not_given`: the argument was left out; the layer below decides."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "not_given"

    def __copy__(self) -> NotGiven:
        return self

    def __deepcopy__(self, memo: object) -> NotGiven:
        return self

    def __reduce__(self) -> str:
        return "not_given"


@final
class Omit:
    """The type of :data:`omit`: leave this header, parameter or field out, also if a layer below sets it."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "omit"

    def __eq__(self, other: object) -> bool:  # SDKs write both `omit` and `Omit()`
        return isinstance(other, Omit)

    def __hash__(self) -> int:
        return hash(Omit)

    def __reduce__(self) -> str | tuple[type[Omit], tuple[()]]:
        return "omit" if self is omit else (Omit, ())


not_given: Final = NotGiven()
omit: Final = Omit()
