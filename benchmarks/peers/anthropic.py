"""The SDK anthropic."""

from __future__ import annotations

import anthropic

from peers.sdk import operations_of

operations = operations_of(anthropic, anthropic.AsyncAnthropic)
