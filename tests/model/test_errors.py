"""The tree of errors: constructors, facts, pickling and copying (DESIGN 4.1, "Errors")."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anyio_client._model import errors
from anyio_client._model.errors import (
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
    find_request_id,
    status_error_class,
)
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request


@attrs.frozen
class Answer:
    """The facts of a response, without a transport."""

    status_code: int = 500
    headers: Headers = attrs.field(factory=Headers)
    http_version: str = "HTTP/1.1"
    text: str = "s3cret text"
    request: Request | None = None


REQUEST = Request(
    "POST", "https://user:s3cret@h/x?key=s3cret", headers={"Authorization": "s3cret"}, content=b"s3cret body"
)
ATTEMPTS = (
    Attempt(0.0, 0.5, status_code=500, wait=0.5),
    Attempt(1.0, 0.25, error="ReadTimeoutError: slow", phase=Phase.RECEIVE, outcome=Outcome.UNKNOWN),
)

CONNECTION_ERRORS: list[type[APIConnectionError]] = [
    APIConnectionError,
    ConnectError,
    TLSError,
    ProxyError,
    ConnectionLostError,
    RemoteProtocolError,
    LocalProtocolError,
    TooManyRedirectsError,
    ContentDecodingError,
    StreamTruncatedError,
]
TIMEOUT_ERRORS: list[type[APIConnectionError]] = [
    APITimeoutError,
    ConnectTimeoutError,
    ReadTimeoutError,
    WriteTimeoutError,
    PoolTimeoutError,
    DeadlineExceededError,
]
STATUS_ERRORS: list[tuple[int, type[APIStatusError]]] = [
    (400, BadRequestError),
    (401, AuthenticationError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (408, RequestTimeoutError),
    (409, ConflictError),
    (412, PreconditionFailedError),
    (413, ContentTooLargeError),
    (422, UnprocessableEntityError),
    (429, RateLimitError),
    (500, InternalServerError),
    (503, ServiceUnavailableError),
    (504, GatewayTimeoutError),
    (529, OverloadedError),
]
VALIDATION_ERRORS: list[type[APIResponseValidationError]] = [APIResponseValidationError, DecodeError]

ALL = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


def make(cls: type[AnyioClientError]) -> AnyioClientError:
    """An error of this class with all facts that its constructor takes."""
    answer = Answer(headers=Headers({"request-id": "r1"}), request=REQUEST)
    if issubclass(cls, APIStatusError):
        return cls("Error code: 500", response=answer, body={"a": [1]})
    if issubclass(cls, DecodeError):
        return cls(response=answer, body={"a": [1]}, problems=["$.a: not a number", "$.b: missing"])
    if issubclass(cls, APIResponseValidationError):
        return cls("not what was asked for", response=answer, body="text")
    if issubclass(cls, APIConnectionError):
        return cls("it broke", request=REQUEST, phase=Phase.SEND, outcome=Outcome.REFUSED)
    if issubclass(cls, APIError):
        return cls("it failed", REQUEST, body=[1])
    return cls("root")


# --- the tree -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "children"),
    [
        (Exception, [AnyioClientError]),
        (AnyioClientError, [APIError]),
        (APIError, [APIConnectionError, APIStatusError, APIResponseValidationError]),
        (
            APIConnectionError,
            [
                ConnectError,
                ConnectionLostError,
                RemoteProtocolError,
                LocalProtocolError,
                TooManyRedirectsError,
                ContentDecodingError,
                StreamTruncatedError,
                APITimeoutError,
            ],
        ),
        (ConnectError, [TLSError, ProxyError]),
        (APITimeoutError, TIMEOUT_ERRORS[1:]),
        (
            APIStatusError,
            [
                cls
                for _, cls in STATUS_ERRORS
                if cls not in (ServiceUnavailableError, GatewayTimeoutError, OverloadedError)
            ],
        ),
        (InternalServerError, [ServiceUnavailableError, GatewayTimeoutError, OverloadedError]),
        (APIResponseValidationError, [DecodeError]),
    ],
)
def test_each_error_stands_where_the_contract_has_it(parent: type, children: list[type]) -> None:
    for child in children:
        assert child.__bases__ == (parent,)


def test_the_tables_of_this_file_have_every_error() -> None:
    named = {AnyioClientError, APIError, APIStatusError, *CONNECTION_ERRORS, *TIMEOUT_ERRORS, *VALIDATION_ERRORS}
    assert named | {cls for _, cls in STATUS_ERRORS} == set(ALL)


@pytest.mark.parametrize("cls", ALL)
def test_no_error_is_an_error_of_misuse_or_of_the_system(cls: type) -> None:
    assert not issubclass(cls, TypeError | ValueError | RuntimeError | OSError)
    assert cls.__doc__


@pytest.mark.parametrize(
    ("enum", "values"),
    [
        (Phase, ["pool", "connect", "proxy", "tls", "send", "receive", "body"]),
        (Outcome, ["not_sent", "refused", "answered", "unknown"]),
    ],
)
def test_phases_and_outcomes_are_strings_with_upper_case_names(enum: Any, values: list[str]) -> None:
    assert [str(member) for member in enum] == values
    assert [member.name for member in enum] == [value.upper() for value in values]
    assert all(member == value and isinstance(member, str) for member, value in zip(enum, values, strict=True))


# --- constructors and facts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [cls for cls in ALL if issubclass(cls, APIError)])
def test_every_api_error_has_a_message_a_request_a_body_attempts_and_a_retry_after(cls: type[APIError]) -> None:
    error = make(cls)
    assert isinstance(error, APIError)
    assert error.request is REQUEST
    assert error.attempts == ()
    assert error.retry_after is None
    assert str(error) == error.message
    assert error.args == (error.message,)
    assert hasattr(error, "body")


def test_an_api_error_needs_only_a_message() -> None:
    error = APIError("it failed")
    assert (error.message, error.request, error.body) == ("it failed", None, None)
    assert APIError("x", REQUEST, body=0).body == 0
    assert APIError("x", request=REQUEST).request is REQUEST
    with pytest.raises(TypeError):
        APIError()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        APIError("x", REQUEST, "body")  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", CONNECTION_ERRORS + TIMEOUT_ERRORS)
def test_a_connection_error_needs_nothing_and_knows_nothing_then(cls: type[APIConnectionError]) -> None:
    error = cls()
    assert error.message == ("Request timed out." if issubclass(cls, APITimeoutError) else "Connection error.")
    assert (error.request, error.phase, error.outcome, error.body) == (None, None, Outcome.UNKNOWN, None)
    assert error.reused is False
    assert error.retryable is (cls not in (LocalProtocolError, TooManyRedirectsError, ContentDecodingError))


@pytest.mark.parametrize("cls", CONNECTION_ERRORS + TIMEOUT_ERRORS)
def test_a_connection_error_carries_phase_and_outcome(cls: type[APIConnectionError]) -> None:
    for phase, outcome in itertools.product(Phase, Outcome):
        error = cls("text", request=REQUEST, phase=phase, outcome=outcome)
        assert (error.message, error.request, error.phase, error.outcome) == ("text", REQUEST, phase, outcome)
    assert cls(message="by name").message == "by name"


@pytest.mark.parametrize("cls", [APIStatusError, *(cls for _, cls in STATUS_ERRORS)])
def test_a_status_error_carries_its_response(cls: type[APIStatusError]) -> None:
    answer = Answer(418, Headers({"X-Request-Id": "r2"}), request=REQUEST)
    error = cls("Error code: 418 - teapot", response=answer, body={"message": "teapot"})
    assert error.response is answer
    assert error.request is REQUEST
    assert error.status_code == error.response.status_code == 418
    assert error.request_id == "r2"
    assert error.body == {"message": "teapot"}
    assert str(error) == "Error code: 418 - teapot"
    assert error.response.http_version == "HTTP/1.1"
    assert error.response.text == "s3cret text"
    with pytest.raises(TypeError):
        cls("x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({}, None),
        ({"Request-Id": "a"}, "a"),
        ({"X-Request-ID": "b"}, "b"),
        ({"x-request-id": "b", "request-id": "a"}, "a"),
    ],
)
def test_the_request_id_is_the_field_request_id_or_else_x_request_id(
    headers: dict[str, str], request_id: str | None
) -> None:
    assert find_request_id(Headers(headers)) == request_id


@pytest.mark.parametrize(("status", "cls"), STATUS_ERRORS)
def test_a_common_status_has_a_class_of_its_own(status: int, cls: type[APIStatusError]) -> None:
    assert status_error_class(status) is cls


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (300, APIStatusError),
        (304, APIStatusError),
        (402, APIStatusError),
        (418, APIStatusError),
        (499, APIStatusError),
        (501, InternalServerError),
        (502, InternalServerError),
        (505, InternalServerError),
        (599, InternalServerError),
        (600, InternalServerError),
        (999, InternalServerError),
    ],
)
def test_any_other_status_has_the_class_of_its_kind(status: int, cls: type[APIStatusError]) -> None:
    assert status_error_class(status) is cls


def test_a_validation_error_carries_its_response() -> None:
    answer = Answer(200, request=REQUEST)
    error = APIResponseValidationError(response=answer)
    assert error.message == "The answer is not what was asked for."
    assert (error.response, error.status_code, error.body, error.request) == (answer, 200, None, REQUEST)
    assert APIResponseValidationError("m", response=answer, body=[1]).body == [1]


def test_a_decode_error_lists_its_problems() -> None:
    answer = Answer(200)
    error = DecodeError.of(["$.a: not a number", "$.b: missing"], answer, {"a": "x"})
    assert type(error) is DecodeError
    assert error.problems == ["$.a: not a number", "$.b: missing"]
    assert str(error) == "The answer does not fit: $.a: not a number; $.b: missing"
    assert error.body == {"a": "x"}
    assert DecodeError("own", response=answer).problems == []
    assert str(DecodeError("own", response=answer, problems=["p"])) == "own"


# --- attempts -------------------------------------------------------------------------------------------------


def test_an_error_tells_how_many_attempts_there_were_and_what_they_met() -> None:
    error = APIError("it failed")
    error.attempts = ATTEMPTS[:1]
    assert str(error) == "it failed"
    error.attempts = ATTEMPTS
    assert str(error) == "it failed (2 attempts)"
    assert error.message == "it failed"
    assert error.story == (
        "attempt 1: status 500 after 0.5 s, then 0.5 s wait\nattempt 2: ReadTimeoutError: slow after 0.25 s"
    )
    assert APIError("x").story == ""


def test_an_attempt_is_a_value() -> None:
    attempt = ATTEMPTS[1]
    assert (attempt.started, attempt.elapsed, attempt.status_code, attempt.wait) == (1.0, 0.25, None, None)
    assert pickle.loads(pickle.dumps(attempt)) == attempt
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        attempt.wait = 1.0  # type: ignore[misc]


# --- pickling and copying ---------------------------------------------------------------------------------------


class Plain(APIError):
    """As SDK authors write it: nothing of its own."""


class OwnConstructor(APIStatusError):
    """A constructor that cannot be called with ``args``."""

    def __init__(self, code: int, *, hint: str, response: Answer) -> None:
        super().__init__(f"{code}: {hint}", response=response, body=None)
        self.code = code
        self.hint = hint


class NoArguments(APIConnectionError):
    def __init__(self) -> None:
        super().__init__("fixed text", phase=Phase.TLS)
        self.extra = {"a": [1]}


class ManyArguments(APITimeoutError):
    def __init__(self, a: int, b: int, /, *rest: int, **more: int) -> None:
        super().__init__(f"{a}{b}", outcome=Outcome.NOT_SENT)
        self.args = (a, b, *rest)
        self.more = more


class OwnText(DecodeError):
    def __str__(self) -> str:
        return "own text"


class OwnRoot(AnyioClientError):
    def __init__(self, *, needed: str) -> None:
        super().__init__()
        self.needed = needed


OWN: list[AnyioClientError] = [
    Plain("x", REQUEST, body={"a": 1}),
    OwnConstructor(7, hint="h", response=Answer(request=REQUEST)),
    NoArguments(),
    ManyArguments(1, 2, 3, more=4),
    OwnText(response=Answer(), problems=["p"]),
    OwnRoot(needed="n"),
]

DUPLICATES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda error: pickle.loads(pickle.dumps(error)),
    *(lambda error, p=protocol: pickle.loads(pickle.dumps(error, p)) for protocol in range(2, pickle.HIGHEST_PROTOCOL)),
]
WAYS = ["copy", "deepcopy", "pickle", *(f"pickle-{p}" for p in range(2, pickle.HIGHEST_PROTOCOL))]


def check_twin(error: AnyioClientError, twin: AnyioClientError) -> None:
    assert twin is not error
    assert type(twin) is type(error)
    assert twin.args == error.args
    assert str(twin) == str(error)
    assert repr(twin) == repr(error)
    assert vars(twin) == vars(error)
    assert vars(twin) is not vars(error)


@pytest.mark.parametrize("duplicate", DUPLICATES, ids=WAYS)
def test_every_error_copies_and_pickles_with_its_facts(duplicate: Callable[[Any], Any]) -> None:
    for cls in ALL:
        error = make(cls)
        if isinstance(error, APIError):
            error.attempts = ATTEMPTS
            error.retry_after = 1.5
        if isinstance(error, APIConnectionError):
            error.reused = True
            error.retryable = False
        error.add_note("a note")
        twin = duplicate(error)
        check_twin(error, twin)
        assert twin.__notes__ == ["a note"]
        if isinstance(twin, APIError) and twin.request is not None:
            assert twin.request == REQUEST
            assert twin.request.content == b"s3cret body"


@pytest.mark.parametrize("duplicate", DUPLICATES, ids=WAYS)
@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
def test_errors_of_sdk_authors_copy_and_pickle_whatever_their_constructor(
    error: AnyioClientError, duplicate: Callable[[Any], Any]
) -> None:
    check_twin(error, duplicate(error))


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
def test_a_copy_can_be_copied_and_raised(error: AnyioClientError) -> None:
    twin = copy.deepcopy(pickle.loads(pickle.dumps(copy.copy(error))))
    check_twin(error, twin)
    with pytest.raises(type(error)) as caught:
        raise twin
    assert caught.value is twin


def test_an_error_about_a_streamed_body_pickles_without_the_body() -> None:
    request = Request("POST", "http://h/", content=(piece for piece in [b"a"]))
    error = ConnectionLostError(request=request)
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert twin.request is not None
        assert twin.request.url == request.url
        assert twin.request.content == b""
    shallow = copy.copy(error)
    assert shallow.request is request


def test_a_deep_copy_shares_nothing_that_can_change() -> None:
    error = DecodeError(response=Answer(), body={"a": [1]}, problems=["p"])
    twin = copy.deepcopy(error)
    twin.problems.append("q")
    assert isinstance(twin.body, dict)
    twin.body["a"].append(2)
    assert error.problems == ["p"]
    assert error.body == {"a": [1]}


# --- secrets (BEHAVIOUR 13) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_no_text_of_an_error_has_a_secret_of_the_request_or_the_response(cls: type[AnyioClientError]) -> None:
    error = make(cls)
    if isinstance(error, APIError):
        error.body = {"key": "s3cret"}
        error.attempts = ATTEMPTS
        assert "s3cret" not in error.story
    for text in (str(error), repr(error), f"{[error]}"):
        assert "s3cret" not in text


@pytest.mark.parametrize("cls", ALL)
def test_the_repr_of_an_error_is_its_class_and_message(cls: type[AnyioClientError]) -> None:
    error = make(cls)
    assert repr(error) == f"{cls.__name__}({error.args[0]!r})"
