"""Proposing a corpus from sample images: by a vision-language model, or from a recorded answer of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from diffex_dagster.corpus.merging import merge_answers
from diffex_dagster.corpus.tree import Corpus, Drop
from diffex_dagster.corpus.vlm.answers import is_refusal, read, saved_answer, tree_from_raw
from diffex_dagster.corpus.vlm.client import Client, Request
from diffex_dagster.corpus.vlm.failures import Refused
from diffex_dagster.corpus.vlm.joining import (
    attach,
    continued,
    image_batches,
    is_readable,
    is_structured,
    listed,
    tree_size,
    with_citations,
)
from diffex_dagster.corpus.vlm.lenient import Box, parse_boxes
from diffex_dagster.corpus.vlm.prompts import (
    GROUPS_SCHEMA,
    LEAKAGE_SCHEMA,
    ProposalRequest,
    children_prompt,
    children_schema,
    groups_prompt,
    system_prompt,
    worded,
)
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.vlm.usage import AnswerCache, MemoryCache, Usage
from diffex_dagster.corpus.wording import tidy
from diffex_dagster.errors import CorpusError, in_words
from diffex_dagster.utils.secrets import logger
from diffex_dagster.utils.text import read_text

log = logger(__name__)
_One = TypeVar("_One")
_Other = TypeVar("_Other")

__all__ = [
    "AnswerCache", "MemoryCache", "OpenAIProposer", "Proposal", "ProposalRequest", "Proposer", "RecordedProposer",
    "Usage",
]  # fmt: skip


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


class RecordedProposer:
    """A recorded answer of a vision-language model: the default, since it needs no server and no key.

    Args:
        path: a text file with the answer, in any form that `reading.read_answer` takes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest) -> Proposal:
        """The recorded corpus, whatever the images; each feature has the support that the file says, or 1."""
        try:
            text = read_text(self.path)
        except OSError as error:
            raise CorpusError(
                f"The recorded answer {self.path} cannot be read ({in_words(error)}): correct its path in the study."
            ) from None
        try:
            answer = read(saved_answer(text))
        except CorpusError as error:
            raise CorpusError(f"{self.path}: {error}") from None
        warnings = (
            (f"{self.path} ends in the middle of the answer: what was whole is used",) if answer.truncated else ()
        )
        corpus = tree_from_raw(merge_answers([answer.tree]))
        return Proposal(corpus, (text,), model=str(self.path), warnings=warnings)


