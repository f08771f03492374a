"""Scripted proxies over real sockets: what goes to whom, every way in which a proxy fails, and what is left behind."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from anyio_client import (
    TLS,
    AsyncAPIClient,
    ConnectError,
    Outcome,
    Phase,
    ProxyError,
    TLSError,
)
from tests.kit import h2peer
from tests.kit.certs import certificate, fingerprint, made, server_context, trusting_context
from tests.kit.peers import Peer, Script, answer_each, ok, serve
from tests.kit.scripted_proxies import (
    CA,
    ESTABLISHED,
    PROXY_PASSWORD,
    PROXY_USER,
    Inside,
    client_of,
    connect_proxy,
    failing,
    origin_context,
    secrets_of,
    socks_proxy,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

USERINFO = f"{PROXY_USER}:{PROXY_PASSWORD}@"
BASIC = b"Basic " + base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode())
TOKEN = "Bearer or-g-n"
ORIGIN = {"Authorization": TOKEN}
FOREVER = 15.0  # longer than the time limit of client_of


def pool_of(client: AsyncAPIClient) -> Any:
    return client._transport.pool  # type: ignore[attr-defined]


def lines(request: bytes) -> list[bytes]:
    return request.lower().split(b"\r\n")


# --- what goes to whom -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_http_goes_to_the_proxy_whole(encrypted: bool) -> None:
    with serve(connect_proxy(), origin_context() if encrypted else None) as proxy:
        async with client_of(proxy, "http://h.test/a/", userinfo=USERINFO, custom_headers=ORIGIN) as client:
            assert await client.post("b?c=d", body={"x": 1}, cast_to=int) == 1
            assert await client.get("http://other.test:81/%7E", cast_to=int) == 1
        assert proxy.connections == 1  # for both origins
        first, second = proxy.requests
        assert first.startswith(b"POST http://h.test/a/b?c=d HTTP/1.1\r\n")
        assert {b"host: h.test", b"proxy-authorization: " + BASIC.lower()} <= set(lines(first))
        assert first.endswith(b'\r\n\r\n{"x":1}')
        assert second.startswith(b"GET http://other.test:81/%7E HTTP/1.1\r\n")
        assert b"host: other.test:81" in lines(second)
        assert TOKEN.encode() not in second


async def test_ipv6_and_idna_in_absolute_form() -> None:
    with serve(connect_proxy()) as proxy:
        async with client_of(proxy) as client:
            for url in ("http://[fe80::1%25eth0]:81/", "http://bücher.test/ü"):
                await client.get(url, cast_to=int)
        assert [request.split(b"\r\n")[0] for request in proxy.requests] == [
            b"GET http://[fe80::1]:81/ HTTP/1.1",
            b"GET http://xn--bcher-kva.test/%C3%BC HTTP/1.1",
        ]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("http2", [False, True])
async def test_https_goes_through_a_tunnel(encrypted: bool, http2: bool) -> None:
    """TLS in TLS, where the proxy is encrypted; HTTP/2 in there, where the origin speaks it."""
    asked: list[Any] = []

    def speak_h2(peer: h2peer.H2Peer) -> None:
        for _ in range(2):
            asked.append(peer.ask())
            peer.send(*h2peer.answer(asked[-1], b"1"))
        peer.peer.receive()

    inside = h2peer.scripted(speak_h2) if http2 else answer_each(ok(b"1"))
    script = connect_proxy(inside, origin_context("h2" if http2 else "http/1.1"))
    with serve(script, origin_context("h2", "http/1.1") if encrypted else None) as proxy:
        async with client_of(proxy, userinfo=USERINFO, custom_headers=ORIGIN) as client:
            for _ in range(2):
                assert await client.get("/x", cast_to=int) == 1
            assert pool_of(client).open_count == 1
        assert proxy.connections == 1
        tunnel, *rest = proxy.requests
        assert tunnel == (
            b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nProxy-Authorization: " + BASIC + b"\r\n\r\n"
        )
        if http2:
            heads = [b"\r\n".join(b"%b: %b" % field for field in one.fields.items()) for one in asked]
            assert rest == []
        else:
            heads = rest
        assert len(heads) == 2
        for head in heads:
            assert TOKEN.encode() in head
            assert BASIC not in head and b"proxy-" not in head.lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("credentials", [False, True])
@pytest.mark.parametrize("proxy_scheme", ["socks5", "socks5h"])
async def test_socks(proxy_scheme: str, credentials: bool, scheme: str) -> None:
    asked: list[tuple[str, int]] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if port != 8443 else ["10.1.2.3"]

    script = socks_proxy(
        answer_each(ok(b"1")), origin_context() if scheme == "https" else None, credentials=credentials
    )
    with serve(script) as proxy:
        options = {"resolver": resolver}
        base = f"{scheme}://localhost:8443"
        async with client_of(
            proxy, base, scheme=proxy_scheme, userinfo=USERINFO, transport=options, custom_headers=ORIGIN
        ) as client:
            for _ in range(2):
                assert await client.get("/x", cast_to=int) == 1
        assert proxy.connections == 1
        greeting, *verdict, request, first, second = proxy.requests
        assert greeting == b"\x05\x02\x00\x02"
        user, password = PROXY_USER.encode(), PROXY_PASSWORD.encode()
        wanted = b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
        assert verdict == [wanted] * credentials
        named = b"\x03\x09localhost" if proxy_scheme == "socks5h" else b"\x01\x0a\x01\x02\x03"
        assert request == b"\x05\x01\x00" + named + (8443).to_bytes(2, "big")
        for head in (first, second):
            assert head.startswith(b"GET /x HTTP/1.1\r\n")
            assert TOKEN.encode() in head
            assert password not in head and b"proxy-" not in head.lower()
        places = [("localhost", proxy.port)] + [("localhost", 8443)] * (proxy_scheme == "socks5")
        assert asked == places


async def test_a_redirect_from_http_to_https_goes_through_a_tunnel_without_credentials_of_others() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: https://localhost/there\r\nContent-Length: 0\r\n\r\n"

    def script(peer: Peer) -> None:
        request = peer.read_request()
        if not request.startswith(b"CONNECT"):
            peer.send(moved)
            request = peer.read_request()  # of a connection that is kept, or none
        if request:
            peer.send(ESTABLISHED)
            answer_each(ok(b"1"))(Inside(peer, origin_context()))

    with serve(script) as proxy:
        async with client_of(proxy, "http://localhost", userinfo=USERINFO, custom_headers=ORIGIN) as client:
            assert await client.get("/here", cast_to=int) == 1
        first, tunnel, second = proxy.requests
        assert first.startswith(b"GET http://localhost/here ") and TOKEN.encode() in first and BASIC in first
        assert tunnel.startswith(b"CONNECT localhost:443 ") and TOKEN.encode() not in tunnel and BASIC in tunnel
        assert second.startswith(b"GET /there ") and BASIC not in second


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_credentials_of_the_caller_for_the_proxy_do_not_enter_a_tunnel(scheme: str) -> None:
    with serve(connect_proxy()) as proxy:
        async with client_of(proxy, scheme=scheme) as client:
            for where in ({"Proxy-Authorization": "Basic eA=="}, {"proxy-authorization": "x"}):
                with pytest.raises(ValueError, match="Proxy-Authorization would reach the origin"):
                    await client.get("/", cast_to=int, options={"headers": where})
        assert proxy.connections == 0


async def test_credentials_of_the_caller_for_the_proxy_go_in_place_of_those_of_the_url() -> None:
    with serve(connect_proxy()) as proxy:
        async with client_of(proxy, "http://h.test", userinfo=USERINFO) as client:
            await client.get("/", cast_to=int, options={"headers": {"Proxy-Authorization": "Basic eA=="}})
        assert [line for line in lines(proxy.requests[0]) if line.startswith(b"proxy-")] == [
            b"proxy-authorization: basic ea=="
        ]


@pytest.mark.parametrize("answer", ["redirect", "tls for another name", "tls of a stranger"])
async def test_a_hostile_proxy_gets_nothing_of_an_https_request(answer: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if answer == "redirect":
            peer.send(b"HTTP/1.1 307 T\r\nLocation: http://localhost/\r\nContent-Length: 0\r\n\r\n")
            peer.wait_closed()
            return
        peer.send(ESTABLISHED)
        leaf = made().other_host if answer == "tls for another name" else made().unknown_issuer
        Inside(peer, server_context(leaf)).read_request()

    with serve(script) as proxy:
        async with client_of(proxy, custom_headers=ORIGIN, max_retries=0) as client:
            with pytest.raises(ConnectError) as caught:
                await client.post("/secret-path", body={"s": 1}, cast_to=int)
        assert isinstance(caught.value, ProxyError if answer == "redirect" else TLSError)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert len(proxy.requests) == 1
        assert b"or-g-n" not in proxy.requests[0] and b"secret-path" not in proxy.requests[0]


# --- TLS to the proxy --------------------------------------------------------------------------------------------------


async def test_what_tls_says_of_the_origin_is_not_for_the_proxy(tmp_path: Any) -> None:
    """Its trust is; its client certificate, name and pins are not."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    pem = tmp_path / "client.pem"
    pem.write_bytes(made().client.private_key_and_cert_chain_pem.bytes())
    names: list[str | None] = []
    inner = server_context(made().good, clients=made().authority)
    pin = fingerprint(certificate(made().good))
    outer = server_context(made().authority.issue_cert("127.0.0.1", "proxy.test"), clients=made().authority)
    outer.verify_mode = ssl.CERT_OPTIONAL  # it would take one
    certificates: list[object] = []
    for context in (outer, inner):
        context.sni_callback = lambda sock, name, context: names.append(name)

    def script(peer: Peer) -> None:
        certificates.append(peer.sock.getpeercert(True))  # type: ignore[attr-defined]
        peer.read_request()
        peer.send(ESTABLISHED)
        inside = Inside(peer, inner)
        certificates.append(inside.end.object.getpeercert(True))
        answer_each(ok(b"1"))(inside)

    with serve(script, outer) as proxy:
        tls = TLS(ca=CA, client_cert=pem, sni="localhost", pins=[pin])
        url = f"https://proxy.test:{proxy.port}"
        options = {"tls": tls, "resolver": resolver}
        async with client_of(url, "https://origin.test", transport=options) as client:
            assert await client.get("/", cast_to=int) == 1
    assert names == ["proxy.test", "localhost"]
    assert certificates[0] is None and certificates[1] is not None


