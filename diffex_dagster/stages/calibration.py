"""Stage: find, on a few images, the gentlest options with which the editor's edits show what they were asked for.

Nothing here knows a classifier: edits are judged against control prompts under the same options, and by what else they
change. What was found for a prompt stays: an edited corpus calibrates its new prompts only, so that nothing else is
edited again. Tries by an earlier method decide nothing any more. What is tried and chosen is in
`editing.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing import calibration as planning
from diffex_dagster.editing.calibration import Choice, Try, Wanted
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.search.levels import expand
from diffex_dagster.stages.calibrated import what
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import EditCounts, level1_combinations, race_order
from diffex_dagster.stages.ready import check_pins
from diffex_dagster.stages.setup import why_unjudged
from diffex_dagster.stages.trying import Settings, Trying
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest

EARLIER = "chosen by an earlier rule"
SOURCE_PROMPTS = 0.2  # of the budget goes to whether the words that pictures are described in do harm


@dataclass(frozen=True)
class Calibration:
    """What a study edits its prompts with, and how that was found.

    Attributes:
        choices: (prompt, direction) -> choice, of every feature of the corpus that can be edited.
        tries: all that they rest on, by whatever method.
        finalists: the settings that every prompt was tried with by the method in use, as far as the budget went.
        new: prompts that were calibrated now.
        budget: edits that this was allowed to take now; `edits` says how many it took.
        images: keys of the images that it was done on.
        note: why nothing was tried, where nothing could be; else "".
    """

    choices: Mapping[tuple[str, str], Choice]
    tries: Sequence[Try]
    finalists: Sequence[str]
    new: Sequence[Wanted] = ()
    budget: int = 0
    images: Sequence[str] = ()
    note: str = ""
    edits: EditCounts = field(default_factory=EditCounts)

    @property
    def kept(self) -> int:
        """Prompts that keep what an earlier calibration chose, under whatever judge, images and budget."""
        new = {(wanted.prompt, wanted.direction) for wanted in self.new}
        return sum(choice.success is not None and of not in new for of, choice in self.choices.items())

    @property
    def version(self) -> str:
        """Hash of all that edits depend on: what each prompt is edited with."""
        return digest(sorted([*of, choice.setting] for of, choice in self.choices.items()))


def wanted_prompts(corpus: Corpus) -> list[Wanted]:
    """Every prompt of a corpus that can be edited, once, with what it is pooled with."""
    found: dict[tuple[str, str], Wanted] = {}
    for f in corpus.walk():
        if f.editable:
            region = (f.region or corpus[f.group].region or "").casefold()
            found.setdefault((f.prompt, f.direction), Wanted(f.prompt, f.direction, f.group, region, bool(f.children)))
    return list(found.values())


def study_edits(study: Study, corpus: Corpus, images: int) -> int:
    """The edits that a search of one classifier makes at most, apart from joint ones: level 1, and a full beam."""
    options, first = study.search, level1_combinations(study, corpus)
    known = {concepts for concepts in first if concepts}
    deeper = sorted(
        (
            sum((Concept(f.prompt, f.direction),) not in known for f in expand(corpus, [group.id], options))
            for group in corpus.groups
        ),
        reverse=True,
    )
    return (len(first) + sum(deeper[: options.places])) * images * len(study.seeds)


def new_prompts(work: StudyContext, corpus: Corpus) -> list[Wanted]:
    """The prompts of the corpus that nothing is known of yet and that no person pinned.

    Those that were only given the first options, since there was nobody to judge others or no budget, are new once
    something can be tried.
    """
    known, pinned = dict(work.store.calibration(work.study.kept_as, work.editor.fingerprint)), work.study.pinned
    if getattr(work.editor, "settings", None) and work.judge:
        known = {of: choice for of, choice in known.items() if choice.success is not None}
    return [
        wanted
        for wanted in wanted_prompts(corpus)
        if (wanted.prompt, wanted.direction) not in known and wanted.prompt not in pinned
    ]


def budget_of(study: Study, corpus: Corpus, new: Sequence[Wanted], images: int) -> int:
    """The most edits that calibrating these prompts may take: their part of the study's share."""
    every = max(1, len(wanted_prompts(corpus)))
    share = study.calibration.budget * study_edits(study, corpus, images)
    if study.finds_source_prompts:
        share *= 1 - SOURCE_PROMPTS
    return int(share * len(new) / every)


