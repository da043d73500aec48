"""Stage: ask the judge whether edits show what they were asked for. Answers are kept and never computed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.effects.presence import BY_CHANCE, CHANCE, YES, Mask, enough, seen_between, seen_from
from diffex_dagster.judging.asking import PORTION, evidence_of
from diffex_dagster.judging.protocol import KnowingJudge, Pair, traits_of
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edit_metrics import edit_metrics_of, strengths
from diffex_dagster.stages.edits import Concepts, concepts_of, control_edits, edit_requests
from diffex_dagster.store import StoredPicture, StoredPictures, edit_key
from diffex_dagster.utils.groups import in_groups


def ensure_evidence(
    work: StudyContext, wanted: Sequence[tuple[EditRequest, str]]
) -> dict[tuple[EditRequest, str], float]:
    """Evidence for (edit, prompt), asking the study's judge only for what the store does not hold.

    The study has to have a judge, and the edits must exist.
    """
    store, judge, editor, report = work.store, work.judge, work.editor.fingerprint, work.report
    assert judge is not None
    pairs: dict[Pair, tuple[EditRequest, str]] = {(edit_key(r, editor), prompt): (r, prompt) for r, prompt in wanted}
    found = store.stored_evidence(pairs, judge.fingerprint)
    missing = sorted(pair for pair in pairs if pair not in found)
    reused = len(found)
    report("edit checks", 0, len(missing), reused)
    if missing and isinstance(judge, KnowingJudge):
        answers = [(pair, judge.evidence_of(*pairs[pair])) for pair in missing]
        store.put_evidence(answers, judge.fingerprint)
        report("edit checks", len(answers), len(missing), reused)
        return {asked: (found | dict(answers))[pair] for pair, asked in pairs.items()}

    def pictures(some: Sequence[Pair]) -> dict[str, StoredPicture]:
        requests = {key: pairs[key, prompt][0] for key, prompt in some}
        files = store.stored_edits(list(requests.values()), editor)
        return {key: StoredPicture(store.pictures, files[request]) for key, request in requests.items()}

    found |= ask_judge(work, missing, pictures, reused)
    return {asked: found[pair] for pair, asked in pairs.items()}


def ask_judge(
    work: StudyContext,
    missing: Sequence[Pair],
    pictures: Callable[[Sequence[Pair]], Mapping[str, StoredPicture]],
    reused: int,
    what: str = "edit checks",
) -> dict[Pair, float]:
    """Ask the study's judge, a portion at a time; every batch of answers is kept at once.

    Args:
        missing: pairs that the store does not hold.
        pictures: some of the pairs -> where the pictures that they name are.
        reused: how many more answers were there already, for the progress.
    """
    store, judge, found = work.store, work.judge, dict[Pair, float]()
    assert judge is not None
    by_workers = hasattr(judge, "portions")
    at_once = PORTION * getattr(judge, "portions", 1)
    for start in range(0, len(missing), at_once):
        some = missing[start : start + at_once]
        places = pictures(some)
        named = StoredPictures(dict(places))
        batches = evidence_of(judge, named if by_workers else dict(named), some)
        for answers in in_groups(batches) if by_workers else batches:
            store.put_evidence(answers, judge.fingerprint)
            found |= dict(answers)
            work.report(what, len(found), len(missing), reused)
    return found


def gains(
    work: StudyContext, asked: Sequence[tuple[Concepts, Concept]], images: Sequence[str]
) -> dict[tuple[Concepts, Concept], np.ndarray]:
    """How much more an edit shows a concept than the null edit does, for each image; negative: it shows it less.

    Args:
        asked: (what was edited, the concept looked for).
        images: keys of the sample images.

    Returns:
        (edited, concept) -> gain in evidence, mean over seeds, shape (images,), turned round for a concept that is
        removed, so that a positive gain always is what its edit is meant to do.
    """

    def at(concepts: Concepts, of: Concept) -> list[tuple[EditRequest, str]]:
        return [(request, of.prompt) for request in edit_requests(images, [concepts], work.seeds)]

    wanted = [pair for edited, of in asked for concepts in ((), edited) for pair in at(concepts, of)]
    found = ensure_evidence(work, list(dict.fromkeys(wanted)))

    def gain(edited: Concepts, of: Concept) -> np.ndarray:
        rises = [found[after] - found[before] for after, before in zip(at(edited, of), at((), of), strict=True)]
        rise = np.array(rises).reshape(len(images), len(work.seeds)).mean(axis=1)
        return rise if of.direction == "add" else -rise

    return {(edited, of): gain(edited, of) for edited, of in asked}


def evidence_before(work: StudyContext, prompts: Iterable[str], images: Sequence[str]) -> dict[str, np.ndarray]:
    """Prompt -> evidence for it in the null edit of each image, mean over seeds, shape (images,)."""
    nulls = edit_requests(images, [()], work.seeds)
    prompts = list(dict.fromkeys(prompts))
    found = ensure_evidence(work, [(null, prompt) for prompt in prompts for null in nulls])
    per_image = (len(images), len(work.seeds))
    return {p: np.array([found[null, p] for null in nulls]).reshape(per_image).mean(axis=1) for p in prompts}


RARELY = 0.001
"""The chance below which a level is no longer one that `CHANCE` of control prompts exceed."""


@dataclass(frozen=True)
class Sight:
    """What it takes for a judge to see something.

    Attributes:
        chances: setting of the editor -> gain in evidence that an edit under it has to exceed to show its attribute
            (`control_gains`).
        level: evidence above which a picture shows an attribute of which too few edits succeeded to have a level of
            its own (`level_for`); None of a judge whose evidence is only comparable for one attribute.
        control_words: share of null edits in which it sees a control prompt; None without a level or control prompts.
        binary: whether it only says yes or no.
        asked: pairs of control prompt and null edit that `control_words` is a share of.
    """

    chances: Mapping[str, float]
    level: float | None
    control_words: float | None = None
    binary: bool = False
    asked: int = 0

    def imagines(self, share: float | None) -> bool:
        """Whether it sees control prompts in too large a share of the null edits.

        A judge that only says yes or no may in `CHANCE` of them. `CHANCE` of control prompts exceed a level; of
        few pairs more may do by chance, but not so many as come less than once in a thousand times.
        """
        if share is None or share <= CHANCE or self.binary:
            return share is not None and share > CHANCE
        from scipy.stats import binom

        return self.asked > 0 and bool(binom.sf(round(share * self.asked) - 1, self.asked, CHANCE) < RARELY)

    @property
    def blind(self) -> bool:
        """Whether no edit can exceed the chance of its setting: a yes or no cannot rise by more than one."""
        return self.binary and max(self.chances.values(), default=0.0) >= 1.0

    def level_for(self, before: np.ndarray, after: np.ndarray, succeeded: np.ndarray) -> float | None:
        """Evidence above which a picture shows an attribute (`effects.presence.seen_between`); None if not known.

        Args:
            before, after, succeeded: of the edits of the attribute, (images,).
        """
        own = None if self.binary else seen_between(before, after, succeeded)
        return self.level if own is None else own

    def chance(self, concept: Concept) -> float:
        """What an edit towards a concept has to exceed: what control prompts under the same options rarely reach."""
        return chance_of(self.chances, concept)


def sight_of(work: StudyContext, images: Sequence[str]) -> Sight:
    """What the study's control prompts, which nothing shows, rarely reach in these images.

    A judge that only says yes or no is taken at its word instead: from its answers about words that mean nothing no
    level can be found between the two, and one that often says yes to them is not to be used
    (`judge_check.judge_warnings`).
    """
    chances, nothing = control_gains(work, images)
    traits = traits_of(work.judge)
    if not traits.absolute:
        return Sight(chances, None, binary=traits.binary)
    level = YES if traits.binary else seen_from(nothing)
    return Sight(chances, level, float(np.mean(nothing > level)) if nothing.size else None, traits.binary, nothing.size)


@dataclass(frozen=True)
class JudgedEdits:
    """The edits of one attribute, as the judge sees them.

    Attributes:
        before, after: evidence for the attribute in null edits and edits, (images,).
        succeeded: which edits made the difference that they were meant to, (images,).
        put: whether they put the attribute there; else they take it away.
        level: evidence above which an image shows it; None where that is not known (`Sight.level_for`).
    """

    before: np.ndarray
    after: np.ndarray
    succeeded: np.ndarray
    put: bool
    level: float | None

    def seen(self) -> np.ndarray:
        """Whether each edit that was to put it into an image that lacks it shows it, (edits,); none without a level.

        Those that failed are among them: a judge does not get to choose the edits that it is held against.
        """
        if self.level is None or not self.put:
            return np.empty(0, dtype=bool)
        return np.asarray(self.after[self.before <= self.level] > self.level)


def judged_edits(
    work: StudyContext, features: Sequence[Feature], images: Sequence[str], sight: Sight
) -> dict[str, JudgedEdits]:
    """Feature -> its edits of these images, which must exist, as the study's judge sees them."""
    before = evidence_before(work, [f.prompt for f in features], images)
    of = {feature.id: concepts_of([feature]) for feature in features}
    gained, found = gains(work, [(c, c[0]) for c in of.values()], images), dict[str, JudgedEdits]()
    for feature in features:
        concepts, null, put = of[feature.id], before[feature.prompt], feature.direction == "add"
        gain = gained[concepts, concepts[0]]
        after, succeeded = null + (gain if put else -gain), gain > sight.chance(concepts[0])
        found[feature.id] = JudgedEdits(null, after, succeeded, put, sight.level_for(null, after, succeeded))
    return found


