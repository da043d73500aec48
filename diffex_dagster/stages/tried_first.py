"""What a run tries before it makes the study's own edits, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.errors import StoreError
from diffex_dagster.report.wording import count, listing
from diffex_dagster.stages.calibration import budget_of, new_prompts, study_edits, wanted_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.sample_images import count_samples
from diffex_dagster.stages.source_prompts import as_it_would_edit, most_tries, still_to_find


@dataclass(frozen=True)
class MostTries:
    """The most edits that are tried before the study's own.

    Attributes:
        words: to see whether the words that describe pictures do harm.
        prompts: whose options are to be found.
        options: edits to find these.
    """

    words: int = 0
    prompts: int = 0
    options: int = 0


def most_tried(
    work: StudyContext, corpus: Corpus, images: int, samples: Sequence[str] = (), anew: bool = False
) -> MostTries:
    """The most edits that finding the source prompts and the options would take now; nothing is edited or judged.

    Args:
        images: how many there are.
        samples: keys of those that the store may have edits of.
        anew: as if no options were known.
    """
    study, there, words, other_words = work.study, work, 0, False
    if work.judge is None:
        return MostTries()
    if study.finds_source_prompts and still_to_find(work):
        bare = work.bare_editor.fingerprint
        known = work.store.source_prompts(study.kept_as, bare)
        other_words = known is not None and known.used is not None  # another editor, with options to be found
        there, _ = as_it_would_edit(work, corpus, samples)
        if other_words or there.editor.fingerprint != bare:
            words = most_tries(study, corpus, images)
    if not study.calibrates or getattr(work.bare_editor, "settings", None) is None:
        return MostTries(words)
    if anew or other_words:
        new = [wanted for wanted in wanted_prompts(corpus) if wanted.prompt not in study.pinned]
    else:
        new = new_prompts(there, corpus)
    return MostTries(words, len(new), budget_of(study, corpus, new, images))


def tried_first(work: StudyContext, options: bool = True, anew: bool = False) -> str:
    """How many edits are tried at most, what for, and how many edits of the study they serve, as a sentence.

    The corpus is as a run would read it now. Nothing is decoded, edited, judged or asked of a model.

    Args:
        options: count the edits that find the options of the editor too, not only those that try the words in which
            pictures are described.
        anew: as if no options were known.

    Returns:
        The sentence; "" where nothing is to be tried.

    Raises:
        DiffExError: the study's images, corpus or editor cannot be used.
    """
    study = work.study
    options = options and study.calibrates and getattr(work.bare_editor, "settings", None) is not None
    if work.judge is None or not (options or (study.finds_source_prompts and study.calibrate is not False)):
        return ""
    stored = list(work.store.samples(study.kept_as)) if work.store.exists() else []
    images = count_samples(study) or len(stored)
    try:
        corpus = corpus_now(study)
    except StoreError:
        if not study.corpus.vlm or not study.corpus.vlm.live:
            raise
        return _share(study.calibration.budget, "its corpus is there")  # the model has not been asked for it yet
    tries = most_tried(work, corpus, images, stored, anew)
    parts = [f"{count(tries.words, 'edit')} to see whether the words that describe pictures do harm"] * bool(
        tries.words
    )
    if options and tries.prompts:
        parts.append(f"{count(tries.options, 'edit')} to find the options of {count(tries.prompts, 'prompt')}")
    if parts and not images:
        return _share(study.calibration.budget, "a classifier has chosen its images")
    every = count(study_edits(study, corpus, images), "edit")
    return f"tried first: at most {listing(parts)}, for the study's {every}, joint ones apart" if parts else ""


def _share(budget: float, known: str) -> str:
    return f"tried first: at most {budget:.0%} of the study's edits; how many these are is known once {known}"
