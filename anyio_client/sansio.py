"""The machines and codecs without any I/O, for authors of drivers. As stable as the client itself.

Nothing here imports anyio, an event loop or a socket. A driver is a loop around :class:`Call` (one logical request with
its retries), with a :class:`Wire` for the bytes of one connection and, if it shares connections, a :class:`Pool`. A
blocking driver in 150 lines stands in the project's ``tests/drivers``.

* the call: ``Call, CallPlan, Delivery``; its events ``Begin, Authorized, HeadReceived, ResultReady, AttemptFailed, Woke,
  Expired``; its commands ``Authorize, Send, Read, Wait, Deliver, Reject, Fail``
* the pool: ``Pool``; its events ``Wanted, Opened, OpenFailed, Freed, CapacityChanged, Broke, GaveUp, Shutdown, Tick``; its
  commands ``Use, Open, Close, Refuse, WakeAt``
* the wire: ``H1Wire, H2Wire``; their events ``InterimReceived, ResponseReceived, DataReceived, SendAllowed, Ended,
  Failed``
* ways: ``Routes`` gives a ``Route`` for a URL, perhaps by a ``Proxy``; ``ConnectHandshake`` and ``SocksHandshake`` open its tunnel
* building requests: ``build_url, build_headers, frame``; bodies: ``SSEDecoder``, ``json_dumps``, ``json_loads``
"""

from ._core.build import build_headers, build_url, frame
from ._core.call import (
    TRANSITIONS,
    AttemptFailed,
    Authorize,
    Authorized,
    Begin,
    Call,
    CallCommand,
    CallEvent,
    CallPlan,
    CallState,
    Deliver,
    Delivery,
    Expired,
    Fail,
    HeadReceived,
    IllegalEvent,
    Read,
    Reject,
    ResultReady,
    Send,
    Wait,
    Woke,
)
from ._core.pool import (
    Broke,
    CapacityChanged,
    Close,
    Freed,
    GaveUp,
    Open,
    Opened,
    OpenFailed,
    Pool,
    PoolCommand,
    PoolEvent,
    Refuse,
    Shutdown,
    Tick,
    Use,
    WakeAt,
    Wanted,
)
from ._core.redirect import NotFollowed, next_request
from ._core.retry import RetryBudget, RetryPolicy, backoff, parse_retry_after
from ._core.routes import NoProxy, Proxy, Route, Routes
from ._model.errors import Outcome, Phase
from ._model.head import ResponseHead
from ._model.headers import Headers
from ._model.request import Request, StreamedBody
from ._model.timeouts import Limits, Timings
from ._model.url import URL
from ._wire.h1 import H1Wire
from ._wire.h2 import H2Wire
from ._wire.json import dumps as json_dumps
from ._wire.json import loads as json_loads
from ._wire.protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    SendAllowed,
    Wire,
    WireEvent,
    WireMisuse,
)
from ._wire.sse import EventTooLarge, ServerSentEvent, SSEDecoder
from ._wire.tunnel import ConnectHandshake, Handshake, ProxyRefused, SocksHandshake

__all__ = [
    "AttemptFailed",
    "Authorize",
    "Authorized",
    "Begin",
    "Broke",
    "Call",
    "CallCommand",
    "CallEvent",
    "CallPlan",
    "CallState",
    "CapacityChanged",
    "Close",
    "ConnectHandshake",
    "DataReceived",
    "Deliver",
    "Delivery",
    "Ended",
    "EventTooLarge",
    "Expired",
    "Fail",
    "Failed",
    "Freed",
    "GaveUp",
    "H1Wire",
    "H2Wire",
    "Handshake",
    "HeadReceived",
    "Headers",
    "IllegalEvent",
    "InterimReceived",
    "Limits",
    "NoProxy",
    "NotFollowed",
    "Open",
    "OpenFailed",
    "Opened",
    "Outcome",
    "Phase",
    "Pool",
    "PoolCommand",
    "PoolEvent",
    "Proxy",
    "ProxyRefused",
    "Read",
    "Refuse",
    "Reject",
    "Request",
    "ResponseHead",
    "ResponseReceived",
    "ResultReady",
    "RetryBudget",
    "RetryPolicy",
    "Route",
    "Routes",
    "SSEDecoder",
    "Send",
    "SendAllowed",
    "ServerSentEvent",
    "Shutdown",
    "SocksHandshake",
    "StreamedBody",
    "TRANSITIONS",
    "Tick",
    "Timings",
    "URL",
    "Use",
    "Wait",
    "WakeAt",
    "Wanted",
    "Wire",
    "WireEvent",
    "WireMisuse",
    "Woke",
    "backoff",
    "build_headers",
    "build_url",
    "frame",
    "json_dumps",
    "json_loads",
    "next_request",
    "parse_retry_after",
]
