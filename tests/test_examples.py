"""The examples, against the servers they are for. tests/install_servers.sh installs them; what is missing is skipped."""

from __future__ import annotations

import contextlib
import os
import pathlib
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import attrs
import pytest
import trustme

from anyio_client import (
    APIConnectionError,
    APIError,
    AsyncAPIClient,
    BadRequestError,
    ConflictError,
    HTTPTransport,
    MockTransport,
    NotFoundError,
    Outcome,
    PreconditionFailedError,
    Request,
    Response,
)
from examples import datasette, etcd, mcp, nchan, pouchdb, signing, transport

from .kit import servers
from .kit.proxy import Wire, wire

pytestmark = [pytest.mark.anyio, pytest.mark.spread]

NewFolder = Callable[[str], pathlib.Path]


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> NewFolder:
    """Folders of servers: pytest keeps them, and the logs in them, for a while."""

    def make(name: str) -> pathlib.Path:
        folder = tmp_path_factory.mktemp(name)
        folder.chmod(0o755)
        return folder

    return make


async def heard(wire: Wire) -> None:
    """Wait until *wire* was cut."""
    assert await anyio.to_thread.run_sync(wire.was_cut.wait, 30, abandon_on_cancel=True)


# --- Datasette -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def datasette_url(new_folder: NewFolder) -> Iterator[str]:
    with servers.datasette(new_folder("datasette")) as server:
        yield server.url


async def test_datasette_tables_in_pages(datasette_url: str) -> None:
    async with datasette.Datasette(base_url=datasette_url) as client:
        animals = client.table("zoo", "animals", datasette.Animal)
        by_cursor = [animal async for animal in animals.list(page_size=60)]
        assert [animal.id for animal in by_cursor] == list(range(1, 251))
        assert by_cursor[0] == datasette.Animal(1, "dog", 0.25, "animal 1")
        assert [animal.id for animal in by_cursor if animal.name is None] == [100, 200]
        assert [animal async for animal in animals.list_arrays(page_size=60)] == by_cursor
        async with animals.list(page_size=60).prefetch() as prefetched:
            assert [animal async for animal in prefetched] == by_cursor
        pages = [len(page.data) async for page in animals.list_arrays(page_size=60).iter_pages()]
        assert pages == [60, 60, 60, 60, 10]
        cats = [animal async for animal in animals.list(page_size=50, kind="cat")]
        assert [cat.id for cat in cats] == list(range(2, 251, 2))
        assert [cat.id async for cat in animals.list_arrays(page_size=50, kind="cat").limit_pages(2)] == [
            cat.id for cat in cats[:100]
        ]


async def test_datasette_rows_as_json_lines(datasette_url: str) -> None:
    async with datasette.Datasette(base_url=datasette_url) as client:
        animals = client.table("zoo", "animals", datasette.Animal)
        async with await animals.rows() as rows:
            assert rows.response.headers["content-type"] == "text/plain"
            found = [row async for row in rows]
        assert found == [animal async for animal in animals.list()]
        async with await animals.rows(kind="dog") as rows:
            assert (await anext(rows)).id == 1  # and the rest is not wanted
        assert (await client.sql("zoo", "select 'cat' as kind, 1 as count", datasette.Kind)).rows


async def test_datasette_sql_and_the_three_shapes_of_its_errors(datasette_url: str) -> None:
    async with datasette.Datasette(base_url=datasette_url) as client:
        counted = await client.sql(
            "zoo",
            "select kind, count(*) as count from animals where weight > :least group by kind",
            datasette.Kind,
            least=50,
        )
        assert counted == datasette.Answer([datasette.Kind("cat", 25), datasette.Kind("dog", 25)], truncated=False)
        everything = await client.sql("zoo", "select a.* from animals a, animals b", datasette.Animal)
        assert everything.truncated
        assert len(everything.rows) == 1000

        missing = client.table("zoo", "plants", datasette.Animal)
        with pytest.raises(NotFoundError, match="^Error code: 404 - Table not found$"):
            await missing.list()
        with pytest.raises(NotFoundError, match="Table not found"):
            await missing.rows()
        with pytest.raises(BadRequestError, match="^Error code: 400 - no such column: colour$") as wrong:
            await client.sql("zoo", "select colour", datasette.Kind)
        assert "title" not in wrong.value.body  # type: ignore[operator]
        with pytest.raises(datasette.QueryInterrupted, match="took longer") as slow:
            endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select max(x) from c"
            await client.sql("zoo", endless, datasette.Kind)
        assert "<textarea" in slow.value.body["error"]  # type: ignore[index]
        assert len(slow.value.attempts) == 1