class OpenAIProposer:
    """A vision-language model behind any server that speaks the Chat Completions API.

    Two passes: categories from each batch of images, merged; then the children of a few categories at a time, again
    from each batch. Answers are merged by how many batches named a feature.

    Args:
        base_url: the API's address ("http://localhost:11434/v1" for Ollama); None for OpenAI's own.
        model: the model's name, as the server knows it.
        key_env: name of the environment variable with the API key. None means OPENAI_API_KEY for OpenAI's own address,
            and no key for any other.
        cache: where answers are kept; in memory by default.
        images_per_call: size of an image batch.
        max_images: at most so many images are sent, evenly chosen.
        image_side: images are scaled down to at most this many pixels a side.
        groups_per_call: categories whose children are asked for in one call.
        parallel: calls under way at the same time.
        parameters: further fields of the request ("temperature", "seed", "max_tokens", "reasoning_effort", ...).
        prices: US dollars for a million tokens, model -> (sent, received), over the shipped table.
        retries: how many times a call is tried again after 429, 5xx or a timeout, with exponential back-off.
        timeout_s: how long one try may take, in seconds.
    """

    def __init__(
        self,
        base_url: str | None,
        model: str,
        key_env: str | None = None,
        cache: AnswerCache | None = None,
        *,
        images_per_call: int = 8,
        max_images: int = 24,
        image_side: int = 512,
        groups_per_call: int = 5,
        parallel: int = 4,
        parameters: Mapping[str, Any] | None = None,
        prices: Mapping[str, Sequence[float]] | None = None,
        retries: int = 4,
        timeout_s: float = 120.0,
    ) -> None:
        self.client = Client(
            base_url, model, key_env, cache if cache is not None else MemoryCache(), image_side=image_side,
            parameters=parameters, retries=retries, timeout_s=timeout_s,
        )  # fmt: skip
        self.images_per_call, self.max_images = images_per_call, max_images
        self.groups_per_call, self.parallel = groups_per_call, parallel
        self.prices = prices

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest, usage: Usage | None = None) -> Proposal:
        """See `Proposer`. An answer that cannot be used is left out with a warning as long as another one can.

        Calls are counted in `usage`, on top of what it holds already (embeddings of reference text).
        """
        if not images:
            raise CorpusError("There are no sample images to propose a corpus from: add some to the study's folder.")
        session = _Session(self.client, usage or self.new_usage())
        batches = image_batches(images, self.images_per_call, self.max_images)

        # 1. categories
        found = self._parallel(lambda batch: session.read(groups_prompt(request), batch, GROUPS_SCHEMA), batches)
        drops: list[Drop] = []
        groups = merge_answers(session.usable(found), drops)
        beyond = f"is beyond the {request.groups} groups with most support"
        drops += [Drop(group["name"], beyond, "limits") for group in groups[request.groups :]]
        groups = groups[: request.groups]

        # 2. their children, a few categories to a call
        chunks = [groups[i : i + self.groups_per_call] for i in range(0, len(groups), self.groups_per_call)]
        schema = children_schema(request.levels)
        questions = [(chunk, batch) for chunk in chunks for batch in batches]
        found = self._parallel(
            lambda question: session.read(children_prompt(request, question[0]), question[1], schema), questions
        )
        drops += attach(groups, merge_answers(session.usable(found), drops))

        corpus = tree_from_raw([with_citations(group, request.context) for group in groups])
        return Proposal(
            corpus=dataclasses.replace(corpus, drops=(*drops, *corpus.drops)),
            answers=tuple(session.answers),
            usage=session.usage,
            model=self.client.model,
            warnings=tuple(session.warnings),
        )

    def new_usage(self) -> Usage:
        """A count that knows this proposer's prices."""
        return Usage(self.prices)

    def embedder(self, model: str, usage: Usage) -> Callable[[Sequence[str]], np.ndarray]:
        """Embeds texts with a model of the same server. A `cleaning.Embed`."""
        return lambda texts: self.client.embed(texts, model, usage)

    def leaks(self, names: Sequence[str], class_labels: Sequence[str], usage: Usage) -> dict[str, str]:
        """Which features only restate a class, in the model's opinion: name -> reason. A `cleaning.LeakCheck`.

        Raises:
            CorpusError: the model cannot be asked, or its answer cannot be read at the second try either.
        """
        text = worded(
            "leakage",
            labels=", ".join(map(tidy, class_labels)),
            features="\n".join(f"- {tidy(name)}" for name in names),
        )
        request = Request(system_prompt(), text, schema=LEAKAGE_SCHEMA)
        answer = self.client.ask(request, usage, keep=is_structured)
        if not is_structured(answer):
            again = dataclasses.replace(request, text=f"{text}\n\n{worded('again')}")
            answer = self.client.ask(again, usage, keep=is_structured)
            if not is_structured(answer):
                raise CorpusError(
                    f"The model {self.client.model!r} did not answer the leakage check in a readable form: use another "
                    "model, or switch `leak_check` off."
                )
            self.client.remember(request, answer)
        asked = {tidy(name): name for name in names}
        found: dict[str, str] = {}
        todo: list[object] = list(parse_boxes(answer))
        while todo:
            box = todo.pop()
            if not isinstance(box, Box):
                continue
            fields = {key: value for key, value in box.pairs if isinstance(value, str)}
            if (name := tidy(fields.get("name", ""))) in asked:
                found[asked[name]] = tidy(fields.get("reason", "")) or "the model says so"
            todo += [*box.items, *(value for _, value in box.pairs)]
        return found

    def _parallel(
        self, work: Callable[[_One], _Other | CorpusError], items: Iterable[_One]
    ) -> list[_Other | CorpusError]:
        """Results in the order of the items, whatever the order in which the answers came."""
        with ThreadPoolExecutor(max_workers=max(1, self.parallel)) as pool:
            return list(pool.map(work, items))


class _Session:
    """One proposal under way: its answers, its cost, and what went wrong."""

    def __init__(self, client: Client, usage: Usage) -> None:
        self.client = client
        self.usage = usage
        self.answers: list[str] = []
        self.warnings: list[str] = []

    def read(
        self, text: str, images: tuple[Image.Image, ...], schema: Mapping[str, Any]
    ) -> tuple[list[RawFeature], list[str]] | CorpusError:
        """The features of one answer, asking again for what was cut off or unreadable; or what went wrong."""
        tree: list[RawFeature] = []
        texts: list[str] = []
        first = asked = Request(system_prompt(), text, images, schema)
        unreadable = 0
        try:
            for _ in range(4):  # an answer, at most three continuations
                answer = self.client.ask(asked, self.usage, keep=is_readable)
                texts.append(answer)
                try:
                    part = read(answer)
                except CorpusError:
                    if is_refusal(answer):
                        raise
                    unreadable += 1
                    if tree:
                        break  # the rest cannot be read, what came before stays
                    if unreadable > 1:
                        raise
                    asked = dataclasses.replace(first, text=f"{text}\n\n{worded('again')}")
                    continue
                if unreadable and not tree:
                    self.client.remember(first, answer)
                before = tree_size(tree)
                tree = continued(tree, part)
                if not part.truncated or tree_size(tree) == before:
                    break
                asked = dataclasses.replace(first, text=f"{text}\n\n{worded('rest', known=listed(tree))}")
        except CorpusError as error:
            if not tree:
                return error
            self.warnings.append(f"the rest of an answer is missing: {error}")
        return tree, texts

    def usable(self, found: Sequence[tuple[list[RawFeature], list[str]] | CorpusError]) -> list[list[RawFeature]]:
        """The trees that were read. Raises the first error where there is none."""
        trees = []
        errors = [one for one in found if isinstance(one, CorpusError)]
        for one in found:
            if not isinstance(one, CorpusError):
                trees.append(one[0])
                self.answers += one[1]
        if not trees and errors:
            raise errors[0]
        for error in errors:
            kind = "refused" if isinstance(error, Refused) else "left out"
            self.warnings.append(f"one of {len(found)} answers was {kind}: {error}")
            log.warning("%s", self.warnings[-1])
        return trees
