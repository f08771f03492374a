"""From options to the body of a request: JSON, a form, files, or content as it stands.

Prepared once for each call, before the first attempt, so that iterators inside JSON survive retries and every attempt
sends the same bytes; the caller's objects are never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from ._core import build
from ._model.given import NotGiven, Omit, not_given
from ._model.options import RequestOptions
from ._model.query import Querystring
from ._model.request import StreamedBody

if TYPE_CHECKING:
    from ._convert import Codec

__all__ = ["BODY_OPTIONS", "Payload", "copy_options", "expand", "make_payload", "payload_nowait"]

# What a body is made of: where a hook changes one of these, the body is made again.
BODY_OPTIONS = ("json_data", "extra_json", "content", "files", "form", "compress", "progress")

_FORM_FIELDS = Querystring("brackets", "brackets")  # of JSON in a multipart form: a[]=1, a[b]=2


@attrs.frozen
class Payload:
    """A body, and the fields that describe it."""

    body: bytes | StreamedBody | None = None
    content_type: str | None = None  # goes out unless the caller names another one, or omits it
    replaces: bool = False  # also a Content-Type of the client's own, which was meant for other bodies
    boundary: str | None = None  # of a multipart form: a caller's Content-Type without a boundary gets it
    coding: str | None = None


_NO_BODY = Payload()


def has_json(options: RequestOptions) -> bool:
    return options.json_data is not None and not isinstance(options.json_data, NotGiven)


def expand(codec: Codec, options: RequestOptions) -> RequestOptions:
    """The options with their JSON in the types of JSON. TypeError or ValueError where JSON cannot hold it."""
    changes: dict[str, Any] = {}
    if has_json(options):
        changes["json_data"] = codec.to_plain(options.json_data)
    if options.extra_json is not None:
        left_out = {name: value for name, value in options.extra_json.items() if isinstance(value, Omit)}
        changes["extra_json"] = {**codec.to_plain(options.extra_json), **left_out}
    files: Any = options.files
    if files is not None and not isinstance(files, Mapping):
        if isinstance(files, str | bytes) or not hasattr(files, "__iter__"):
            raise TypeError(f"files= takes a mapping, or (name, file) pairs, not {type(files).__name__}")
        changes["files"] = tuple(files)
    return attrs.evolve(options, **changes) if changes else options


def copy_options(options: RequestOptions) -> RequestOptions:
    """A copy for a hook to change: mappings and JSON are copied, files and bodies that can be read only once are not."""
    return attrs.evolve(
        options,
        headers=options.headers if isinstance(options.headers, NotGiven) else dict(options.headers),
        params=options.params if isinstance(options.params, NotGiven) else copy.deepcopy(dict(options.params)),
        json_data=copy.deepcopy(options.json_data),
        extra_json=copy.deepcopy(options.extra_json),
        form=copy.deepcopy(options.form),
    )


def payload_nowait(codec: Codec, options: RequestOptions) -> Payload | None:
    """The body of a call that has none, or plain JSON; None where it is something else (see :func:`make_payload`)."""
    if options.content is not None or options.form is not None or options.extra_json is not None or options.files:
        return None
    data = options.json_data
    if data is None or isinstance(data, NotGiven):
        return _NO_BODY
    if options.compress is not None or options.progress is not None:
        return None
    if options.headers is not not_given and _own_form_type(options) is not None:
        return None
    if options.method in ("GET", "HEAD"):
        build.check_body_allowed(options.method, "a JSON body")
    return Payload(codec.encode(data), "application/json")


async def make_payload(codec: Codec, qs: Querystring, options: RequestOptions) -> Payload:
    """The body of a call. TypeError or ValueError where it cannot be one; OSError for a path that cannot be read."""
    payload = payload_nowait(codec, options)
    if payload is not None:
        return payload
    from ._io import upload  # a leaf, as are forms: most calls have neither

    payload = _NO_BODY
    _check_one_body(options)
    form_type = _own_form_type(options)
    if options.content is not None:
        payload = Payload(await upload.make_content(options.content))
    elif options.files or (form_type is not None and (has_json(options) or options.form is not None)):
        payload = await _multipart(codec, qs, options, form_type)
    elif options.form is not None:
        build.check_body_allowed(options.method, "a form")
        content_type = "application/x-www-form-urlencoded"
        payload = Payload(qs.stringify(_mapping("form", options.form)).encode(), content_type, replaces=True)
    elif has_json(options) or options.extra_json is not None:
        build.check_body_allowed(options.method, "a JSON body")
        payload = Payload(codec.encode(_json(codec, options)), "application/json")
    body = payload.body
    if body is None:
        return payload
    if options.compress is not None:
        body = upload.compressed(body, options.compress)
    if options.progress is not None:
        body = upload.reported(body, options.progress)
    return attrs.evolve(payload, body=body, coding=options.compress)


def _check_one_body(options: RequestOptions) -> None:
    given: list[str] = []
    if has_json(options):
        given.append("body")
    elif options.extra_json is not None:
        given.append("extra_json")
    if options.form is not None and not options.files:
        given.append("form")
    if options.files:
        given.append("files")
    if options.content is not None:
        given.append("content")
    if len(given) > 1 and given[-1] != "files":
        raise TypeError(f"pass {given[0]}= or {given[-1]}=, not both")


def _own_form_type(options: RequestOptions) -> str | None:
    """The request's own Content-Type, where it is multipart/form-data."""
    if isinstance(options.headers, NotGiven):
        return None
    from ._wire import multipart

    for name, value in options.headers.items():
        if name.lower() == "content-type" and isinstance(value, str) and multipart.is_form_data(value):
            return value
    return None


async def _multipart(codec: Codec, qs: Querystring, options: RequestOptions, form_type: str | None) -> Payload:
    from ._io import upload
    from ._wire import multipart

    build.check_body_allowed(options.method, "a form with files")
    fields: list[tuple[str, str]] = []
    if has_json(options) or options.extra_json is not None:
        data: Any = _json(codec, options)
        if not isinstance(data, dict):
            raise TypeError("with files=, body= must be a mapping: its values become the fields of the form")
        fields += _FORM_FIELDS.stringify_items(cast("dict[str, object]", data))
    if options.form is not None:
        fields += qs.stringify_items(_mapping("form", options.form))
    boundary = (multipart.boundary_of(form_type) if form_type else None) or upload.new_boundary()
    files: Any = options.files or ()
    body = await upload.form_data(fields, files, boundary)
    return Payload(body, multipart.content_type_of(boundary), replaces=True, boundary=boundary)


def _mapping(name: str, value: Any) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}= takes a mapping, not {type(value).__name__}")
    return value  # pyright: ignore[reportUnknownVariableType]


def _json(codec: Codec, options: RequestOptions) -> Any:
    data: Any = options.json_data if has_json(options) else {}
    if options.extra_json is None:
        return data
    plain = codec.to_plain(data)
    if not isinstance(plain, dict):
        raise TypeError("extra_json merges into a JSON object; this body is none")
    merged: dict[str, object] = {**plain, **options.extra_json}
    return {name: value for name, value in merged.items() if not isinstance(value, Omit)}
