"""Bodies of requests, through the client: what goes out, what is refused, and what is sent again (BEHAVIOUR 4 and 6)."""

# ruff: noqa: ASYNC230, SIM115  (the files of these tests are opened as a caller might)

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import (
    APIError,
    AsyncAPIClient,
    AsyncAPIResponse,
    ConnectError,
    ConnectionLostError,
    ContentTooLargeError,
    InternalServerError,
    LocalProtocolError,
    MockTransport,
    Outcome,
    Phase,
    RateLimitError,
    ReadTimeoutError,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServiceUnavailableError,
    Timeout,
    omit,
)
from anyio_client._wire.coding import make_decoder
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import Peer, Script, ScriptedServer, answer_each, ok, serve

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(wait_initial=0.001)

# Where a mock is the network, and nothing depends on the event loop.
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
DATA = b"".join(b"%07d\n" % number for number in range(80_000))  # 640,000 bytes: two and a half pieces of a file


def open_files() -> int:
    """Files that this process has open: those with a path. Sockets and what event loops are made of have none."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            count += target.startswith("/") and not target.startswith("/dev/")
    return count


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    sockets, files = open_sockets(), open_files()
    yield
    assert settled_sockets(sockets) <= sockets
    until = time.monotonic() + 5
    while open_files() > files and time.monotonic() < until:
        time.sleep(0.005)  # worker threads close what they have opened for a send that was given up
    assert open_files() <= files


class Recording:
    """A server that keeps what came; it answers with these, the last one for ever."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers) or [200]
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, json=1)

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def client(self, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
        return cls(**{"base_url": "http://h", "http_client": MockTransport(self), "retry": QUICK, **options})


async def recorded(method: str, /, **options: Any) -> Request:
    """The request that these options make."""
    server = Recording()
    assert await server.client().request(int, {"method": method, "url": "/", **options}) == 1
    return server.last


def client_of(peer: ScriptedServer, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
    return cls(base_url=peer.url, **{"retry": QUICK, "timeout": Timeout(10), **options})


def names_of(value: Any) -> str | None:
    """For the names of tests: which options there are."""
    return "-".join(value) if isinstance(value, dict) else None


def head_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[0].lower() + b"\r\n"


def body_of(request: bytes) -> bytes:
    """The body of a request as it came, chunks put together."""
    head, _, rest = request.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return rest
    out = b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        out += rest[:size]
        assert rest[size : size + 2] == b"\r\n"
        rest = rest[size + 2 :]
        if not size:
            assert rest == b""
            return out


def end_of(data: bytes) -> int | None:
    """Where the first request in *data* ends, None where it has not."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        place = data.find(b"\r\n0\r\n\r\n", len(head) + 2)
        return None if place < 0 else place + 7
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    end = len(head) + 4 + (int(length[1]) if length else 0)
    return end if len(data) >= end else None


def undone(coding: str, data: bytes) -> bytes:
    decoder = make_decoder(coding, None)
    assert decoder is not None
    out = b"".join(decoder.feed(data))
    decoder.finish()
    return out


# --- the table of section 4 ------------------------------------------------------------------------------------------

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@one_loop
@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        # JSON
        ({"json_data": {"b": 1, "a": "é\u2028"}}, '{"b":1,"a":"é\u2028"}'.encode(), JSON),
        ({"json_data": []}, b"[]", JSON),
        ({"json_data": 0}, b"0", JSON),
        ({"json_data": False}, b"false", JSON),
        ({"json_data": ""}, b'""', JSON),
        ({"json_data": {}}, b"{}", JSON),
        ({"json_data": 10**30}, b"1" + b"0" * 30, JSON),
        ({"json_data": {"a": 1, "b": 2}, "extra_json": {"b": omit, "c": 3}}, b'{"a":1,"c":3}', JSON),
        ({"json_data": {"a": {"x": 1}}, "extra_json": {"a": {"y": 2}}}, b'{"a":{"y":2}}', JSON),  # shallow
        ({"extra_json": {"c": 3}}, b'{"c":3}', JSON),
        ({"extra_json": {}}, b"{}", JSON),
        ({"json_data": 1, "headers": {"content-type": "application/x"}}, b"1", "application/x"),
        ({"json_data": 1, "headers": {"Content-Type": omit}}, b"1", None),
        # content as it stands
        ({"content": b"\0\xff"}, b"\0\xff", None),
        ({"content": "ü"}, "ü".encode(), None),
        ({"content": b""}, b"", None),
        ({"content": ""}, b"", None),
        ({"content": []}, b"", None),
        ({"content": [b"a", memoryview(b"b")]}, b"ab", None),
        ({"content": b"a", "headers": {"Content-Type": "x/y"}}, b"a", "x/y"),
        # forms
        ({"form": {"a": "1 2", "b": ["x&", "ü"]}}, b"a=1%202&b%5B%5D=x%26&b%5B%5D=%C3%BC", FORM),
        ({"form": {"a": {"b": True}, "c": None, "d": ""}}, b"a%5Bb%5D=true&d=", FORM),
        ({"form": {}}, b"", FORM),
        ({"form": {"a": "1"}, "headers": {"Content-Type": FORM + ";charset=utf-8"}}, b"a=1", FORM + ";charset=utf-8"),
        ({"form": {"a": "1"}, "headers": {"Content-Type": omit}}, b"a=1", None),
        # nothing
        ({}, b"", None),
        ({"files": {}}, b"", None),
        ({"files": []}, b"", None),
        ({"json_data": {"a": 1}, "files": {}}, b'{"a":1}', JSON),
        ({"form": {"a": 1}, "files": []}, b"a=1", FORM),
    ],
    ids=names_of,
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_what_goes_out(options: dict[str, Any], body: bytes, content_type: str | None, method: str) -> None:
    request = await recorded(method, **options)
    assert request.content == body
    assert request.headers.get("content-type") == content_type
    assert request.headers["content-length"] == str(len(body))  # RFC 9110 section 8.6: also 0, for these methods


@one_loop
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "options",
    [
        {"json_data": {"a": 1}},
        {"json_data": 0},
        {"extra_json": {"a": 1}},
        {"files": {"a": b"1"}},
        {"form": {"a": 1}},
        {"form": {}},
        {"json_data": {"a": 1}, "files": {"a": b"1"}},
        {"form": {"a": 1}, "headers": {"Content-Type": "multipart/form-data"}},
    ],
    ids=names_of,
)
async def test_get_and_head_have_no_body_and_say_so(method: str, options: dict[str, Any]) -> None:
    server = Recording()
    with pytest.raises(ValueError, match=f"^{method} requests have no body: .* pass content= if the server wants one$"):
        await server.client().request(int, {"method": method, **options})
    assert server.requests == []


@one_loop
@pytest.mark.parametrize("content", [b"odd", "odd", [b"o", b"dd"], io.BytesIO(b"odd")], ids=lambda c: type(c).__name__)
async def test_get_sends_content_that_is_given(content: Any) -> None:
    request = await recorded("GET", content=content)
    assert (request.content, request.headers["content-length"]) == (b"odd", "3")
    assert "content-type" not in request.headers


@one_loop
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_without_a_body_there_is_no_length_and_no_type(method: str) -> None:
    server = Recording()
    await server.client().request(AsyncAPIResponse, {"method": method})
    names = {name.lower() for name in server.last.headers}
    assert not names & {"content-length", "content-type", "transfer-encoding", "content-encoding"}


@one_loop
@pytest.mark.parametrize("options", [{"compress": "gzip"}, {"progress": print}], ids=names_of)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_options_for_bodies_do_nothing_without_one(method: str, options: dict[str, Any]) -> None:
    request = await recorded(method, **options)
    assert request.content == b""
    assert "content-encoding" not in request.headers


@one_loop
@pytest.mark.parametrize("method", ["DELETE", "GET", "POST"])
@pytest.mark.parametrize(
    "content",
    [lambda path: b"", lambda path: [], lambda path: path, lambda path: io.BytesIO()],
    ids=["bytes", "list", "path", "file"],
)
async def test_a_length_of_nothing_is_known_too(method: str, content: Any, tmp_path: pathlib.Path) -> None:
    """BEHAVIOUR 4.3: length known -> Content-Length, else chunked."""
    (tmp_path / "empty").touch()
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            await client.request(int, {"method": method, "content": content(tmp_path / "empty")})
    assert body_of(peer.requests[0]) == b""
    assert b"transfer-encoding" not in head_of(peer.requests[0])


BODIES: dict[str, Any] = {
    "json_data": {"a": 1},
    "extra_json": {"a": 1},
    "content": b"1",
    "files": {"a": b"1"},
    "form": {"a": 1},
}


@one_loop
@pytest.mark.parametrize(
    ("names", "together"),
    [
        (("json_data", "content"), False),
        (("extra_json", "content"), False),
        (("files", "content"), False),
        (("form", "content"), False),
        (("json_data", "form"), False),
        (("extra_json", "form"), False),
        (("json_data", "files"), True),
        (("extra_json", "files"), True),
        (("form", "files"), True),
        (("json_data", "extra_json"), True),
        (("json_data", "form", "files"), True),
        (("json_data", "form", "files", "content"), False),
    ],
)
async def test_what_can_be_a_body_together(names: tuple[str, ...], together: bool) -> None:
    server = Recording()
    call = server.client().request(int, {"method": "POST", **{name: BODIES[name] for name in names}})
    if together:
        assert await call == 1
        return
    with pytest.raises(TypeError, match="^pass .*= or .*=, not both$"):
        await call
    assert server.requests == []


VERB_NAMES = {"json_data": "body", "content": "content", "files": "files", "form": "form"}


@one_loop
@pytest.mark.parametrize("other", ["json_data", "files", "form"])
@pytest.mark.parametrize("verb", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("content", [b"1", b"", ""], ids=repr)
async def test_content_and_another_body_are_a_type_error_that_names_both(verb: str, other: str, content: Any) -> None:
    server = Recording()
    client = server.client()
    name = VERB_NAMES[other]
    for arguments in (
        {"content": content, name: BODIES[other]},
        {"content": content, "options": {other: BODIES[other]}},
        {name: BODIES[other], "options": {"content": content}},
    ):
        with pytest.raises(TypeError, match=f"^pass {name}= or content=, not both$"):
            await getattr(client, verb)("/", cast_to=int, **arguments)
    assert server.requests == []


@one_loop
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"content": {"a": 1}}, TypeError),
        ({"content": 1}, TypeError),
        ({"content": [b"a", "text"]}, TypeError),
        ({"content": "\ud800"}, ValueError),
        ({"content": io.StringIO("text")}, TypeError),
        ({"json_data": {"a": float("nan")}}, ValueError),
        ({"json_data": {"a": object()}}, TypeError),
        ({"json_data": [1], "extra_json": {"a": 1}}, TypeError),
        ({"json_data": [1], "files": {"a": b"1"}}, TypeError),
        ({"form": [("a", 1)]}, TypeError),
        ({"form": "a=1"}, TypeError),
        ({"form": {"a": b"1"}}, TypeError),
        ({"form": {1: "a"}}, TypeError),
        ({"form": {"a": "\ud800"}}, ValueError),
        ({"form": {"a": "\ud800"}, "files": {"b": b""}}, ValueError),
        ({"files": {"a": "path.txt"}}, TypeError),
        ({"files": {"a": ("name", "text")}}, TypeError),
        ({"files": "a.txt"}, TypeError),
        ({"files": b"a.txt"}, TypeError),
        ({"files": 1}, TypeError),
        ({"files": io.BytesIO(b"x")}, TypeError),
        ({"files": {"a": io.StringIO("x")}}, TypeError),
        ({"files": [("a", b"1", "x")]}, TypeError),
        ({"files": {"a": b"1"}, "headers": {"Content-Type": 'multipart/form-data; boundary="a@"'}}, ValueError),
        ({"content": b"1", "compress": "br"}, ValueError),
        ({"content": b"1", "compress": "gzip", "headers": {"Content-Encoding": "gzip"}}, ValueError),
        ({"content": b"1", "progress": 1}, TypeError),
        ({"content": b"1", "headers": {"Transfer-Encoding": "chunked"}}, ValueError),
        ({"content": iter([b"1"]), "headers": {"transfer-encoding": "chunked"}}, ValueError),
        ({"content": b"12", "headers": {"Content-Length": "1"}}, ValueError),
        ({"content": [b"12"], "headers": {"Content-Length": "3"}}, ValueError),
        ({"content": io.BytesIO(b"12"), "headers": {"Content-Length": "3"}}, ValueError),
        ({"content": iter([b"1"]), "headers": {"Content-Length": "-1"}}, ValueError),
        ({"content": iter([b"1"]), "headers": {"Content-Length": "1, 1"}}, ValueError),
        ({"content": iter([b"1"]), "headers": {"Content-Length": "٣"}}, ValueError),
        ({"content": pathlib.Path("/nowhere/at/all")}, FileNotFoundError),
        ({"files": {"a": pathlib.Path("/nowhere/at/all")}}, FileNotFoundError),
        ({"content": pathlib.Path("/tmp")}, IsADirectoryError),
    ],
    ids=names_of,
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    options: dict[str, Any], error: type[Exception]
) -> None:
    server = Recording()
    with pytest.raises(error) as caught:
        await server.client().request(int, {"method": "POST", **options})
    assert server.requests == []
    assert not isinstance(caught.value, APIError)


async def test_the_callers_objects_stay_what_they_are() -> None:
    body = {"a": [1], "b": {"c": 2}}
    extra = {"b": omit, "d": 4}
    files = {"f": ("n", io.BytesIO(b"x"), None, {"X-A": "1"})}
    form = {"a": [1, 2]}
    headers = {"content-type": "multipart/form-data"}
    server = Recording(500, 500)
    with pytest.raises(InternalServerError):
        await server.client().post(
            "/", cast_to=int, body=body, files=files, form=form, options={"extra_json": extra, "headers": headers}
        )
    assert (body, extra, form) == ({"a": [1], "b": {"c": 2}}, {"b": omit, "d": 4}, {"a": [1, 2]})
    assert headers == {"content-type": "multipart/form-data"}
    assert list(files) == ["f"]
    assert not files["f"][1].closed
    assert len({request.content for request in server.requests}) == 1


# --- multipart -------------------------------------------------------------------------------------------------------


def boundary_in(request: Request) -> str:
    match = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{32})", request.headers["content-type"])
    assert match
    return match[1]


def parts_of(request: Request, boundary: str) -> list[tuple[str, bytes]]:
    """(head after "form-data; ", content) of each part."""
    delimiter = f"--{boundary}\r\n".encode()
    assert request.content.startswith(delimiter)
    assert request.content.endswith(f"\r\n--{boundary}--\r\n".encode())
    inner = request.content[len(delimiter) : -len(boundary) - 8]
    parts = []
    for part in inner.split(b"\r\n" + delimiter):
        head, _, content = part.partition(b"\r\n\r\n")
        text = head.decode()
        start = "Content-Disposition: form-data; "
        assert text.startswith(start)
        parts.append((text.removeprefix(start), content))
    return parts


PLAIN = "\r\nContent-Type: text/plain"
OCTETS = "\r\nContent-Type: application/octet-stream"


@one_loop
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"files": {"f": b"1"}}, [('name="f"; filename="upload"' + OCTETS, b"1")]),
        ({"files": [("f", b"1"), ("f", b"2")]}, [('name="f"; filename="upload"' + OCTETS, b"1"), ('name="f"; filename="upload"' + OCTETS, b"2")]),
        ({"files": iter([("f", b"1")])}, [('name="f"; filename="upload"' + OCTETS, b"1")]),
        ({"files": {"f": ("a.txt", b"1")}}, [('name="f"; filename="a.txt"' + PLAIN, b"1")]),
        ({"files": {"f": ("a.txt", b"1", "x/y")}}, [('name="f"; filename="a.txt"\r\nContent-Type: x/y', b"1")]),
        ({"files": {"f": ("a.txt", b"1", "x/y", {"X-A": "b"})}}, [('name="f"; filename="a.txt"\r\nContent-Type: x/y\r\nX-A: b', b"1")]),
        ({"files": {"f": (None, "text")}}, [('name="f"', b"text")]),
        (
            {"json_data": {"a": ["x", 1], "b": {"c": True, "d": [None, 2.5]}, "e": None, "g": ""}, "files": {"f": b"1"}},
            [('name="a[]"', b"x"), ('name="a[]"', b"1"), ('name="b[c]"', b"true"), ('name="b[d][]"', b"2.5"), ('name="g"', b""), ('name="f"; filename="upload"' + OCTETS, b"1")],
        ),
        (
            {"json_data": {"a": 1, "b": 2}, "extra_json": {"b": omit, "c": [3]}, "files": {"f": b"1"}},
            [('name="a"', b"1"), ('name="c[]"', b"3"), ('name="f"; filename="upload"' + OCTETS, b"1")],
        ),
        ({"extra_json": {"c": 3}, "files": {"f": b"1"}}, [('name="c"', b"3"), ('name="f"; filename="upload"' + OCTETS, b"1")]),
        ({"form": {"a": [1, 2]}, "files": {"f": b"1"}}, [('name="a[]"', b"1"), ('name="a[]"', b"2"), ('name="f"; filename="upload"' + OCTETS, b"1")]),
        ({"json_data": {"a": 'q"\r\n'}, "files": {'"': b"1"}}, [('name="a"', b'q"\r\n'), ('name="%22"; filename="upload"' + OCTETS, b"1")]),
        ({"json_data": {}, "files": {"f": b""}}, [('name="f"; filename="upload"' + OCTETS, b"")]),
    ],
)  # fmt: skip
async def test_the_parts_of_a_form(options: dict[str, Any], parts: list[tuple[str, bytes]]) -> None:
    request = await recorded("POST", **options)
    assert parts_of(request, boundary_in(request)) == parts
    assert request.headers["content-length"] == str(len(request.content))


async def test_how_a_form_is_written_is_the_sdks_choice_and_json_in_parts_is_not() -> None:
    class Client(AsyncAPIClient):
        @property
        def qs(self) -> Any:
            from anyio_client import Querystring

            return Querystring("comma")

    server = Recording()
    client = server.client(Client)
    await client.post("/", cast_to=int, form={"a": [1, 2]})
    assert server.last.content == b"a=1%2C2"
    await client.post("/", cast_to=int, body={"a": [1, 2]}, files={"f": b"1"})
    assert [name for name, _ in parts_of(server.last, boundary_in(server.last))][:2] == ['name="a[]"', 'name="a[]"']


@one_loop
@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
@pytest.mark.parametrize("given", ["multipart/form-data", "Multipart/Form-Data", "multipart/form-data; charset=utf-8"])
@pytest.mark.parametrize("options", [{"files": {"f": b"1"}}, {"json_data": {"f": 1}}, {"form": {"f": 1}}], ids=names_of)
async def test_a_callers_form_type_without_a_boundary_gets_ours(name: str, given: str, options: dict[str, Any]) -> None:
    """Also where there is no file: whoever writes the type wants the form."""
    request = await recorded("POST", headers={name: given}, **options)
    assert len(request.headers.get_list("content-type")) == 1
    [(_, content)] = parts_of(request, boundary_in(request))
    assert content == b"1"


@one_loop
@pytest.mark.parametrize(
    ("field", "boundary"),
    [("abc", "abc"), ('"a b:c"', "a b:c"), ("----x-1", "----x-1"), ("abc; charset=utf-8", "abc")],
)
@pytest.mark.parametrize("options", [{"files": {"f": b"1"}}, {"json_data": {"f": 1}}], ids=names_of)
async def test_a_callers_boundary_is_used(field: str, boundary: str, options: dict[str, Any]) -> None:
    given = f"multipart/form-data; boundary={field}"
    request = await recorded("POST", headers={"content-type": given}, **options)
    assert request.headers.get_list("content-type") == [given]
    assert len(parts_of(request, boundary)) == 1


async def test_a_client_whose_own_type_is_json_sends_forms_as_forms() -> None:
    server = Recording()
    client = server.client(custom_headers={"content-type": "application/json"})
    await client.post("/", cast_to=int, files={"f": b"1"})
    assert len(parts_of(server.last, boundary_in(server.last))) == 1
    await client.post("/", cast_to=int, form={"f": 1})
    assert server.last.headers.get_list("content-type") == [FORM]


async def test_a_type_that_is_no_form_or_omitted_is_the_callers_affair() -> None:
    request = await recorded("POST", files={"f": b"1"}, headers={"Content-Type": "multipart/related; boundary=x"})
    assert request.headers.get_list("content-type") == ["multipart/related; boundary=x"]
    request = await recorded("POST", files={"f": b"1"}, headers={"Content-Type": omit})
    assert "content-type" not in request.headers
    request = await recorded("POST", content=b"1", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert request.content == b"1"


async def test_the_boundary_stays_over_retries_and_is_another_one_for_another_call() -> None:
    server = Recording(500, 429, 200, 200)
    client = server.client()
    for _ in range(2):
        await client.post("/", cast_to=int, files={"f": b"1"})
    first, second, third, other = (boundary_in(request) for request in server.requests)
    assert first == second == third != other
    assert len({request.content for request in server.requests[:3]}) == 1


# --- compressed, reported --------------------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("options", "content_type"),
    [
        ({"content": DATA}, None),
        ({"content": [DATA[:9], DATA[9:]]}, None),
        ({"content": lambda: iter([DATA])}, None),
        ({"content": iter([DATA])}, None),
        ({"content": io.BytesIO(DATA)}, None),
        ({"json_data": DATA.decode()}, JSON),
        ({"form": {"a": DATA.decode()}}, FORM),
        ({"files": {"f": DATA}}, "multipart/form-data"),
    ],
)
async def test_a_compressed_body_says_so_and_keeps_its_type(
    options: dict[str, Any], content_type: str | None, coding: str
) -> None:
    if isinstance(content := options.get("content"), io.BytesIO):
        content.seek(0)
    elif isinstance(content, Iterator):
        options = {"content": iter([DATA])}
    request = await recorded("POST", compress=coding, **options)
    assert request.headers.get_list("content-encoding") == [coding]
    data = undone(coding, request.content)
    assert DATA in data.replace(b"\\n", b"\n").replace(b"%0A", b"\n")
    assert (request.headers.get("content-type") or "").startswith(content_type or "")
    assert ("content-type" in request.headers) is (content_type is not None)
    if "content-length" in request.headers:
        assert request.headers["content-length"] == str(len(request.content))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_compressed_file_goes_out_in_chunks_and_the_same_again(coding: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    with serve(answer_each(ok(status="500 X"), ok(b"1"))) as peer:
        async with client_of(peer) as client:
            assert await client.post("/", cast_to=int, content=path, options={"compress": coding}) == 1
    first, second = peer.requests
    assert b"transfer-encoding: chunked" in head_of(first)
    assert body_of(first) == body_of(second)
    assert undone(coding, body_of(first)) == DATA


class Progress:
    def __init__(self) -> None:
        self.values: list[tuple[int, int | None]] = []

    def __call__(self, sent: int, total: int | None) -> None:
        self.values.append((sent, total))


SIZE, PIECE = len(DATA), 256 * 1024
STEPS: list[tuple[int, int | None]] = [(PIECE, SIZE), (2 * PIECE, SIZE), (SIZE, SIZE)]


@pytest.mark.parametrize("wire", [False, True], ids=["mock", "socket"])
@pytest.mark.parametrize(
    ("content", "values"),
    [
        (lambda path: DATA, STEPS),
        (lambda path: path, STEPS),
        (lambda path: io.BytesIO(DATA), STEPS),
        (lambda path: [DATA[:10], b"", DATA[10:]], [(10, SIZE), (SIZE, SIZE)]),
        (lambda path: iter([b"ab", b"c"]), [(2, None), (3, None)]),
        (lambda path: lambda: [b"ab", b"c"], [(2, None), (3, None)]),
        (lambda path: b"", []),
    ],
)
async def test_progress_is_told_of_each_piece_and_of_each_attempt_anew(
    content: Any, values: list[tuple[int, int | None]], wire: bool, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    progress = Progress()
    again = not isinstance(content(path), Iterator) or hasattr(content(path), "read")
    if wire:
        with serve(answer_each(ok(status="500 X"), ok(b"1"))) as peer:
            async with client_of(peer, max_retries=int(again)) as client:
                with contextlib.nullcontext() if again else pytest.raises(InternalServerError):
                    await client.put("/", cast_to=int, content=content(path), options={"progress": progress})
        sent = {body_of(request) for request in peer.requests}
    else:
        server = Recording(500, 200)
        with contextlib.nullcontext() if again else pytest.raises(InternalServerError):
            await server.client().put("/", cast_to=int, content=content(path), options={"progress": progress})
        sent = {request.content for request in server.requests}
    told = [values * 2] if again else [values]
    if wire:  # the answer that ends the first attempt may come before its last piece is accounted for
        told.append(values[:-1] + values if again else values[:-1])
    assert progress.values in told
    assert len(sent) == 1
    assert [len(data) for data in sent] == [values[-1][0] if values else 0]


@pytest.mark.parametrize("size", [3, 300_000])
async def test_progress_of_a_good_call_always_comes_to_the_total(size: int) -> None:
    """Also where the answer is there as soon as the last piece is gone."""
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            for _ in range(60):
                progress = Progress()
                await client.post("/", cast_to=int, content=b"x" * size, options={"progress": progress})
                assert progress.values[-1:] == [(size, size)]
        assert peer.connections == 1


async def test_progress_of_a_form_and_of_a_compressed_body(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    progress = Progress()
    request = await recorded("POST", files={"f": path}, progress=progress)
    assert progress.values[-1] == (len(request.content), len(request.content))
    assert [sent for sent, _ in progress.values] == sorted({sent for sent, _ in progress.values})
    for content in (DATA, path):
        progress = Progress()
        request = await recorded("POST", content=content, progress=progress, compress="gzip")
        total = len(request.content) if content is DATA else None
        assert progress.values[-1] == (len(request.content), total)


# --- what is sent again ----------------------------------------------------------------------------------------------


class Once:
    """An async iterable that can be read only once."""

    def __init__(self) -> None:
        self.left = [DATA[:100], b"", DATA[100:]]

    def __aiter__(self) -> Once:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


def generated() -> Iterator[bytes]:
    yield DATA[:100]
    yield DATA[100:]


async def generated_async() -> AsyncIterator[bytes]:
    for piece in generated():
        yield piece


def piped(stack: contextlib.ExitStack) -> Any:
    read, write = os.pipe()

    def fill() -> None:
        with contextlib.suppress(BrokenPipeError), open(write, "wb") as file:
            file.write(DATA)

    thread = threading.Thread(target=fill)
    thread.start()
    stack.callback(thread.join, 5)
    return stack.enter_context(open(read, "rb", buffering=0))


def opened(path: pathlib.Path, stack: contextlib.ExitStack, place: int = 0) -> Any:
    file = stack.enter_context(open(path, "rb"))
    file.seek(place)
    return file


def in_memory() -> io.BytesIO:
    file = io.BytesIO(DATA)
    file.seek(8)
    return file


Kind = tuple[Callable[[pathlib.Path, contextlib.ExitStack], dict[str, Any]], bool]

KINDS: dict[str, Kind] = {
    "bytes": (lambda p, s: {"content": DATA}, True),
    "list": (lambda p, s: {"content": list(generated())}, True),
    "json": (lambda p, s: {"json_data": DATA.decode()}, True),
    "json of an iterator": (lambda p, s: {"json_data": {"a": (n for n in range(50_000))}}, True),
    "form": (lambda p, s: {"form": {"a": DATA.decode()}}, True),
    "path": (lambda p, s: {"content": p}, True),
    "anyio.Path": (lambda p, s: {"content": anyio.Path(p)}, True),
    "file": (lambda p, s: {"content": opened(p, s)}, True),
    "file at an offset": (lambda p, s: {"content": opened(p, s, 8)}, True),
    "AsyncFile": (lambda p, s: {"content": anyio.wrap_file(opened(p, s))}, True),
    "BytesIO": (lambda p, s: {"content": in_memory()}, True),
    "callable: generator": (lambda p, s: {"content": generated}, True),
    "callable: async": (lambda p, s: {"content": Once}, True),
    "callable: file": (lambda p, s: {"content": lambda: open(p, "rb")}, True),
    "files": (lambda p, s: {"files": {"a": p, "b": opened(p, s, 16), "c": b"c"}, "json_data": {"d": 1}}, True),
    "compressed path": (lambda p, s: {"content": p, "compress": "gzip"}, True),
    "reported path": (lambda p, s: {"content": p, "progress": lambda sent, total: None}, True),
    "reported bytes": (lambda p, s: {"content": DATA, "progress": lambda sent, total: None}, True),
    "generator": (lambda p, s: {"content": generated()}, False),
    "iterator": (lambda p, s: {"content": iter([DATA])}, False),
    "async iterator": (lambda p, s: {"content": Once()}, False),
    "async generator": (lambda p, s: {"content": generated_async()}, False),
    "pipe": (lambda p, s: {"content": piped(s)}, False),
    "files with a pipe": (lambda p, s: {"files": {"a": p, "b": piped(s)}}, False),
    "compressed iterator": (lambda p, s: {"content": iter([DATA]), "compress": "zstd"}, False),
    "reported iterator": (lambda p, s: {"content": Once(), "progress": lambda sent, total: None}, False),
}


def fails_with(*answers: bytes | str) -> Script:
    """To each request the next of these: an answer, or "close" or "reset" in place of one; in the end all is well."""
    lock = threading.Lock()
    left = list(answers)

    def script(peer: Peer) -> None:
        while peer.read_request():
            with lock:
                answer = left.pop(0) if left else ok(b"1")
            if isinstance(answer, bytes):
                peer.send(answer)
                continue
            if answer == "reset":
                peer.reset()
            return

    return script


def early(status: str, *, first: int = 1) -> Script:
    """Answers before it has read the body, on the first connections; then all is well."""

    def script(peer: Peer) -> None:
        if peer.number > first:
            while peer.read_request():
                peer.send(ok(b"1"))
            return
        data = b""
        while b"\r\n\r\n" not in data:
            data += peer.receive()
        peer.server.requests.append(data)
        peer.send(ok(status=status, headers="Retry-After-Ms: 1\r\n"))
        while (end := end_of(data)) is None:  # what was on its way already
            piece = peer.receive()
            if not piece:
                return
            data += piece
        peer.buffer = data[end:]
        while peer.read_request():
            peer.send(ok(b"1"))

    return script


LIMITED = ok(status="429 X", headers="Retry-After-Ms: 1\r\n")


def cut(peer: Peer) -> None:
    """The head of a good answer, half of its body, and the end; then all is well."""
    peer.read_request()
    peer.send(ok(b"12345")[:-2] if peer.number == 1 else ok(b"1"))
    while peer.number > 1 and peer.read_request():
        peer.send(ok(b"1"))


# what the server does, method, whether it is worth a retry, the error where there is none
OUTCOMES: dict[str, tuple[tuple[bytes | str, ...], str, bool, type[Exception]]] = {
    "500": ((ok(status="500 X"),), "POST", True, InternalServerError),
    "503, 500": ((ok(status="503 X"), ok(status="500 X")), "POST", True, ServiceUnavailableError),
    "429": ((LIMITED,), "POST", True, RateLimitError),
    "429 to PUT": ((LIMITED,), "PUT", True, RateLimitError),
    "lost, not idempotent": (("close",), "POST", False, ConnectionLostError),
    "lost, idempotent": (("close",), "PUT", True, ConnectionLostError),
    "reset, idempotent": (("reset",), "PUT", True, ConnectionLostError),
    "lost twice": (("close", "reset"), "PUT", True, ConnectionLostError),
    "answer cut": ((), "PUT", True, ConnectionLostError),
}


@pytest.mark.spread
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_is_sent_again_the_same_or_not_at_all(kind: str, outcome: str, tmp_path: pathlib.Path) -> None:
    """BEHAVIOUR 4.4: equal bytes in every request, or exactly one request and then the original error."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    make, again = KINDS[kind]
    answers, method, retried, error = OUTCOMES[outcome]
    with serve(fails_with(*answers) if answers else cut) as peer, contextlib.ExitStack() as stack:
        async with client_of(peer) as client:
            options = {"method": method, **make(path, stack)}
            if again and retried:
                assert await client.request(int, options) == 1
            else:
                with pytest.raises(error) as caught:
                    await client.request(int, options)
                assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]
            assert await client.get("/", cast_to=int) == 1
        bodies = [body_of(request) for request in peer.requests if not request.startswith(b"GET")]
        assert len(bodies) == (1 + (len(answers) or 1) if again and retried else 1)
        assert len(set(bodies)) == 1
        assert len(bodies[0]) > 5000
        for value in options.values():
            assert not getattr(value, "closed", False)


@pytest.mark.spread
@pytest.mark.parametrize("status", ["413 X", "503 X"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_early_answer_ends_the_upload_of_every_kind(kind: str, status: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    make, again = KINDS[kind]
    retried = again and status == "503 X"
    with serve(early(status)) as peer, contextlib.ExitStack() as stack:
        async with client_of(peer) as client:
            options = {"method": "POST", **make(path, stack)}
            if retried:
                assert await client.request(int, options) == 1
                assert len(body_of(peer.requests[1])) > 5000
            else:
                with pytest.raises(APIError) as caught:
                    await client.request(int, options)
                assert caught.value.status_code == int(status[:3])  # type: ignore[attr-defined]
            assert len(peer.requests) == 1 + retried
            assert await client.get("/", cast_to=int) == 1
            assert peer.wait_for_open(1) == 1
            assert client._transport.pool.open_count == 1  # type: ignore[attr-defined]


async def test_an_early_answer_stops_the_reading_of_the_file() -> None:
    class Endless:
        """100 MB, of which a server that answers early must not make us read much."""

        read_so_far = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int) -> bytes:
            self.read_so_far += size
            return bytes(size) if self.read_so_far < 10**8 else b""

    file = Endless()
    with serve(early("413 X")) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ContentTooLargeError):
                await client.post("/", cast_to=int, content=file)
    assert file.read_so_far < 50_000_000


async def test_a_server_that_reads_nothing_stops_the_reading_of_the_file() -> None:
    class Endless:
        read_so_far = 0

        def read(self, size: int) -> bytes:
            self.read_so_far += size
            return bytes(size)

    file = Endless()

    def script(peer: Peer) -> None:
        peer.receive()
        peer.server.pause(0.5)

    with serve(script) as peer:
        async with client_of(peer) as client:
            with anyio.move_on_after(0.4) as scope:
                await client.post("/", cast_to=int, content=file)
            assert scope.cancelled_caught
            assert file.read_so_far < 32_000_000  # what the kernel's buffers take


@pytest.mark.spread
@one_loop
@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.ANSWERED])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_of_every_outcome_with_every_kind(kind: str, outcome: Outcome, tmp_path: pathlib.Path) -> None:
    """The mock has read the body before it fails: what can be read only once is used."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    make, again = KINDS[kind]
    error = ConnectionLostError("gone", outcome=outcome)
    server = Recording(error, 200)
    retried = again and outcome in (Outcome.NOT_SENT, Outcome.REFUSED)
    with contextlib.ExitStack() as stack:
        call = server.client().request(int, {"method": "POST", **make(path, stack)})
        if retried:
            assert await call == 1
        else:
            with pytest.raises(ConnectionLostError) as caught:
                await call
            assert caught.value is error
    assert len(server.requests) == 1 + retried
    assert len({request.content for request in server.requests}) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_connection_uses_up_no_body(kind: str, tmp_path: pathlib.Path) -> None:
    """Whatever can be read only once is sent by the attempt that finds the server there."""
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    make, _ = KINDS[kind]
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))  # the port is ours, and nobody listens
        requests: list[bytes] = []

        def answer() -> None:
            listener.settimeout(5)
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(5)
                server: Any = Recording()
                server.requests = requests
                peer = Peer(sock, 1, server)
                peer.read_request()
                peer.send(ok(b"1"))

        thread = threading.Thread(target=answer)

        class Client(AsyncAPIClient):
            async def _sleep_for_retry(self, *, retries_taken: int, **facts: Any) -> None:
                if retries_taken == 1:
                    listener.listen()
                    thread.start()
                    stack.callback(thread.join, 5)

        async with Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5) as client:
            result = await client.request(AsyncAPIResponse, {"method": "POST", **make(path, stack)})
            assert result.retries_taken == 2
        thread.join(5)
        assert len(requests) == 1
        assert len(body_of(requests[0])) > 5000


@pytest.mark.parametrize("kind", ["path", "file at an offset", "files", "callable: file", "generator"])
async def test_a_connection_that_dies_under_an_upload_is_replaced_where_that_is_safe(
    kind: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    make, again = KINDS[kind]

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(ok(b"1"))
        while peer.number > 1 and peer.read_request():
            peer.send(ok(b"1"))
        peer.receive()  # the first connection ends under its second request

    with serve(script) as peer, contextlib.ExitStack() as stack:
        async with client_of(peer, max_retries=0) as client:
            await client.get("/", cast_to=int)
            call = client.request(int, {"method": "PUT", **make(path, stack)})
            if again:
                assert await call == 1
                assert len(body_of(peer.requests[1])) >= len(DATA) - 16
            else:
                with pytest.raises(ConnectionLostError):
                    await call


async def test_a_body_that_a_hook_has_read_can_be_sent_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)

    class Signing(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Size"] = str(len(await request.read()))

    for content in (path, iter([DATA]), Once(), generated):
        server = Recording(500, 200)
        assert await server.client(Signing).post("/", cast_to=int, content=content) == 1
        assert [request.content for request in server.requests] == [DATA, DATA]
        assert [request.headers["x-size"] for request in server.requests] == [str(SIZE)] * 2


async def test_a_hook_that_changes_the_file_changes_the_body(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)

    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            options.content = path
            options.compress = "gzip"
            return options

    server = Recording(500, 200)
    assert await server.client(Client).post("/", cast_to=int, content=b"another") == 1
    assert [gzip.decompress(request.content) for request in server.requests] == [DATA, DATA]


async def test_a_file_that_is_closed_between_two_attempts_is_a_value_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with open(tmp_path / "a", "rb") as file:

        class Closing(AsyncAPIClient):
            async def _sleep_for_retry(self, **facts: Any) -> None:
                file.close()

        with serve(answer_each(ok(status="500 X"), ok(b"1"))) as peer:
            async with client_of(peer, Closing) as client:
                with pytest.raises(ValueError, match="the file that is being sent was closed"):
                    await client.post("/", cast_to=int, content=file)
                assert await client.get("/", cast_to=int) == 1


# --- bodies that do not keep their word ------------------------------------------------------------------------------


def complete(request: bytes) -> bool:
    """Whether a server would take it for a whole request."""
    return end_of(request) is not None


class Watching:
    """A server that keeps every byte that came on each of its connections."""

    def __init__(self) -> None:
        self.came: dict[int, bytes] = {}

    def __call__(self, peer: Peer) -> None:
        self.came[peer.number] = b""
        while data := peer.receive():
            self.came[peer.number] += data
            if complete(self.came[peer.number]):
                peer.send(ok(b"1"))
                self.came[peer.number] = b""


async def fails_and_leaves_no_whole_body(error: type[BaseException], **options: Any) -> BaseException:
    """The call fails with *error* at its only attempt, no server has seen a whole request; the next call is fine."""
    watching = Watching()
    with serve(watching) as peer:
        async with client_of(peer) as client:
            tasks = task_count()
            with anyio.fail_after(2), pytest.raises(error) as caught:
                await client.request(int, {"method": "PUT", **options})
            assert task_count() == tasks
            assert await client.get("/", cast_to=int) == 1
            assert peer.connections == 2  # the first one is not used again, and nothing was tried again
            assert client._transport.pool.open_count == 1  # type: ignore[attr-defined]
        assert peer.wait_for_open(0) == 0
    assert not watching.came[1] or not complete(watching.came[1])
    return caught.value


class Changing:
    """A file of DATA that is changed when the second piece is asked for."""

    def __init__(self, path: pathlib.Path, change: Callable[[pathlib.Path], object]) -> None:
        path.write_bytes(DATA)
        self.path, self.change = path, change

    def __call__(self, sent: int, total: int | None) -> None:
        if sent < SIZE and self.change is not None:
            change, self.change = self.change, None  # type: ignore[assignment]
            change(self.path)


def append(path: pathlib.Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def rewrite(path: pathlib.Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


@pytest.mark.parametrize("kind", ["path", "file", "form", "compressed"])
@pytest.mark.parametrize(
    "change", [lambda path: os.truncate(path, 300_000), append, rewrite], ids=["shrinks", "grows", "rewritten"]
)
async def test_a_file_that_changes_under_the_upload_never_looks_complete(
    change: Any, kind: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "data.bin"
    progress = Changing(path, change)
    with open(path, "rb") as file:
        options = {
            "path": {"content": path},
            "file": {"content": file},
            "form": {"files": {"f": path}},
            "compressed": {"content": path, "compress": "gzip"},
        }[kind]
        if kind == "compressed":
            data = os.urandom(SIZE)  # so that the compressor gives pieces while it reads
            path.write_bytes(data)
        error = await fails_and_leaves_no_whole_body(LocalProtocolError, progress=progress, **options)
        assert isinstance(error, LocalProtocolError)
        assert len(error.attempts) == 1
        assert error.phase is Phase.SEND
        assert not file.closed


@pytest.mark.parametrize(
    ("pieces", "declared"), [([b"abcd"], "3"), ([b"ab", b"cd"], "3"), ([b"a"], "3"), ([], "3"), ([b"a"], "0")]
)
@pytest.mark.parametrize("kind", ["callable", "generator"])
async def test_a_body_that_does_not_fit_the_length_the_caller_set(
    kind: str, pieces: list[bytes], declared: str
) -> None:
    content: Any = iter(pieces) if kind == "generator" else lambda: iter(pieces)
    headers = {"Content-Length": declared}
    if declared == "0":  # whole as far as it went, and closed
        with serve(answer_each(ok(b"1"))) as peer:
            async with client_of(peer) as client:
                with pytest.raises(LocalProtocolError, match="does not fit its declared length"):
                    await client.put("/", cast_to=int, content=content, options={"headers": headers})
                assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]
        return
    error = await fails_and_leaves_no_whole_body(LocalProtocolError, content=content, headers=headers)
    assert "does not fit its declared length" in str(error)


@pytest.mark.parametrize("content", [lambda: [b"ab", b"c"], lambda: b"abc", Once])
async def test_a_length_that_the_caller_set_is_sent_where_it_fits(content: Any) -> None:
    size = SIZE if content is Once else 3
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            headers = {"content-length": str(size)}
            assert await client.put("/", cast_to=int, content=content, options={"headers": headers}) == 1
            assert await client.get("/", cast_to=int) == 1
    assert head_of(peer.requests[0]).count(b"\r\ncontent-length: ") == 1
    assert b"transfer-encoding" not in head_of(peer.requests[0])
    assert len(body_of(peer.requests[0])) == size


# --- what the caller's own code raises -------------------------------------------------------------------------------


class MyError(Exception):
    pass


ERRORS: list[Callable[[], BaseException]] = [
    lambda: MyError("mine"),
    lambda: OSError(5, "mine"),
    lambda: ValueError("mine"),
    lambda: TimeoutError("mine"),  # an OSError, and what fail_after() raises
    lambda: ConnectionResetError("mine"),
    lambda: BrokenPipeError("mine"),
    lambda: FileNotFoundError("mine"),
    lambda: json.JSONDecodeError("mine", "", 0),
]


class Failing:
    """Gives pieces, then raises. As an async iterator; see also the kinds below."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.left = [b"x" * 1000, b"x" * 100_000]
        self.closed = False

    def __aiter__(self) -> Failing:
        return self

    def next(self) -> bytes:
        if not self.left:
            raise self.error
        return self.left.pop(0)

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self.next()

    def read(self, size: int) -> bytes:
        return self.next()

    async def aclose(self) -> None:
        self.closed = True


