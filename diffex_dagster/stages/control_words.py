"""Control prompts of single images: as many as it takes to claim anything of one, beside those of the study."""

from __future__ import annotations

from collections.abc import Sequence

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.effects.one_picture import control_words, fewest_controls
from diffex_dagster.errors import StudyError
from diffex_dagster.study import Study


def with_control_words(study: Study, corpus: Corpus, wanted: int | None = None) -> Study:
    """The study with the control prompts that single images are held against, its own first.

    Edits that another tool made are those that it made: there the study's own control prompts stay alone.

    Args:
        corpus: whose words mean something.
        wanted: how many; when None as few as let something be claimed of one image at the study's level, and never
            fewer than its own.

    Raises:
        StudyError: that many cannot be had.
    """
    own, makes = study.effects.control_prompts, study.editor_part.makes_edits
    meaning = _meaning(corpus)
    most = max(len(own), fewest_controls(study.effects.level))
    count = wanted if wanted is not None else most if makes else len(own)
    words = control_words(own, count, meaning)
    if not makes:
        words = words[: len(own)]
    if wanted is not None and len(words) != wanted:
        there = len(control_words(own, len(own) + 10**6, meaning)) if makes else len(own)
        why = "" if makes else ", and its edits were made by another tool"
        raise StudyError(
            f"{study.file}: effects.control_prompts: {wanted} control prompts were asked for and {there} are there "
            f"({len(own)} are the study's own{why}); ask for {there} at most, or write more of them there"
        )
    if words == tuple(own):
        return study
    return study.changed(effects=study.effects.model_copy(update={"control_prompts": words}))


def control_sets(study: Study, corpus: Corpus, settings: Sequence[str]) -> list[tuple[Concept, ...]]:
    """The control edits of a set of edits: as many words that mean nothing, edited together under the same options.

    One for each of the study's control prompts, and no word in two of them: sets that share words would resemble each
    other more than they do the set that is held against them. Which word is pushed under which options does not depend
    on the order of the set, so that sets with the same options share their control edits.

    Args:
        study: with the control prompts that single edits are held against (`with_control_words`).
        corpus: whose words mean something.
        settings: options of the editor, one of each edit of the set.

    Returns:
        Fewer where there are no further words, and none where nothing can be edited: another tool made the edits.
    """
    own, size = study.effects.control_prompts, len(settings)
    if not study.editor_part.makes_edits:
        return []
    words = control_words(own, len(own) * size, _meaning(corpus))
    count = min(len(own), len(words) // size)
    return [
        tuple(Concept(words[i + count * at], setting=setting) for at, setting in enumerate(sorted(settings)))
        for i in range(count)
    ]


def _meaning(corpus: Corpus) -> list[str]:
    """The words of a corpus that mean something."""
    return [text for feature in corpus.walk() for text in (feature.name, feature.prompt)]