# --- etcd ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


StartEtcd = Callable[..., contextlib.AbstractContextManager[servers.Etcd]]


@pytest.fixture(scope="module")
def start_etcd(new_folder: NewFolder, authority: trustme.CA) -> StartEtcd:
    def start(*, may_end: bool = False) -> contextlib.AbstractContextManager[servers.Etcd]:
        folder = new_folder("etcd")
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
        return servers.etcd(folder, certificate=folder / "certificate.pem", key=folder / "key.pem", may_end=may_end)

    return start


@pytest.fixture(scope="module")
def etcd_server(start_etcd: StartEtcd) -> Iterator[servers.Etcd]:
    with start_etcd() as server:
        yield server


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("over", ["tcp", "tls"])
async def test_etcd_keys_and_leases(etcd_server: servers.Etcd, tls: ssl.SSLContext, over: str) -> None:
    url = etcd_server.url if over == "tcp" else etcd_server.tls_url
    prefix = uuid.uuid4().bytes + b"\xff"  # no text: keys are bytes
    async with etcd.Etcd(base_url=url, http_client=HTTPTransport(tls=tls)) as client:
        key = prefix + b"1"
        assert await client.keys.get(key) is None
        first = await client.keys.put(key, b"\0one")
        second = await client.keys.put(key, b"two")
        assert second > first
        found = await client.keys.get(key)
        assert found == etcd.KeyValue(key, b"two", create_revision=first, mod_revision=second, version=2)

        for number in range(2, 10):
            await client.keys.put(prefix + b"%d" % number, b"%d" % number)
        numbers = [pair.key.removeprefix(prefix) async for pair in client.keys.list(prefix, page_size=4)]
        assert numbers == [b"%d" % number for number in range(1, 10)]
        sizes = [len(page.kvs) async for page in client.keys.list(prefix, page_size=4).iter_pages()]
        assert sizes == [4, 4, 1]

        id = 2**53 + int.from_bytes(os.urandom(4))  # a number that a float cannot hold
        lease = await client.leases.grant(1000, id=id | 1)
        assert lease == etcd.Lease(id=id | 1, ttl=1000)
        await client.keys.put(key, b"three", lease=lease.id)
        assert (await client.keys.get(key)).lease == lease.id  # type: ignore[union-attr]
        with pytest.raises(PreconditionFailedError, match="lease already exists"):
            await client.leases.grant(1000, id=lease.id)
        await client.leases.revoke(lease.id)
        assert await client.keys.get(key) is None
        with pytest.raises(NotFoundError, match="lease not found") as missing:
            await client.leases.revoke(lease.id)
        assert missing.value.body["code"] == 5  # type: ignore[index]
        with pytest.raises(NotFoundError, match="lease not found"):
            await client.keys.put(key, b"four", lease=lease.id)
        with pytest.raises(BadRequestError, match="key is not provided"):
            await client.keys.put(b"", b"")
        assert await client.keys.delete(prefix) == 8


