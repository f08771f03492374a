"""Challenges of a server (RFC 9110 section 11.6.1), and the answer to a Digest challenge (RFC 7616). Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final

import attrs

__all__ = ["Challenge", "DigestChallenge", "find_digest", "parse_challenges"]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))[ \t]*(?=,|$)', re.DOTALL)
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_BETWEEN: Final = re.compile(r"[ \t,]*")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")

MAX_CHALLENGES: Final = 100


@attrs.frozen
class Challenge:
    """One way in which a server lets itself be convinced: a scheme, in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = attrs.field(factory=dict[str, str])


def parse_challenges(fields: Iterable[str]) -> list[Challenge]:
    """The challenges in ``WWW-Authenticate`` fields, in order. What is malformed is left out; never raises."""
    found: list[Challenge] = []
    for text in fields:
        place = 0
        current: Challenge | None = None
        while len(found) < MAX_CHALLENGES:
            between = _BETWEEN.match(text, place)
            place = between.end() if between else place
            if place >= len(text):
                break
            parameter = _PARAMETER.match(text, place)
            if parameter is not None and current is not None:
                name, quoted, plain = parameter.groups()
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                current.parameters.setdefault(name.lower(), value)
                place = parameter.end()
                continue
            scheme = _SCHEME.match(text, place)
            if scheme is None:
                break
            current = Challenge(scheme[1].lower())
            found.append(current)
            place = scheme.end()
            credentials = _TOKEN68.match(text, place)
            if credentials is not None:
                place = credentials.end()
    return found


_HASHES: Final[dict[str, Callable[[bytes], str]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "sha-256": lambda data: hashlib.sha256(data).hexdigest(),
    "sha-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
}
if "sha512_256" not in hashlib.algorithms_available:
    del _HASHES["sha-512-256"]


@attrs.frozen
class DigestChallenge:
    """A Digest challenge that can be answered. ``qop``: ``auth``, ``auth-int``, or None for a server of RFC 2069."""

    realm: str
    nonce: str
    algorithm: str  # as the server wrote it
    qop: str | None
    opaque: str | None = None
    hashes_user: bool = False

    def answer(
        self, user: str, password: str, *, method: str, target: str, body: bytes, cnonce: str, count: int
    ) -> str:
        """The value of Authorization for one request. *count*: how many requests have used this nonce, this one included."""
        name = self.algorithm.lower()
        make, is_session = _HASHES[name.removesuffix("-sess")], name.endswith("-sess")

        def digest(*parts: str) -> str:
            return make(":".join(parts).encode("utf-8"))

        secret = digest(user, self.realm, password)
        if is_session:
            secret = digest(secret, self.nonce, cnonce)
        what = (method, target) if self.qop != "auth-int" else (method, target, make(body))
        number = f"{count:08x}"
        between = (self.nonce,) if self.qop is None else (self.nonce, number, cnonce, self.qop)
        response = digest(secret, *between, digest(*what))
        if self.hashes_user:
            shown = ("username", _quoted(digest(user, self.realm)))
        elif user.isascii():
            shown = ("username", _quoted(user))
        else:
            shown = ("username*", "UTF-8''" + _extended(user))
        pairs = [
            shown,
            ("realm", _quoted(self.realm)),
            ("nonce", _quoted(self.nonce)),
            ("uri", _quoted(target)),
            ("response", _quoted(response)),
            ("algorithm", self.algorithm),
        ]
        if self.opaque is not None:
            pairs.append(("opaque", _quoted(self.opaque)))
        if self.qop is not None:
            pairs += [("qop", self.qop), ("nc", number), ("cnonce", _quoted(cnonce))]
        elif is_session:
            pairs.append(("cnonce", _quoted(cnonce)))
        if self.hashes_user:
            pairs.append(("userhash", "true"))
        return "Digest " + ", ".join(f"{name}={value}" for name, value in pairs)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _extended(text: str) -> str:
    """RFC 8187 ext-value: what is no attr-char is percent-encoded."""
    return "".join(
        chr(octet) if chr(octet).isalnum() and octet < 128 else f"%{octet:02X}" for octet in text.encode("utf-8")
    )


def find_digest(fields: Iterable[str], *, has_content: bool) -> DigestChallenge | None:
    """The first Digest challenge that can be answered (RFC 7616 section 3.7). *has_content*: the request's body is at hand."""
    for challenge in parse_challenges(fields):
        given = challenge.parameters
        algorithm = given.get("algorithm", "MD5")
        if challenge.scheme != "digest" or algorithm.lower().removesuffix("-sess") not in _HASHES:
            continue
        offered = [one.strip().lower() for one in given["qop"].split(",")] if "qop" in given else None
        qop = None
        if offered is not None:
            qop = "auth" if "auth" in offered else "auth-int" if "auth-int" in offered and has_content else None
            if qop is None:
                continue
        if "nonce" not in given or "realm" not in given:
            continue
        if any(re.search(r"[\x00-\x1f\x7f]", value) for value in given.values()):
            continue
        hashes_user = given.get("userhash", "").lower() == "true"
        return DigestChallenge(given["realm"], given["nonce"], algorithm, qop, given.get("opaque"), hashes_user)
    return None
