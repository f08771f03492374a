"""The field ``Link`` (RFC 8288): where related resources are, for example the next page of a list."""

from __future__ import annotations

import re

import attrs

__all__ = ["Link", "parse_link"]

# RFC 8288 section 3: link-value = "<" URI-Reference ">" *( OWS ";" OWS link-param ), separated by commas. A comma or a
# semicolon may stand inside the angle brackets, and inside a quoted parameter.
_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAM = re.compile(r"\s*;\s*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,]*)))?)?")


@attrs.frozen
class Link:
    """``target`` as it was written (it may be relative); ``relations`` in lower case; ``anchor``, None without one."""

    target: str
    relations: tuple[str, ...]
    anchor: str | None = None


def parse_link(value: str) -> list[Link]:
    """The links of a field's value (several fields are joined by a comma before). What is malformed is left out."""
    links: list[Link] = []
    place = 0
    while match := _TARGET.match(value, place):
        place = match.end()
        params: dict[str, str] = {}
        while (param := _PARAM.match(value, place)) and param.end() > place:
            place = param.end()
            name, quoted, token = param.groups()
            if name is not None:
                text = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                params.setdefault(name.lower(), text or "")  # the first of several counts (section 3.3)
        # What stands between here and the next comma is no parameter.
        rest = value.find(",", place)
        relations = tuple(params.get("rel", "").lower().split())
        links.append(Link(match[1].strip(), relations, params.get("anchor")))
        if rest < 0:
            break
        place = rest
    return links
