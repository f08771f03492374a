"""The client: configuration, the hooks that SDK authors override, and one request from options to result."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, get_origin

import anyio
import attrs

from ._auth import Auth, auth_of
from ._configuration import (
    DEFAULT_ACCEPT,
    Home,
    check_transport,
    codec_of,
    default,
    merge_headers,
    merge_query,
    platform_headers,
)
from ._core import retry as _retry
from ._core.build import KeptHeaders
from ._core.messages import find_message
from ._core.retry import RetryPolicy
from ._io.response import Response
from ._middleware import Layer, Middleware, Result, make_rings
from ._model.errors import APIError, APIStatusError, status_error_class
from ._model.given import NotGiven, Omit, not_given
from ._model.headers import Headers
from ._model.options import RawMode, RequestOptions, check_bool, check_retries
from ._model.query import Querystring
from ._model.request import Request
from ._model.timeouts import DEFAULT_TIMEOUT, Timeout, check_seconds
from ._model.url import URL, refuse_scheme
from ._resource import (
    ResourceView,
    async_to_raw_response_wrapper,
    async_to_streamed_response_wrapper,
    take_raw_mode,
)
from ._response import AsyncAPIResponse, BaseAPIResponse
from ._verbs import Verbs
from ._wire.coding import accept_encoding
from .transports._protocol import Transport

if TYPE_CHECKING:
    import cattrs

    from . import _calling
    from ._calling import CallDriver, Recorder
    from ._convert import Codec
    from ._core.call import CallPlan, Delivery
    from ._model.snapshot import Snapshot
    from ._pages import AsyncPage

__all__ = ["AsyncAPIClient"]

# The hooks and their colour: True for those that are awaited.
_HOOKS = {
    "_prepare_options": True,
    "_prepare_request": True,
    "_process_response": True,
    "_sleep_for_retry": True,
    "_request_api_list": False,
    "_should_retry": False,
    "_make_status_error": False,
    "_validate_headers": False,
    "_make_sse_decoder": False,
    "platform_headers": False,
}
_PROPERTIES = ("auth_headers", "default_headers", "default_query", "user_agent", "qs")
_CONFIGURATION = (
    "base_url, version, _strict_response_validation, max_retries, timeout, deadline, follow_redirects, http_client, "
    "custom_headers, custom_query, auth, middleware, retry, converter"
)


class AsyncAPIClient(Verbs):
    """A client of one HTTP API; SDK authors subclass it. See the README for an example.

    ``base_url``: what paths are appended to. ``timeout``: limits on single waits (:class:`Timeout`, or seconds);
    ``deadline``: seconds for a whole call, waits and retries included. ``max_retries``, ``retry``: see
    :class:`RetryPolicy`. ``http_client``: any :class:`Transport`, by default an :class:`HTTPTransport` of its own, which
    ``close`` closes. ``auth``: a bearer token, a ``(user, password)`` pair, or an :class:`Auth`. ``middleware``: see
    :class:`Middleware`. ``custom_headers``, ``custom_query``: sent
    with every request; ``omit`` as a value removes a default header. ``converter``: a cattrs converter with your own hooks.

    Wrong arguments are a TypeError or ValueError at construction. May be used with or without ``async with``.
    """

    idempotency_header: str | None = None
    max_decompression_ratio: float | None = 200.0
    max_event_size: int = 64 * 2**20
    max_error_body: int = 2**20
    allow_insecure_redirects: bool = False
    retry_count_header: str | None = "x-stainless-retry-count"

    _hooks_checked: ClassVar[bool] = False
    _has_own_prepare_options: ClassVar[bool] = False
    _has_own_retry_rule: ClassVar[bool] = False

    def __init__(
        self,
        *,
        base_url: str | URL,
        version: str = "0",
        _strict_response_validation: bool = False,
        max_retries: int = 2,
        timeout: float | Timeout | NotGiven | None = not_given,
        deadline: float | None = None,
        follow_redirects: bool = True,
        http_client: Transport | None = None,
        custom_headers: Mapping[str, str | Omit] | None = None,
        custom_query: Mapping[str, object] | None = None,
        auth: Auth | tuple[str, str] | str | None = None,
        middleware: Sequence[Layer | Middleware] = (),
        retry: RetryPolicy | None = None,
        converter: cattrs.Converter | None = None,
    ) -> None:
        # Late: what a call is made of is as large as all the rest.
        globals()["_calling"] = import_module("._calling", __package__)
        self._check_hooks()
        if http_client is None:
            from .transports._network import HTTPTransport

            http_client = HTTPTransport()
        self._custom_headers: dict[str, str | Omit] = {}
        self._custom_query: dict[str, object] = {}
        self._record: Recorder | None = None
        self._home = Home()
        self._kept_headers = KeptHeaders()
        self._closed = False
        self._auth_headers: Mapping[str, str] = {}  # credentials that are always the same
        self._auth: Auth | None = None  # those that are made for each request
        self._refused: list[Response] = []  # the last answer 401 to which no fresh credentials were asked for
        self._credential_names: frozenset[str] = frozenset()  # lower-case names of what auth_headers gave last
        self._owns_transport = True
        self._configure(
            {
                "base_url": base_url,
                "version": version,
                "_strict_response_validation": _strict_response_validation,
                "max_retries": max_retries,
                "deadline": deadline,
                "follow_redirects": follow_redirects,
                "http_client": http_client,
                "custom_headers": custom_headers,
                "custom_query": custom_query,
                "middleware": middleware,
                "retry": retry,
                "converter": converter,
            }
        )
        if auth is not None:  # else the userinfo of base_url stands
            self._configure({"auth": auth})
        # After the transport, which may have a timeout of its own.
        self._configure({"timeout": self._transport_timeout() if isinstance(timeout, NotGiven) else timeout})

    # -- configuration

    def _configure(self, values: Mapping[str, Any]) -> None:
        self._known_requests = _calling.KnownRequests()
        self._known_plans: dict[tuple[object, ...], CallPlan] = {}
        self._known_below: Mapping[str, str | Omit] | None = None  # the fields below the request's own
        # The base URL first: its userinfo counts as auth, which auth= overrides.
        for name, value in sorted(values.items(), key=lambda item: item[0] != "base_url"):
            match name:
                case _ if isinstance(value, NotGiven):
                    continue
                case "base_url":
                    self._set_base_url(value)
                case "auth":
                    self._auth_headers, self._auth = auth_of(value)
                case "version":
                    self._version = str(value)
                    self._platform = platform_headers(self._version)
                    below = ("accept", "accept-encoding", "user-agent", *(name.lower() for name in self._platform))
                    self._names_below_auth = frozenset(below)  # of the library's and the platform's layers
                case "_strict_response_validation":
                    self._strict = check_bool("_strict_response_validation", value)
                case "max_retries":
                    self._max_retries = check_retries(value)
                case "timeout":
                    self._timeout = Timeout.of(value)
                case "deadline":
                    self._deadline = check_seconds("deadline", value)
                case "follow_redirects":
                    self._follow_redirects = check_bool("follow_redirects", value)
                case "http_client":
                    self._transport = check_transport(value)
                case "custom_headers":
                    self._custom_headers = merge_headers(self._custom_headers, value)
                case "custom_query":
                    self._custom_query = merge_query(self._custom_query, value)
                case "middleware":
                    self._call_ring, self._attempt_ring = make_rings(value)
                case "retry":
                    if value is not None and not isinstance(value, RetryPolicy):
                        raise TypeError(f"retry must be a RetryPolicy, not {type(value).__name__}")
                    self._retry = value or RetryPolicy()
                case "converter":
                    self._codec = codec_of(value)
                case _:
                    raise TypeError(f"unknown option {name!r}; the options are: {_CONFIGURATION}")

    def _set_base_url(self, value: str | URL) -> None:
        url = URL(value)
        if url.scheme not in ("http", "https"):
            refuse_scheme(url)
        if url.credentials is not None:
            self._auth_headers, self._auth = auth_of(url.credentials)
        path = url.path if url.path.endswith("/") else url.path + "/"
        self._base_url = url.replace(path=path, userinfo=False)

    def _transport_timeout(self) -> Timeout:
        own = getattr(self._transport, "timeout", None)
        return own if isinstance(own, Timeout) else DEFAULT_TIMEOUT

    @classmethod
    def _check_hooks(cls) -> None:
        """TypeError for a hook of the wrong colour. Looked at once for each class."""
        if cls.__dict__.get("_hooks_checked"):
            return
        for name, is_async in _HOOKS.items():
            hook = getattr(cls, name)
            if not callable(hook) or inspect.iscoroutinefunction(hook) is not is_async:
                raise TypeError(f"{cls.__name__}.{name} must be {'an async' if is_async else 'a plain'} method")
        for name in _PROPERTIES:
            if inspect.isfunction(inspect.getattr_static(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} must be a property: put @property above it")
        for name in ("idempotency_header", "retry_count_header"):
            header: object = getattr(cls, name)
            if header is not None and not isinstance(header, str):
                raise TypeError(f"{cls.__name__}.{name} must be the name of a header, or None")
        cls._has_own_prepare_options = cls._prepare_options is not AsyncAPIClient._prepare_options
        cls._has_own_retry_rule = cls._should_retry is not AsyncAPIClient._should_retry
        cls._hooks_checked = True

    @property
    def codec(self) -> Codec:
        """What encodes and decodes for this client, with the hooks of its converter."""
        return self._codec

    @property
    def base_url(self) -> URL:
        return self._base_url

    @property
    def timeout(self) -> Timeout:
        return self._timeout

    @property
    def max_retries(self) -> int:
        return self._max_retries

    @property
    def deadline(self) -> float | None:
        """Seconds for a whole call, None for no limit."""
        return self._deadline

    def with_options(self, **changes: Any) -> Self:
        """A copy with other options (the constructor's names), which shares the transport and does not close it.

        ``custom_headers`` and ``custom_query`` merge with the client's, everything else replaces.
        """
        new = copy.copy(self)
        for cls in type(self).__mro__:
            for name, value in vars(cls).items():
                if isinstance(value, functools.cached_property):  # resources: they hold the client
                    new.__dict__.pop(name, None)
        new._owns_transport = False
        new._kept_headers = KeptHeaders()
        new._configure(changes)
        return new

    copy = with_options

    @property
    def with_raw_response(self) -> Any:
        """The resources of this client, their methods giving the response (its body read)."""
        return ResourceView(self, async_to_raw_response_wrapper)

    @property
    def with_streaming_response(self) -> Any:
        """The resources of this client, their methods giving, in an ``async with``, the response, its body unread."""
        return ResourceView(self, async_to_streamed_response_wrapper)

    # -- life cycle

    def is_closed(self) -> bool:
        return self._closed

    def snapshot(self) -> Snapshot:
        """What the transport is doing now: each connection, and each call that waits for one. Empty where it does not say."""
        see: Callable[[], Snapshot] | None = getattr(self._transport, "snapshot", None)
        if see is not None:
            return see()
        from ._model.snapshot import Snapshot

        return Snapshot()

    async def close(self) -> None:
        """Close the transport this client was built with; requests under way end with APIConnectionError."""
        self._closed = True
        if self._owns_transport:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 1.0):
                await self._transport.aclose()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url.redacted}>"

    # -- what SDK authors override

    async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
        """Hook, once an attempt: change the options of this attempt, or return others."""
        return options

    @default
    async def _prepare_request(self, request: Request) -> None:
        """Hook, once a send: the last look at the request, for example to sign it. Redirects are sends too, also those to
        another origin, for which ``request.url`` is to be looked at; Host is not set yet."""

    @default
    async def _process_response(
        self,
        *,
        cast_to: Any,
        options: RequestOptions,
        response: Response,
        stream: bool,
        stream_cls: Any,
        retries_taken: int = 0,
    ) -> Any:
        """Hook, once a delivered call: from the response to the result."""
        wrapper = self._wrap(cast_to, options, response, stream, stream_cls, retries_taken)
        return wrapper if options.raw_mode is not RawMode.PARSED else await wrapper.parse()

    async def _sleep_for_retry(
        self, *, retries_taken: int, max_retries: int, options: RequestOptions, response: Response | None
    ) -> None:
        """Hook, once a retry: waits as long as the retry rules say; an override replaces that wait."""
        from ._calling import retry_wait

        await anyio.sleep(retry_wait.get())

    def _should_retry(self, response: Response) -> bool:
        """Hook, once an error status while a retry is left: whether to retry."""
        return _retry.status_asks_for_retry(self._retry, response.status_code, response.headers)

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> APIStatusError:
        """Hook, once, when raised: the error for a status that is no success."""
        return status_error_class(response.status_code)(err_msg, response=response, body=body)

    @default
    def _validate_headers(self, headers: Headers, omitted: frozenset[str]) -> None:
        """Hook, once an attempt: raise if a needed header is missing. *omitted*: lower-case names left out on purpose."""

    def _make_sse_decoder(self) -> Any:
        """Hook, once an attempt with a stream: an object with ``feed(bytes) -> list[ServerSentEvent]``."""
        from ._streaming import make_decoder

        return make_decoder(self)

    @property
    def auth_headers(self) -> Mapping[str, str]:
        """The credentials, as headers. They never go to another origin."""
        return self._auth_headers

    @property
    def default_headers(self) -> Mapping[str, str | Omit]:
        """Everything below the request's own headers; extend it by ``{**super().default_headers, ...}``."""
        credentials = self.auth_headers
        self._credential_names = frozenset(name.lower() for name in credentials)
        return {
            "Accept": DEFAULT_ACCEPT,
            "Accept-Encoding": accept_encoding(),
            "User-Agent": self.user_agent,
            **self.platform_headers(),
            **credentials,
            **self._custom_headers,
        }

    def _is_usual(self) -> bool:
        """Whether nobody, a subclass or a patch, has a say in what is below the request."""
        cls = type(self)
        says = (
            cls.default_headers,
            cls.auth_headers,
            cls.user_agent,
            cls.platform_headers,
            cls.default_query,
            cls.qs,
            cls.base_url,
        )
        return says == _OURS and "platform_headers" not in self.__dict__

    def _headers_below(self, is_usual: bool) -> Mapping[str, str | Omit]:
        """``default_headers``, made once where nobody else has a say in it."""
        if not is_usual:
            return self.default_headers
        if self._known_below is None:
            self._known_below = self.default_headers
        return self._known_below

    def _plan_of(
        self, delivers: Delivery, max_retries: int, deadline: float | None, options: RequestOptions
    ) -> CallPlan:
        """What does not change during a call; the same one for calls that look alike."""
        follows = self._follows(options)
        key = (
            delivers,
            max_retries,
            self.idempotency_header,
            self._auth is None,
            follows,
            self.allow_insecure_redirects,
        )
        plan = self._known_plans.get(key)
        if plan is None:
            if len(self._known_plans) >= MAX_KNOWN_PLANS:
                self._known_plans.clear()
            from ._core.call import CallPlan

            plan = self._known_plans[key] = CallPlan(
                max_retries=max_retries,
                policy=self._retry,
                delivers=delivers,
                idempotency_header=self.idempotency_header or "Idempotency-Key",
                authorize=self._auth is not None,
                follow_redirects=follows,
                allow_insecure_redirects=self.allow_insecure_redirects,
            )
        return plan if deadline is None else attrs.evolve(plan, deadline=deadline)

    @property
    def default_query(self) -> Mapping[str, object]:
        """Parameters of every request."""
        return self._custom_query

    @property
    def user_agent(self) -> str:
        return f"{type(self).__name__}/Python {self._version}"

    @property
    def qs(self) -> Querystring:
        """How nested parameters are written."""
        return _DEFAULT_QS

    def platform_headers(self) -> dict[str, str]:
        """What the server may know of this machine: language, versions, system."""
        return dict(self._platform)

    # -- requests

    async def request(
        self,
        cast_to: Any,
        options: RequestOptions | Mapping[str, Any],
        *,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """Make one call, retries included; its result as *cast_to*, or as a *stream_cls* where *stream* is True."""
        return await self._make_call(cast_to, RequestOptions.of(options), stream, stream_cls).result()

    def _make_call(self, cast_to: Any, options: RequestOptions, stream: bool, stream_cls: Any) -> CallDriver:
        """The call, its arguments checked."""
        calling = _calling
        if self._closed:
            raise RuntimeError("this client has been closed")
        if options.headers is not not_given and not isinstance(options.headers, NotGiven):
            headers, mode = take_raw_mode(options.headers)
            if mode is not RawMode.PARSED:
                options = attrs.evolve(options, headers=headers, raw_mode=mode)
        if isinstance(cast_to, type):
            streams = sys.modules.get(f"{__package__}._streaming")  # nobody has a stream class without it
            if not stream and streams is not None and issubclass(cast_to, streams.AsyncStream):
                name = cast_to.__name__
                raise TypeError(f"cast_to={name} is a stream class: pass stream=True, stream_cls={name}")
        elif get_origin(cast_to) is None and hasattr(cast_to, "__attrs_attrs__"):
            raise TypeError(f"cast_to= takes a class, not an instance of {type(cast_to).__name__}")
        if not stream and stream_cls is None:
            delivers = calling.Delivery.HEAD if options.raw_mode is RawMode.STREAMED else calling.Delivery.BODY
            made: CallDriver = calling.CallDriver(self, options, cast_to, delivers=delivers)
            return made
        from ._streaming import AsyncStream

        stream_class: Any = (get_origin(stream_cls) or stream_cls) if stream_cls is not None else AsyncStream
        if not (isinstance(stream_class, type) and issubclass(stream_class, AsyncStream)):
            raise TypeError(f"stream_cls= takes a subclass of AsyncStream, not {stream_cls!r}")
        delivers = calling.Delivery.BODY
        if options.raw_mode is RawMode.STREAMED:
            delivers = calling.Delivery.HEAD
        elif stream:
            first = stream_class.wait_first_event and options.raw_mode is RawMode.PARSED
            delivers = calling.Delivery.FIRST_EVENT if first else calling.Delivery.HEAD
        accept: str | None = stream_class.accept if stream else None
        call: CallDriver = calling.CallDriver(
            self, options, cast_to, stream=stream, stream_cls=stream_cls, delivers=delivers, accept=accept
        )
        return call

    async def _reopen(self, options: RequestOptions, deadline: float | None, *, accept: str | None = None) -> Response:
        """One more call, of which nothing but the head is wanted yet: for streams and downloads that go on."""
        if self._closed:
            raise RuntimeError("this client has been closed")
        left = None if deadline is None else max(deadline - anyio.current_time(), 1e-9)
        options = attrs.evolve(options, deadline=left)

        delivers = _calling.Delivery.HEAD
        response = await _calling.CallDriver(self, options, object, delivers=delivers, accept=accept).run()
        if isinstance(response, Result):
            raise TypeError("a middleware gave no response where the rest of an earlier one was asked for")
        return response

    async def _request_page(self, page: type[AsyncPage[Any]], model: Any, options: RequestOptions) -> Any:
        # Not page[model], which a subclass that left out the type argument (class Pets(CursorPage)) would refuse.
        cast_to: Any = types.GenericAlias(get_origin(page) or page, (model,))
        parser = options.post_parser
        # Iterators inside the body are expanded once, for all pages.
        call = self._make_call(
            cast_to, _calling.expand(self._codec, attrs.evolve(options, post_parser=not_given)), False, None
        )
        result = await call.result()
        response = call.response
        if response is None:
            return result  # a middleware's own
        # Whoever asked for a raw page has it.
        sent = attrs.evolve(call.given, raw_mode=RawMode.PARSED, post_parser=parser)

        def with_origin(made: Any) -> Any:
            for name, value in (("_client", self), ("_model", model), ("_options", sent), ("_response", response)):
                object.__setattr__(made, name, value)
            return parser(made) if callable(parser) else made

        if not isinstance(result, BaseAPIResponse):
            return with_origin(result)
        result._options = attrs.evolve(result._options, post_parser=with_origin)
        return cast(Any, result)

    def _wrap(
        self,
        cast_to: Any,
        options: RequestOptions,
        response: Response,
        stream: bool,
        stream_cls: Any,
        retries_taken: int,
    ) -> AsyncAPIResponse[Any]:
        origin = get_origin(cast_to) or cast_to
        cls: type[AsyncAPIResponse[Any]] = AsyncAPIResponse
        if isinstance(origin, type) and issubclass(origin, BaseAPIResponse) and issubclass(origin, AsyncAPIResponse):
            cls = cast(Any, origin)
        return cls(
            raw=response,
            cast_to=cast_to,
            client=self,
            stream=stream,
            stream_cls=stream_cls,
            options=options,
            retries_taken=retries_taken,
        )

    def _is_strict(self, options: RequestOptions | None) -> bool:
        if options is None or isinstance(options.strict, NotGiven):
            return self._strict
        return options.strict

    def _follows(self, options: RequestOptions) -> bool:
        follow = options.follow_redirects
        return self._follow_redirects if isinstance(follow, NotGiven) else follow

    def _idempotency_key(self, options: RequestOptions) -> str | None:
        """The key that goes along: the caller's, or one made for this call, or none."""
        key = options.idempotency_key
        if not isinstance(key, NotGiven):
            return key
        if self.idempotency_header is None or options.method not in ("POST", "PATCH"):
            return None
        import uuid

        return f"stainless-python-retry-{uuid.uuid4()}"

    # -- errors

    def _make_error_of(self, response: Response, reason: str | None = None) -> APIStatusError:
        """The error for a response whose body has been read as far as it will be. *reason*: why a redirect was not followed."""
        text = response.text
        body: object = text or None
        try:
            body = response.json() if text else None
        except ValueError:
            pass
        message = f"Error code: {response.status_code}"
        found = find_message(body)
        if found:
            message += f" - {found}"
        if reason is not None:
            message += f" ({reason})"
        error: Any = self._make_status_error(message, body=body, response=response)
        if not isinstance(error, APIError):
            kind = type(error).__name__
            raise TypeError(f"{type(self).__name__}._make_status_error must return an APIStatusError, not {kind}")
        return cast("APIStatusError", error)

    def _make_stream_error(self, body: object, status: int | None, response: Response) -> APIError:
        """The error for an error event of a stream; *status*: the one that its type names."""
        message = find_message(body) or "The stream ended with an error."
        if status is None:
            return APIError(message, response.request, body=body)
        named = Response(status, headers=response.headers, request=response.request)
        return self._make_status_error(f"Error code: {status} - {message}", body=body, response=named)


_DEFAULT_QS = Querystring()
MAX_KNOWN_PLANS = 100

# What the class itself says, so that a patch of it is noticed as that of a subclass is.
_OURS = (
    AsyncAPIClient.default_headers,
    AsyncAPIClient.auth_headers,
    AsyncAPIClient.user_agent,
    AsyncAPIClient.platform_headers,
    AsyncAPIClient.default_query,
    AsyncAPIClient.qs,
    AsyncAPIClient.base_url,
)
