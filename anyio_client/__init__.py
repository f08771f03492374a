"""The runtime that API SDKs are built on, and a client to call APIs with.

General layout, from the bottom up; imports point down only:

* ``_model``: nouns. URL, Headers, Timeout, Request, RequestOptions, the errors.
* ``_core`` and ``_wire``: machines without I/O. ``_core`` decides (the call, the pool, retries), ``_wire`` turns requests
  into bytes and bytes into events. They do not know each other. ``sansio`` is their public face.
* ``_io``: the engine room, where anyio lives: sockets, TLS, the drivers of pool and wire.
* ``transports``: the doors. Whatever carries a request.
* the front rooms, the files beside this one: what SDK authors touch.

Names are imported when they are first used, so that ``anyio_client.sansio`` needs no event loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._auth import Auth, BasicAuth, BearerAuth, DigestAuth, HeaderAuth, OAuth2ClientCredentials
    from ._client import AsyncAPIClient
    from ._convert import Codec, DoesNotFit
    from ._convert._records import extra_fields
    from ._core.retry import (
        RetryBudget,
        RetryPolicy,
    )
    from ._io.response import Response
    from ._io.tls_options import TLS
    from ._middleware import CallNext, Middleware
    from ._model.errors import (
        AnyioClientError,
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        Attempt,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        ConnectError,
        ConnectionLostError,
        ConnectTimeoutError,
        ContentDecodingError,
        ContentTooLargeError,
        DeadlineExceededError,
        DecodeError,
        GatewayTimeoutError,
        InternalServerError,
        LocalProtocolError,
        NotFoundError,
        Outcome,
        OverloadedError,
        PermissionDeniedError,
        Phase,
        PoolTimeoutError,
        PreconditionFailedError,
        ProxyAnswer,
        ProxyError,
        RateLimitError,
        ReadTimeoutError,
        RemoteProtocolError,
        RequestTimeoutError,
        ServiceUnavailableError,
        StreamTruncatedError,
        TLSError,
        TooManyRedirectsError,
        UnprocessableEntityError,
        WriteTimeoutError,
    )
    from ._model.given import (
        NotGiven,
        Omit,
        not_given,
        omit,
    )
    from ._model.headers import Headers
    from ._model.options import RequestOptions
    from ._model.query import (
        Querystring,
        path_template,
    )
    from ._model.request import Request
    from ._model.snapshot import ConnectionInfo, Snapshot, WaiterInfo
    from ._model.timeouts import (
        Limits,
        Timeout,
        Timings,
    )
    from ._model.url import URL
    from ._page_kinds import CursorPage, LinkPage, OffsetPage, PageNumberPage, TokenPage
    from ._pages import AsyncPage, AsyncPaginator, PageInfo
    from ._resource import (
        AsyncAPIResource,
        async_to_raw_response_wrapper,
        async_to_streamed_response_wrapper,
        make_request_options,
    )
    from ._response import (
        AsyncAPIResponse,
        BaseAPIResponse,
    )
    from ._streaming import AsyncJSONLStream, AsyncStream
    from ._wire.jsonl import JSONLine
    from ._wire.sse import ServerSentEvent
    from .transports._asgi import ASGITransport
    from .transports._mock import MockTransport
    from .transports._network import HTTPTransport
    from .transports._protocol import Transport

_HOMES = {
    "APIConnectionError": "._model.errors",
    "APIError": "._model.errors",
    "APIResponseValidationError": "._model.errors",
    "APIStatusError": "._model.errors",
    "APITimeoutError": "._model.errors",
    "ASGITransport": ".transports._asgi",
    "AnyioClientError": "._model.errors",
    "AsyncAPIClient": "._client",
    "AsyncAPIResource": "._resource",
    "AsyncAPIResponse": "._response",
    "AsyncJSONLStream": "._streaming",
    "AsyncPage": "._pages",
    "AsyncPaginator": "._pages",
    "AsyncStream": "._streaming",
    "Attempt": "._model.errors",
    "Auth": "._auth",
    "AuthenticationError": "._model.errors",
    "BadRequestError": "._model.errors",
    "BaseAPIResponse": "._response",
    "BasicAuth": "._auth",
    "BearerAuth": "._auth",
    "CallNext": "._middleware",
    "Codec": "._convert",
    "ConflictError": "._model.errors",
    "ConnectError": "._model.errors",
    "ConnectTimeoutError": "._model.errors",
    "ConnectionInfo": "._model.snapshot",
    "ConnectionLostError": "._model.errors",
    "ContentDecodingError": "._model.errors",
    "ContentTooLargeError": "._model.errors",
    "CursorPage": "._page_kinds",
    "DeadlineExceededError": "._model.errors",
    "DecodeError": "._model.errors",
    "DigestAuth": "._auth",
    "DoesNotFit": "._convert",
    "GatewayTimeoutError": "._model.errors",
    "HTTPTransport": ".transports._network",
    "HeaderAuth": "._auth",
    "Headers": "._model.headers",
    "InternalServerError": "._model.errors",
    "JSONLine": "._wire.jsonl",
    "Limits": "._model.timeouts",
    "LinkPage": "._page_kinds",
    "LocalProtocolError": "._model.errors",
    "Middleware": "._middleware",
    "MockTransport": ".transports._mock",
    "NotFoundError": "._model.errors",
    "NotGiven": "._model.given",
    "OAuth2ClientCredentials": "._auth",
    "OffsetPage": "._page_kinds",
    "Omit": "._model.given",
    "Outcome": "._model.errors",
    "OverloadedError": "._model.errors",
    "PageInfo": "._pages",
    "PageNumberPage": "._page_kinds",
    "PermissionDeniedError": "._model.errors",
    "Phase": "._model.errors",
    "PoolTimeoutError": "._model.errors",
    "PreconditionFailedError": "._model.errors",
    "ProxyAnswer": "._model.errors",
    "ProxyError": "._model.errors",
    "Querystring": "._model.query",
    "RateLimitError": "._model.errors",
    "ReadTimeoutError": "._model.errors",
    "RemoteProtocolError": "._model.errors",
    "Request": "._model.request",
    "RequestOptions": "._model.options",
    "RequestTimeoutError": "._model.errors",
    "Response": "._io.response",
    "RetryBudget": "._core.retry",
    "RetryPolicy": "._core.retry",
    "ServerSentEvent": "._wire.sse",
    "ServiceUnavailableError": "._model.errors",
    "Snapshot": "._model.snapshot",
    "StreamTruncatedError": "._model.errors",
    "TLS": "._io.tls_options",
    "TLSError": "._model.errors",
    "Timeout": "._model.timeouts",
    "Timings": "._model.timeouts",
    "TokenPage": "._page_kinds",
    "TooManyRedirectsError": "._model.errors",
    "Transport": ".transports._protocol",
    "URL": "._model.url",
    "UnprocessableEntityError": "._model.errors",
    "WaiterInfo": "._model.snapshot",
    "WriteTimeoutError": "._model.errors",
    "async_to_raw_response_wrapper": "._resource",
    "async_to_streamed_response_wrapper": "._resource",
    "extra_fields": "._convert._records",
    "make_request_options": "._resource",
    "not_given": "._model.given",
    "omit": "._model.given",
    "path_template": "._model.query",
}

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "ASGITransport",
    "AnyioClientError",
    "AsyncAPIClient",
    "AsyncAPIResource",
    "AsyncAPIResponse",
    "AsyncJSONLStream",
    "AsyncPage",
    "AsyncPaginator",
    "AsyncStream",
    "Attempt",
    "Auth",
    "AuthenticationError",
    "BadRequestError",
    "BaseAPIResponse",
    "BasicAuth",
    "BearerAuth",
    "CallNext",
    "Codec",
    "ConflictError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionInfo",
    "ConnectionLostError",
    "ContentDecodingError",
    "ContentTooLargeError",
    "CursorPage",
    "DeadlineExceededError",
    "DecodeError",
    "DigestAuth",
    "DoesNotFit",
    "GatewayTimeoutError",
    "HTTPTransport",
    "HeaderAuth",
    "Headers",
    "InternalServerError",
    "JSONLine",
    "Limits",
    "LinkPage",
    "LocalProtocolError",
    "Middleware",
    "MockTransport",
    "NotFoundError",
    "NotGiven",
    "OAuth2ClientCredentials",
    "OffsetPage",
    "Omit",
    "Outcome",
    "OverloadedError",
    "PageInfo",
    "PageNumberPage",
    "PermissionDeniedError",
    "Phase",
    "PoolTimeoutError",
    "PreconditionFailedError",
    "ProxyAnswer",
    "ProxyError",
    "Querystring",
    "RateLimitError",
    "ReadTimeoutError",
    "RemoteProtocolError",
    "Request",
    "RequestOptions",
    "RequestTimeoutError",
    "Response",
    "RetryBudget",
    "RetryPolicy",
    "ServerSentEvent",
    "ServiceUnavailableError",
    "Snapshot",
    "StreamTruncatedError",
    "TLS",
    "TLSError",
    "Timeout",
    "Timings",
    "TokenPage",
    "TooManyRedirectsError",
    "Transport",
    "URL",
    "UnprocessableEntityError",
    "WaiterInfo",
    "WriteTimeoutError",
    "async_to_raw_response_wrapper",
    "async_to_streamed_response_wrapper",
    "extra_fields",
    "make_request_options",
    "not_given",
    "omit",
    "path_template",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
