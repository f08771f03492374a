"""Redirects (RFC 9110 section 15.4): whether one is followed, and the request that does. Pure."""

from __future__ import annotations

from typing import Final

from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request
from .build import passes_to_other_origin

__all__ = ["MAX_REDIRECTS", "NotFollowed", "is_redirect", "next_request", "without_expectation"]

MAX_REDIRECTS: Final = 20  # in one attempt; what browsers, curl --location and httpx allow is 20 to 50

_FOLLOWED: Final = (301, 302, 303, 307, 308)
# A request that has become a GET has no body to describe, and none to announce.
_OF_THE_BODY: Final = ("content-", "expect", "trailer")


class NotFollowed(ValueError):
    """Why a redirect is not followed."""


def is_redirect(status_code: int) -> bool:
    """Whether the status is one of redirection (3xx), followed or not."""
    return 300 <= status_code < 400


def next_request(sent: Request, head: ResponseHead, *, allow_insecure: bool = False) -> Request:
    """The request that follows the redirect *head* in answer to *sent*. NotFollowed with the reason, where none does.

    301 and 302 make a GET of a POST, 303 of everything but HEAD (and then there is no body); 307 and 308 repeat what was
    sent. To another origin only fields go along that describe the message and not the caller. The credentials that a
    Location may hold are not used: they are the server's word, and not the caller's.
    """
    status = head.status_code
    if status == 304:
        raise NotFollowed("not modified")
    locations = head.headers.get_list("location")
    if not locations or not locations[0]:
        raise NotFollowed("a redirect without Location")
    if status not in _FOLLOWED:
        raise NotFollowed(f"status {status} is not followed")
    if len(set(locations)) > 1:
        raise NotFollowed("a redirect with more than one Location")
    try:
        url = sent.url.join(locations[0]).replace(userinfo=False)
    except ValueError as exc:
        raise NotFollowed(f"the Location is no URL: {exc}") from None
    if url.scheme not in ("http", "https"):
        raise NotFollowed(f"the Location has the scheme {url.scheme!r}")
    if sent.url.scheme == "https" and url.scheme == "http" and not allow_insecure:
        raise NotFollowed("it leads from https to http, which allow_insecure_redirects would allow")
    method = _method(sent.method, status)
    keeps_body = method == sent.method and status != 303
    if keeps_body and not sent.can_be_sent:
        raise NotFollowed("the body was sent and cannot be made again")
    crosses = not url.is_same_origin(sent.url)

    def goes_along(name: str) -> bool:
        if not keeps_body and name.startswith(_OF_THE_BODY):
            return False
        return not crosses or (passes_to_other_origin(name) and name not in sent.credentials)

    made = sent.copy()
    made.method, made.url = method, url
    made.headers = Headers(pair for pair in sent.headers.multi_items() if goes_along(pair[0].lower()))
    if not keeps_body:
        made.body, made.trailers = b"", None
    if crosses:
        made.credentials = frozenset()
    return made


def without_expectation(sent: Request, head: ResponseHead) -> Request | None:
    """What to send after 417 (Expectation Failed): the same, without Expect (RFC 9110 section 10.1.1). None otherwise."""
    if head.status_code != 417 or "expect" not in sent.headers or not sent.can_be_sent:
        return None
    made = sent.copy()
    del made.headers["expect"]
    return made


def _method(method: str, status: int) -> str:
    if status == 303:
        return "HEAD" if method == "HEAD" else "GET"
    return "GET" if status in (301, 302) and method == "POST" else method