class FailingFile:
    def __init__(self, error: BaseException) -> None:
        self.read = Failing(error).read


def failing_generator(error: BaseException, closed: list[bool]) -> Iterator[bytes]:
    try:
        yield b"x" * 1000
        yield b"x" * 100_000
        raise error
    finally:
        closed.append(True)


async def failing_async_generator(error: BaseException, closed: list[bool]) -> AsyncIterator[bytes]:
    for piece in failing_generator(error, closed):
        yield piece


def raises(error: BaseException) -> Any:
    raise error


def failing(kind: str, error: BaseException, closed: list[bool]) -> dict[str, Any]:
    match kind:
        case "async iterator":
            return {"content": Failing(error)}
        case "callable":
            return {"content": lambda: Failing(error)}
        case "generator":
            return {"content": failing_generator(error, closed)}
        case "callable: generator":
            return {"content": lambda: failing_generator(error, closed)}
        case "async generator":
            return {"content": failing_async_generator(error, closed)}
        case "file":
            return {"content": FailingFile(error)}
        case "part":
            return {"files": {"a": FailingFile(error)}}
        case "compressed":
            return {"content": lambda: failing_generator(error, closed), "compress": "gzip"}
        case "reported":
            return {"content": lambda: Failing(error), "progress": lambda sent, total: None}
        case "progress":
            return {"content": [b"x" * 100_000] * 3, "progress": lambda sent, total: raises(error)}
        case "progress of a file":
            return {"content": io.BytesIO(DATA), "progress": lambda sent, total: raises(error)}
        case "the callable itself":
            return {"content": lambda: raises(error)}
        case _:
            raise AssertionError(kind)