def calibrate(work: StudyContext) -> Calibration:
    """Find the options for the prompts of the corpus that have none yet, and keep them.

    Deterministic in what the store holds and the study says. A run that is killed has kept every edit; the next goes on
    from there.
    """
    study, store = work.study, work.store
    settings: Settings | None = getattr(work.editor, "settings", None)
    work.know()
    fingerprint = work.editor.fingerprint
    check_pins(study, work.editor)
    with store.hold():
        corpus, samples = store.current_corpus(study.kept_as), list(store.samples(study.kept_as))
        new = new_prompts(work, corpus)
        budget = budget_of(study, corpus, new, len(samples))
        images = [samples[i] for i in race_order(samples, study.seed)[: study.calibration.images]]
        note = ""
        if settings is None:
            note = f"the editor {study.editor_name} has no options to try"
        elif work.judge is None:
            note = f"nobody judges what the options do: {why_unjudged(study)}"
        counts = EditCounts()
        if new and settings and work.judge:
            kept, final = store.tries(study.kept_as, fingerprint)
            tries = [each for each in kept if each.method == planning.METHOD]
            trying = Trying(work, images)
            final = trying.run(new, settings, tries, final, budget)
            counts, tries = trying.counts, [*tries, *trying.tries]
            choices = {w: planning.choose(w, _allowed(settings, w, final), tries) for w in new}
            store.put_calibration(study.kept_as, fingerprint, choices, trying.tries, final)
            if not tries:
                note = f"{budget} edits are too few to try anything with; use more images, or raise calibration.budget"
        elif new:
            nothing = Choice("", None, None, 0, note)
            store.put_calibration(study.kept_as, fingerprint, dict.fromkeys(new, nothing), [], [])
        if store.current(study.kept_as, what(study)) != fingerprint:
            store.set_current(study.kept_as, what(study), fingerprint)
        found = calibration_now(study, store, fingerprint, corpus)
    return replace(found, new=new, budget=budget, images=images, note=note, edits=counts)


def calibration_now(study: Study, store: Store, editor: str, corpus: Corpus) -> Calibration:
    """What the store holds of a study's calibration with an editor (fingerprint), of the prompts of this corpus."""
    known, pinned = store.calibration(study.kept_as, editor), study.pinned
    choices: dict[tuple[str, str], Choice] = {}
    for wanted in wanted_prompts(corpus):
        if wanted.prompt in pinned:
            choice = Choice(pinned[wanted.prompt], None, None, 0, "pinned in the study")
        elif (wanted.prompt, wanted.direction) in known:
            choice = known[wanted.prompt, wanted.direction]
        else:
            continue
        choices[wanted.prompt, wanted.direction] = choice
    return Calibration(choices, *store.tries(study.kept_as, editor))


def calibration_rows(found: Calibration) -> list[dict[str, object]]:
    """One row a prompt, for tables: prompt, direction, options in words, expected success, tries, why."""
    return [
        {
            "prompt": prompt,
            "direction": direction,
            "options": planning.in_words(choice.setting),
            "success": choice.success,
            "tries": choice.tries,
            "why": f"{choice.why}; {EARLIER}" if choice.earlier else choice.why,
        }
        for (prompt, direction), choice in found.choices.items()
    ]


def calibration_version(study: Study, store: Store) -> str:
    """Version of what a study's stages read: what each prompt of its corpus is edited with."""
    with store.hold():
        corpus, editor = store.current_corpus(study.kept_as), store.current(study.kept_as, what(study)) or ""
        return calibration_now(study, store, editor, corpus).version


def _allowed(settings: Settings, wanted: Wanted, final: Sequence[str]) -> list[str]:
    """The finalists that go with the prompt's kind, the likeliest first; all of them for a kind without settings."""
    of_kind = settings(wanted.region or None, wanted.group)
    return [each for each in of_kind if each in final] or list(final) or [""]
