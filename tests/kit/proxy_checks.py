"""What our client must be able to do through every proxy of tests/kit/real_proxies.py, through its public API.

``CHECKS`` are the columns of the table that tests/proxies.py prints; tests/test_proxies.py runs some of its cells. A check
takes a :class:`Place`, and raises where something is wrong. There are no retries: no failure hides behind one.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import anyio
import attrs
import pytest

from anyio_client import APIStatusError, AsyncAPIClient, HTTPTransport, Outcome, Phase, ProxyError
from tests.kit.interop import SMALL
from tests.kit.proxy_origin import Origin
from tests.kit.real_proxies import PASSWORD, PLAIN_PASSWORD, USER, WRONG, Proxy
from tests.kit.servers import free_port

__all__ = ["CHECKS", "MODES", "Mode", "Place", "is_offered", "run"]

_BODY = random.Random(1).randbytes(1_000_000)
_AT_ONCE = 30
_SECONDS = 20.0  # for one check
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@attrs.frozen
class Mode:
    scheme: str
    http2: bool

    @property
    def version(self) -> str:
        return "2" if self.http2 else "1.1"


MODES: Mapping[str, Mode] = {
    "http": Mode("http", http2=False),
    "https": Mode("https", http2=False),
    "h2": Mode("https", http2=True),
}


@attrs.frozen
class Place:
    """Where a check runs."""

    proxy: Proxy
    mode: Mode
    origin: Origin

    @property
    def port(self) -> int:
        return self.origin.ports[self.mode.scheme]

    @property
    def is_forwarded(self) -> bool:
        """The proxy takes the requests whole: no tunnel."""
        return self.mode.scheme == "http" and not self.proxy.kind.is_socks

    def line(self, host: str, path: str) -> str:
        """What the proxy says that it saw."""
        target = f"{host}:{self.port}"
        if self.proxy.kind.is_socks:
            return target
        return f"GET http://{target}{path}" if self.is_forwarded else f"CONNECT {target}"

    @contextlib.asynccontextmanager
    async def client(
        self, *, host: str = "127.0.0.1", port: int | None = None, **options: Any
    ) -> AsyncIterator[AsyncAPIClient]:
        """A client of the origin, with connections of its own. *options* are the transport's; the proxy is one of them."""
        trust = ssl.create_default_context(cafile=self.origin.ca)
        trust.set_alpn_protocols(["h2"] * self.mode.http2 + ["http/1.1"])
        if self.proxy.kind.scheme == "https":
            options["proxy_tls"] = ssl.create_default_context(cafile=self.origin.ca)
        transport = HTTPTransport(**{"tls": trust, "http2": self.mode.http2, "proxy": self.proxy.url, **options})
        url = f"{self.mode.scheme}://{host}:{port or self.port}"
        async with AsyncAPIClient(base_url=url, http_client=transport, max_retries=0, timeout=10.0) as client:
            yield client


async def run(name: str, place: Place) -> None:
    """Run the check *name* under its time limit, in an environment without proxies."""
    with anyio.fail_after(_SECONDS), _environment({}):
        await CHECKS[name](place)


async def _small(place: Place) -> None:
    async with place.client() as client:
        assert await client.get("/small?small", cast_to=bytes) == SMALL
    request = place.origin.requests()[-1]
    assert (request["query"], request["version"]) == ("small", place.mode.version)
    await _wait_until_seen(place, place.line("127.0.0.1", "/small?small"))


async def _echo(place: Place) -> None:
    async with place.client() as client:
        assert await client.post("/echo", content=_BODY, cast_to=bytes) == _BODY


async def _at_once(place: Place) -> None:
    async with place.client() as client:

        async def call(number: int) -> None:
            body = f"call {number}".encode() * 1000
            assert await client.post("/echo", content=body, cast_to=bytes) == body

        async with anyio.create_task_group() as group:
            for number in range(_AT_ONCE):
                group.start_soon(call, number)


async def _name(place: Place) -> None:
    """A name that nobody but the proxy can resolve: only socks5:// has us do it."""
    host = place.proxy.name_to_resolve
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    path = "/small?name"
    async with place.client(host=host, resolver=resolver) as client:
        assert await client.get(path, cast_to=bytes) == SMALL
    is_ours = place.proxy.kind.scheme == "socks5"
    # The proxy's own address may go through the resolver too; it is no name.
    assert (host in asked) is is_ours, asked
    await _wait_until_seen(place, place.line("127.0.0.1" if is_ours else host, path))


async def _password(place: Place) -> None:
    before = place.origin.text()
    status = place.proxy.kind.refusal
    async with place.client(proxy=place.proxy.wrong_url) as client:
        if place.is_forwarded and status != 407:
            # Nothing says that this 401 is not the origin's.
            with pytest.raises(APIStatusError) as refused:
                await client.get("/small?password", cast_to=bytes)
            assert refused.value.status_code == status
        else:
            with pytest.raises(ProxyError) as caught:
                await client.get("/small?password", cast_to=bytes)
            _check_error(caught.value, status)
    assert place.origin.text() == before


