"""The pool machine: who may use which connection.

A *ticket* is one send that wants a connection; a *connection* is a number, what it stands for is the driver's business.
A connection has a *capacity*: how many exchanges it can carry at once (HTTP/1.1: 1; HTTP/2: what the server allows).

One event may yield several commands, to be carried out in order. A ticket that has to wait for a new connection opens
it itself: ``Open`` names the ticket whose task does the work, since nothing runs in the background.

Invariants (``tests/core/test_pool.py`` fuzzes them):

* open connections, those being opened included, are never more than ``max_connections``;
* idle connections are never more than ``max_keepalive_connections``, and only idle ones are closed to make room;
* a connection is never closed under a ticket that uses it, except by ``Shutdown``;
* every ticket ends in exactly one of ``Use``, ``Refuse`` or its own ``GaveUp``;
* the waiters of one origin are served in the order in which they asked, and no origin starves: origins that wait for
  room take turns, and a connection is handed on within its own origin at most ``MAX_HANDOVERS`` times while another
  origin waits for room;
* no event costs more with more connections or more waiters (amortised: each ticket and connection is touched a bounded
  number of times).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final, TypeAlias

import attrs

from .._model.timeouts import Limits

__all__ = [
    "Broke",
    "CapacityChanged",
    "Close",
    "Freed",
    "GaveUp",
    "Open",
    "OpenFailed",
    "Opened",
    "Pool",
    "PoolCommand",
    "PoolEvent",
    "Refuse",
    "Shutdown",
    "Tick",
    "Use",
    "WakeAt",
    "Wanted",
]

# How often a freed connection may go to a waiter of its own origin while another origin waits for room. Each change of
# origin costs a connect, each hand-over delays the other origin by one exchange: 16 keeps both small.
MAX_HANDOVERS: Final = 16


# --- events --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Wanted:
    """A ticket asks for a connection to ``origin``.

    ``shareable``: connections to this origin may turn out to carry several exchanges, so that it is worth waiting for
    the first one before a second is opened. ``first``: the ticket was served before, with a connection that turned
    out to be dead, and does not queue again.
    """

    ticket: int
    origin: str
    now: float
    shareable: bool = False
    first: bool = False


@attrs.frozen
class Opened:
    """``connection`` is there. ``settled``: False where ``capacity`` is a careful guess until ``CapacityChanged`` says it."""

    connection: int
    capacity: int
    now: float
    settled: bool = True


@attrs.frozen
class OpenFailed:
    """A connection could not be made, for a reason that is not the opener's own."""

    connection: int
    error: Exception


@attrs.frozen
class Freed:
    """One exchange on ``connection`` has ended well. ``keepalive``: seconds that the server promises to keep it idle."""

    connection: int
    now: float
    keepalive: float | None = None


@attrs.frozen
class CapacityChanged:
    """``connection`` can carry ``capacity`` exchanges at once from now on; 0 may be for a while, or for good."""

    connection: int
    capacity: int
    now: float


@attrs.frozen
class Broke:
    """``connection`` can carry nothing any more; what it carries fails by itself, and is not reported as freed."""

    connection: int


@attrs.frozen
class GaveUp:
    """The ticket no longer waits (nor opens)."""

    ticket: int


@attrs.frozen
class Shutdown:
    """The end: everything is closed, every waiter refused, now and later."""


@attrs.frozen
class Tick:
    """Time has passed. Every event that says ``now`` does this too."""

    now: float


PoolEvent: TypeAlias = Wanted | Opened | OpenFailed | Freed | CapacityChanged | Broke | GaveUp | Shutdown | Tick


# --- commands ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Use:
    """The ticket has ``connection``, until ``Freed`` or ``Broke``."""

    ticket: int
    connection: int


@attrs.frozen
class Open:
    """The ticket's task is to open ``connection`` to ``origin``, then report ``Opened`` or ``OpenFailed``."""

    ticket: int
    connection: int
    origin: str


@attrs.frozen
class Close:
    connection: int


@attrs.frozen
class Refuse:
    """The ticket gets nothing: ``error`` is why, None after ``Shutdown``."""

    ticket: int
    error: Exception | None = None


@attrs.frozen
class WakeAt:
    """An idle connection expires then; a driver with timers sends a ``Tick``, others may ignore it."""

    when: float


PoolCommand: TypeAlias = Use | Open | Close | Refuse | WakeAt


# --- the machine -----------------------------------------------------------------------------------------------------


@attrs.define
class _Connection:
    origin: str
    capacity: int
    settled: bool = True
    used: int = 0
    expires: float = 0.0  # meaningful while idle

    @property
    def has_room(self) -> bool:
        return self.used < self.capacity


