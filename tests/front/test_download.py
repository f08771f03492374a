"""Bodies into files: whole or absent, whatever happens on the way, and continued where that was asked for."""

from __future__ import annotations

import errno
import gzip
import pathlib
import re
import resource
import threading
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    APIConnectionError,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    ConnectionLostError,
    ContentDecodingError,
    DeadlineExceededError,
    InternalServerError,
    RetryPolicy,
    async_to_streamed_response_wrapper,
    make_request_options,
)
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import Peer, Script, ScriptedServer, serve
from tests.test_nginx import nginx

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 40
OTHER = b"something else entirely. " * 300
ETAG = 'ETag: "1"\r\n'
LATER = "Last-Modified: Mon, 01 Jan 2024 10:00:00 GMT\r\nDate: Mon, 01 Jan 2024 11:00:00 GMT\r\n"


@attrs.frozen
class Answer:
    """``sent``: so many bytes of the body are sent, then the connection is closed; None: all, and it stays open."""

    status: str
    headers: str
    body: bytes
    sent: int | None = None

    def give(self, peer: Peer) -> bool:
        """Send it; whether the connection can be used again."""
        framing = "" if "transfer-encoding" in self.headers.lower() else f"Content-Length: {len(self.body)}\r\n"
        peer.send(f"HTTP/1.1 {self.status}\r\n{framing}{self.headers}\r\n".encode("latin-1"))
        peer.send(self.body if self.sent is None else self.body[: self.sent])
        return self.sent is None


def whole(body: bytes = DATA, headers: str = ETAG, sent: int | None = None) -> Answer:
    return Answer("200 OK", headers, body, sent)


def rest(start: int, sent: int | None = None, *, headers: str = ETAG, body: bytes = DATA, place: str = "") -> Answer:
    place = place or f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Answer("206 Partial Content", f"Content-Range: {place}\r\n{headers}", body[start:], sent)


def answers(*given: Answer) -> Script:
    """One answer a request, over all connections; the last one for all that follow."""
    lock = threading.Lock()
    left = list(given)

    def script(peer: Peer) -> None:
        while peer.read_request():
            with lock:
                answer = left.pop(0) if len(left) > 1 else left[0]
            if not answer.give(peer):
                return

    return script


def fields(request: bytes) -> dict[str, str]:
    lines = request.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def ranges(server: ScriptedServer) -> list[str | None]:
    return [fields(request).get("range") for request in server.requests]


def client_of(server: ScriptedServer | str, **options: Any) -> AsyncAPIClient:
    url = server if isinstance(server, str) else server.url
    return AsyncAPIClient(base_url=url, **{"retry": RetryPolicy(wait_initial=0), **options})


async def download(client: AsyncAPIClient, path: pathlib.Path, method: str = "GET", **arguments: Any) -> None:
    options = arguments.pop("options", {})
    async with client.open(method, "/f", options=options) as response:
        await response.stream_to_file(path, **arguments)


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parts(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


# --- what goes on after a cut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 2, 5000, len(DATA) - 1])
async def test_a_cut_anywhere_is_continued(tmp_path: pathlib.Path, at: int) -> None:
    target = tmp_path / "file"
    seen: list[tuple[int, int | None]] = []
    with serve(answers(whole(sent=at), rest(at) if at else whole())) as server:
        async with client_of(server) as client:
            await download(client, target, resume=True, progress=lambda done, total: seen.append((done, total)))
            assert target.read_bytes() == DATA
    assert names(tmp_path) == ["file"]
    assert ranges(server) == [None, f"bytes={at}-" if at else None]
    if at:
        asked = fields(server.requests[1])
        assert (asked["if-range"], asked["accept-encoding"]) == ('"1"', "identity")
    counts = [done for done, _ in seen]
    assert counts == sorted(set(counts))
    assert seen[-1] == (len(DATA), len(DATA))
    assert {total for _, total in seen} == {len(DATA)}


async def test_many_cuts_are_continued_as_long_as_each_time_something_came(tmp_path: pathlib.Path) -> None:
    steps = [rest(n * 1000, 1000) for n in range(1, 9)]
    with serve(answers(whole(sent=1000), *steps, rest(9000))) as server:
        async with client_of(server, max_retries=1) as client:
            await download(client, tmp_path / "file", resume=True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert ranges(server) == [None, *(f"bytes={n * 1000}-" for n in range(1, 10))]


@pytest.mark.parametrize("max_retries", [0, 1, 2])
async def test_cuts_without_progress_count(tmp_path: pathlib.Path, max_retries: int) -> None:
    with serve(answers(whole(sent=100), rest(100, 0))) as server:
        async with client_of(server, max_retries=max_retries) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, tmp_path / "file", resume=True)
    assert not (tmp_path / "file").exists()
    # max_retries=0: the cut is raised at once. Else the first cut, after something had come, does not count.
    assert len(server.requests) == (2 + max_retries if max_retries else 1)
    assert [path.read_bytes() for path in parts(tmp_path)] == [DATA[:100], b'"1"']


async def test_a_server_that_begins_again_each_time_is_not_asked_for_ever(tmp_path: pathlib.Path) -> None:
    """It ignores Range, and cuts at the same place: that is no progress."""
    steps = [whole(sent=100)] * 12
    with serve(answers(*steps, whole())) as server:
        async with client_of(server, max_retries=2) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, tmp_path / "file", resume=True)
    assert len(server.requests) <= 5


