"""A model behind an OpenAI-compatible endpoint, through the ``openai`` client. Without one, nothing here is called.

``OPENAI_API_KEY``, ``OPENAI_BASE_URL`` and ``OPENAI_MODEL`` are read from the environment, and are not recorded.
"""

from __future__ import annotations

import os
from typing import TypedDict

DEFAULT_MODEL = "gpt-4o-mini"
_MISSING = "the endpoint in the environment needs the openai client: pip install 'alkaline-edge[demo]'"


class Answer(TypedDict):
    """What the model said, and the tokens that the endpoint counted."""

    text: str
    tokens: int


class ClientMissing(Exception):
    """The ``openai`` package is not installed."""


def in_environment() -> str | None:
    """The name of the model to call; None where the environment names no endpoint."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        return os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
    return None


def check_client() -> None:
    """ClientMissing, saying what to install, when a model is to be called and the client is not there."""
    try:
        import openai  # noqa: F401  # looked for, not used here
    except ImportError:
        raise ClientMissing(_MISSING) from None


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: the network, a timeout, a rate limit, a server that failed."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    try:
        import openai
    except ImportError:
        return False
    return isinstance(error, (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError))


async def ask(model: str, instruction: str, text: str, key: str) -> Answer:
    """One chat completion. ``key`` is the step's idempotency key: an endpoint that knows it charges once.

    The client does not retry by itself: retries belong to the step, where they are recorded.
    """
    check_client()
    from openai import AsyncOpenAI

    secret = os.environ.get("OPENAI_API_KEY") or "none"  # the client wants one; local endpoints do not look at it
    async with AsyncOpenAI(api_key=secret, max_retries=0, timeout=120) as client:
        reply = await client.chat.completions.create(
            model=model,
            messages=[{"role": "system", "content": instruction}, {"role": "user", "content": text}],
            extra_headers={"Idempotency-Key": key},
        )
    said = reply.choices[0].message.content or ""
    return Answer(text=said.strip(), tokens=reply.usage.total_tokens if reply.usage else 0)
