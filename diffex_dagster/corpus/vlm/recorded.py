"""A recorded answer of a vision-language model, and a corpus that needs none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.corpus.merging import merge_answers
from diffex_dagster.corpus.refining import Refined, Refinement, read_suggestions
from diffex_dagster.corpus.starters import load_starter
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.answers import read, saved_answer, tree_from_raw
from diffex_dagster.corpus.vlm.parts import VLMPart, Where
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.protocol import Proposal
from diffex_dagster.errors import CorpusError, in_words
from diffex_dagster.utils.text import read_text


class RecordedVLM(VLMPart):
    """A saved answer of a vision-language model: nothing is called."""

    kind: Literal["recorded"] = "recorded"
    file: Path
    suggestions: Path | None = Field(
        None, description="a saved answer about the next attributes to try: what `diffex refine` reads"
    )

    def build(self, where: Where) -> RecordedProposer:
        """A `RecordedProposer`."""
        return RecordedProposer(
            where.path(self.file), None if self.suggestions is None else where.path(self.suggestions)
        )

    def files(self) -> tuple[Path, ...]:
        """The answer that the proposal is made from."""
        return (self.file,)

    @property
    def refines(self) -> bool:
        """Where an answer about it is saved."""
        return self.suggestions is not None


class RecordedProposer:
    """A recorded answer of a vision-language model: the default, since it needs no server and no key.

    Args:
        path: a text file with the answer, in any form that `reading.read_answer` takes.
        suggestions: a text file with the answer about the next attributes to try, where there is one.
    """

    def __init__(self, path: str | Path, suggestions: Path | None = None) -> None:
        self.path, self.suggestions = Path(path), suggestions

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

    def refine(self, asked: Refinement) -> Refined:
        """The recorded suggestions, whatever the pictures."""
        if self.suggestions is None:
            raise CorpusError(
                "corpus.vlm: a recorded answer names no next attribute; name `suggestions`, a saved answer to "
                "`diffex refine STUDY --question`, or a live model"
            )
        try:
            text = read_text(self.suggestions)
        except OSError as error:
            raise CorpusError(
                f"The recorded suggestions {self.suggestions} cannot be read ({in_words(error)}): correct their path "
                "in the study."
            ) from None
        try:
            answer = saved_answer(text)
            read_suggestions(answer)
        except CorpusError as error:
            raise CorpusError(f"{self.suggestions}: {error}") from None
        return Refined(answer, str(self.suggestions))


class StarterProposer:
    """Proposes a shipped corpus, whatever the images show; nothing where the study names none."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest) -> Proposal:
        """The starter corpus; an empty one for a study whose corpus file holds a whole tree."""
        return Proposal(load_starter(self.name) if self.name else Corpus(()), model=self.name or "none")
