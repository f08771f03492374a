"""The pool's driver: does what the pool machine says, in the task of whoever waits."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Collection
from typing import TypeAlias

import anyio

from .._core import pool as machine
from .._core.routes import Route
from .._model.errors import APIConnectionError, ConnectionLostError, Outcome, Phase, client_closed
from .._model.snapshot import ConnectionInfo, Snapshot, WaiterInfo
from .._model.timeouts import Limits
from .._wire.h1 import H1Wire
from .._wire.protocol import Wire
from .clock import Clock
from .connect import Connector
from .connection import Connection, KeepAlive, Waiter
from .event_loop import EventLoop
from .exchange import Exchange
from .tls_alerts import session_ended

__all__ = ["ConnectionPool"]

# Seconds that calls wait for the SETTINGS of a new HTTP/2 connection, which say how many can share it, before further ones
# are opened. They come with the handshake, or a round trip later.
SETTLING_TIME = 1.0

MAX_SHOWN = 5  # how many holders of connections a message names, the longest first

_Answer: TypeAlias = machine.Use | machine.Open | machine.Refuse


class _Ticket(Waiter):
    """A ticket of the machine, whose task waits for its answer (or is about to ask whether it has to)."""

    __slots__ = ("_loop", "answer", "began", "is_opening", "origin")

    def __init__(self, origin: str, began: float, loop: EventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.origin = origin
        self.began = began
        self.is_opening = False  # it makes the connection that it waits for
        self.answer: _Answer | None = None

    def set(self, answer: _Answer) -> None:
        self.answer = answer
        self.notify()

    async def wait(self, connections: Collection[Connection]) -> None:
        """Wait until notified; meanwhile read on *connections* where nobody does, for the answer may come from there."""
        if not connections:
            await self.sleep(self._loop)
            return
        async with anyio.create_task_group() as group:
            for connection in connections:
                group.start_soon(connection.serve)
            if self.answer is None:  # it may have come while the group was entered
                await self.sleep(self._loop)
            group.cancel_scope.cancel()


class ConnectionPool:
    """Connections of one transport. Acquiring waits; releasing never does, so that no cancellation can lose a slot.

    ``record``, if set, is called with every event of the machine and the commands that followed.
    """

    def __init__(self, connector: Connector, limits: Limits, keepalive: KeepAlive | None = None) -> None:
        self._machine = machine.Pool(limits)
        self._connector = connector
        self._keepalive = keepalive
        self._connections: dict[int, Connection] = {}
        self._shared: dict[str, dict[int, Connection]] = {}  # those of HTTP/2, by origin
        self._waiters: dict[int, _Ticket] = {}
        self._last_ticket = 0
        # Exchanges whose response was collected: any thread may append (the garbage collector runs in all of them).
        self.collected: deque[Exchange] = deque()
        self.record: Callable[[machine.PoolEvent, list[machine.PoolCommand]], None] | None = None

    # -- for transports

    def acquire_nowait(self, route: Route, clock: Clock) -> Connection | None:
        """The same as :meth:`acquire`, where a connection is ready and nothing is to be waited for; else None."""
        if self.collected:
            self.bury()
        if self.record is not None:
            return None
        number = self._machine.lend(route.key, clock.began)
        if number is None:
            return None
        connection = self._connections[number]
        if connection.is_alive():
            if not connection.shared or (connection.has_room and not connection.in_doubt):
                return connection
            self.freed(connection, connection.now())
        elif connection.exchanges:  # it ends what it carries, and takes no more
            self.freed(connection, connection.now())
        else:
            self._step(machine.Broke(number))
        return None

    async def acquire(self, route: Route, clock: Clock) -> Connection:
        """A connection on the way *route*, for one exchange. Our errors where there is none (outcome not_sent)."""
        if self.collected:
            self.bury()
        first = False
        while True:
            connection = await self._acquire_once(route, clock, first)
            first = True  # whatever happens to this connection, the ticket does not queue again
            if connection is None:
                continue
            if not connection.shared and connection.is_alive():
                return connection
            if connection.is_alive() and (not connection.in_doubt or await self._answers(connection, clock)):
                if connection.has_room:
                    return connection
                self.freed(connection, connection.now())  # the server has lowered its limit this moment
                continue
            if connection.exchanges:  # it ends what it carries, and takes no more
                self.freed(connection, connection.now())
                continue
            self._step(machine.Broke(connection.number))
            if not connection.used:
                if (alert := connection.alert) is not None:  # of TLS 1.3, which is over before the server has judged us
                    clock.phase = Phase.TLS
                    raise session_ended(clock, alert) from alert
                message = (
                    "The server closed the new connection, or spoke on it, before it was asked (RFC 9112 section 9.2)."
                )
                raise clock.error(ConnectionLostError, message)

    async def _answers(self, connection: Connection, clock: Clock) -> bool:
        """Whether a connection that is in doubt still answers."""
        try:
            clock.allow(Phase.POOL, clock.timeout.pool)
            return await connection.probe()
        except BaseException:
            self.freed(connection, connection.now())
            raise

    async def _acquire_once(self, route: Route, clock: Clock, first: bool) -> Connection | None:
        """The connection that the machine says; None where it was closed before this task could run."""
        self._last_ticket += 1
        ticket = self._last_ticket
        origin = route.key
        now = clock.now()
        commands = self._ask(machine.Wanted(ticket, origin, now, self._connector.may_share(route), first))
        if len(commands) == 1 and type(command := commands[0]) is machine.Use and command.ticket == ticket:
            return self._connections.get(command.connection)
        waiter = self._waiters[ticket] = _Ticket(origin, now, clock.loop)
        try:
            self._carry_out(commands)
            limited = False
            while True:
                if waiter.answer is None:
                    if not limited:  # once, however often it looks again
                        clock.allow(Phase.POOL, clock.timeout.pool)
                        clock.explain = self._say_who_holds
                        limited = True
                    await self._wait_for_answer(waiter)
                    clock.timings.queue = clock.now() - now
                answer, waiter.answer = waiter.answer, None
                match answer:
                    case machine.Use():
                        return self._connections.get(answer.connection)
                    case machine.Open():
                        waiter.is_opening = True
                        await self._open(answer, route, clock)
                        waiter.is_opening = limited = False
                    case machine.Refuse():
                        raise self._refusal(answer, clock)
                    case None:
                        pass
        except BaseException:
            if isinstance(waiter.answer, machine.Use):  # it came too late: somebody else may have it
                self._step(machine.Freed(waiter.answer.connection, clock.now()))
            else:
                self._step(machine.GaveUp(ticket))
            raise
        finally:
            del self._waiters[ticket]

    async def _wait_for_answer(self, waiter: _Ticket) -> None:
        connections = list(self._shared.get(waiter.origin, {}).values())
        unsettled = [connection for connection in connections if not connection.settled]
        if not unsettled:
            await waiter.wait(connections)
            return
        with anyio.CancelScope(deadline=min(connection.began for connection in unsettled) + SETTLING_TIME):
            await waiter.wait(connections)
            return
        for connection in unsettled:
            if connection.now() >= connection.began + SETTLING_TIME:
                connection.settle()

    async def _open(self, command: machine.Open, route: Route, clock: Clock) -> None:
        number, origin = command.connection, command.origin
        try:
            stream, version = await self._connector.connect(route, clock)
        except APIConnectionError as exc:
            self._step(machine.OpenFailed(number, exc))
            return
        wire = _make_wire(version, route)
        connection = Connection(number, origin, stream, wire, self, clock.loop, self._keepalive)
        if connection.shared and not connection.is_alive():  # its SETTINGS may be there already, or its GOAWAY
            connection.close()
            error = clock.error(ConnectionLostError, "The server closed the new connection before it was asked.")
            self._step(machine.OpenFailed(number, error))
            return
        self._connections[number] = connection
        if connection.shared:
            self._shared.setdefault(origin, {})[number] = connection
            for waiter in self._waiters.values():
                if waiter.origin == origin:
                    waiter.notify()  # there is a connection more to read on
        self._step(machine.Opened(number, wire.capacity(), connection.began, wire.settled))

    @staticmethod
    def _refusal(answer: machine.Refuse, clock: Clock) -> APIConnectionError:
        if isinstance(answer.error, APIConnectionError):
            if answer.error.request is clock.request:
                return answer.error
            # The opener's error belongs to the opener's call; this call gets its own.
            error = copy.copy(answer.error)
            error.request, error.outcome = clock.request, Outcome.NOT_SENT
            error.__cause__ = answer.error.__cause__
            return error
        return client_closed(clock.request, clock.phase, clock.outcome)

    def bury(self) -> None:
        """Give back what collected responses still held."""
        while self.collected:
            self.collected.popleft().abandon()

    def close(self) -> None:
        """Close every connection, refuse every waiter, now and later."""
        self._step(machine.Shutdown())

    @property
    def is_busy(self) -> bool:
        """Whether somebody uses a connection, or waits for one."""
        return bool(self._waiters) or any(connection.exchanges for connection in self._connections.values())

    @property
    def open_count(self) -> int:
        return self._machine.open_count

    def snapshot(self, now: float) -> Snapshot:
        """What each connection and each waiter is doing."""
        made = [connection.info(now) for connection in self._connections.values()]
        making = [
            ConnectionInfo(waiter.origin, None, "connecting", 0, now - waiter.began)
            for waiter in self._waiters.values()
            if waiter.is_opening
        ]
        waiting = [
            WaiterInfo(waiter.origin, now - waiter.began) for waiter in self._waiters.values() if not waiter.is_opening
        ]
        return Snapshot((*made, *making), tuple(waiting))

    def _say_who_holds(self, now: float) -> str:
        """For the message of a call that no connection was free for."""
        holders = sorted(
            (holder for connection in self._connections.values() for holder in connection.exchanges.values()),
            key=lambda holder: holder.began,
        )
        shown = [f"{holder.title} for {now - holder.began:.3g} s" for holder in holders[:MAX_SHOWN]]
        if len(holders) > MAX_SHOWN:
            shown.append(f"and {len(holders) - MAX_SHOWN} more")
        opening = sum(waiter.is_opening for waiter in self._waiters.values())
        if opening:
            shown.append(f"{opening} being made")
        limit = self._machine.limits.max_connections
        return f"{self.open_count} of {limit} connections are open; they are held by: {'; '.join(shown) or 'nobody'}"

    # -- for connections

    def freed(self, connection: Connection, now: float) -> None:
        keepalive = connection.wire.keepalive()
        if self.record is not None or not self._machine.take_back(connection.number, now, keepalive):
            self._step(machine.Freed(connection.number, now, keepalive))

    def broke(self, connection: Connection) -> None:
        connection.close()
        self._step(machine.Broke(connection.number))

    def capacity_changed(self, connection: Connection) -> None:
        self._step(machine.CapacityChanged(connection.number, connection.capacity, connection.now()))

    def _unshare(self, connection: Connection) -> None:
        book = self._shared.get(connection.origin)
        if book is not None:
            book.pop(connection.number, None)
            if not book:
                del self._shared[connection.origin]

    # -- the machine

    def _step(self, event: machine.PoolEvent) -> None:
        self._carry_out(self._ask(event))

    def _ask(self, event: machine.PoolEvent) -> list[machine.PoolCommand]:
        commands = self._machine.step(event)
        if self.record is not None:
            self.record(event, commands)
        return commands

    def _carry_out(self, commands: list[machine.PoolCommand]) -> None:
        for command in commands:
            match command:
                case machine.Use() | machine.Open() | machine.Refuse():
                    waiter = self._waiters.get(command.ticket)
                    if waiter is not None:
                        waiter.set(command)
                case machine.Close():
                    connection = self._connections.pop(command.connection, None)
                    if connection is not None:
                        self._unshare(connection)
                        connection.close()
                case machine.WakeAt():
                    pass  # nothing runs in the background: expired connections are closed at the next event


def _make_wire(version: str, route: Route) -> Wire:
    if version == "h2":
        from .._wire.h2 import H2Wire  # a leaf: h2 takes as long to import as all the rest

        return H2Wire()
    if route.is_forwarded:
        assert route.proxy is not None
        return H1Wire(forwarded=True, proxy_authorization=route.proxy.authorization)
    return H1Wire()
