"""What opens a tunnel through a proxy: the bytes between the connection and what it is to carry.

A handshake is driven like any codec: send what :meth:`take_output` gives, hand what comes to :meth:`receive` until it
says that the tunnel is open. A proxy that refuses, or does not speak its protocol, is :class:`ProxyRefused`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Protocol

import h11

from .._model.head import ResponseHead
from .._model.headers import Headers
from .h1 import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES

__all__ = [
    "MAX_ANSWER_SIZE",
    "MAX_ANSWER_TIME",
    "WANTS_CREDENTIALS",
    "ConnectHandshake",
    "Handshake",
    "ProxyRefused",
    "SocksHandshake",
]

MAX_ANSWER_SIZE: Final = 64 * 1024  # of the body in which an HTTP proxy says why it refuses
MAX_ANSWER_TIME: Final = 1.0  # seconds that are waited for it, once the head is there
WANTS_CREDENTIALS: Final = "it wants credentials: a user and a password, as in 'http://user:password@proxy:3128'"


class ProxyRefused(Exception):
    """The tunnel will not open. ``head`` and ``body``: the answer of an HTTP proxy. ``retryable``: it may open later."""

    def __init__(
        self, reason: str, *, retryable: bool = False, head: ResponseHead | None = None, body: bytes = b""
    ) -> None:
        super().__init__(reason)
        self.retryable: bool = retryable
        self.head: ResponseHead | None = head
        self.body: bytes = body


class Handshake(Protocol):
    def take_output(self) -> bytes:
        """The bytes to send now."""
        ...

    def receive(self, data: bytes) -> bool:
        """Bytes from the proxy, ``b""`` for the end of them; whether the tunnel is open. ProxyRefused where it will not be."""
        ...

    @property
    def is_refused(self) -> bool:
        """Whether the proxy has refused, and is still saying why."""
        ...

    def give_up(self) -> None:
        """It takes too long to say why: ProxyRefused with what there is, if it has refused."""
        ...


class ConnectHandshake:
    """CONNECT to an HTTP proxy (RFC 9110 section 9.3.6). ``authority``: host and port of the origin."""

    def __init__(self, authority: str, authorization: str | None = None) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**62)
        fields = [("Host", authority)]
        if authorization is not None:
            fields.append(("Proxy-Authorization", authorization))
        sent = self._h11.send(h11.Request(method="CONNECT", target=authority, headers=fields))
        self._out = (sent or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
        self._has_credentials = authorization is not None
        self._begun = bytearray()  # of a head that is not complete
        self._interim = 0
        self._head: ResponseHead | None = None  # of a refusal
        self._body = bytearray()

    def take_output(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> bool:
        """h11 gets heads whole, so that what it says does not depend on the split."""
        if not data:
            return self._read(bytes(self._begun)) or self._read(b"")
        opened = False
        while data and self._head is None and not opened:
            begun = len(self._begun)
            self._begun += data
            end = _HEAD_END.search(self._begun, max(0, begun - 3))
            size = len(self._begun) if end is None else end.end()
            if size > MAX_HEAD_SIZE:
                raise ProxyRefused(f"the head of its answer took more than {MAX_HEAD_SIZE} bytes")
            if end is None:
                return False
            head, data = bytes(self._begun[:size]), bytes(self._begun[size:])
            self._begun.clear()
            # RFC 9110 section 9.3.6: in a good answer to CONNECT these mean nothing, whatever they say.
            opened = self._read(_OF_A_BODY.sub(b"", head) if _IS_GOOD.match(head) else head)
        if opened and data:
            raise _stray()
        return opened or (bool(data) and self._read(data))

    def _read(self, data: bytes) -> bool:
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                match event:
                    case h11.InformationalResponse():
                        self._interim += 1
                        if self._interim > MAX_INTERIM_RESPONSES:
                            raise ProxyRefused(f"it sent more than {MAX_INTERIM_RESPONSES} interim responses")
                    case h11.Response():
                        self._take_head(event)
                    case h11.Data():
                        self._body += event.data
                        if len(self._body) >= MAX_ANSWER_SIZE:
                            self.give_up()
                    case h11.EndOfMessage():
                        self.give_up()
                    case h11.PAUSED:  # the answer was 2xx: what follows belongs to the tunnel
                        if self._h11.trailing_data[0]:
                            raise _stray()
                        return True
                    case _:
                        return False
        except h11.ProtocolError:  # its text may quote a line
            self.give_up()
            if not data:
                raise ProxyRefused("it closed the connection before it had answered", retryable=True) from None
            raise ProxyRefused("its answer is no HTTP") from None

    def _take_head(self, event: h11.Response) -> None:
        version = "HTTP/" + event.http_version.decode("ascii")
        head = ResponseHead(event.status_code, Headers.from_wire(event.headers.raw_items()), version)
        if not 200 <= head.status_code < 300:
            self._head = head

    @property
    def is_refused(self) -> bool:
        return self._head is not None

    def give_up(self) -> None:
        head = self._head
        if head is None:
            return
        status = head.status_code
        reason = f"it answered with status {status}"
        if status == 407:
            reason += (
                " (Proxy Authentication Required): give it a user and a password, as in 'http://user:password@host'"
            )
        raise ProxyRefused(
            reason, retryable=status >= 500 or status in (408, 429), head=head, body=bytes(self._body[:MAX_ANSWER_SIZE])
        )


def _stray() -> ProxyRefused:
    return ProxyRefused("it sent bytes behind its answer, before it was asked anything")


_HEAD_END: Final = re.compile(rb"\n\r?\n")
_IS_GOOD: Final = re.compile(rb"HTTP/1\.[01] 2")
_OF_A_BODY: Final = re.compile(rb"^(?:content-length|transfer-encoding)[ \t]*:[^\n]*\n", re.IGNORECASE | re.MULTILINE)

_REPLIES: Final = {
    1: "general failure",
    2: "its rules do not allow this connection",
    3: "the network cannot be reached",
    4: "the host cannot be reached, or its name is not known",
    5: "the origin refused the connection",
    6: "the connection's time to live has expired",
    7: "it does not know the command",
    8: "it does not know this kind of address",
}
_ADDRESS_SIZES: Final = {1: 4, 4: 16}  # by type; 3 is a name, its length in front


class SocksHandshake:
    """CONNECT by SOCKS version 5 (RFC 1928), with a user and a password (RFC 1929) where they are given.

    ``host``: a name, which the proxy resolves, or an address.
    """

    def __init__(self, host: str, port: int, credentials: tuple[str, str] | None = None) -> None:
        self._request = b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big")
        self._credentials = credentials
        # Both ways are offered, as curl does: a proxy that wants no credentials is not sent any.
        self._out = b"\x05\x01\x00" if credentials is None else b"\x05\x02\x00\x02"
        self._in = bytearray()
        self._step = self._take_method

    def take_output(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> bool:
        if not data:
            raise ProxyRefused("it closed the connection before it had answered", retryable=True)
        self._in += data
        return self._step()

    is_refused = False

    def give_up(self) -> None:
        """SOCKS says everything in a few bytes."""

    def _take(self, size: int) -> bytes | None:
        """A whole message of so many bytes, None for not yet."""
        if len(self._in) < size:
            return None
        taken = bytes(self._in[:size])
        del self._in[:size]
        return taken

    def _check_silent(self) -> None:
        """The proxy is to wait for what we say next, or what the tunnel carries."""
        if self._in:
            raise _stray()

    def _take_method(self) -> bool:
        answer = self._take(2)
        if answer is None:
            return False
        if answer[0] != 5:
            raise ProxyRefused("its answer is no SOCKS version 5")
        if answer[1] == 0:
            self._ask()
        elif answer[1] == 2 and self._credentials is not None:
            self._check_silent()
            user, password = (part.encode() for part in self._credentials)
            self._out = b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
            self._step = self._take_verdict
        elif self._credentials is None:
            raise ProxyRefused("it wants credentials: a user and a password, as in 'socks5://user:password@proxy:1080'")
        else:
            raise ProxyRefused("it takes no user and password")
        return False

    def _take_verdict(self) -> bool:
        answer = self._take(2)
        if answer is None:
            return False
        if answer[0] != 1:
            raise ProxyRefused("its answer to user and password is no SOCKS (RFC 1929)")
        if answer[1] != 0:
            raise ProxyRefused("it refused the user and the password")
        self._ask()
        return False

    def _ask(self) -> None:
        self._check_silent()
        self._out = self._request
        self._step = self._take_reply

    def _take_reply(self) -> bool:
        if len(self._in) < 5:
            if self._in and self._in[0] != 5:
                raise ProxyRefused("its reply is no SOCKS version 5")
            return False
        version, reply, _, kind, first = self._in[:5]
        if version != 5:
            raise ProxyRefused("its reply is no SOCKS version 5")
        if reply:
            reason = _REPLIES.get(reply, f"code {reply}")
            raise ProxyRefused(f"it could not connect: {reason}", retryable=reply in (1, 3, 4, 5, 6))
        size = _ADDRESS_SIZES.get(kind, 1 + first if kind == 3 else None)
        if size is None:
            raise ProxyRefused("its reply has an address of no known kind")
        if self._take(4 + size + 2) is None:
            return False
        self._check_silent()
        return True


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise ProxyRefused("the name of the origin has more than 255 bytes, which SOCKS cannot say") from None
        return b"\x03" + bytes([len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed
