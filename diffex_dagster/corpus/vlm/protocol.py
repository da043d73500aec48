"""What proposing a corpus is: one method that looks at sample images, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.usage import Usage


@dataclass(frozen=True)
class Proposal:
    """A proposed corpus, and what it cost.

    Attributes:
        corpus: the tree, not yet cleaned; `support` counts the image batches that named a feature.
        answers: the raw answers, in order.
        usage: the calls that were made, the answers that came from the cache, the tokens and their price.
        model: the model's name, or the recorded file.
        warnings: answers that had to be left out, and why.
    """

    corpus: Corpus
    answers: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def calls_made(self) -> int:
        """Calls to the server."""
        return self.usage.made

    @property
    def calls_reused(self) -> int:
        """Answers that came from the cache."""
        return self.usage.reused

    @property
    def tokens(self) -> int:
        """Tokens sent and received."""
        return self.usage.prompt_tokens + self.usage.completion_tokens

    @property
    def price(self) -> float | None:
        """US dollars for the calls that were made; None where a model is in no price table."""
        return self.usage.price


class Proposer(Protocol):
    """Anything that can propose a corpus."""

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest) -> Proposal:
        """Propose a corpus.

        Args:
            images: sample images of the domain, any size.
            request: what to ask for.

        Raises:
            CorpusError: nothing could be proposed.
        """


@dataclass(frozen=True)
class Help:
    """What a model does for the cleaning of its answer, where it is asked to (`corpus.cleaning.CleaningOptions`).

    Attributes:
        embed: texts -> (N, D) vectors.
        leak_check: names and class labels -> which names only restate a class, and why.
    """

    embed: Callable[[Sequence[str]], np.ndarray] | None = None
    leak_check: Callable[[Sequence[str], Sequence[str]], Mapping[str, str]] | None = None


@runtime_checkable
class HelpingProposer(Protocol):
    """A proposer whose model may be asked more than for a proposal; all that it is asked is counted together."""

    def new_usage(self) -> Usage:
        """A count of what it is asked."""

    def help(self, usage: Usage) -> Help:
        """What it does besides, counted in `usage`."""

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest, usage: Usage | None = None) -> Proposal:
        """See `Proposer.propose`; calls are counted in `usage`, on top of what it holds already."""
