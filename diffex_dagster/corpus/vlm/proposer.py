"""Proposing a corpus from sample images with a vision-language model behind a server."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field

from diffex_dagster.corpus.merging import merge_answers
from diffex_dagster.corpus.refining import Refined, Refinement, read_suggestions, refine_prompt
from diffex_dagster.corpus.tree import Drop
from diffex_dagster.corpus.vlm.answers import is_refusal, read, tree_from_raw
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
from diffex_dagster.corpus.vlm.parts import ServerOptions, VLMPart, Where
from diffex_dagster.corpus.vlm.prompts import (
    GROUPS_SCHEMA,
    LEAKAGE_SCHEMA,
    REFINE_SCHEMA,
    ProposalRequest,
    children_prompt,
    children_schema,
    groups_prompt,
    system_prompt,
    worded,
)
from diffex_dagster.corpus.vlm.protocol import Help, Proposal
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.vlm.usage import AnswerCache, MemoryCache, Usage
from diffex_dagster.corpus.wording import tidy
from diffex_dagster.errors import CorpusError
from diffex_dagster.utils.secrets import logger

log = logger(__name__)
_One = TypeVar("_One")
_Other = TypeVar("_Other")


class OpenAIVLM(ServerOptions, VLMPart):
    """Any endpoint that speaks the Chat Completions API: OpenAI, vLLM, Ollama, llama.cpp, LM Studio."""

    live: ClassVar[bool] = True

    kind: Literal["openai"] = "openai"
    images_per_call: int = Field(8, ge=1)
    max_images: int = Field(24, ge=1, description="at most so many sample images are sent, evenly chosen")
    groups_per_call: int = Field(5, ge=1, description="categories whose children are asked for in one call")
    embedding_model: str | None = Field(
        None, description="finds near-duplicates among the features, and the reference text that fits best"
    )
    leak_check: bool = Field(False, description="ask the model which features only restate the class")

    def build(self, where: Where) -> OpenAIProposer:
        """An `OpenAIProposer` whose answers are kept in the cache.

        Args:
            where: has the cache.
        """
        return OpenAIProposer(self, where.cache)

    def placed(self, where: Where) -> OpenAIVLM:
        """At the deployment's address, which `where` has."""
        return self.moved(where.place)

    def server(self) -> ServerOptions:
        """Itself."""
        return self


class OpenAIProposer:
    """A vision-language model behind any server that speaks the Chat Completions API.

    Two passes: categories from each batch of images, merged; then the children of a few categories at a time, again
    from each batch. Answers are merged by how many batches named a feature.

    Args:
        options: which model, where, and how it is asked.
        cache: where answers are kept; in memory by default.
    """

    def __init__(self, options: OpenAIVLM, cache: AnswerCache | None = None) -> None:
        self.options, self.client = options, Client(options, MemoryCache() if cache is None else cache)

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest, usage: Usage | None = None) -> Proposal:
        """Propose a corpus. An answer that cannot be used is left out with a warning as long as another one can.

        Args:
            images: sample images of the domain, of any size; they are scaled down before they are sent.
            request: what to ask for.
            usage: calls are counted in it, on top of what it holds already (embeddings of reference text).

        Raises:
            CorpusError: there is no image, the server cannot be asked, or no answer can be used.
        """
        if not images:
            raise CorpusError("There are no sample images to propose a corpus from: add some to the study's folder.")
        session = _Session(self.client, usage or self.new_usage())
        batches = image_batches(images, self.options.images_per_call, self.options.max_images)

        # 1. categories
        found = self._parallel(lambda batch: session.read(groups_prompt(request), batch, GROUPS_SCHEMA), batches)
        drops: list[Drop] = []
        groups = merge_answers(session.usable(found), drops)
        beyond = f"is beyond the {request.groups} groups with most support"
        drops += [Drop(group["name"], beyond, "limits") for group in groups[request.groups :]]
        groups = groups[: request.groups]

        # 2. their children, a few categories to a call
        size = self.options.groups_per_call
        chunks = [groups[i : i + size] for i in range(0, len(groups), size)]
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

    def refine(self, asked: Refinement) -> Refined:
        """See `Refiner`. A question that has been answered is not asked again; an unreadable answer is, once.

        At most `images_per_call` and `max_images` pictures are sent, with the captions of these alone; fewer of both
        where they are more than the model takes.

        Args:
            asked: the question, and the pictures that may go with it.

        Raises:
            CorpusError: the server says no, or the answer names no attribute in a readable form, twice.
        """
        usage, most = self.new_usage(), min(self.options.images_per_call, self.options.max_images)

        def request(pictures: int, end: str = "") -> Request:
            shown = asked.with_pictures(pictures)
            images = tuple(seen.picture for seen in shown.pictures)
            return Request(system_prompt(), refine_prompt(shown) + end, images, REFINE_SCHEMA)

        def holds_some(answer: str) -> bool:
            try:
                return bool(read_suggestions(answer))
            except CorpusError:
                return False

        def ask(end: str = "") -> str:
            return self.client.ask(
                request(most, end), usage, keep=holds_some, with_images=lambda pictures: request(pictures, end)
            )

        answer = ask()
        if not holds_some(answer):
            answer = ask(f"\n\n{worded('again')}")
            if not holds_some(answer):
                raise CorpusError(
                    f"The model {self.client.model!r} named no attribute in a readable form: use another model."
                )
            self.client.remember(request(most), answer)
        return Refined(answer, self.client.model, usage)

    def new_usage(self) -> Usage:
        """A count that knows this proposer's prices."""
        return Usage(self.options.prices)

    def help(self, usage: Usage) -> Help:
        """See `HelpingProposer.help`: embeddings and the leakage check, where the options ask for them.

        Args:
            usage: what is asked is counted in it.
        """
        model = self.options.embedding_model
        return Help(
            embed=self.embedder(model, usage) if model else None,
            leak_check=functools.partial(self.leaks, usage=usage) if self.options.leak_check else None,
        )

    def embedder(self, model: str, usage: Usage) -> Callable[[Sequence[str]], np.ndarray]:
        """Texts -> vectors, (N, D), by a model of the same server. A `cleaning.Embed`.

        Args:
            model: its name.
            usage: calls are counted in it.
        """
        return lambda texts: self.client.embed(texts, model, usage)

    def leaks(self, names: Sequence[str], class_labels: Sequence[str], usage: Usage) -> dict[str, str]:
        """Which features only restate a class, in the model's opinion: name -> reason. A `cleaning.LeakCheck`.

        Args:
            names: of the features.
            class_labels: what the classifier tells apart.
            usage: calls are counted in it.

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
        with ThreadPoolExecutor(max_workers=max(1, self.options.parallel)) as pool:
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
