"""The logger ``anyio_client``: INFO, one line a retry; DEBUG, one line a send and the transcript of a call.

Never in a log: credentials, cookies, bodies, the values of queries. ``ANYIO_CLIENT_LOG=debug`` (or ``info``) in the
environment sets the level, and writes to stderr if no handler is there.
"""

from __future__ import annotations

import logging
import os

__all__ = ["logger"]

logger = logging.getLogger("anyio_client")


def setup_from_environment() -> None:
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get(os.environ.get("ANYIO_CLIENT_LOG", "").lower())
    if level is not None:
        logger.setLevel(level)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("[%(asctime)s %(name)s %(levelname)s] %(message)s"))
            logger.addHandler(handler)


setup_from_environment()