async def _no_password(place: Place) -> None:
    before = place.origin.text()
    url = f"{place.proxy.kind.scheme}://127.0.0.1:{place.proxy.port}"
    async with place.client(proxy=url) as client:
        with pytest.raises(ProxyError) as caught:
            await client.get("/small?nobody", cast_to=bytes)
    _check_error(caught.value, None if place.proxy.kind.is_socks else 407)
    assert place.origin.text() == before


async def _closed(place: Place) -> None:
    """A port where nobody listens: the proxy says so."""
    status = place.proxy.kind.closed
    async with place.client(port=free_port()) as client:
        if place.is_forwarded:
            with pytest.raises(APIStatusError) as answered:
                await client.get("/small", cast_to=bytes)
            assert answered.value.status_code == status
            return
        with pytest.raises(ProxyError) as caught:
            await client.get("/small", cast_to=bytes)
    _check_error(caught.value, status)


def _check_error(error: ProxyError, status: int | None) -> None:
    assert (error.status_code, error.phase, error.outcome) == (status, Phase.PROXY, Outcome.NOT_SENT)
    told = f"{error!r} {error} {getattr(error, 'story', '')}"
    assert not any(secret in told for secret in _secrets()), told


async def _variables(place: Place) -> None:
    """The environment does the same as proxy=; it is read when the transport is made."""
    scheme, url, nowhere = place.mode.scheme, place.proxy.url, f"http://127.0.0.1:{free_port()}"
    ways: list[dict[str, str]] = [{f"{scheme}_proxy": url}, {"all_proxy": url}, {"ALL_PROXY": url}]
    if scheme == "https":
        ways.append({"HTTPS_PROXY": url})
    line = place.line("127.0.0.1", "/small?variables")
    await anyio.sleep(0.2)  # until the ends of earlier tunnels are noted
    for variables in ways:
        before = place.proxy.seen().count(line)
        async with _client_of_environment(place, variables) as client:
            assert await client.get("/small?variables", cast_to=bytes) == SMALL
        await _wait_until_seen(place, line, more_than=before)
    # Nobody listens there: these calls go straight to the origin.
    straight = [{f"{scheme}_proxy": nowhere, "no_proxy": "127.0.0.1"}, {"ALL_PROXY": nowhere, "NO_PROXY": "*"}]
    if scheme == "http":
        straight.append({"HTTP_PROXY": nowhere})  # which a CGI script is told by whoever calls it
    for variables in straight:
        async with _client_of_environment(place, variables) as client:
            assert await client.get("/small", cast_to=bytes) == SMALL
    async with _client_of_environment(place, {f"{scheme}_proxy": nowhere}, trust_env=False) as client:
        assert await client.get("/small", cast_to=bytes) == SMALL


@contextlib.asynccontextmanager
async def _client_of_environment(
    place: Place, variables: Mapping[str, str], **options: Any
) -> AsyncIterator[AsyncAPIClient]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(variables))
        async with place.client(proxy=None, **options) as client:
            stack.close()
            yield client


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """*variables*, and no others that name proxies."""
    names = [name for name in os.environ if name.lower() in _VARIABLES]
    before = {name: os.environ.pop(name) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


async def _secret(place: Place) -> None:
    """The origin never saw what is for the proxy, in this call and those of the checks before."""
    async with place.client() as client:
        assert await client.get("/small", cast_to=bytes) == SMALL
    text = place.origin.text()
    for secret in (*_secrets(), "proxy-authorization", "proxy-connection"):
        assert secret not in text.lower() and secret not in text, secret


def _secrets() -> Iterable[str]:
    for password in (PASSWORD, PLAIN_PASSWORD, WRONG):
        yield from (password, quote(password, safe=""), base64.b64encode(f"{USER}:{password}".encode()).decode())


async def _wait_until_seen(place: Place, line: str, *, more_than: int = 0) -> None:
    """Proxies write what they saw when a tunnel ends, or a little later."""
    with anyio.move_on_after(3):
        while place.proxy.seen().count(line) <= more_than:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    assert place.proxy.seen().count(line) > more_than, f"{line} is not among {place.proxy.seen()[-5:]}"


CHECKS: Mapping[str, Callable[[Place], Awaitable[None]]] = {
    "small": _small,
    "echo": _echo,
    "30 at once": _at_once,
    "name": _name,
    "wrong password": _password,
    "no password": _no_password,
    "closed port": _closed,
    "variables": _variables,
    "secrets": _secret,
}


def is_offered(name: str, proxy: Proxy) -> bool:
    """Whether the check *name* makes sense with *proxy*."""
    return proxy.kind.password is not None or name not in ("wrong password", "no password")