FAILING = [
    "async iterator", "callable", "generator", "callable: generator", "async generator", "file", "part", "compressed",
    "reported", "progress", "progress of a file", "the callable itself",
]  # fmt: skip


@pytest.mark.spread
@pytest.mark.parametrize(
    ("kind", "make_error"),
    [(kind, make) for kind in FAILING for make in (ERRORS if kind in ("async iterator", "generator") else ERRORS[:2])],
    ids=lambda value: None if isinstance(value, str) else type(value()).__name__,
)
async def test_what_the_callers_code_raises_comes_out_as_it_is(kind: str, make_error: Any) -> None:
    error = make_error()
    closed: list[bool] = []
    caught = await fails_and_leaves_no_whole_body(type(error), **failing(kind, error, closed))
    assert caught is error
    assert "generator" not in kind or closed == [True]


@pytest.mark.parametrize("kind", FAILING)
async def test_what_the_callers_code_raises_under_a_mock_comes_out_as_it_is(kind: str) -> None:
    error = OSError("mine")
    closed: list[bool] = []
    server = Recording()
    with pytest.raises(OSError) as caught:
        await server.client().request(int, {"method": "PUT", **failing(kind, error, closed)})
    assert caught.value is error
    assert server.requests == []
    assert "generator" not in kind or closed == [True]