async def test_the_rest_may_come_in_parts(tmp_path: pathlib.Path) -> None:
    """RFC 9110 section 15.3.7: a server may send less than was asked for; then the file is not whole yet."""
    first = rest(100, place=f"bytes 100-199/{len(DATA)}")
    with serve(answers(whole(sent=100), attrs.evolve(first, body=DATA[100:200]), rest(200))) as server:
        async with client_of(server) as client:
            try:
                await download(client, tmp_path / "file", resume=True)
            except APIConnectionError:
                assert not (tmp_path / "file").exists()
            else:
                assert (tmp_path / "file").read_bytes() == DATA


async def test_a_part_that_an_earlier_call_left_is_gone_on_with(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "file"
    with serve(answers(whole(sent=4000), whole(), rest(4000))) as server:
        async with client_of(server, max_retries=0) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, target, resume=True)
            assert not target.exists()
            seen: list[int] = []
            await download(client, target, resume=True, progress=lambda done, total: seen.append(done))
            assert target.read_bytes() == DATA
            assert seen[0] > 4000
    assert names(tmp_path) == ["file"]
    assert ranges(server) == [None, None, "bytes=4000-"]


async def test_a_part_that_is_already_whole_is_taken(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "file"
    (tmp_path / ".file.part").write_bytes(DATA)
    (tmp_path / ".file.part-validator").write_text('"1"')
    with serve(answers(whole())) as server:
        async with client_of(server) as client:
            await download(client, target, resume=True)
    assert target.read_bytes() == DATA
    assert names(tmp_path) == ["file"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("part", "note"),
    [
        (OTHER, '"0"'),  # of another representation
        (OTHER, None),
        (None, '"1"'),
        (DATA + b"more", '"1"'),  # longer than the whole
        (OTHER, "\udcff"),
        (b"", '"1"'),
    ],
)
async def test_a_part_that_does_not_fit_is_written_over(tmp_path: pathlib.Path, part: bytes | None, note: Any) -> None:
    if part is not None:
        (tmp_path / ".file.part").write_bytes(part)
    if note is not None:
        (tmp_path / ".file.part-validator").write_bytes(note.encode("utf-8", "surrogateescape"))
    with serve(answers(whole())) as server:
        async with client_of(server) as client:
            await download(client, tmp_path / "file", resume=True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert names(tmp_path) == ["file"]
    assert ranges(server) == [None]


# --- the server has something else by now ---------------------------------------------------------------------------

NEW = whole(OTHER, 'ETag: "2"\r\n')


@pytest.mark.parametrize(
    ("second", "third", "expected"),
    [
        (NEW, None, OTHER),
        (whole(), None, DATA),  # the same, but ranges are ignored
        (whole(OTHER, ""), None, OTHER),
        (whole(OTHER, "Transfer-Encoding: identity\r\n"), None, None),
        (rest(4000, headers='ETag: "2"\r\n', body=OTHER), NEW, OTHER),
        (rest(4000, headers='ETag: W/"1"\r\n'), NEW, OTHER),
        (rest(4001), NEW, OTHER),
        (rest(3999), NEW, OTHER),
        (rest(0), whole(), DATA),
        (rest(4000, place="bytes */10240"), NEW, OTHER),
        (rest(4000, place="what"), NEW, OTHER),
        (rest(4000, place="bytes 4000-99999/10240"), NEW, OTHER),
        (rest(4000, place="bytes 4000-3999/10240"), NEW, OTHER),
        (rest(4000, headers=ETAG + "Content-Encoding: gzip\r\n"), NEW, OTHER),
        (Answer("416 Range Not Satisfiable", "Content-Range: bytes */99\r\n", b""), NEW, OTHER),
        (Answer("416 Range Not Satisfiable", "", b"<html>"), whole(), DATA),
    ],
    ids=repr,
)
async def test_what_is_not_the_rest_is_taken_from_the_beginning(
    tmp_path: pathlib.Path, second: Answer, third: Answer | None, expected: bytes | None
) -> None:
    target = tmp_path / "file"
    given = [whole(sent=4000), second, *([] if third is None else [third])]
    with serve(answers(*given)) as server:
        async with client_of(server) as client:
            if expected is None:
                with pytest.raises(APIConnectionError):
                    await download(client, target, resume=True)
                return
            await download(client, target, resume=True)
    assert target.read_bytes() == expected
    assert names(tmp_path) == ["file"]
    assert ranges(server) == [None, "bytes=4000-", *([] if third is None else [None])]


async def test_a_changed_body_that_is_cut_in_turn_is_continued_as_what_it_is(tmp_path: pathlib.Path) -> None:
    new = 'ETag: "2"\r\n'
    steps = [whole(sent=4000), whole(OTHER, new, sent=50), rest(50, headers=new, body=OTHER)]
    with serve(answers(*steps)) as server:
        async with client_of(server) as client:
            await download(client, tmp_path / "file", resume=True)
    assert (tmp_path / "file").read_bytes() == OTHER
    assert [fields(request).get("if-range") for request in server.requests] == [None, '"1"', '"2"']


@pytest.mark.parametrize("status", ["404 Not Found", "412 Precondition Failed", "500 Internal Server Error"])
async def test_an_error_status_to_the_request_for_the_rest_is_raised(tmp_path: pathlib.Path, status: str) -> None:
    with serve(answers(whole(sent=4000), Answer(status, "", b'{"message": "why"}'))) as server:
        async with client_of(server, max_retries=1) as client:
            with pytest.raises(APIStatusError, match="why") as caught:
                await download(client, tmp_path / "file", resume=True)
    assert caught.value.status_code == int(status[:3])
    assert not (tmp_path / "file").exists()
    assert (tmp_path / ".file.part").read_bytes() == DATA[:4000]


# --- what cannot be continued -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        ("", "GET"),
        ('ETag: W/"1"\r\n', "GET"),
        (f'ETag: W/"1"\r\n{LATER}', "GET"),
        ("Last-Modified: Mon, 01 Jan 2024 10:00:00 GMT\r\n", "GET"),
        ("Last-Modified: Mon, 01 Jan 2024 10:00:00 GMT\r\nDate: Mon, 01 Jan 2024 10:00:00 GMT\r\n", "GET"),
        (f"{ETAG}Accept-Ranges: none\r\n", "GET"),
        (ETAG, "POST"),
        (ETAG, "PUT"),
    ],
)
async def test_without_a_strong_validator_a_cut_is_an_error_and_nothing_is_left(
    tmp_path: pathlib.Path, headers: str, method: str
) -> None:
    with serve(answers(whole(headers=headers, sent=4000), whole(headers=headers))) as server:
        async with client_of(server) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, tmp_path / "file", method, resume=True)
            assert names(tmp_path) == []
            assert len(server.requests) == 1
            # What another call left is not touched, and not used.
            (tmp_path / ".file.part").write_bytes(DATA[:4000])
            (tmp_path / ".file.part-validator").write_text('"1"')
            await download(client, tmp_path / "file", method, resume=True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert ranges(server) == [None, None]


async def test_last_modified_alone_is_enough_where_it_is_strong(tmp_path: pathlib.Path) -> None:
    with serve(answers(whole(headers=LATER, sent=4000), rest(4000, headers=""))) as server:
        async with client_of(server) as client:
            await download(client, tmp_path / "file", resume=True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert fields(server.requests[1])["if-range"] == "Mon, 01 Jan 2024 10:00:00 GMT"


@pytest.mark.parametrize("resume", [False, True])
async def test_a_content_coding_is_undone_in_the_file_and_not_continued(tmp_path: pathlib.Path, resume: bool) -> None:
    headers = f"{ETAG}Content-Encoding: gzip\r\n"
    packed = gzip.compress(DATA)
    seen: list[tuple[int, int | None]] = []
    steps = [whole(packed, headers), whole(packed, headers, sent=100), whole(b"no gzip", headers)]
    with serve(answers(*steps)) as server:
        async with client_of(server) as client:
            progress = lambda done, total: seen.append((done, total))  # noqa: E731
            await download(client, tmp_path / "file", resume=resume, progress=progress)
            assert seen[-1] == (len(DATA), None)
            for error in (ConnectionLostError, ContentDecodingError):
                with pytest.raises(error):
                    await download(client, tmp_path / "file", resume=resume)
                assert (tmp_path / "file").read_bytes() == DATA  # the old one, whole
                assert names(tmp_path) == ["file"]
    assert len(server.requests) == 3


async def test_without_resume_nothing_is_asked_for_again_and_parts_of_others_are_left_alone(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / ".file.part").write_bytes(DATA[:10])
    (tmp_path / ".file.part-validator").write_text('"1"')
    with serve(answers(whole(sent=4000), whole())) as server:
        async with client_of(server) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, tmp_path / "file")
            assert names(tmp_path) == [".file.part", ".file.part-validator"]
            assert len(server.requests) == 1
            await download(client, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("resume", [False, True])
async def test_bodies_of_other_kinds(tmp_path: pathlib.Path, resume: bool) -> None:
    chunked = Answer("200 OK", f"Transfer-Encoding: chunked\r\n{ETAG}", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    seen: list[tuple[int, int | None]] = []
    steps = [whole(b""), chunked, Answer("200 OK", ETAG, b"", 0), whole()]
    with serve(answers(*steps)) as server:
        async with client_of(server) as client:
            await download(client, tmp_path / "empty", resume=resume)
            await download(
                client, tmp_path / "chunked", resume=resume, progress=lambda done, total: seen.append((done, total))
            )
            await download(client, tmp_path / "head", "HEAD", resume=resume)
            response = await client.get("/f", cast_to=AsyncAPIResponse)  # the body is read already
            await response.stream_to_file(tmp_path / "read", resume=resume)
    assert [(tmp_path / name).read_bytes() for name in ("empty", "chunked", "head", "read")] == [
        b"",
        b"abcde",
        b"",
        DATA,
    ]
    assert names(tmp_path) == ["chunked", "empty", "head", "read"]
    assert seen[-1] == (5, None)


async def test_a_range_of_the_callers_own_is_saved_as_it_is(tmp_path: pathlib.Path) -> None:
    with serve(answers(rest(10000, 100), rest(10000))) as server:
        async with client_of(server) as client:
            options = {"headers": {"Range": "bytes=10000-"}}
            with pytest.raises(ConnectionLostError):
                await download(client, tmp_path / "file", resume=True, options=options)
            assert names(tmp_path) == []
            await download(client, tmp_path / "file", resume=True, options=options)
    assert (tmp_path / "file").read_bytes() == DATA[10000:]


async def test_the_request_for_the_rest_is_the_callers(tmp_path: pathlib.Path) -> None:
    with serve(answers(whole(sent=10), rest(10))) as server:
        async with client_of(server, auth="token") as client:
            options = {"headers": {"X-Own": "1", "accept-ENCODING": "gzip"}, "params": {"q": "1"}}
            await download(client, tmp_path / "file", resume=True, options=options)
    first, second = server.requests
    assert first.split(b"\r\n")[0] == second.split(b"\r\n")[0] == b"GET /f?q=1 HTTP/1.1"
    asked = fields(second)
    assert (asked["x-own"], asked["authorization"], asked["accept-encoding"]) == ("1", "Bearer token", "identity")
    assert len(re.findall(rb"(?i)\r\naccept-encoding:", second)) == 1


# --- time, the caller's exceptions, the disk --------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
async def test_the_deadline_is_for_the_whole_download(tmp_path: pathlib.Path, resume: bool) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n{ETAG}\r\n".encode() + DATA[:100])
        peer.wait_closed()

    with serve(script) as server:
        async with client_of(server) as client:
            with pytest.raises(DeadlineExceededError):
                await download(client, tmp_path / "file", resume=resume, options={"deadline": 0.1})
            assert server.wait_for_open(0) == 0
    assert len(server.requests) == 1
    assert not (tmp_path / "file").exists()
    assert names(tmp_path) == ([".file.part", ".file.part-validator"] if resume else [])


async def test_the_deadline_holds_for_the_rest_too(tmp_path: pathlib.Path) -> None:
    def script(peer: Peer) -> None:
        if peer.read_request() and peer.number == 1:
            whole(sent=100).give(peer)
        else:
            peer.wait_closed()

    with serve(script) as server:
        async with client_of(server) as client:
            began = anyio.current_time()
            with pytest.raises(DeadlineExceededError):
                await download(client, tmp_path / "file", resume=True, options={"deadline": 0.2})
            assert anyio.current_time() - began < 2
    assert ranges(server) == [None, "bytes=100-"]
    assert (tmp_path / ".file.part").read_bytes() == DATA[:100]


class Mine(Exception):
    """Of the caller's."""


@pytest.mark.parametrize("resume", [False, True])
async def test_an_exception_of_progress_comes_out_as_it_is(tmp_path: pathlib.Path, resume: bool) -> None:
    mine = Mine()

    def progress(done: int, total: int | None) -> None:
        raise mine

    with serve(answers(whole(), whole(), whole(), rest(len(DATA)))) as server:
        async with client_of(server) as client:
            with pytest.raises(Mine) as caught:
                await download(client, tmp_path / "file", resume=resume, progress=progress)
            assert caught.value is mine
            assert names(tmp_path) == ([".file.part", ".file.part-validator"] if resume else [])
            assert len(server.requests) == 1
            await download(client, tmp_path / "file", resume=resume)
    assert (tmp_path / "file").read_bytes() == DATA
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("resume", [False, True])
async def test_errors_of_the_disk_are_the_callers_and_free_the_connection(tmp_path: pathlib.Path, resume: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").touch()
    with serve(answers(whole())) as server:
        async with client_of(server) as client:
            with pytest.raises(FileNotFoundError):
                await download(client, tmp_path / "missing" / "file", resume=resume)
            with pytest.raises(OSError):
                await download(client, folder, resume=resume)  # a folder cannot be replaced by a file
            with pytest.raises(OSError):
                await download(client, tmp_path / ("x" * 300), resume=resume)
            assert [name for name in names(tmp_path) if not name.startswith(".folder")] == ["folder"]
            if not resume:
                assert names(tmp_path) == ["folder"]
            await download(client, tmp_path / "file", resume=resume)
            assert (tmp_path / "file").read_bytes() == DATA
        assert server.wait_for_open(0) == 0


@pytest.mark.parametrize("resume", [False, True])
async def test_a_full_disk_is_an_error_and_no_short_file(tmp_path: pathlib.Path, resume: bool) -> None:
    big = DATA * 300
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serve(answers(whole(big))) as server:
        async with client_of(server) as client:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
            try:
                with pytest.raises(OSError) as caught:
                    await download(client, tmp_path / "file", resume=resume)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert caught.value.errno == errno.EFBIG
            assert names(tmp_path) == ([".file.part", ".file.part-validator"] if resume else [])
            assert server.wait_for_open(0) == 0  # a body of which much is unread
            if resume:
                assert big.startswith((tmp_path / ".file.part").read_bytes())
            assert len(server.requests) == 1
            await download(client, tmp_path / "other", resume=resume)
    assert (tmp_path / "other").read_bytes() == big


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: pathlib.Path) -> None:
    """Somebody else's file stays as it is, and what is written is ours."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / ".file.part").symlink_to(tmp_path / "theirs")
    (tmp_path / ".file.part-validator").write_text('"1"')

    async def main() -> None:
        with serve(answers(whole())) as server:
            async with client_of(server) as client:
                await download(client, tmp_path / "file", resume=True)

    anyio.run(main)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "file").read_bytes() == DATA
    assert not (tmp_path / "file").is_symlink()


async def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    seen: list[bytes] = []
    with serve(answers(whole(sent=4000), whole())) as server:
        async with client_of(server) as client:
            with pytest.raises(ConnectionLostError):
                await download(client, target)
            assert target.read_bytes() == b"old"
            await download(client, target, progress=lambda done, total: seen.append(target.read_bytes()))
    assert set(seen) == {b"old"}
    assert target.read_bytes() == DATA


async def test_a_path_may_be_a_str_and_relative(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serve(answers(whole(sent=10), rest(10), whole())) as server:
        async with client_of(server) as client:
            async with client.open("GET", "/f") as response:
                await response.stream_to_file("a", resume=True)
            async with client.open("GET", "/f") as response:
                await response.stream_to_file(str(tmp_path / "b"))
                with pytest.raises(RuntimeError):
                    await response.stream_to_file("c")  # the body has been used up
    assert names(tmp_path) == ["a", "b"]


async def test_many_at_once_to_different_files(tmp_path: pathlib.Path) -> None:
    bodies = {f"f{n}": bytes([n]) * (3000 + n) for n in range(20)}
    cut: set[str] = set()
    lock = threading.Lock()

    def script(peer: Peer) -> None:
        while request := peer.read_request():
            name = request.split(b" ")[1].decode().strip("/")
            asked = fields(request).get("range")
            with lock:
                first = name not in cut
                cut.add(name)
            headers = f'ETag: "{name}"\r\n'
            if asked is not None:
                assert fields(request)["if-range"] == f'"{name}"'
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                answer = rest(start, headers=headers, body=bodies[name])
            else:
                answer = whole(bodies[name], headers, sent=1500 if first else None)
            if not answer.give(peer):
                return

    with serve(script) as server:
        async with client_of(server) as client:

            async def one(name: str) -> None:
                async with client.open("GET", name) as response:
                    await response.stream_to_file(tmp_path / name, resume=True)

            async with anyio.create_task_group() as group:
                for name in bodies:
                    group.start_soon(one, name)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == bodies


async def test_a_resource_method_can_be_downloaded(tmp_path: pathlib.Path) -> None:
    class Files(AsyncAPIResource):
        async def content(self, *, extra_headers: Any = None) -> bytes:
            return await self._get("/f", cast_to=bytes, options=make_request_options(extra_headers=extra_headers))

    with serve(answers(whole(sent=10), rest(10))) as server:
        async with client_of(server) as client:
            async with async_to_streamed_response_wrapper(Files(client).content)() as response:
                await response.stream_to_file(tmp_path / "file", resume=True)
                assert response.status_code == 206  # of the answer that ended it
    assert (tmp_path / "file").read_bytes() == DATA


# --- cancelled anywhere -----------------------------------------------------------------------------------------------


class Changing:
    """A file that is another one from the second answer on; the first ``cuts`` of its answers are cut."""

    def __init__(self, *, begins_new: bool = False, cuts: int = 0) -> None:
        self._begins_new = begins_new
        self._cuts = cuts
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._given = 0

    def __call__(self, peer: Peer) -> None:
        while request := peer.read_request():
            with self._lock:
                number = self._given
                self._given += 1
            if not self._answer(fields(request), number).give(peer):
                return

    def _answer(self, asked: dict[str, str], number: int) -> Answer:
        sent = 4000 - number * 3000 if number < self._cuts else None
        if number == 0 and not self._begins_new:
            return whole(sent=sent)
        headers = 'ETag: "2"\r\n'
        if asked.get("if-range") != '"2"':
            return whole(OTHER, headers, sent=sent)
        return rest(int(asked["range"].removeprefix("bytes=").rstrip("-")), headers=headers, body=OTHER)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("how", ["scope", "native"])
async def test_cancelled_at_every_checkpoint(
    tmp_path: pathlib.Path, anyio_backend_name: str, how: How, resume: bool
) -> None:
    """The file is whole or absent, no temporary file is left (without resume), and the next call makes it whole."""
    if how == "native" and anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    script = Changing(cuts=2) if resume else Changing(begins_new=True)
    with serve(script) as server:
        async with client_of(server) as client:
            tasks = task_count()
            n = 0
            reached = True
            while reached:
                n += 1
                script.reset()
                folder = tmp_path / str(n)
                folder.mkdir()
                target = folder / "file"
                reached = await cancelled_at(n, how, lambda target=target: download(client, target, resume=resume))  # type: ignore[misc]
                await anyio.sleep(0.001)
                assert not target.exists() or target.read_bytes() == OTHER
                assert task_count() == tasks
                if not resume:
                    assert names(folder) in ([], ["file"])
                elif reached:
                    await download(client, target, resume=True)
                    assert target.read_bytes() == OTHER
                    assert names(folder) == ["file"]
            assert n > (5 if not resume else 15)
        assert server.wait_for_open(0) == 0


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_part_of_an_older_file_never_becomes_part_of_the_new_one(
    tmp_path: pathlib.Path, anyio_backend_name: str, how: How
) -> None:
    """Cancelled anywhere between the moment that the new validator is known and the first byte of the new file."""
    if how == "native" and anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    script = Changing(begins_new=True)
    with serve(script) as server:
        async with client_of(server) as client:
            n = 0
            reached = True
            while reached:
                n += 1
                script.reset()
                folder = tmp_path / str(n)
                folder.mkdir()
                (folder / ".file.part").write_bytes(DATA[:500])
                (folder / ".file.part-validator").write_text('"1"')
                target = folder / "file"
                reached = await cancelled_at(n, how, lambda target=target: download(client, target, resume=True))  # type: ignore[misc]
                await anyio.sleep(0.001)
                if not target.exists():
                    await download(client, target, resume=True)
                assert target.read_bytes() == OTHER


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_sockets_and_files_are_as_before(tmp_path: pathlib.Path, anyio_backend_name: str, how: How) -> None:
    if how == "native" and anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    sockets = open_sockets()
    files = open_files(tmp_path)
    script = Changing(cuts=2)
    with serve(script) as server:
        for n in range(1, 40, 3):
            script.reset()
            async with client_of(server) as client:
                await cancelled_at(n, how, lambda: download(client, tmp_path / "file", resume=True))
    assert settled_sockets(sockets) <= sockets
    assert open_files(tmp_path) == files


def open_files(folder: pathlib.Path) -> int:
    found = 0
    for link in pathlib.Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(str(folder))
        except OSError:
            continue
    return found


# --- nginx ------------------------------------------------------------------------------------------------------------


@pytest.mark.nginx
async def test_nginx_continues_and_notices_a_change(tmp_path: pathlib.Path) -> None:
    with nginx(tmp_path) as url:
        served = tmp_path / "big"
        target = tmp_path / "got" / "file"
        target.parent.mkdir()
        async with client_of(url) as client:

            async def get(**arguments: Any) -> None:
                async with client.open("GET", "/big") as response:
                    await response.stream_to_file(target, **arguments)

            def stop(done: int, total: int | None) -> None:
                assert total == 5_000_000
                if done > 1_000_000:
                    raise Mine

            seen: list[int] = []
            with pytest.raises(Mine):
                await get(resume=True, progress=stop)
            kept = (target.parent / ".file.part").stat().st_size
            assert 1_000_000 < kept < 5_000_000
            await get(resume=True, progress=lambda done, total: seen.append(done))
            assert seen[0] > kept
            assert target.read_bytes() == served.read_bytes()

            with pytest.raises(Mine):
                await get(resume=True, progress=stop)
            served.write_bytes(b"new" * 500_000)
            await get(resume=True)
            assert target.read_bytes() == b"new" * 500_000
            assert names(target.parent) == ["file"]


async def test_a_server_error_is_no_file(tmp_path: pathlib.Path) -> None:
    with serve(answers(Answer("500 Internal Server Error", "", b"no"))) as server:
        async with client_of(server, max_retries=0) as client:
            with pytest.raises(InternalServerError):
                await download(client, tmp_path / "file", resume=True)
    assert names(tmp_path) == []
