"""What a run tries before it makes the study's own edits, said before it starts."""

from __future__ import annotations

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.calibration import Wanted
from diffex_dagster.errors import StoreError
from diffex_dagster.report.wording import count, listing
from diffex_dagster.stages.calibration import budget_of, new_prompts, study_edits, wanted_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.sample_images import read_samples
from diffex_dagster.stages.source_prompts import as_it_would_edit, most_tries, still_to_find


def tried_first(work: StudyContext, options: bool = True, anew: bool = False) -> str:
    """How many edits are tried at most, what for, and how many edits of the study they serve, as a sentence.

    Images and corpus are as a run would read them now. Nothing is edited, judged or asked of a model.

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
    if work.judge is None or not (options or study.finds_source_prompts):
        return ""
    try:
        corpus = corpus_now(study)
    except StoreError:
        if not study.corpus.vlm or not study.corpus.vlm.live:
            raise
        return (  # the model has not been asked for it yet
            f"tried first: at most {study.calibration.budget:.0%} of the study's edits; how many these are is known "
            "once its corpus is there"
        )
    find_words = study.finds_source_prompts and still_to_find(work)
    if not find_words and not (options and _lacking(work, corpus, anew)):
        return ""
    images = set(read_samples(study, lambda name: work.subject(name).classifier).image_keys.values())
    there, words, other_words = work, 0, False
    if find_words:
        bare = work.bare_editor.fingerprint
        known = work.store.source_prompts(study.kept_as, bare)
        other_words = known is not None and known.used is not None  # another editor, with options to be found
        there, _ = as_it_would_edit(work, corpus, list(images))
        if other_words or there.editor.fingerprint != bare:
            words = most_tries(study, corpus, len(images))
    new = _lacking(there, corpus, anew or other_words) if options else []
    tries = {"to see whether the words that describe pictures do harm": words} if words else {}
    if new:
        tries[f"to find the options of {count(len(new), 'prompt')}"] = budget_of(study, corpus, new, len(images))
    parts = [f"{count(most, 'edit')} {what}" for what, most in tries.items()]
    every = count(study_edits(study, corpus, len(images)), "edit")
    return f"tried first: at most {listing(parts)}, for the study's {every}, joint ones apart" if parts else ""


def _lacking(work: StudyContext, corpus: Corpus, anew: bool) -> list[Wanted]:
    """The prompts whose options are to be found: those that are not known, or all that nobody pinned."""
    if not anew:
        return new_prompts(work, corpus)
    return [wanted for wanted in wanted_prompts(corpus) if wanted.prompt not in work.study.pinned]