async def test_etcd_watches_what_has_been_and_what_comes(etcd_server: servers.Etcd) -> None:
    prefix = uuid.uuid4().bytes
    async with etcd.Etcd(base_url=etcd_server.url) as client:
        revision = await client.keys.put(prefix + b"a", b"1")
        await client.keys.put(prefix + b"b", b"2")
        async with await client.keys.watch(prefix, since=revision) as watch, await client.keys.watch(prefix) as fresh:
            assert (await anext(watch)).created
            assert (await anext(fresh)).created
            (old,) = [await anext(watch)]
            assert [(event.type, event.kv.value) for event in old.events] == [("PUT", b"1"), ("PUT", b"2")]
            assert old.events[0].kv.mod_revision == revision
            await client.keys.delete(prefix + b"a")
            for stream in (watch, fresh):
                (event,) = (await anext(stream)).events
                assert (event.type, event.kv.key, event.kv.value) == ("DELETE", prefix + b"a", b"")
            await client.keys.put(b"another" + prefix, b"")
            await client.keys.put(prefix + b"c", b"3")
            for stream in (watch, fresh):
                (event,) = (await anext(stream)).events
                assert event.kv.key == prefix + b"c"


async def test_watches_end_with_an_error_when_etcd_stops(
    start_etcd: StartEtcd, tls: ssl.SSLContext, anyio_backend_name: str
) -> None:
    with start_etcd(may_end=True) as server:
        errors: dict[str, APIError] = {}

        async def watch(url: str, task_status: anyio.abc.TaskStatus[None]) -> None:
            client = etcd.Etcd(base_url=url, http_client=HTTPTransport(tls=tls), max_retries=0)
            async with client, await client.keys.watch(b"a") as watch:
                assert (await anext(watch)).created
                await client.keys.put(b"a", b"1")
                assert (await anext(watch)).events[0].kv.value == b"1"
                task_status.started()
                with pytest.raises(APIError) as ended:
                    async for notice in watch:
                        assert notice.events  # those of the other watch
                errors[url] = ended.value

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                await group.start(watch, server.url)
                await group.start(watch, server.tls_url)
                server.process.terminate()
        without, over = (errors[url].body["error"] for url in (server.url, server.tls_url))  # type: ignore[index]
        assert (without["grpc_code"], without["message"]) == (14, "transport is closing")
        assert (over["grpc_code"], over["message"]) == (13, "server closed the stream without sending trailers")
        assert str(errors[server.url]) == "transport is closing"


async def test_etcds_certificate_is_checked(etcd_server: servers.Etcd) -> None:
    async with etcd.Etcd(base_url=etcd_server.tls_url, max_retries=0) as client:
        with pytest.raises(APIError, match="certificate"):
            await client.keys.get(b"a")


# --- MCP -----------------------------------------------------------------------------------------------------------

LONG = "trigger-long-running-operation"


@pytest.fixture(scope="module")
def mcp_url(new_folder: NewFolder) -> Iterator[str]:
    with servers.mcp(new_folder("mcp")) as server:
        yield server.url


async def test_mcp_sessions_tools_and_errors(mcp_url: str) -> None:
    async with mcp.MCP(base_url=mcp_url) as client, mcp.MCP(base_url=mcp_url) as other:
        server = await client.initialize()
        assert server.serverInfo["name"] == "mcp-servers/everything"
        await other.initialize()
        assert client.session_id
        assert other.session_id
        assert client.session_id != other.session_id
        tools = {tool.name: tool for tool in await client.tools()}
        assert tools["echo"].inputSchema["required"] == ["message"]
        assert await client.call_tool("echo", {"message": "hé"}) == mcp.ToolResult([mcp.Content("text", "Echo: hé")])
        with pytest.raises(APIError, match="Method not found") as unknown:
            await client.call("no/such/method", cast_to=object)
        assert unknown.value.body["error"]["code"] == -32601  # type: ignore[index]
        with pytest.raises(mcp.ToolError, match="Tool nothing not found"):
            await client.call_tool("nothing", {})
        ended = client.session_id
        await client.end()
        client.session_id = ended
        with pytest.raises(BadRequestError, match="No valid session ID"):
            await client.tools()
        assert await other.tools() == list(tools.values())