def shown_before(
    work: StudyContext, features: Sequence[Feature], images: Sequence[str], sight: Sight
) -> dict[str, Mask]:
    """Feature -> which images show what its prompt names, by the judge on their null edits, shape (images,).

    Without features of which that is not known: a judge without a level needs a few edits that succeeded.
    """
    edits = judged_edits(work, features, images, sight)
    return {f: of.before > of.level for f, of in edits.items() if of.level is not None}


def changeable(feature: Feature, shown: Mask) -> Mask:
    """The images that the feature's edit can change: those without what it adds, those with what it removes."""
    return ~shown if feature.direction == "add" else shown


def chance_gain(controls: Iterable[np.ndarray]) -> float:
    """The gain in evidence of itself that one in four edits towards words that mean nothing reaches.

    The judge is often the model that made the edit, and an edit towards any word raises the evidence of that word a
    little. Never below zero, and zero without control edits.
    """
    gained = [gain for gain in controls if gain.size]
    return max(0.0, float(np.quantile(np.concatenate(gained), 1.0 - BY_CHANCE))) if gained else 0.0


def evidence_spread(of_controls: Iterable[np.ndarray]) -> float:
    """By how much the evidence of words that mean nothing differs between pictures, which show none of them.

    Args:
        of_controls: of each word, its evidence in several null edits.

    Returns:
        What one in four pairs of word and picture lies above the word's median; 0 without any.
    """
    centred = [evidence - np.median(evidence) for evidence in of_controls if evidence.size]
    return float(np.quantile(np.concatenate(centred), 0.75)) if centred else 0.0


