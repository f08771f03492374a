"""Credentials: what tells the server who asks. They go to the origin that they were given for, and to no other."""

from __future__ import annotations

import copy
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import anyio

from ._core.build import basic_credentials
from ._io.response import Response
from ._model.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    DeadlineExceededError,
    Outcome,
    Phase,
    ReadTimeoutError,
    status_error_class,
)
from ._model.headers import Headers
from ._model.request import Request
from ._model.timeouts import check_seconds
from ._model.url import URL
from ._wire.json import loads as json_loads

if TYPE_CHECKING:
    from ._core.digest import DigestChallenge
    from ._core.oauth2 import Token

__all__ = [
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "DigestAuth",
    "HeaderAuth",
    "OAuth2ClientCredentials",
    "SendRequest",
    "auth_of",
]

SendRequest: TypeAlias = "Callable[[Request], Awaitable[Response]]"
Provider: TypeAlias = "Callable[[], str | Awaitable[str]]"

MAX_TOKEN_ANSWER = 2**20  # bytes
RETRY_EARLY = 10.0  # seconds until a token that still holds is renewed again, after that has failed


@runtime_checkable
class Auth(Protocol):
    """Credentials that are made for each request, and can be made anew.

    ``headers_for(request)``: the fields for this request, at once; None where :meth:`refresh` must be awaited first.
    ``refresh(send, response)``: get fresh ones; ``response`` is the answer 401 that asks for it, or None. ``send(request)``
    sends a request over the client's own transport, without these credentials, and gives its response, body unread.
    Our errors that it raises are the call's (a connection error is retried like any); others come out as they are.
    """

    def headers_for(self, request: Request) -> Mapping[str, str] | None: ...

    async def refresh(self, send: SendRequest, response: Response | None) -> None: ...


class HeaderAuth:
    """One field with a secret value, such as ``HeaderAuth("X-Api-Key", key)``.

    ``value``: the text, or a function that gives it, sync or async, which is called before each attempt, for each redirect
    within the origin, and again after a 401. It does its own caching.
    """

    def __init__(self, name: str, value: str | Provider) -> None:
        Headers({name: value if isinstance(value, str) else ""})
        if not isinstance(value, str) and not callable(value):
            raise TypeError(f"the value of {name} must be a str or a function, not {type(value).__name__}")
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"the value of {name} is empty")
        self._name = name
        self._value = value
        self._fetched: str | None = None

    @property
    def constant(self) -> Mapping[str, str] | None:
        """The field, where it is always the same."""
        return {self._name: self._shape(self._value)} if isinstance(self._value, str) else None

    def _shape(self, value: str) -> str:
        return value

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        if isinstance(self._value, str):
            return {self._name: self._shape(self._value)}
        fetched, self._fetched = self._fetched, None  # no other task runs between refresh() and this
        return None if fetched is None else {self._name: self._shape(fetched)}

    async def refresh(self, send: SendRequest, response: Response | None) -> None:
        if isinstance(self._value, str):
            return
        given = self._value()
        value: object = await given if inspect.isawaitable(given) else given
        if not isinstance(value, str):
            raise TypeError(f"the function for {self._name} must give a str, not {type(value).__name__}")
        if not value.strip():
            raise ValueError(f"the function for {self._name} gave an empty text")
        self._fetched = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class BearerAuth(HeaderAuth):
    """A bearer token (RFC 6750), or a function that gives one; see :class:`HeaderAuth`."""

    def __init__(self, token: str | Provider) -> None:
        if isinstance(token, str):
            if not token.strip():
                raise ValueError("the bearer token is empty")
            if token.lower().startswith("bearer "):
                raise ValueError("the bearer token is the token alone, without 'Bearer ' in front")
        super().__init__("Authorization", token)

    def _shape(self, value: str) -> str:
        return f"Bearer {value}"