async def test_mcp_progress_while_a_tool_works(mcp_url: str) -> None:
    async with mcp.MCP(base_url=mcp_url) as client:
        await client.initialize()
        steps: list[mcp.Progress] = []
        result = await client.call_tool(LONG, {"duration": 0.1, "steps": 3}, on_progress=steps.append)
        assert steps == [mcp.Progress(number, 3) for number in (1, 2, 3)]
        assert result.content[0].text == "Long running operation completed. Duration: 0.1 seconds, Steps: 3."
        # Two calls at once, in one session: each hears of its own progress.
        others: list[mcp.Progress] = []
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, LONG, {"duration": 0.1, "steps": 2}, others.append)
            group.start_soon(client.call_tool, LONG, {"duration": 0.1, "steps": 4}, steps.append)
        assert [step.progress for step in others] == [1, 2]
        assert [step.total for step in steps] == [3] * 3 + [4] * 4


async def test_mcp_takes_up_an_answer_whose_connection_was_cut(mcp_url: str) -> None:
    # In the middle of the second event.
    with wire(mcp_url, cut_at=b'"progress":2') as cut:
        async with mcp.MCP(base_url=cut.url) as client, mcp.MCP(base_url=mcp_url) as other:
            await client.initialize()
            await other.initialize()
            steps: list[mcp.Progress] = []
            results: list[mcp.ToolResult] = []

            async def call() -> None:
                results.append(await client.call_tool(LONG, {"duration": 0.2, "steps": 4}, on_progress=steps.append))

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await heard(cut)
                # This server tells what it has kept, and nothing that comes later (its store of events gives the wrong
                # name of the stream). So it has to be ready before the client comes back: an operation that began later
                # and takes as long has ended.
                await other.call_tool(LONG, {"duration": 0.2, "steps": 4})
                cut.repair()
            assert [step.progress for step in steps] == [1, 2, 3, 4]
            assert "completed" in (results[0].content[0].text or "")
            assert cut.sent.count(b'"tools/call"') == 1  # the tool was not called again
            assert cut.sent.count(b"\r\nLast-Event-ID: ") == 1
            await client.end()


# --- PouchDB -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pouchdb_url(new_folder: NewFolder) -> Iterator[str]:
    with servers.pouchdb(new_folder("pouchdb")) as server:
        yield server.url


@contextlib.asynccontextmanager
async def pets_at(url: str) -> AsyncIterator[pouchdb.Database[pouchdb.Pet]]:
    async with pouchdb.PouchDB(base_url=url) as client:
        pets = client.database(f"pets-{uuid.uuid4()}", pouchdb.Pet)
        await pets.create()
        yield pets


async def test_pouchdb_revisions_and_conflicts(pouchdb_url: str) -> None:
    async with pets_at(pouchdb_url) as pets:
        ada = await pets.put(pouchdb.Pet(id="ada/é", name="Ada"))
        assert str(ada.rev).startswith("1-")
        older = await pets.put(attrs.evolve(ada, age=1))
        assert await pets.get("ada/é") == older
        assert str(older.rev).startswith("2-")
        with pytest.raises(ConflictError, match="Document update conflict") as conflict:
            await pets.put(attrs.evolve(ada, age=2))
        assert len(conflict.value.attempts) == 1
        assert conflict.value.body == {"error": "conflict", "reason": "Document update conflict"}
        with pytest.raises(ConflictError):
            await pets.delete(ada)
        await pets.delete(older)
        with pytest.raises(NotFoundError, match="missing"):
            await pets.get("ada/é")
        with pytest.raises(PreconditionFailedError, match="file_exists"):
            await pets.create()


async def test_pouchdb_says_what_has_not_changed(pouchdb_url: str) -> None:
    async with pets_at(pouchdb_url) as pets:
        await pets.put(pouchdb.Pet(id="a", name="Ada"))
        found = await pets.get_if_changed("a")
        assert found is not None
        ada, etag = found
        assert ada.name == "Ada"
        for _ in range(3):  # an answer without a body leaves its connection in order
            assert await pets.get_if_changed("a", etag) is None
        newer = await pets.put(attrs.evolve(ada, age=1))
        found = await pets.get_if_changed("a", etag)
        assert found is not None
        assert found[0] == newer
        with pytest.raises(NotFoundError):
            await pets.get_if_changed("b", etag)


