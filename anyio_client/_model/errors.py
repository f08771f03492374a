"""The tree of errors. They carry facts, so that the retry rules and users can decide; nobody parses their text.

Every constructor stands in the contract; subclasses of SDK authors may have any other, because pickling and copying
do not call it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import attrs

from .request import Request
from .timeouts import Timings

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AnyioClientError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "ContentDecodingError",
    "ContentTooLargeError",
    "DeadlineExceededError",
    "DecodeError",
    "GatewayTimeoutError",
    "InternalServerError",
    "LocalProtocolError",
    "NotFoundError",
    "Outcome",
    "OverloadedError",
    "PermissionDeniedError",
    "Phase",
    "PoolTimeoutError",
    "PreconditionFailedError",
    "ProxyAnswer",
    "ProxyError",
    "RateLimitError",
    "ReadTimeoutError",
    "RemoteProtocolError",
    "RequestTimeoutError",
    "ServiceUnavailableError",
    "StreamTruncatedError",
    "TLSError",
    "TooManyRedirectsError",
    "UnprocessableEntityError",
    "WriteTimeoutError",
    "client_closed",
    "status_error_class",
]


class Phase(enum.StrEnum):
    """What a send was doing."""

    POOL = "pool"  # waiting for a connection
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    SEND = "send"
    RECEIVE = "receive"  # waiting for the head
    BODY = "body"


class Outcome(enum.StrEnum):
    """What the peer may have made of a request that failed: the question every retry asks."""

    NOT_SENT = "not_sent"  # nothing reached the peer
    REFUSED = "refused"  # the peer said that it did not process it
    ANSWERED = "answered"  # a good head came, its body was lost
    UNKNOWN = "unknown"  # something may have been processed


@attrs.frozen
class Attempt:
    """What one attempt of a call met. Times are seconds: ``started`` since the call began, ``wait`` after it.

    ``status_code`` where an answer came, ``error`` (the error's class and text) where none came or it was lost.
    """

    started: float
    elapsed: float
    status_code: int | None = None
    error: str | None = None
    phase: Phase | None = None
    outcome: Outcome | None = None
    wait: float | None = None

    def __str__(self) -> str:
        met = f"status {self.status_code}" if self.error is None else self.error
        wait = "" if self.wait is None else f", then {round(self.wait, 3):g} s wait"
        return f"{met} after {round(self.elapsed, 3):g} s{wait}"


class ResponseFacts(Protocol):
    """What an error needs of a response (the public ``Response`` has more)."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def http_version(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def request(self) -> Request | None: ...


def _restore(cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class AnyioClientError(Exception):
    """The root of what this library raises about a call. Misuse is TypeError, ValueError or RuntimeError."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class APIError(AnyioClientError):
    """A call that failed. ``message, request, body`` (parsed JSON, text, or None).

    ``attempts``: what each attempt met. ``retry_after``: seconds that the server asked to wait, or None.
    """

    message: str
    request: Request | None
    body: object | None
    attempts: tuple[Attempt, ...]
    retry_after: float | None

    def __init__(self, message: str, request: Request | None = None, *, body: object | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.body = body
        self.attempts = ()
        self.retry_after = None

    def __str__(self) -> str:
        if len(self.attempts) < 2:
            return self.message
        return f"{self.message} ({len(self.attempts)} attempts)"

    @property
    def story(self) -> str:
        """The attempts as text, one line each."""
        return "\n".join(f"attempt {number}: {attempt}" for number, attempt in enumerate(self.attempts, 1))


# --- nothing, or not enough, came back ------------------------------------------------------------------------


class APIConnectionError(APIError):
    """No answer, or not all of it. ``phase``: what was being done; ``outcome``: what the peer may have made of it.

    ``retryable``: False where trying again cannot help. ``reused``: the connection had carried a request before, and
    ended before any byte of an answer to this one.
    """

    phase: Phase | None
    outcome: Outcome
    retryable: bool = True
    reused: bool = False

    def __init__(
        self,
        message: str = "Connection error.",
        *,
        request: Request | None = None,
        phase: Phase | None = None,
        outcome: Outcome = Outcome.UNKNOWN,
    ) -> None:
        super().__init__(message, request)
        self.phase = phase
        self.outcome = outcome


def client_closed(
    request: Request | None, phase: Phase | None = None, outcome: Outcome = Outcome.UNKNOWN
) -> APIConnectionError:
    """The error of a call that ``close()`` ends."""
    error = APIConnectionError("The client was closed.", request=request, phase=phase, outcome=outcome)
    error.retryable = False
    return error


class ConnectError(APIConnectionError):
    """No connection could be made: name not found, refused, unreachable."""


class TLSError(ConnectError):
    """The TLS handshake failed, or the peer ended the TLS session with an alert."""


@attrs.frozen
class ProxyAnswer:
    """What an HTTP proxy answered in place of opening a tunnel. ``content``: the body as it came, 64 KiB at most."""

    status_code: int
    headers: Mapping[str, str]
    http_version: str
    content: bytes = attrs.field(repr=False)
    request: Request | None = attrs.field(default=None, repr=False)

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


class ProxyError(ConnectError):
    """The proxy cannot be reached, refused, or answered what is no answer of a proxy.

    ``status_code`` and ``response``: what an HTTP proxy answered to CONNECT, or its 407, None where there was no answer.
    """

    status_code: int | None = None
    response: ProxyAnswer | None = None


class ConnectionLostError(APIConnectionError):
    """The connection was reset, or ended before the answer did."""


class RemoteProtocolError(APIConnectionError):
    """The peer sent what HTTP does not allow, or more than our limits allow."""


class LocalProtocolError(APIConnectionError):
    """The request breaks HTTP: its body does not fit its declared length."""

    retryable = False


class TooManyRedirectsError(APIConnectionError):
    """More redirects than are followed."""

    retryable = False


class ContentDecodingError(APIConnectionError):
    """The Content-Encoding of the answer could not be undone, or made more bytes than allowed."""

    retryable = False


class StreamTruncatedError(APIConnectionError):
    """A stream ended before the event that ends it."""


class APITimeoutError(APIConnectionError):
    """A wait took longer than its limit. The subclasses say which.

    ``timings`` and ``body_size`` (bytes of the body so far) tell how far the send came, None where none was under way.
    """

    timings: Timings | None = None
    body_size: int | None = None

    def __init__(
        self,
        message: str = "Request timed out.",
        *,
        request: Request | None = None,
        phase: Phase | None = None,
        outcome: Outcome = Outcome.UNKNOWN,
    ) -> None:
        super().__init__(message, request=request, phase=phase, outcome=outcome)


class ConnectTimeoutError(APITimeoutError):
    """TCP, TLS and proxy together took longer than ``Timeout.connect``."""


class ReadTimeoutError(APITimeoutError):
    """The peer sent nothing for ``Timeout.read``."""


class WriteTimeoutError(APITimeoutError):
    """The peer took nothing for ``Timeout.write``."""


class PoolTimeoutError(APITimeoutError):
    """No connection was free for ``Timeout.pool``."""


class DeadlineExceededError(APITimeoutError):
    """The call's deadline passed. The message says where the time went."""


# --- an answer came, and it is no success -----------------------------------------------------------------------


class APIStatusError(APIError):
    """An answer whose status is no success. ``status_code, response, request_id, body``."""

    response: ResponseFacts
    status_code: int
    request_id: str | None

    def __init__(self, message: str, *, response: ResponseFacts, body: object | None) -> None:
        super().__init__(message, response.request, body=body)
        self.response = response
        self.status_code = response.status_code
        self.request_id = find_request_id(response.headers)


def find_request_id(headers: Mapping[str, str]) -> str | None:
    """The server's name for this request: the field ``request-id``, else ``x-request-id``."""
    return headers.get("request-id") or headers.get("x-request-id")


class BadRequestError(APIStatusError):
    """400"""


class AuthenticationError(APIStatusError):
    """401"""


class PermissionDeniedError(APIStatusError):
    """403"""


class NotFoundError(APIStatusError):
    """404"""


class RequestTimeoutError(APIStatusError):
    """408"""


class ConflictError(APIStatusError):
    """409"""


class PreconditionFailedError(APIStatusError):
    """412"""


class ContentTooLargeError(APIStatusError):
    """413"""


class UnprocessableEntityError(APIStatusError):
    """422"""


class RateLimitError(APIStatusError):
    """429"""


class InternalServerError(APIStatusError):
    """500 and above"""


class ServiceUnavailableError(InternalServerError):
    """503"""


class GatewayTimeoutError(InternalServerError):
    """504"""


class OverloadedError(InternalServerError):
    """529"""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: ContentTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    529: OverloadedError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """The class for a status that is no success."""
    return _BY_STATUS.get(status_code, InternalServerError if status_code >= 500 else APIStatusError)


# --- an answer came, and it is not what was asked for --------------------------------------------------------------


class APIResponseValidationError(APIError):
    """A good status, and a body that is not what ``cast_to`` asks for. ``response, status_code, body``."""

    response: ResponseFacts
    status_code: int

    def __init__(
        self,
        message: str = "The answer is not what was asked for.",
        *,
        response: ResponseFacts,
        body: object | None = None,
    ) -> None:
        super().__init__(message, response.request, body=body)
        self.response = response
        self.status_code = response.status_code


SHOWN_PROBLEMS = 10  # in the message; all of them stand in ``problems``


def _summary(problems: list[str]) -> str:
    more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    return f"The answer does not fit: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}"


class DecodeError(APIResponseValidationError):
    """The JSON does not fit ``cast_to``. ``problems``: one text each, beginning with its JSON path."""

    problems: list[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        response: ResponseFacts,
        body: object | None = None,
        problems: list[str] | None = None,
    ) -> None:
        self.problems = problems or []
        super().__init__(message or _summary(self.problems), response=response, body=body)

    @classmethod
    def of(cls, problems: list[str], response: ResponseFacts, body: object) -> Self:
        return cls(response=response, body=body, problems=problems)