@pytest.mark.parametrize("how", ["TLS", "context"])
async def test_proxy_tls_is_for_the_proxy_alone(how: str) -> None:
    stranger = made().stranger
    trust = TLS(ca=stranger.cert_pem.bytes()) if how == "TLS" else trusting_context(stranger)
    script = connect_proxy(answer_each(ok(b"1")), origin_context())
    with serve(script, server_context(made().unknown_issuer)) as proxy:
        async with client_of(proxy, transport={"proxy_tls": trust}) as client:
            assert await client.get("/", cast_to=int) == 1
        async with client_of(proxy, max_retries=2) as client:  # the origin's trust does for the proxy, if it can
            with pytest.raises(TLSError, match="proxy") as caught:
                await client.get("/", cast_to=int)
        assert (caught.value.outcome, caught.value.retryable) == (Outcome.NOT_SENT, False)
        assert proxy.connections == 2
    with serve(connect_proxy(answer_each(ok(b"1")), server_context(made().unknown_issuer)), origin_context()) as proxy:
        async with client_of(proxy, transport={"proxy_tls": TLS(ca=CA)}, max_retries=0) as client:
            with pytest.raises(TLSError):
                await client.get("/", cast_to=int)
        assert len(proxy.requests) == 1


# --- proxies that fail -------------------------------------------------------------------------------------------------