async def test_pouchdb_attachments_there_and_back(pouchdb_url: str, tmp_path: pathlib.Path) -> None:
    photo = tmp_path / "photo"
    photo.write_bytes(os.urandom(3_000_000))
    async with pets_at(pouchdb_url) as pets:
        ada = await pets.put(pouchdb.Pet(id="a", name="Ada"))
        ada = await pets.attach(ada, "note", b"likes fish", "text/plain")
        assert ada.attachments["note"].content_type == "text/plain"
        ada = await pets.attach(ada, "photo", photo, "image/png")
        assert {name: about.length for name, about in ada.attachments.items()} == {"note": 10, "photo": 3_000_000}
        ada = await pets.put(attrs.evolve(ada, age=3))  # and the attachments stay
        assert await pets.get("a") == ada
        assert await pets.read_attachment("a", "note") == b"likes fish"
        assert await pets.read_attachment("a", "photo") == photo.read_bytes()
        await pets.save_attachment("a", "photo", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == photo.read_bytes()
        with open(photo, "rb") as file:  # noqa: ASYNC230
            await pets.attach(ada, "again", file, "image/png")
        assert await pets.read_attachment("a", "again") == photo.read_bytes()
        with pytest.raises(NotFoundError, match="missing"):
            await pets.read_attachment("a", "nothing")
        with pytest.raises(NotFoundError, match="missing"):
            await pets.save_attachment("a", "nothing", tmp_path / "nothing")
        assert sorted(os.listdir(tmp_path)) == ["copy", "photo"]


async def test_pouchdb_changes_come_between_heartbeats(pouchdb_url: str) -> None:
    async with pets_at(pouchdb_url) as pets:
        await pets.put(pouchdb.Pet(id="a", name="Ada"))
        async with await pets.changes(heartbeat=0.5) as changes:
            first = await anext(changes)
            assert (first.id, first.deleted) == ("a", False)
            # The wait for a byte is limited to three heartbeats: it is they that keep the stream alive.
            with anyio.move_on_after(2) as waited:
                raise AssertionError(await anext(changes))
            assert waited.cancelled_caught
            saved = await pets.put(pouchdb.Pet(id="b", name="Bo"))
            change = await anext(changes)
            assert (change.id, change.changes) == ("b", [{"rev": saved.rev}])
            await pets.delete(saved)
            deleted = await anext(changes)
            assert (deleted.id, deleted.deleted) == ("b", True)
        async with await pets.changes(since=deleted.seq - 1) as changes:
            assert await anext(changes) == deleted
        with pytest.raises(NotFoundError, match="no_db_file"):
            await pouchdb.Database(pets._client, "nothing", pouchdb.Pet).changes()


# --- nginx with nchan ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nchan_url(new_folder: NewFolder) -> Iterator[str]:
    with servers.nchan(new_folder("nchan")) as server:
        yield server.url


async def test_nchan_events_have_ids_and_pings_are_none(nchan_url: str) -> None:
    channel = uuid.uuid4().hex
    async with nchan.Nchan(base_url=nchan_url) as client:
        last = await client.publish(channel, "one")
        assert (last.messages, last.subscribers) == (1, 0)
        last = await client.publish(channel, "two\nlines", event="pet")
        async with await client.events(channel, ping=1) as events:
            assert "content-length" not in events.response.headers
            assert "transfer-encoding" not in events.response.headers
            one, two = await anext(events), await anext(events)
            assert (one.data, two.data, two.event) == ("one", "two\nlines", "pet")
            assert one.id != two.id == last.last_message_id
            # The wait for a byte is limited to 3 s: it is the pings that keep the stream alive.
            with anyio.move_on_after(3.5) as waited:
                raise AssertionError(await anext(events))
            assert waited.cancelled_caught
            last = await client.publish(channel, "three")
            assert last.subscribers == 1
            three = await anext(events)
            assert (three.data, three.id) == ("three", last.last_message_id)
        async with await client.events(channel, after=one.id) as events:
            assert [await anext(events), await anext(events)] == [two, three]


async def test_nchan_goes_on_where_the_connection_was_cut(nchan_url: str) -> None:
    channel = uuid.uuid4().hex
    async with nchan.Nchan(base_url=nchan_url) as client:
        for number in range(1, 5):
            await client.publish(channel, f"number {number}")
        # In the middle of the second event, and again in the third.
        with wire(nchan_url, cut_at=b"data: number 2") as cut, wire(cut.url, cut_at=b"data: number 3") as again:
            async with nchan.Nchan(base_url=again.url) as reader, anyio.create_task_group() as group:

                async def repair(wire: Wire) -> None:
                    await heard(wire)
                    await client.publish(channel, "number 5")
                    wire.repair()

                group.start_soon(repair, cut)
                group.start_soon(repair, again)
                async with await reader.events(channel) as events:
                    found = [(await anext(events)).data for _ in range(6)]
            assert found == [f"number {number}" for number in (1, 2, 3, 4, 5, 5)]


# --- signatures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "signature"),
    [  # get-vanilla, get-vanilla-query-order-key-case and post-vanilla of the test suite that AWS has published
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
async def test_signatures_are_those_of_aws(method: str, query: str, signature: str) -> None:
    signer = signing.Signer("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", service="service")
    headers = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}
    given = signer.authorization(method, "/", query, headers, b"")
    assert given == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )


