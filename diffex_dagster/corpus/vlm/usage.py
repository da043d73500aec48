"""What a vision-language model was asked and what it cost; answers that are kept, so that nothing is paid for twice."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol

from ruamel.yaml import YAML


class AnswerCache(Protocol):
    """Where answers are kept, so that a request is never paid for twice. The store implements it."""

    def get(self, key: str) -> str | None:
        """The answer kept under a key, if there is one."""

    def put(self, key: str, answer: str, usage: dict[str, int]) -> None:
        """Keep an answer, and how many `prompt_tokens` and `completion_tokens` it took."""


class MemoryCache:
    """Answers kept as long as the object lives; for tests and for use without a store."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """See `AnswerCache`."""
        return self.answers.get(key)

    def put(self, key: str, answer: str, usage: dict[str, int]) -> None:
        """See `AnswerCache`."""
        self.answers[key] = answer


@dataclass
class Usage:
    """What has been asked so far, and what it cost. Safe to share between threads.

    Attributes:
        made: calls to the server (retries not counted).
        reused: answers that came from the cache.
        tokens: (sent, received) in the calls that were made, by model.
        prices: a user's own table over the shipped one; see `price_of`.
    """

    prices: Mapping[str, Sequence[float]] | None = None
    made: int = 0
    reused: int = 0
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, model: str, usage: Mapping[str, int] | None) -> None:
        """Count a call that was made (with its usage) or reused (None)."""
        with self._lock:
            if usage is None:
                self.reused += 1
                return
            self.made += 1
            sent, received = self.tokens.get(model, (0, 0))
            self.tokens[model] = (sent + usage.get("prompt_tokens", 0), received + usage.get("completion_tokens", 0))

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent, to all models."""
        return sum(sent for sent, _ in self.tokens.values())

    @property
    def completion_tokens(self) -> int:
        """Tokens received, from all models."""
        return sum(received for _, received in self.tokens.values())

    @property
    def price(self) -> float | None:
        """US dollars for the calls that were made; None where a model is in no price table."""
        each = [price_of(model, sent, received, self.prices) for model, (sent, received) in self.tokens.items()]
        return None if None in each else float(sum(one for one in each if one is not None))


def price_of(
    model: str, prompt_tokens: int, completion_tokens: int, prices: Mapping[str, Sequence[float]] | None = None
) -> float | None:
    """What tokens cost, in US dollars.

    Args:
        model: the model's name; a vendor before a slash ("openai/gpt-4o") does not count.
        prompt_tokens: tokens sent.
        completion_tokens: tokens received.
        prices: a user's own table, (sent, received) for a million tokens, over the shipped one.

    Returns:
        None where no table has the model.
    """
    shipped = YAML(typ="safe").load((files(__package__) / "prices.yaml").read_text("utf-8"))
    table = {**shipped, **(prices or {})}
    name = model if model in table else model.rpartition("/")[2]
    known = max((one for one in table if name.startswith(one)), key=len, default=None)
    if known is None:
        return None
    sent, received = table[known]
    return float((prompt_tokens * sent + completion_tokens * received) / 1e6)
