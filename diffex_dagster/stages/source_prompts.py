"""Stage: the words that a study's pictures are described in, taken from its corpus and frozen at the first run.

An edit leaves alone what the description of its picture names (`editing.source_prompts`). Every edit depends on the
words, so that they stay as they were first found: an edited corpus makes no edit anew. A few edits are made with and
without the words first, and words that do harm are not used: under settings that calibration would try, or, where the
study names the editor's options, under these. Nothing here knows a classifier.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.calibration import Wanted, in_turn
from diffex_dagster.editing.protocol import EditRequest, TakesSourcePrompts
from diffex_dagster.editing.vocabulary import FrozenVocabulary, Vocabulary, words_of
from diffex_dagster.effects.edit_metrics import similarity
from diffex_dagster.errors import StoreError
from diffex_dagster.stages.calibration import SOURCE_PROMPTS, study_edits, wanted_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import EditCounts, race_order
from diffex_dagster.stages.ready import check_pins
from diffex_dagster.stages.setup import source_prompts_in_words
from diffex_dagster.stages.trying import Settings, Trying
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest

ARMS = 3  # settings that words are tried under, where edits suffice: no option is known yet
PAIRS = (8, 3)  # most and fewest (prompt, image) pairs that they are tried on
_ASKED = "source prompts to find anew"  # of an editor: a person asked, and what is kept holds until they are found


@dataclass(frozen=True)
class Found:
    """The source prompts of a study, and what finding them cost now.

    Attributes:
        prompts: as they are kept.
        edits: made and reused now; none where they were frozen before.
        newer: groups of the corpus that have words and were not there when the words were frozen.
    """

    prompts: FrozenVocabulary
    edits: EditCounts = field(default_factory=EditCounts)
    newer: Sequence[str] = ()

    @property
    def version(self) -> str:
        """Hash of all that edits depend on: the words, where they are used."""
        return words_version(self.prompts.vocabulary)


def words_version(words: Vocabulary) -> str:
    """Hash of a vocabulary."""
    return digest({name: group.model_dump(mode="json") for name, group in words.items()})


def source_prompts_version(study: Study, store: Store, editor: str) -> str:
    """Version of what the stages that edit read.

    Args:
        editor: fingerprint of the editor without the words.

    Raises:
        StoreError: they have not been found yet, or a run that looked for them did not finish.
    """
    found = store.source_prompts(study.kept_as, editor)
    if found is None or found.used is None:
        raise StoreError(f"{store.place}: nobody has looked yet in which words to describe the pictures; materialize "
                         "source_prompts first")  # fmt: skip
    return words_version(found.vocabulary)


def find_again(work: StudyContext) -> None:
    """Have the next run find the words anew; those that are kept hold until it has."""
    work.store.set_current(work.study.kept_as, _ASKED, work.bare_editor.fingerprint)


def find_source_prompts(work: StudyContext) -> Found:
    """The words that pictures are described in, as they are kept; found and frozen where they are not yet.

    A run that is killed has kept its edits; the next goes on from there.

    Raises:
        EditorError: the editor cannot be loaded.
        StoreError: there is no corpus yet.
    """
    study, store, editor = work.study, work.store, work.bare_editor
    fingerprint, name = editor.fingerprint, work.study.kept_as
    check_pins(study, editor)
    if work.judge:
        getattr(work.judge, "fingerprint", None)
    with store.hold():
        corpus, samples = store.current_corpus(name), list(store.samples(name))
        known = store.source_prompts(name, fingerprint)
        again = store.current(name, _ASKED) == fingerprint
        if known is not None and known.used is not None and not again:
            return Found(known, newer=_newer(work, known))
        describes = cast(TakesSourcePrompts, editor) if hasattr(editor, "with_source_prompts") else None
        words: Vocabulary = {}
        left_out: Mapping[str, str] = {}
        counts, used, why = EditCounts(), False, ""
        if describes is None:
            why = f"the editor {study.editor_name} describes no pictures"
        elif known is None and not again and _edited_without(work, samples):
            why = "edits that were made without are there, and stay valid; diffex source-prompts --again finds words"
        else:
            words, left_out = words_of(corpus, describes.tokens, describes.most_tokens, study.effects.control_prompts)
            if known is not None and known.words == words:
                words = known.words  # in the order in which edits were made with them, which no fingerprint tells
            if not words:
                why = "the corpus has no group whose children exclude each other"
            else:
                if known is None:
                    begun = FrozenVocabulary(words, None, "", left_out, corpus.version)
                    store.put_source_prompts(name, fingerprint, begun)
                used, why, counts = _tried(work, words, samples)
        found = FrozenVocabulary(words, used, why, left_out, corpus.version)
        store.put_source_prompts(name, fingerprint, found)
        if again:
            store.set_current(name, _ASKED, "")
    return Found(found, counts)


def most_tries(study: Study, corpus: Corpus, images: int) -> int:
    """The most edits that may be made to find out whether the words do harm."""
    share = SOURCE_PROMPTS * study.calibration.budget * study_edits(study, corpus, images)
    return int(share) if study.judge.judges and study.calibrate is not False else 0


def as_it_would_edit(work: StudyContext, corpus: Corpus, images: Sequence[str]) -> tuple[StudyContext, str]:
    """The work with the editor that a run would edit with, and in what words pictures are described, as a sentence.

    Words that are not frozen yet are those of the corpus as it is; nothing is kept of that.

    Args:
        corpus: as it would be searched now.
        images: keys of sample images.
    """
    study, editor = work.study, work.bare_editor
    if not study.finds_source_prompts or not hasattr(editor, "with_source_prompts"):
        return work, source_prompts_in_words(work.editor).strip()
    known = work.store.source_prompts(study.kept_as, editor.fingerprint) if work.store.exists() else None
    if known is not None and known.used is not None:
        return work, source_prompts_in_words(work.editor).strip() or f"Pictures are not described: {known.why}."
    if known is None and _edited_without(work, images):
        return work, "Pictures are not described: edits that were made without are there."
    describes = cast(TakesSourcePrompts, editor)
    words, _ = words_of(corpus, describes.tokens, describes.most_tokens, study.effects.control_prompts)
    there = work.editing_with(describes.with_source_prompts(words))
    said = source_prompts_in_words(there.editor).strip()
    return there, said and f"{said} A run finds out first whether that does harm."


def still_to_find(work: StudyContext) -> bool:
    """Whether the next run looks for the words: they are not frozen yet, or somebody asked for other ones."""
    name, editor = work.study.kept_as, work.bare_editor.fingerprint
    known = work.store.source_prompts(name, editor)
    return known is None or known.used is None or work.store.current(name, _ASKED) == editor


def _edited_without(work: StudyContext, images: Sequence[str]) -> bool:
    """Whether the study has made edits of these images (by key) without words: other studies' are none of its own."""
    store, editor = work.store, work.bare_editor.fingerprint
    nulls = [EditRequest(image, (), work.study.seed) for image in images]
    return store.exists() and store.edited_for(work.study.kept_as, editor) and bool(store.stored_edits(nulls, editor))


