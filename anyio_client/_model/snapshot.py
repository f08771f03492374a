"""What a transport is doing at one moment: its connections, and who waits for one."""

from __future__ import annotations

import attrs

__all__ = ["ConnectionInfo", "Snapshot", "WaiterInfo"]


@attrs.frozen
class ConnectionInfo:
    """One connection. Times are seconds.

    ``origin``: where it leads. ``protocol``: ``"HTTP/1.1"`` or ``"HTTP/2"``, None while it is made. ``state``: ``connecting``,
    ``active``, ``idle``, or ``closing`` (it ends what it carries, and takes no more). ``streams``: exchanges under way.
    ``age``: since it was made, or its making began. ``idle``: since when it has carried nothing, None while it does.
    """

    origin: str
    protocol: str | None
    state: str
    streams: int
    age: float
    idle: float | None = None


@attrs.frozen
class WaiterInfo:
    """A send that waits for a connection to ``origin``, for ``waited`` seconds by now."""

    origin: str
    waited: float


@attrs.frozen
class Snapshot:
    """``connections`` and ``waiters`` of one moment. ``print()`` shows a table."""

    connections: tuple[ConnectionInfo, ...] = ()
    waiters: tuple[WaiterInfo, ...] = ()

    def __str__(self) -> str:
        rows = [("origin", "protocol", "state", "streams", "age", "idle")]
        rows += [
            (c.origin, c.protocol or "", c.state, str(c.streams), _seconds(c.age), _seconds(c.idle))
            for c in self.connections
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if not self.connections:
            lines = ["no connections"]
        lines += [f"waiting for {waiter.origin}: {_seconds(waiter.waited)}" for waiter in self.waiters]
        return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} s"