@pytest.mark.parametrize("wire", [False, True], ids=["mock", "socket"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("stopped_by", ["progress", "piece"])
async def test_generators_are_closed_when_the_send_is_stopped(kind: str, stopped_by: str, wire: bool) -> None:
    """Before the call is over, not when they are collected: they may hold files and locks."""
    closed: list[bool] = []
    error = MyError("mine")
    last: Any = "no bytes" if stopped_by == "piece" else b"x"

    def sync() -> Iterator[bytes]:
        try:
            yield b"x"
            yield last
            yield b"x"
        finally:
            closed.append(True)

    async def both() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            yield last
            yield b"x"
        finally:
            closed.append(True)

    content = sync() if kind == "sync" else both()
    options: dict[str, Any] = {"method": "POST", "content": content}
    if stopped_by == "progress":
        options["progress"] = lambda sent, total: raises(error)
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) if wire else Recording().client() as client:
            with pytest.raises(MyError if stopped_by == "progress" else TypeError):
                await client.request(int, options)
            assert closed == [True]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_generators_are_closed_when_an_early_answer_stops_the_send(kind: str) -> None:
    closed: list[bool] = []

    def sync() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append(True)

    async def both() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append(True)

    content = sync() if kind == "sync" else both()  # the test holds it, as a caller may
    with serve(early("413 X")) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ContentTooLargeError):
                await client.post("/", cast_to=int, content=content)
            assert closed == [True]