class BasicAuth(HeaderAuth):
    """User and password (RFC 7617), in UTF-8."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__("Authorization", basic_credentials(user, password))

    @classmethod
    def from_netrc(cls, host: str, path: str | os.PathLike[str] | None = None) -> BasicAuth:
        """What the user's netrc file says of *host*. ValueError where it says nothing, or cannot be read.

        netrc is read here and nowhere else.
        """
        import netrc

        file = os.path.expanduser("~/.netrc") if path is None else os.fspath(path)
        try:
            found = netrc.netrc(file).authenticators(host)
        except (OSError, UnicodeError, netrc.NetrcParseError) as exc:  # the last one's text may quote a password
            reason = exc.strerror if isinstance(exc, OSError) else "it is malformed"
            if isinstance(exc, netrc.NetrcParseError):
                reason = f"line {exc.lineno} is malformed"
            raise ValueError(f"the netrc file {file!r} cannot be used: {reason}") from None
        if found is None:
            raise ValueError(f"the netrc file {file!r} says nothing of {host!r}")
        user, _, password = found
        return cls(user or "", password or "")


class DigestAuth:
    """User and password by Digest (RFC 7616): the server's challenge is answered, and nobody on the way learns the password.

    MD5, SHA-256 and SHA-512-256, each also as ``-sess``; ``qop`` auth and auth-int. The first request goes without, later
    ones answer the last challenge.
    """

    def __init__(self, user: str, password: str) -> None:
        if not isinstance(user, str) or not isinstance(password, str):
            raise TypeError("user and password must be str")
        Headers({"user": user})
        self._user = user
        self._password = password
        self._challenge: DigestChallenge | None = None
        self._count = 0

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        challenge = self._challenge
        if challenge is None or (challenge.qop == "auth-int" and not isinstance(request.body, bytes)):
            return {}
        import secrets

        self._count += 1
        answer = challenge.answer(
            self._user,
            self._password,
            method=request.method,
            target=request.url.target,
            body=request.body if isinstance(request.body, bytes) else b"",
            cnonce=secrets.token_hex(16),
            count=self._count,
        )
        return {"Authorization": answer}

    async def refresh(self, send: SendRequest, response: Response | None) -> None:
        if response is not None:
            from ._core.digest import find_digest

            has_content = response.request is None or isinstance(response.request.body, bytes)
            found = find_digest(response.headers.get_list("www-authenticate"), has_content=has_content)
            if found is None or self._challenge is None or found.nonce != self._challenge.nonce:
                self._count = 0
            self._challenge = found

    def __repr__(self) -> str:
        return "<DigestAuth>"


class _Flight:
    """One request for a token, which several calls wait for."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: APIError | None = None