async def test_the_example_of_signing_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    await signing.main()
    assert capsys.readouterr().out.splitlines() == [
        "PUT /pets/Ada%20%C3%96. is signed",
        "PUT /v2/pets/Ada%20%C3%96. is signed",
        '{"name":"Ada"}',
        "PUT /pets/Ada%20%C3%96. is refused",
        "Error code: 403",
    ]


# --- the programs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (datasette, "125 cats"),
        (etcd, "DELETE b'pets/2'"),
        (mcp, "Method not found"),
        (pouchdb, "Document update conflict"),
        (nchan, "Bo has come"),
    ],
    ids=["datasette", "etcd", "mcp", "pouchdb", "nchan"],
)
async def test_every_example_does_what_it_says(
    example: Any, says: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    name = example.__name__.removeprefix("examples.")
    url = request.getfixturevalue("etcd_server").url if name == "etcd" else request.getfixturevalue(f"{name}_url")
    await example.main(url)
    assert says in capsys.readouterr().out


# --- a transport of one's own --------------------------------------------------------------------------------------


async def test_the_recording_transport(tmp_path: pathlib.Path) -> None:
    answered = 0

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        assert got == [b"first"]  # it was not held back
        yield b"second"

    def handler(request: Request) -> Response:
        nonlocal answered
        answered += 1
        assert request.content == b"x"
        return Response(200 + answered, headers=[("X-A", "1"), ("X-A", "2")], content=pieces())

    path = str(tmp_path / "answers.json")
    for inner in (MockTransport(handler), None):
        recorder = transport.Recorder(path, inner)
        async with AsyncAPIClient(base_url="http://h", http_client=recorder) as client:
            for status in (201, 202):
                got: list[bytes] = []
                options = {"headers": {"Authorization": "Bearer secret"}}
                async with client.open("POST", "/", content=b"x", options=options) as response:
                    async for piece in response.iter_bytes():
                        got.append(piece)  # noqa: PERF401 - the server looks at it
                    assert b"".join(got) == b"firstsecond"
                    assert (response.status_code, response.headers.get_list("x-a")) == (status, ["1", "2"])
            if inner is None:
                with pytest.raises(APIConnectionError, match="Not recorded") as missing:
                    await client.get("/other", cast_to=object)
                assert missing.value.outcome is Outcome.NOT_SENT and len(missing.value.attempts) == 1
    assert answered == 2
    assert "secret" not in (tmp_path / "answers.json").read_text()


async def test_the_recording_transport_runs_by_itself(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await transport.main(str(tmp_path / "answers.json"))
    assert capsys.readouterr().out == "{'path': '/zoo'} recorded\n{'path': '/zoo'} replayed\n"