def least_gain(controls: Iterable[np.ndarray], nothing: Iterable[np.ndarray]) -> float:
    """The gain in evidence that an edit has to exceed to show its attribute: the larger of two.

    An editor may take no notice of words that mean nothing, so that their edits gain next to nothing.

    Args:
        controls: what edits towards words that mean nothing gained of themselves (`chance_gain`).
        nothing: the evidence of such words in null edits (`evidence_spread`); none of a judge taken at its word.
    """
    return max(chance_gain(controls), evidence_spread(nothing))


def control_gains(work: StudyContext, images: Sequence[str]) -> tuple[dict[str, float], np.ndarray]:
    """What the study's control prompts make of these images, to the study's judge.

    Returns:
        Setting of the editor -> `least_gain` of an edit under it, since a harder push raises the evidence of any word
        further; and the evidence of each control prompt in the null edits, (prompts, images).
    """
    edits = control_edits(work.study)
    found = gains(work, [(concepts, concepts[0]) for concepts in edits], images)
    nothing = np.array(list(evidence_before(work, [of.prompt for of, *_ in edits], images).values()))
    at_its_word = traits_of(work.judge).binary
    return {
        setting: least_gain(
            (gain for (concepts, _), gain in found.items() if concepts[0].setting == setting),
            () if at_its_word else nothing,
        )
        for setting in work.study.control_settings
    }, nothing