@pytest.mark.parametrize("compress", [None, "gzip"])
@pytest.mark.parametrize("progress", [None, lambda sent, total: None], ids=["silent", "reported"])
@pytest.mark.parametrize("piece", [None, "text", 1], ids=repr)
async def test_a_piece_that_is_no_bytes_never_ends_the_body(piece: Any, progress: Any, compress: Any) -> None:
    error = await fails_and_leaves_no_whole_body(
        TypeError, content=lambda: iter([b"a", piece, b"b"]), progress=progress, compress=compress
    )
    assert "a body is made of bytes" in str(error)


async def test_an_error_of_ours_that_the_callers_code_raises_is_not_retried() -> None:
    """The body comes from another server, through another client: that one's loss is not this connection's."""
    error = ConnectionLostError("upstream", outcome=Outcome.NOT_SENT)
    opened: list[Failing] = []

    def content() -> Failing:
        opened.append(Failing(error))
        return opened[-1]

    caught = await fails_and_leaves_no_whole_body(ConnectionLostError, content=content)
    assert caught is error
    assert len(opened) == 1
    assert opened[0].closed


async def test_an_iterator_that_waits_too_long_for_the_caller_is_the_callers_affair() -> None:
    """fail_after() in the caller's own code raises TimeoutError at once, not our read timeout much later."""

    class Slow(Failing):
        async def __anext__(self) -> bytes:
            if self.left:
                return self.left.pop()
            with anyio.fail_after(0.01):
                await anyio.sleep(10)
            raise AssertionError

    began = time.monotonic()
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer, timeout=Timeout(2), max_retries=0) as client:
            with pytest.raises(TimeoutError) as caught:
                await client.post("/", cast_to=int, content=Slow(MyError()))
            assert not isinstance(caught.value, ReadTimeoutError)
    assert time.monotonic() - began < 1.5


async def test_nobody_listens_is_the_original_error_for_every_body(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with AsyncAPIClient(base_url=url, retry=QUICK) as client:
            for content in (path, generated(), b"x"):
                with pytest.raises(ConnectError) as caught:
                    await client.post("/", cast_to=int, content=content)
                assert len(caught.value.attempts) == 3
