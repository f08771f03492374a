"""The SDK openai."""

from __future__ import annotations

import openai

from peers.sdk import operations_of

operations = operations_of(openai, openai.AsyncOpenAI)