def chance_of(chances: Mapping[str, float], concept: Concept) -> float:
    """The chance (`control_gains`) of a concept's setting; the highest of all where nothing is known of it."""
    return chances.get(concept.setting, max(chances.values(), default=0.0))


def judge_name(judge: object) -> str:
    """The judge, as a report names it: its own `name`, or that of its class."""
    return str(getattr(judge, "name", "") or f"{judge.__class__.__name__}")


def edits_that_show(
    work: StudyContext, own: Mapping[str, Concepts], images: Sequence[str], sight: Sight
) -> dict[str, np.ndarray]:
    """Feature -> which of its edits show it, as the study's judge sees them; (images,)."""
    found = gains(work, [(c, c[0]) for c in own.values()], images)
    return {f: found[c, c[0]] > sight.chance(c[0]) for f, c in own.items()}


def first_metrics(
    work: StudyContext, combinations: Sequence[Concepts], images: Sequence[str]
) -> dict[Concepts, list[EditMetrics]]:
    """What each edit of these images changed (under the study's first seed), in their order."""
    store, editor, seed = work.store, work.editor.fingerprint, [work.study.seed]
    requests = edit_requests(images, [(), *combinations], seed)
    files = {r: StoredPicture(store.pictures, file) for r, file in store.stored_edits(requests, editor).items()}
    pairs = {edit_key(r, editor): (files[r], files[EditRequest(r.image, (), r.seed)]) for r in requests if r.concepts}
    metrics, _ = edit_metrics_of(store, pairs, editor=work.editor)
    return {
        concepts: [metrics[edit_key(request, editor)] for request in edit_requests(images, [concepts], seed)]
        for concepts in combinations
    }


def strengths_on(
    work: StudyContext, combinations: Sequence[Concepts], images: Sequence[str]
) -> dict[Concepts, np.ndarray]:
    """How far each edit of these images changed its picture (under the study's first seed), shape (images,)."""
    return {concepts: strengths(found) for concepts, found in first_metrics(work, combinations, images).items()}


def failed_edits(
    work: StudyContext,
    features: Sequence[Feature],
    images: Sequence[str],
    without: Mapping[str, Mask] | None = None,
) -> dict[str, float]:
    """Features of whose edits on these images too few show them -> the share that does.

    As the report judges them: by the judge and by how far the edits changed their pictures; by the latter alone where
    nobody judges.

    Args:
        without: the images that an edit can change, on which it is judged; all of a feature that is missing, and of one
            that too few images lack.
    """
    study = work.study
    without = {f: mask for f, mask in (without or {}).items() if enough(mask, study.effects.level)}
    weak, shares = study.effects.min_edit_strength, {}
    of = {feature.id: concepts_of([feature]) for feature in features}
    strength_of = strengths_on(work, list(of.values()), images)
    if work.judge:
        chances, _ = control_gains(work, images)
        gained = gains(work, [(c, c[0]) for c in of.values()], images)
    for feature, concepts in of.items():
        on = without.get(feature, np.ones(len(images), dtype=bool))
        strength = strength_of[concepts][on]
        succeeded = strength >= weak
        if work.judge:
            succeeded &= gained[concepts, concepts[0]][on] > chance_of(chances, concepts[0])
            shares[feature] = float(succeeded.mean())
        if strength.mean() < weak:
            shares[feature] = 0.0
    return {feature: share for feature, share in shares.items() if share < study.effects.min_edit_success}