def _newer(work: StudyContext, known: FrozenVocabulary) -> list[str]:
    """Groups of the corpus as it is now that the frozen words do not know."""
    now, _ = words_of(work.store.current_corpus(work.study.kept_as), lambda prompt: 0, sys.maxsize)
    return [group for group in now if group not in known.words and group not in known.left_out]


def _tried(work: StudyContext, words: Vocabulary, samples: Sequence[str]) -> tuple[bool, str, EditCounts]:
    """Whether edits with the words are better than those without, why, and what that took.

    Both are tried on the same pairs of prompt and image, whatever is calibrated already.
    """
    study = work.study
    if work.judge is None or study.calibrate is False:
        nobody = "calibrate: false tries nothing" if work.judge else "nobody judges edits"
        return True, f"not compared with edits without: {nobody}", EditCounts()
    corpus = work.store.current_corpus(study.kept_as)
    wanted = [each for each in wanted_prompts(corpus) if each.prompt not in study.pinned]
    settings: Settings = _own_options
    if study.calibrates:
        settings = getattr(work.bare_editor, "settings", settings)
    images = [samples[i] for i in race_order(samples, study.seed)[: study.calibration.images]]
    most, words_there = most_tries(study, corpus, len(samples)), len(images) * len(study.effects.control_prompts)
    arms, pairs, controls = _size(in_turn(wanted, settings)[:ARMS], most // 2, words_there)
    if len(wanted) * len(images) < PAIRS[1]:
        few = f"{len(wanted)} prompts to try on {len(images)} pictures are too few"
        return True, f"not compared with edits without: {few}", EditCounts()
    if not pairs:
        return True, f"not compared with edits without: {most} edits are too few", EditCounts()
    sides, counts = [], EditCounts()
    tried: Sequence[tuple[Wanted, str]] = ()
    for editor in (work.bare_editor, cast(TakesSourcePrompts, work.bare_editor).with_source_prompts(words)):
        trying = Trying(work.editing_with(editor), images)
        tried = trying.compare(wanted, settings, arms, controls, pairs, tried)
        counts += trying.counts
        sides.append(trying)
        if len(tried) < PAIRS[1]:
            return (
                True,
                f"not compared with edits without: {len(tried)} pairs of prompt and picture are too few",
                counts,
            )
    sides[0].hold_against(sides[1].best)  # words that shrink every edit would else be judged by what is left of it
    sides[1].hold_against(sides[0].best)
    worth = [_worth(trying) for trying in sides]
    better = np.array([worth[1][pair] - worth[0][pair] for pair in worth[0]])
    means = [float(np.mean(list(of.values()))) for of in worth]
    why = (
        f"edits on {len(better)} pairs of prompt and picture are worth {means[1]:.2f} with the words and "
        f"{means[0]:.2f} without"
    )
    error = float(better.std(ddof=1)) / len(better) ** 0.5
    return bool(better.mean() >= -error), why, counts


def _own_options(region: str | None, group: str | None) -> Sequence[str]:
    """As `Settings`: no options but those that the study names."""
    return ("",)


def _size(arms: Sequence[str], edits: int, words: int) -> tuple[Sequence[str], int, int]:
    """The settings, pairs and control edits under each that so many edits allow; no pair if they are too few.

    A second setting comes before more pairs (one may draw nothing, with words or without), a third one after them.

    Args:
        edits: that may be made with the words, and again without.
        words: (control prompt, image) pairs that there are.
    """
    most, fewest = PAIRS
    fewer = [(count, pairs) for count in range(min(2, len(arms)), 0, -1) for pairs in range(most, fewest - 1, -1)]
    for count, pairs in [(len(arms), most), *fewer]:
        controls = min(words, (pairs + 1) // 2)
        if count * (pairs + controls) <= edits:
            return arms[:count], pairs, controls
    return (), 0, 0


def _worth(trying: Trying) -> dict[tuple[str, str, str], float]:
    """(prompt, direction, image) -> what the best setting's edit is worth: its use, times how well its null edit
    gives the picture back.
    """
    store, study = trying.work.store, trying.work.study
    nulls = {each.image: EditRequest(each.image, (), study.seed) for each in trying.tries}
    files = store.stored_edits(list(nulls.values()), trying.work.editor.fingerprint)
    pictures, originals = trying.stored(files), store.images(list(nulls))
    given_back = {}
    for image, null in nulls.items():
        picture, original = pictures[null](), originals[image]
        given_back[image] = similarity(picture, original.resize(picture.size))
    best: dict[tuple[str, str, str], float] = {}
    for each in trying.tries:
        key = each.wanted.prompt, each.wanted.direction, each.image
        best[key] = max(best.get(key, 0.0), each.use * given_back[each.image])
    return best


AGAIN = "the corpus has groups that came after the words were frozen ({}); diffex source-prompts --again takes them in"


def word_rows(found: FrozenVocabulary) -> list[dict[str, object]]:
    """One row a group, for tables: the group, and its words or why it has no part."""
    rows: list[dict[str, object]] = [
        {"group": name, "words": ", ".join(group.candidates)} for name, group in found.words.items()
    ]
    return rows + [{"group": name, "words": f"left out: {why}"} for name, why in found.left_out.items()]
