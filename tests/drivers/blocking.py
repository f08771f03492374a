"""A blocking driver over plain sockets: no event loop, the same machines. What decides is in ``anyio_client.sansio``."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from anyio_client import sansio as s
from anyio_client._convert import Codec
from anyio_client._model.errors import APIConnectionError, ConnectError, ConnectionLostError, RemoteProtocolError
from anyio_client._model.query import Querystring


class StatusError(Exception):
    def __init__(self, status_code: int, command: s.Reject) -> None:
        self.status_code, self.attempts, self.retry_after = status_code, command.attempts, command.retry_after


TIMEOUT = 10.0


class BlockingClient:
    """One origin, one connection, typed calls with safe retries."""

    def __init__(self, base_url: str, *, headers: Mapping[str, Any], random: Callable[[], float]) -> None:
        self.base_url, self.headers, self.random = s.URL(base_url), headers, random
        self.plan, self.codec = s.CallPlan(policy=s.RetryPolicy(wait_initial=0.01)), Codec()
        self.transcript: list[tuple[s.CallEvent, s.CallCommand]] = []
        self._sock: socket.socket | None = None
        self._wire = s.H1Wire()
        self._exchange, self._received = 0, b""
        self._pending: list[s.WireEvent] = []

    def request(self, method: str, path: str, cast_to: Any, *, body: object = None) -> Any:
        content = b"" if body is None else self.codec.encode(body)
        call = s.Call(self.plan, self.random)
        event: s.CallEvent = s.Begin(time.monotonic(), self._prepare(method, path, content, 0))
        while True:
            command = call.step(event)
            self.transcript.append((event, command))
            match command:
                case s.Send():
                    event = self._attempt(self._send, command.request)
                case s.Read():
                    event = self._attempt(self._read)
                case s.Wait():
                    self._drain()
                    time.sleep(command.seconds)
                    event = s.Woke(time.monotonic(), self._prepare(method, path, content, command.retries_taken))
                case s.Deliver():
                    return self.codec.decode(s.json_loads(self._received), cast_to)
                case s.Reject():
                    self._drain()
                    raise StatusError(call.head.status_code if call.head else 0, command)
                case s.Fail():
                    raise command.exception()
                case s.Authorize():
                    raise AssertionError  # only where the plan says so

    def _prepare(self, method: str, path: str, content: bytes, retries_taken: int) -> s.Request:
        url, _ = s.build_url(self.base_url, path, default_query={}, params={}, qs=Querystring())
        own = {"Content-Type": "application/json"} if content else {}
        own["x-stainless-retry-count"] = str(retries_taken)
        headers, _ = s.build_headers(self.headers, own, foreign=False)
        request = s.Request(method, url, headers=headers, content=content)
        s.frame(request)
        return request

    def _attempt(self, do: Callable[..., s.CallEvent], *args: Any) -> s.CallEvent:
        try:
            return do(*args)
        except APIConnectionError as exc:
            self.close()
            return s.AttemptFailed(time.monotonic(), exc, exc.outcome, exc.phase, exc.reused, exc.retryable)

    def _send(self, request: s.Request) -> s.CallEvent:
        reused = self._check_idle()
        if self._sock is None:
            try:
                self._sock = socket.create_connection((request.url.host, request.url.port), TIMEOUT)
            except OSError as exc:
                raise ConnectError(str(exc), phase=s.Phase.CONNECT, outcome=s.Outcome.NOT_SENT) from exc
            self._wire = s.H1Wire()
        self._received, self._pending, heard = b"", [], False
        self._exchange = self._wire.open(request, end=not request.content)
        if request.content:
            self._wire.send(self._exchange, request.content)
            self._wire.finish(self._exchange)
        try:
            self._sock.sendall(self._wire.take_output())
            while True:
                for number, event in enumerate(self._pending):
                    if isinstance(event, s.ResponseReceived):
                        self._pending = self._pending[number + 1 :]
                        return s.HeadReceived(time.monotonic(), time.time(), event.head)
                    self._raise(event, s.Phase.RECEIVE, reused and not heard)
                data = self._sock.recv(65536)
                heard = heard or bool(data)
                self._pending = self._wire.receive(data)
        except OSError as exc:
            error = ConnectionLostError(f"{exc}", phase=s.Phase.RECEIVE, outcome=s.Outcome.UNKNOWN)
            error.reused = reused and not heard
            raise error from exc

    def _read(self) -> s.CallEvent:
        assert self._sock is not None
        while True:
            for event in self._pending:
                if isinstance(event, s.DataReceived):
                    self._received += event.data
                elif isinstance(event, s.Ended):
                    if not self._wire.capacity():
                        self.close()
                    return s.ResultReady(time.monotonic())
                self._raise(event, s.Phase.BODY, reused=False)
            self._pending = self._wire.receive(self._sock.recv(65536))

    def _raise(self, event: s.WireEvent, phase: s.Phase, reused: bool) -> None:
        if isinstance(event, s.Failed):
            cls = ConnectionLostError if event.lost else RemoteProtocolError
            error = cls(event.reason, phase=phase, outcome=event.outcome)
            error.reused = reused and event.lost
            raise error

    def _drain(self) -> None:
        if self._sock is not None:
            self._attempt(self._read)

    def _check_idle(self) -> bool:
        """Whether there is a connection to use again; what has arrived on it meanwhile ends it."""
        if self._sock is None:
            return False
        self._sock.setblocking(False)
        try:
            self._wire.receive(self._sock.recv(65536))
        except BlockingIOError:
            self._sock.settimeout(TIMEOUT)
            return True
        except OSError:
            pass
        self.close()
        return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
