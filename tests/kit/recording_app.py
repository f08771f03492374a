"""tests/kit/interop_app.py for Hypercorn, which also appends every request to the file ``RECORD``, a line of JSON each."""

from __future__ import annotations

import json
import os

from interop_app import Receive, Scope, Send
from interop_app import app as interop_app

RECORD = os.environ["RECORD"]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        facts = {
            "version": scope["http_version"],
            "scheme": scope["scheme"],
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "headers": headers,
        }
        with open(RECORD, "a") as file:  # noqa: ASYNC230
            file.write(json.dumps(facts) + "\n")
    await interop_app(scope, receive, send)
