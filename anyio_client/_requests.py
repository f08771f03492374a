"""From options to the requests of a call's attempts.

Most calls of a client look alike: what is below the request (defaults, platform, credentials) is the same, and the request
adds nothing but a path and a body. The request that such a call led to is remembered, and the next one gets a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import attrs

from ._bodies import Payload
from ._configuration import DEFAULT_ACCEPT, is_default
from ._core import build
from ._model.given import NotGiven, Omit, not_given
from ._model.headers import Headers
from ._model.options import RequestOptions
from ._model.request import Request, StreamedBody
from ._model.url import URL

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["KnownRequests", "RequestMaker"]

MAX_KNOWN = 500
_NO_NAMES: frozenset[str] = frozenset()


@attrs.frozen
class _Known:
    """What a plain call led to, and what it was made of."""

    url: URL
    headers: Headers
    below: Mapping[str, str | Omit] = attrs.field(repr=False)  # which mapping it was
    said: tuple[tuple[str, str | Omit], ...] = attrs.field(repr=False)  # what stood in it
    base_url: URL


class KnownRequests:
    """The requests of plain calls, by what tells them apart. *below*: the fields below the request, as they are now."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Known] = {}

    def find(
        self, key: tuple[object, ...], below: Mapping[str, str | Omit], base_url: URL, is_usual: bool
    ) -> _Known | None:
        """The request of an earlier call, if the client would make the same one now. *is_usual*: nobody else has a say."""
        known = self._known.get(key)
        if known is None or known.base_url is not base_url:
            return None
        if known.below is below and is_usual:  # the client's own, which never changes
            return known
        return known if known.said == tuple(below.items()) else None

    def keep(self, key: tuple[object, ...], below: Mapping[str, str | Omit], base_url: URL, request: Request) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        headers = request.headers.copy().as_block()
        self._known[key] = _Known(request.url, headers, below, tuple(below.items()), base_url)


class RequestMaker:
    """Makes the requests of one call. *key*: its idempotency key. *accept*: of a stream class.

    After each: ``credentials``, the lower-case names of fields with credentials; ``layered``, those of fields that a layer
    above the credentials has set or omitted.
    """

    __slots__ = ("_accept", "_client", "_given", "_key", "credentials", "layered")

    def __init__(self, client: AsyncAPIClient, given: RequestOptions, accept: str | None) -> None:
        self._client = client
        self._given = given
        self._accept = accept
        self._key = client._idempotency_key(given)
        self.layered: frozenset[str] = _NO_NAMES
        self.credentials: frozenset[str] = _NO_NAMES

    def make(self, options: RequestOptions, payload: Payload, retries_taken: int) -> Request:
        """The request of one attempt."""
        client = self._client
        body = payload.body
        is_usual = client._is_usual()
        below = client._headers_below(is_usual)
        self.credentials = client._credential_names
        is_plain = (
            options.headers is not_given
            and options.params is not_given
            and (body is None or (type(body) is bytes and payload.content_type == "application/json"))
            and self._key is None
            and retries_taken == 0
            and client._auth is None
            and options.idempotency_key is not_given
            and not options.expect_continue
            and options.on_informational is None
            and options.trailers is None
            and options.carrier is None
            and payload.coding is None
            and type(options.url) is str
            and not (client._custom_query if is_usual else client.default_query)
            and is_default(client._validate_headers)
        )
        if not is_plain:
            return self._make(options, payload, retries_taken, below)
        base_url = client._base_url if is_usual else client.base_url
        key = (options.method, options.url, body is None, self._accept, client.retry_count_header)
        known = client._known_requests.find(key, below, base_url, is_usual)
        if known is not None:
            return Request.of_checked(options.method, known.url, known.headers.copy(), body or b"")  # type: ignore[arg-type]
        request = self._make(options, payload, retries_taken, below)
        client._known_requests.keep(key, below, base_url, request)
        return request

    def _make(
        self, options: RequestOptions, payload: Payload, retries_taken: int, below: Mapping[str, str | Omit]
    ) -> Request:
        client, credentials = self._client, self.credentials
        params: Mapping[str, object] = {} if isinstance(options.params, NotGiven) else options.params
        url, foreign = build.build_url(
            client.base_url, options.url, default_query=client.default_query, params=params, qs=client.qs
        )
        headers, omitted = build.build_headers(
            below, options.headers, foreign=foreign, credentials=credentials, kept=client._kept_headers
        )
        own = _NO_NAMES if isinstance(options.headers, NotGiven) else {name.lower() for name in options.headers}
        if self._accept is not None and "accept" not in own and headers.get("accept") == DEFAULT_ACCEPT:
            headers["Accept"] = self._accept
        if url.userinfo is not None:
            if "authorization" not in own:
                user, password = url.credentials or ("", "")
                headers["Authorization"] = build.basic_credentials(user, password)
            url = url.replace(userinfo=False)
        request = Request(options.method, url, headers=headers, content=b"")
        if client._auth is not None:
            below_auth = client._names_below_auth
            above = own.union(name.lower() for name in client._custom_headers)
            layered = (name.lower() for name in headers)
            self.layered = omitted.union(name for name in layered if name not in below_auth or name in above)
        if payload.body is not None:
            _describe(request, payload, own, omitted)
        count_header = None if foreign else client.retry_count_header
        if count_header and count_header not in headers and count_header.lower() not in omitted:
            headers[count_header] = str(retries_taken)
        key, key_header = self._key, client.idempotency_header or "Idempotency-Key"
        if options.idempotency_key is not self._given.idempotency_key:
            key = client._idempotency_key(options)
        is_generated = isinstance(options.idempotency_key, NotGiven)
        if key is not None and not (is_generated and key_header.lower() in omitted):
            headers.setdefault(key_header, key)
        if options.expect_continue and request.has_content and "expect" not in omitted:
            headers.setdefault("Expect", "100-continue")
        request.on_informational, request.trailers = options.on_informational, options.trailers
        request.carrier = self._given.carrier
        validate: Any = client._validate_headers
        if not is_default(validate):
            validate(headers, omitted)
        return request


def _describe(request: Request, payload: Payload, own: Set[str], omitted: Set[str]) -> None:
    """Put the body on the request, and the fields that describe it. *own*: names of fields that the request sets itself."""
    body, headers = payload.body, request.headers
    assert body is not None
    # Where a hook has read it, to sign it, the next attempt sends what was read.
    request.body = body.content if isinstance(body, StreamedBody) and body.content is not None else body
    if payload.content_type is not None and "content-type" not in omitted:
        ours = "content-type" not in own and (payload.replaces or "content-type" not in headers)
        if ours or (payload.boundary is not None and _wants_boundary(headers["content-type"])):
            headers["Content-Type"] = payload.content_type
    if payload.coding is not None:
        if "content-encoding" in headers:
            raise ValueError("compress= sets Content-Encoding: the headers must not set it too")
        headers["Content-Encoding"] = payload.coding


def _wants_boundary(content_type: str) -> bool:
    from ._wire import multipart

    return multipart.is_form_data(content_type) and multipart.boundary_of(content_type) is None