@attrs.define
class _Origin:
    waiters: OrderedDict[int, Wanted] = attrs.field(factory=OrderedDict[int, Wanted])
    # Connections with room; the one that was freed last is at the end, and is used first: the others may expire.
    ready: OrderedDict[int, None] = attrs.field(factory=OrderedDict[int, None])
    connections: int = 0
    opening: int = 0  # connections being opened
    unsettled: int = 0  # connections whose capacity is not known yet
    exclusive: bool = False  # the last connection opened could carry one exchange only
    # The ticket whose own new connection had no room. It opens no second one.
    unlucky: int | None = None

    @property
    def is_empty(self) -> bool:
        return not self.waiters and not self.connections and not self.opening

    @property
    def next_to_open(self) -> Wanted | None:
        """The waiter for whom a connection should be opened, if room can be found."""
        if not self.waiters:
            return None
        wanted = next(iter(self.waiters.values()))
        if wanted.ticket == self.unlucky:
            return None
        if wanted.shareable and not self.exclusive and (self.opening or self.unsettled):
            return None
        return wanted


@attrs.define
class Pool:
    """The machine's state. ``step`` takes one event and returns the commands that follow from it."""

    limits: Limits
    _connections: dict[int, _Connection] = attrs.field(factory=dict[int, _Connection], init=False)
    _opening: dict[int, Wanted] = attrs.field(factory=dict[int, Wanted], init=False)
    _openers: dict[int, int] = attrs.field(factory=dict[int, int], init=False)  # ticket -> connection
    _waiting: dict[int, str] = attrs.field(factory=dict[int, str], init=False)  # ticket -> origin
    _idle: OrderedDict[int, None] = attrs.field(factory=OrderedDict[int, None], init=False)  # the longest idle first
    _origins: dict[str, _Origin] = attrs.field(factory=dict[str, _Origin], init=False)
    _line: OrderedDict[str, None] = attrs.field(
        factory=OrderedDict[str, None], init=False
    )  # origins that wait for room
    _handovers: int = attrs.field(default=0, init=False)
    _next_connection: int = attrs.field(default=1, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _now: float = attrs.field(default=0.0, init=False)
    _alarm: float = attrs.field(default=-math.inf, init=False)  # the last WakeAt
    _out: list[PoolCommand] = attrs.field(factory=list[PoolCommand], init=False)

    @property
    def open_count(self) -> int:
        """Connections that are open or being opened."""
        return len(self._connections) + len(self._opening)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        """Tickets that wait, those that open a connection not included."""
        return len(self._waiting)

    def step(self, event: PoolEvent) -> list[PoolCommand]:
        """Take one event; the commands that follow, in order."""
        match event:
            case Wanted():
                self._expire(event.now)
                self._wanted(event)
            case Opened():
                self._expire(event.now)
                self._opened(event)
            case OpenFailed():
                self._open_failed(event)
            case Freed():
                self._expire(event.now)
                self._freed(event)
            case CapacityChanged():
                self._expire(event.now)
                self._capacity_changed(event)
            case Broke():
                self._broke(event.connection)
            case GaveUp():
                self._gave_up(event.ticket)
            case Shutdown():
                self._shutdown()
            case Tick():
                self._expire(event.now)
        if self._line:
            self._serve_line()  # whatever was closed on the way may have made room
        out, self._out = self._out, []
        return out

    # -- the short ways, of nearly every call that finds a connection and gives it back in order

    def lend(self, name: str, now: float) -> int | None:
        """The connection that a ticket for the origin *name* gets, where ``step(Wanted(...))`` would say one ``Use`` and
        nothing else; None where it would say more, and then nothing has changed."""
        origin = self._origins.get(name)
        if origin is None or not origin.ready or origin.waiters or not self._is_quiet(now):
            return None
        number = next(reversed(origin.ready))
        connection = self._connections[number]
        if number in self._idle:
            if connection.expires <= now:
                return None
            del self._idle[number]
        self._now = now
        connection.used += 1
        if connection.used >= connection.capacity:
            del origin.ready[number]
        return number

    def take_back(self, number: int, now: float, keepalive: float | None) -> bool:
        """The same as ``step(Freed(...))``, where no command would follow; False where one would, and then nothing has
        changed."""
        connection = self._connections.get(number)
        if connection is None or not self._is_quiet(now) or self._origins[connection.origin].waiters:
            return False
        ends = connection.used == 1
        if ends and (self._alarm <= now or len(self._idle) >= self.limits.max_keepalive_connections):
            return False
        origin = self._origins[connection.origin]
        self._now = now
        connection.used -= 1
        if connection.used < connection.capacity:
            origin.ready[number] = None
            origin.ready.move_to_end(number)
        if ends:
            expiry = self.limits.keepalive_expiry
            connection.expires = now + (expiry if keepalive is None else min(expiry, keepalive))
            self._idle[number] = None
        return True

    def _is_quiet(self, now: float) -> bool:
        """Whether nobody waits for room, and time alone asks for nothing."""
        if self._line or self._closed:
            return False
        for first in self._idle:
            return self._alarm > now and self._connections[first].expires > now
        return True

    # -- events

    def _wanted(self, event: Wanted) -> None:
        if self._closed:
            self._out.append(Refuse(event.ticket))
            return
        origin = self._origins.get(event.origin)
        if origin is None:
            origin = self._origins[event.origin] = _Origin()
        origin.waiters[event.ticket] = event
        self._waiting[event.ticket] = event.origin
        if event.first:
            origin.waiters.move_to_end(event.ticket, last=False)
        self._serve(event.origin)

    def _opened(self, event: Opened) -> None:
        wanted = self._opening.pop(event.connection, None)
        if wanted is None:  # given up, or shut down, meanwhile
            self._out.append(Close(event.connection))
            return
        del self._openers[wanted.ticket]
        origin = self._origins[wanted.origin]
        origin.opening -= 1
        origin.exclusive = event.settled and event.capacity == 1
        origin.unsettled += not event.settled
        origin.connections += 1
        connection = _Connection(wanted.origin, event.capacity, event.settled)
        self._connections[event.connection] = connection
        if connection.has_room:
            self._use(wanted.ticket, event.connection)
        else:
            origin.waiters[wanted.ticket] = wanted
            origin.waiters.move_to_end(wanted.ticket, last=False)
            origin.unlucky = wanted.ticket
            self._waiting[wanted.ticket] = wanted.origin
            self._rest(event.connection, None)
        self._serve(wanted.origin)
        self._trim()

    def _open_failed(self, event: OpenFailed) -> None:
        wanted = self._opening.pop(event.connection, None)
        if wanted is None:
            return
        del self._openers[wanted.ticket]
        origin = self._origins[wanted.origin]
        origin.opening -= 1
        self._out.append(Refuse(wanted.ticket, event.error))
        if wanted.shareable and not origin.exclusive and not origin.opening:
            # All of them waited for this one connection; opening it again for each in turn would only add up waits.
            while origin.waiters:
                ticket, _ = origin.waiters.popitem(last=False)
                del self._waiting[ticket]
                self._out.append(Refuse(ticket, event.error))
            origin.unlucky = None
        self._serve_line()  # those that wait for room come first
        self._serve(wanted.origin)

    def _freed(self, event: Freed) -> None:
        connection = self._connections.get(event.connection)
        if connection is None:  # shut down meanwhile
            return
        connection.used -= 1
        self._rest(event.connection, event.keepalive)
        if self._line or self._origins[connection.origin].waiters:
            self._offer(connection)
        self._trim()

    def _capacity_changed(self, event: CapacityChanged) -> None:
        connection = self._connections.get(event.connection)
        if connection is None:
            return
        connection.capacity = event.capacity
        origin = self._origins[connection.origin]
        settles, connection.settled = not connection.settled, True
        if settles:
            origin.unsettled -= 1
            origin.exclusive = event.capacity == 1
        if not connection.has_room:
            origin.ready.pop(event.connection, None)
        elif event.connection not in origin.ready:
            origin.ready[event.connection] = None
            origin.unlucky = None  # what it waits for has come, though perhaps not for itself
        elif not settles:
            return
        self._serve(connection.origin)

    def _broke(self, number: int) -> None:
        connection = self._connections.get(number)
        if connection is None:
            return
        self._close(number)

    def _gave_up(self, ticket: int) -> None:
        number = self._openers.pop(ticket, None)
        if number is not None:
            name = self._opening.pop(number).origin
            self._origins[name].opening -= 1
            self._serve_line()  # those that wait for room come first
            self._serve(name)
            return
        if ticket in self._waiting:
            name = self._waiting.pop(ticket)
            origin = self._origins[name]
            del origin.waiters[ticket]
            if origin.unlucky == ticket:
                origin.unlucky = None
            self._serve(name)

    def _shutdown(self) -> None:
        self._closed = True
        for wanted in self._opening.values():
            self._out.append(Refuse(wanted.ticket))
        for ticket in self._waiting:
            self._out.append(Refuse(ticket))
        for number in self._connections:
            self._out.append(Close(number))
        for book in (self._opening, self._openers, self._waiting, self._connections, self._idle):
            book.clear()
        self._origins.clear()
        self._line.clear()

    def _expire(self, now: float) -> None:
        """Close idle connections whose time is over. The one that is idle longest stands first.

        One that expires sooner than those before it is caught when it is about to be used.
        """
        self._now = now
        while self._idle:
            number = next(iter(self._idle))
            if self._connections[number].expires > now:
                break
            self._close(number)
            self._serve_line()
        if self._idle and self._alarm <= now:
            self._set_alarm()

    # -- serving

    def _serve(self, name: str) -> None:
        """Give the origin's waiters, in order, what there is: connections with room, else new ones."""
        origin = self._origins.get(name)
        if origin is None:
            return
        while origin.waiters and origin.ready:
            number = next(reversed(origin.ready))
            if number in self._idle and self._connections[number].expires <= self._now:
                self._close(number)
                continue
            ticket, _ = origin.waiters.popitem(last=False)
            del self._waiting[ticket]
            if origin.unlucky == ticket:
                origin.unlucky = None
            self._use(ticket, number)
        if not origin.waiters:
            self._line.pop(name, None)
            if not origin.connections:
                self._forget_if_empty(name)
            return
        while origin.next_to_open is not None and self._make_room():
            self._open(origin)
        if origin.next_to_open is not None:
            self._line.setdefault(name)
        else:
            self._line.pop(name, None)

    def _serve_line(self) -> None:
        """Origins that wait for room take turns, as long as there is room."""
        while self._line:
            name = next(iter(self._line))
            origin = self._origins[name]
            if origin.next_to_open is not None:
                if not self._make_room():
                    return
                self._open(origin)
            del self._line[name]
            if origin.next_to_open is not None:
                self._line[name] = None

    def _offer(self, connection: _Connection) -> None:
        """A connection has room again: for its own origin's waiters, or for the next origin in line?"""
        name = connection.origin
        others_wait = bool(self._line) and next(iter(self._line)) != name
        if others_wait and connection.used == 0 and self._origins[name].waiters:
            self._handovers += 1
            if self._handovers > MAX_HANDOVERS:
                self._handovers = 0
                self._line[name] = None
                self._line.move_to_end(name)
                self._serve_line()
                return
        self._serve(name)
        self._serve_line()

    def _make_room(self) -> bool:
        """Whether one more connection may be opened, after closing the longest idle one if need be."""
        if self.open_count < self.limits.max_connections:
            return True
        if not self._idle:
            return False
        self._close(next(iter(self._idle)))
        return True

    def _open(self, origin: _Origin) -> None:
        ticket, wanted = origin.waiters.popitem(last=False)
        del self._waiting[ticket]
        number = self._next_connection
        self._next_connection += 1
        self._opening[number] = wanted
        self._openers[ticket] = number
        origin.opening += 1
        self._out.append(Open(ticket, number, wanted.origin))

    def _use(self, ticket: int, number: int) -> None:
        connection = self._connections[number]
        connection.used += 1
        self._idle.pop(number, None)
        ready = self._origins[connection.origin].ready
        if connection.has_room:
            ready[number] = None
        else:
            ready.pop(number, None)
        self._out.append(Use(ticket, number))

    def _rest(self, number: int, keepalive: float | None) -> None:
        """Put a connection back: ready if it has room, idle if it carries nothing."""
        connection = self._connections[number]
        if connection.has_room:
            ready = self._origins[connection.origin].ready
            ready[number] = None
            ready.move_to_end(number)
        if connection.used == 0:
            expiry = self.limits.keepalive_expiry
            connection.expires = self._now + (expiry if keepalive is None else min(expiry, keepalive))
            self._idle[number] = None

    def _trim(self) -> None:
        """After the waiters had their turn: no more idle connections than allowed, and a time to look again."""
        while len(self._idle) > self.limits.max_keepalive_connections:
            self._close(next(iter(self._idle)))
        if self._alarm <= self._now:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._idle and self._alarm <= self._now:
            self._alarm = self._connections[next(iter(self._idle))].expires
            if self._alarm < math.inf:
                self._out.append(WakeAt(self._alarm))

    def _close(self, number: int) -> None:
        connection = self._connections.pop(number)
        self._idle.pop(number, None)
        origin = self._origins[connection.origin]
        origin.connections -= 1
        origin.unsettled -= not connection.settled
        origin.ready.pop(number, None)
        origin.unlucky = None  # what it waited for may be gone: it may open one again
        if origin.waiters:
            self._line.setdefault(connection.origin)
        self._out.append(Close(number))
        self._forget_if_empty(connection.origin)

    def _forget_if_empty(self, name: str) -> None:
        """Drop the book of an origin that nothing is left of, so that many origins do not add up."""
        if name in self._origins and self._origins[name].is_empty:
            del self._origins[name]