def say(*pieces: bytes, close: bool = True) -> Script:
    def answer(peer: Peer) -> None:
        for piece in pieces:
            peer.send(piece)
        if not close:
            peer.wait_closed(FOREVER)

    return failing(answer)


def reset(peer: Peer) -> None:
    peer.reset()


def reset_after(data: bytes) -> Callable[[Peer], None]:
    def answer(peer: Peer) -> None:
        peer.send(data)
        peer.server.pause(0.05)  # what was sent arrives before the reset
        peer.reset()

    return answer


def refusal(status: str, body: bytes = b"", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), fields, len(body), body)


# What the proxy does, the words of the error, status and text of its answer, how many connections two retries make.
FAILURES: dict[str, tuple[Script, str, int | None, str | None, int]] = {
    "407": (say(refusal("407 Auth", b"who?", b"Proxy-Authenticate: Basic\r\n")), "user", 407, "who?", 1),
    "407 kept open": (say(refusal("407 Auth", b"who?"), close=False), "407", 407, "who?", 1),
    "407 without length": (say(b"HTTP/1.1 407 Auth\r\n\r\nwho?"), "407", 407, "who?", 1),
    "403": (say(refusal("403 No", b"\xff")), "403", 403, "\ufffd", 1),
    "502 with a body": (say(refusal("502 Bad", b"<html>")), "502", 502, "<html>", 3),
    "503": (say(refusal("503 Busy")), "503", 503, "", 3),
    "body cut short": (say(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nbec"), "403", 403, "bec", 1),
    "reset in the body": (failing(reset_after(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nbec")), "403", 403, "bec", 1),
    "slow body": (say(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nbec", close=False), "403", 403, "bec", 1),
    "endless body": (say(b"HTTP/1.1 403 No\r\n\r\n", *[b"x" * 50_000] * 9, close=False), "403", 403, "x" * 65536, 1),
    "a redirect": (say(refusal("302 F", b"", b"Location: http://h\r\n")), "302", 302, "", 1),
    "closing": (failing(lambda peer: None), "closed the connection", None, None, 3),
    "resetting": (failing(reset), "was lost", None, None, 3),
    "closing in the head": (say(b"HTTP/1.1 200 OK\r\nA"), "closed the connection", None, None, 3),
    "garbage": (say(b"\x00\x01\x02garbage\r\n\r\n", close=False), "no HTTP", None, None, 1),
    "oversized": (say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 120_000, close=False), "more than 102400", None, None, 1),
    "interim": (say(b"HTTP/1.1 100 C\r\n\r\n" * 101, close=False), "interim", None, None, 1),
    "bytes behind": (say(ESTABLISHED + b"HTTP/1.1 200 OK\r\n\r\n", close=False), "behind", None, None, 1),
}  # fmt: skip


@pytest.mark.spread
@pytest.mark.parametrize("name", FAILURES)
async def test_a_proxy_that_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyio_client._io.connect.MAX_ANSWER_TIME", 0.1)
    script, words, status, text, connections = FAILURES[name]
    with serve(script) as proxy:
        async with client_of(proxy, userinfo=USERINFO, custom_headers=ORIGIN, max_retries=2) as client:
            with pytest.raises(ProxyError, match=words) as caught:
                await client.post("/", cast_to=int)
            assert pool_of(client).open_count == 0
        error = caught.value
        assert proxy.connections == connections
        assert all(BASIC in request and b"or-g-n" not in request for request in proxy.requests)
    assert (error.phase, error.outcome, error.status_code) == (Phase.PROXY, Outcome.NOT_SENT, status)
    assert error.retryable is (connections > 1)
    assert len(error.attempts) == connections
    assert error.request is not None
    told = secrets_of(error)
    assert not any(secret in told for secret in (PROXY_PASSWORD, PROXY_USER, BASIC.decode(), "or-g-n"))
    if status is None:
        assert error.response is None
    else:
        assert error.response is not None
        assert (error.response.status_code, error.response.text) == (status, text)
        assert error.response.http_version == "HTTP/1.1"
        assert error.response.headers.get("proxy-authenticate") == ("Basic" if name == "407" else None)


@pytest.mark.parametrize("name", ["407", "407 without length", "closing", "garbage"])
async def test_an_encrypted_proxy_that_fails(name: str) -> None:
    script, words, status, _, _ = FAILURES[name]
    with serve(script, origin_context()) as proxy:
        async with client_of(proxy, max_retries=0) as client:
            with pytest.raises(ProxyError, match=f"{words}|was lost") as caught:  # there is no close_notify
                await client.post("/", cast_to=int)
    error = caught.value
    assert (error.phase, error.outcome, error.status_code) == (Phase.PROXY, Outcome.NOT_SENT, status)


async def test_a_proxy_that_nobody_is() -> None:
    with serve(connect_proxy()) as gone:
        url = f"http://{USERINFO}127.0.0.1:{gone.port}"
    for base in ("http://h.test", "https://h.test"):
        async with client_of(url, base, max_retries=1) as client:
            with pytest.raises(ProxyError, match=rf"the proxy http://127.0.0.1:{gone.port}: ") as caught:
                await client.post("/", cast_to=int)
        error = caught.value
        assert (error.phase, error.outcome, error.retryable) == (Phase.PROXY, Outcome.NOT_SENT, True)
        assert isinstance(error.__cause__, OSError) and len(error.attempts) == 2
        assert PROXY_PASSWORD not in secrets_of(error)


SOCKS_FAILURES = [
    (b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", "refused the connection", 3),
    (b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "rules", 1),
    (b"HTTP/1.1 400 Bad\r\n\r\n", "no SOCKS", 1),
    (b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00HTTP/1.1 200 OK\r\n\r\n", "behind", 1),
    (b"\x05\x00\x00", "closed the connection", 3),
]


@pytest.mark.parametrize(("reply", "words", "connections"), SOCKS_FAILURES)
async def test_a_socks_proxy_that_fails(reply: bytes, words: str, connections: int) -> None:
    with serve(socks_proxy(lambda peer: None, reply=reply, credentials=True)) as proxy:
        async with client_of(proxy, scheme="socks5h", userinfo=USERINFO, max_retries=2) as client:
            with pytest.raises(ProxyError, match=words) as caught:
                await client.post("/", cast_to=int)
        assert proxy.connections == connections
    error = caught.value
    assert (error.phase, error.outcome, error.status_code, error.response) == (
        Phase.PROXY,
        Outcome.NOT_SENT,
        None,
        None,
    )
    assert PROXY_PASSWORD not in secrets_of(error)


ENDS = [
    (say(refusal("407 A", b"who?"), close=False), "who?"),
    (say(b"HTTP/1.1 407 A\r\nContent-Length: 9\r\n\r\nwho"), "who"),
]


@pytest.mark.parametrize(
    ("script", "text"), [*ENDS, (failing(reset_after(b"HTTP/1.1 407 A\r\nContent-Length: 9\r\n\r\nwho")), "who")]
)
async def test_a_proxy_that_wants_credentials_for_a_whole_request(script: Script, text: str) -> None:
    with serve(script) as proxy:
        async with client_of(proxy, "http://h.test", userinfo=USERINFO, max_retries=2) as client:
            with pytest.raises(ProxyError, match="407") as caught:
                await client.post("/", cast_to=int)
        error = caught.value
        assert proxy.connections == 1
    assert (error.phase, error.outcome, error.retryable) == (Phase.PROXY, Outcome.NOT_SENT, False)
    assert error.response is not None
    assert (error.status_code, error.response.text) == (407, text)
    assert not any(secret in secrets_of(error) for secret in (PROXY_PASSWORD, BASIC.decode()))
