"""``multipart/form-data`` (RFC 7578): the bytes around the contents of the parts.

Names and file names are escaped as browsers do (WHATWG HTML section 4.10.22.8): a quote, a CR and an LF become ``%22``,
``%0D`` and ``%0A``, everything else is UTF-8 as it stands; servers read that, and few read RFC 2231's encoding, which
RFC 7578 forbids anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._model.headers import Headers

__all__ = ["boundary_of", "check_boundary", "closing", "content_type_of", "is_form_data", "part_head"]

# RFC 2046 section 5.1.1: bchars, at most 70, no space at the end.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_IN_FIELD = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_LONE_END = re.compile(r"\r(?!\n)|(?<!\r)\n")


def is_form_data(content_type: str) -> bool:
    """Whether a Content-Type is ``multipart/form-data``."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def boundary_of(content_type: str) -> str | None:
    """The boundary that a Content-Type names, None without one. ValueError for one that RFC 2046 does not allow."""
    match = _IN_FIELD.search(content_type)
    if match is None:
        return None
    quoted = match[1]
    return check_boundary(match[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted))


def check_boundary(boundary: str) -> str:
    """*boundary* itself; ValueError where RFC 2046 section 5.1.1 does not allow it."""
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a multipart boundary has 1 to 70 of the characters that RFC 2046 section 5.1.1 allows")
    return boundary


def content_type_of(boundary: str) -> str:
    """The Content-Type of a form with this boundary."""
    quote = "" if re.fullmatch(r"[0-9A-Za-z'+_\-.]+", boundary) else '"'
    return f"multipart/form-data; boundary={quote}{boundary}{quote}"


def _escaped(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} has a lone surrogate in it, which has no UTF-8 form") from None
    if "\0" in text:
        raise ValueError(f"{what} has a NUL in it, at which servers end it")
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def part_head(
    boundary: str,
    name: str,
    *,
    filename: str | None = None,
    content_type: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """What stands before a part's content. ValueError for headers that HTTP would not allow either.

    A Content-Type in *headers* goes before *content_type*; a Content-Disposition there is a ValueError.
    """
    # WHATWG: line ends in a name become CR LF before they are escaped; those in a file name stay what they are.
    shown = _escaped(_LONE_END.sub("\r\n", name), "the name of a part")
    disposition = f'form-data; name="{shown}"'
    if filename is not None:
        disposition += f'; filename="{_escaped(filename, "the file name of a part")}"'
    extra = Headers(headers)  # names and values are checked here
    if "content-disposition" in extra:
        raise ValueError("the Content-Disposition of a part is made of its name and file name")
    lines = [f"--{boundary}", f"Content-Disposition: {disposition}"]
    if content_type is not None and "content-type" not in extra:
        checked = Headers({"Content-Type": content_type})
        lines.append(f"Content-Type: {checked['content-type']}")
    lines.extend(f"{field}: {value}" for field, value in extra.multi_items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def closing(boundary: str) -> bytes:
    """What stands after the last part."""
    return f"--{boundary}--\r\n".encode()