class OAuth2ClientCredentials:
    """Tokens by OAuth 2.0 client credentials (RFC 6749 section 4.4), kept until they end, and renewed a little earlier.

    However many calls need a token, one of them fetches it; if that one is cancelled, the next one does. A token that
    still holds goes on being used when renewing it early fails.

    ``scopes``: what is asked for. ``params``: further fields of the request, such as ``audience``. ``client_auth``: where
    id and secret go: ``"basic"`` (Authorization, as the RFC wants) or ``"post"`` (the body). ``timeout``: seconds for
    the whole request for a token. One object serves the clients of one event loop.
    """

    def __init__(
        self,
        token_url: str | URL,
        client_id: str,
        client_secret: str,
        *,
        scopes: Sequence[str] = (),
        params: Mapping[str, str] | None = None,
        client_auth: str = "basic",
        timeout: float = 30.0,
    ) -> None:
        url = URL(token_url)
        if url.scheme not in ("http", "https"):
            raise ValueError("the token URL must be an http or https URL")
        if url.userinfo is not None:
            raise ValueError("the token URL must not hold credentials: pass client_id and client_secret")
        if isinstance(scopes, str) or not all(isinstance(scope, str) for scope in scopes):
            raise TypeError("scopes= takes a list of str")
        if client_auth not in ("basic", "post"):
            raise ValueError(f"client_auth= must be 'basic' or 'post', not {client_auth!r}")
        from ._core import oauth2

        seconds = check_seconds("timeout", timeout)
        if seconds is None:
            raise ValueError("timeout= must be a number of seconds: all calls wait for the token")
        self._url = url
        self._secret = client_secret
        self._timeout: float = seconds
        self._make_request: Callable[[], Request] = lambda: oauth2.token_request(
            url, client_id, client_secret, scopes=scopes, params=dict(params or {}), in_body=client_auth == "post"
        )
        self._make_request()  # what cannot be sent is found now
        self._token: Token | None = None
        self._flight: _Flight | None = None
        self._renewed_last = float("-inf")
        self._now: Callable[[], float] = time.monotonic

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        token = self._current()
        return None if token is None else {"Authorization": token.authorization}

    def _current(self) -> Token | None:
        """The token, if it holds and this call need not renew it."""
        token, now = self._token, self._now()
        if token is None or now >= token.expires_at:
            return None
        is_early = now >= token.renew_at and self._flight is None and now >= self._renewed_last + RETRY_EARLY
        return None if is_early else token

    async def refresh(self, send: SendRequest, response: Response | None) -> None:
        if response is not None and self._token is not None:
            sent = None if response.request is None else response.request.headers.get("authorization")
            if sent == self._token.authorization:  # else another call has fetched a new one since
                self._token = None
        while self._current() is None:
            flight = self._flight
            if flight is None:
                await self._fly(send)
                continue
            await flight.over.wait()
            if flight.error is not None:
                error = copy.copy(flight.error)
                raise error from flight.error.__cause__

    async def _fly(self, send: SendRequest) -> None:
        flight = self._flight = _Flight()
        try:
            self._token = await self._fetch(send)
        except DeadlineExceededError:
            raise  # of this call; the others have their own
        except APIError as exc:
            if type(exc) is APIConnectionError and not exc.retryable:
                raise  # its client was closed; another one's may go on
            if self._token is not None and self._now() < self._token.expires_at:
                self._renewed_last = self._now()  # it still holds
                return
            flight.error = copy.copy(exc)
            flight.error.__cause__ = exc.__cause__
            raise
        finally:
            self._flight = None
            flight.over.set()

    async def _fetch(self, send: SendRequest) -> Token:
        request = self._make_request()
        where = self._url.redacted
        with anyio.move_on_after(self._timeout):
            try:
                response = await send(request)
            except APIConnectionError as exc:
                exc.message = f"The token endpoint {where} gave no answer: {exc.message}"
                raise
            try:
                body = await self._read(response)
            finally:
                await response.dispose()
            return self._judge(response, body, where)
        message = f"The token endpoint {where} did not answer within {self._timeout:g} s."
        raise ReadTimeoutError(message, request=request, phase=Phase.RECEIVE, outcome=Outcome.NOT_SENT)

    @staticmethod
    async def _read(response: Response) -> bytes:
        """The body, of which nothing may be missing where it holds a token."""
        if not response.head.is_success:
            await response.read_at_most(MAX_TOKEN_ANSWER)
            return response.content
        body = bytearray()
        async for piece in response.iter_bytes():
            body += piece
            if len(body) > MAX_TOKEN_ANSWER:
                break
        return bytes(body)

    def _judge(self, response: Response, body: bytes, where: str) -> Token:
        from ._core import oauth2

        try:
            answer = json_loads(body) if len(body) <= MAX_TOKEN_ANSWER else None
        except ValueError:
            answer = None
        if not response.head.is_success:
            said = oauth2.token_error(answer)
            if said is not None and self._secret:
                said = said.replace(self._secret, "***")
            message = f"The token endpoint {where} answered {response.status_code}" + (f": {said}" if said else "")
            raise status_error_class(response.status_code)(message, response=response.without_body(), body=said)
        try:
            return oauth2.parse_token(answer, self._now())
        except oauth2.TokenRefused as exc:
            message = f"The token endpoint {where} gave no token that can be used: {exc}"
            raise APIResponseValidationError(message, response=response.without_body()) from None

    def __repr__(self) -> str:
        return f"<OAuth2ClientCredentials {self._url.redacted}>"


def auth_of(given: object) -> tuple[Mapping[str, str], Auth | None]:
    """What ``auth=`` means: fields that are always the same, or an :class:`Auth` to ask. TypeError for what is neither."""
    match given:
        case None:
            return {}, None
        case str():
            given = BearerAuth(given)
        case (str() as user, str() as password):
            given = BasicAuth(user, password)
        case _:
            pass
    if isinstance(given, HeaderAuth) and type(given).headers_for is HeaderAuth.headers_for:
        fields = given.constant
        if fields is not None:
            return fields, None
    colours = [inspect.iscoroutinefunction(getattr(given, name, None)) for name in ("headers_for", "refresh")]
    if isinstance(given, type) or not isinstance(given, Auth) or colours != [False, True]:
        kind = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        if callable(given) and not isinstance(given, type) and not isinstance(given, Auth):
            raise TypeError("auth must not be a function: BearerAuth(function) or HeaderAuth(name, function) calls it")
        raise TypeError(
            "auth must be a bearer token, a (user, password) pair, or an Auth (an object with `headers_for(request)` "
            f"and `async refresh(send, response)`), not {kind}"
        )
    return {}, cast("Any", given)
