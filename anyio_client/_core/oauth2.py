"""OAuth 2.0 client credentials (RFC 6749 section 4.4): the request for a token, and what its answer says. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote_plus, urlencode

import attrs

from .._model.request import Request
from .._model.url import URL
from .build import basic_credentials
from .messages import one_line

__all__ = ["Token", "TokenRefused", "parse_token", "token_error", "token_request"]

EARLY_SHARE: Final = 0.1  # of its life is left when a token is replaced ...
EARLY_MOST: Final = 60.0  # ... but not more than these seconds
MIN_LIFE: Final = 1.0  # seconds that a token is used in any case, else it would be fetched in a circle
MAX_LIFE: Final = 10 * 365 * 86400.0  # seconds; what is longer does not end for us

_ACCESS_TOKEN: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # RFC 6749 appendix A.12


class TokenRefused(ValueError):
    """The answer has no token that can be used. The message quotes nothing that may be secret."""


@attrs.frozen
class Token:
    """An access token. Times are monotonic seconds: from ``renew_at`` on a new one is fetched, at ``expires_at`` it ends."""

    value: str = attrs.field(repr=False)
    renew_at: float = math.inf
    expires_at: float = math.inf

    @property
    def authorization(self) -> str:
        return f"Bearer {self.value}"


def token_request(
    url: URL,
    client_id: str,
    client_secret: str,
    *,
    scopes: Sequence[str],
    params: Mapping[str, str],
    in_body: bool,
) -> Request:
    """The request for a token. TypeError for what is no text. The client's own credentials go into Authorization (section 2.3.1), or *in_body*."""
    for text in (client_id, client_secret, *scopes, *params, *params.values()):
        if not isinstance(text, str):
            raise TypeError(f"client_id, client_secret, scopes and params are text, not {type(text).__name__}")
    fields = {"grant_type": "client_credentials"}
    if scopes:
        fields["scope"] = " ".join(scopes)
    fields.update(params)
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if in_body:
        fields.update(client_id=client_id, client_secret=client_secret)
    else:
        headers["Authorization"] = basic_credentials(quote_plus(client_id), quote_plus(client_secret))
    request = Request("POST", url, headers=headers, content=urlencode(fields).encode("ascii"))
    request.credentials = frozenset({"authorization"})
    return request


def parse_token(answer: object, now: float) -> Token:
    """The token in the parsed JSON of a good answer (section 5.1). TokenRefused where there is none to use."""
    if not isinstance(answer, dict):
        raise TokenRefused("it is no JSON object")
    fields = cast("dict[str, Any]", answer)
    value, kind, life = fields.get("access_token"), fields.get("token_type", "Bearer"), fields.get("expires_in")
    if not isinstance(value, str) or not _ACCESS_TOKEN.fullmatch(value):
        raise TokenRefused("it has no access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenRefused("its token_type is not Bearer")
    if life is None:
        return Token(value)
    if isinstance(life, str) and re.fullmatch(r"[0-9]{1,12}", life, re.ASCII):  # many servers write it so
        life = int(life)
    if isinstance(life, bool) or not isinstance(life, int | float) or not life > 0:
        raise TokenRefused("its expires_in is no positive number of seconds")
    if life > MAX_LIFE:
        return Token(value)
    life = max(life, MIN_LIFE)
    return Token(value, now + life - min(life * EARLY_SHARE, EARLY_MOST), now + life)


def token_error(answer: object) -> str | None:
    """``error`` and ``error_description`` of an error answer (section 5.2), fit for one line; None where there are none."""
    if not isinstance(answer, dict):
        return None
    fields = cast("dict[str, Any]", answer)
    said = [fields.get(name) for name in ("error", "error_description")]
    return " - ".join(one_line(text, 200) for text in said if isinstance(text, str) and text) or None
