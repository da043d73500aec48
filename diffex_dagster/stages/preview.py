"""Stage: a few edits of a few images before the hours of a whole study, with what the judge says of each.

Nothing here needs a classifier. Null edits, and edits of features whose options are known, are those that the study
itself would make, under the same keys: a later run finds them in the store. A feature whose options a run would first
find is edited with the editor's own, and the preview says so. A grid tries other options of the editor, which are part
of its edits' keys; all of them share the inversions of equal skip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.calibration import in_words
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.preview_page import Preview, Row, Shown
from diffex_dagster.report.wording import listing, titled
from diffex_dagster.results import Picture
from diffex_dagster.search.levels import level1_features
from diffex_dagster.stages.calibrated import chosen_settings
from diffex_dagster.stages.calibration import new_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.edits import EditCounts, concepts_of, control_edits, edit_requests, make_edits, under
from diffex_dagster.stages.judging import chance_of, control_gains, first_metrics, gains
from diffex_dagster.stages.pictures import Pictures
from diffex_dagster.stages.sample_images import keep_samples, read_samples
from diffex_dagster.stages.setup import why_unjudged
from diffex_dagster.stages.source_prompts import as_it_would_edit
from diffex_dagster.study import Study

LEAK = 0.25  # share of what another feature's own edits gain, from which an edit shows that feature too
FEATURES = 6  # of different groups, unless named


def choose_features(study: Study, corpus: Corpus, wanted: Sequence[str] = ()) -> list[Feature]:
    """The features to preview: those named, or the first stand-in of groups at even distances over the corpus.

    Args:
        wanted: names or ids, in any case of letters.

    Raises:
        DiffExError: a name is not in the corpus, names several features, or cannot be edited.
    """
    if wanted:
        return [_named(study, corpus, name) for name in wanted]
    groups = [features[0] for features in level1_features(corpus, study.search).values() if features]
    if not groups:
        raise DiffExError(f"{study.file}: the corpus has no feature that can be edited")
    count = min(FEATURES, len(groups))
    return [groups[round(i * (len(groups) - 1) / max(1, count - 1))] for i in range(count)]


def _named(study: Study, corpus: Corpus, name: str) -> Feature:
    lowered = name.strip().casefold()
    found = [f for f in corpus.walk() if lowered in (f.id.casefold(), f.name.casefold(), f.prompt.casefold())]
    exact = [f for f in found if f.id.casefold() == lowered]
    found = exact or found
    if len(found) > 1:
        ids = ", ".join(feature.id for feature in found)
        raise DiffExError(f"{study.file}: --features: {name!r} names {len(found)} features; use an id: {ids}")
    if not found:
        known = ", ".join(feature.name for feature in corpus.walk() if feature.editable)
        raise DiffExError(f"{study.file}: --features: the corpus has no {name!r}; it has: {known}")
    if not found[0].editable:
        below = ", ".join(child.name for child in found[0].children)
        raise DiffExError(f"{study.file}: --features: {name!r} is only a heading; name what is below it: {below}")
    return found[0]


def preview(
    work: StudyContext, features: Sequence[Feature], images: int = 3, grid: bool = False, corpus: Corpus | None = None
) -> Preview:
    """Edit the study's first images towards some features, and judge the edits.

    Args:
        images: how many of the study's sample images.
        corpus: as it would be searched now, which is read where it is left out; pictures are described in its words,
            where a run would do so and none are frozen yet.
        grid: also try the first feature under other options of the editor.

    Raises:
        DiffExError: a grid is asked for an editor that has no such options.
    """
    study, store = work.study, work.store
    samples = read_samples(study, first=images)
    corpus = corpus_now(study) if corpus is None else corpus
    work, words = as_it_would_edit(work, corpus, list(samples.image_keys.values()))
    few = work.changed(study.changed(name=f"{study.name}_preview"), editor=work.editor)  # keeps the study's own images
    with store.hold():
        keys = keep_samples(few.study, store, samples.pictures)
    chosen = chosen_settings(study, store)  # of a study that has been calibrated
    features = [replace(f, setting=chosen.get((f.prompt, f.direction), "")) for f in features]
    few = few.changed(few.study.edited_with([feature.setting for feature in features]))
    rows, nulls, counts = _edited(few, features, list(keys))
    named = study.editor_part.pinned()  # also where the study does not calibrate
    settings = [feature.setting or named.get(feature.prompt, "") for feature in features]
    if any(settings):
        rows = [replace(row, options=in_words(setting)) for row, setting in zip(rows, settings, strict=True)]
    tried: list[Row] = []
    if grid:
        alike = getattr(few.editor, "alike", lambda setting: True)
        for title, setting in settings_grid(study, alike):
            like = few.changed(few.study.edited_with([setting]))  # whose control prompts are edited like it
            found, _, more = _edited(like, features[:1], list(keys), setting)
            tried.append(Row(title, found[0].prompt, found[0].edits))
            counts += more
    pictures, judged = store.images(list(keys)), few.judge is not None
    own = study.editor_part.shown() if grid or not all(settings) else {}
    return Preview(
        study.name, study.editor_name, own, tuple(keys.values()), tuple(pictures.values()), tuple(nulls),
        tuple(rows), tuple(tried), judged, "" if judged else why_unjudged(study), counts.made, counts.reused, words,
        _still_to_calibrate(work, corpus, features),
    )  # fmt: skip


def _still_to_calibrate(work: StudyContext, corpus: Corpus, features: Sequence[Feature]) -> str:
    """Which of the features a run would first find the options of, as a sentence; nothing where it would of none."""
    study = work.study
    if not study.calibrates or work.judge is None or not hasattr(work.editor, "settings"):
        return ""
    new = {(wanted.prompt, wanted.direction) for wanted in new_prompts(work, corpus)}
    names = [titled(feature) for feature in features if (feature.prompt, feature.direction) in new]
    if not names:
        return ""
    return (
        f"Not calibrated yet: {listing(names)}. A run first finds their options, and its edits of them may be others "
        f"than these (diffex calibrate {study.folder.name})."
    )


def _edited(
    work: StudyContext, features: Sequence[Feature], images: list[str], setting: str = ""
) -> tuple[list[Row], list[Picture], EditCounts]:
    """Rows of the features, the null edits, and what it cost."""
    own = {feature.id: under(concepts_of([feature]), setting) for feature in features}
    wanted = edit_requests(images, [(), *control_edits(work.study), *own.values()], work.seeds)
    counts = make_edits(work, wanted, "preview edits")
    work.know()
    with work.store.hold():
        pictures = Pictures(work, work.store.images(images))
        metrics = first_metrics(work, list(own.values()), images)
        gained, chance = {}, dict.fromkeys(own, 0.0)
        if work.judge:
            chances, _ = control_gains(work, images)
            chance = {f: chance_of(chances, concepts[0]) for f, concepts in own.items()}
            gained = gains(work, [(own[a.id], own[b.id][0]) for a in features for b in features], images)
        edits, nulls = {f: pictures.edits(concepts) for f, concepts in own.items()}, pictures.edits(())
    own_gain = {f.id: float(gained[own[f.id], own[f.id][0]].mean()) if gained else 0.0 for f in features}
    rows = []
    for feature in features:
        shown = []
        others = [
            f for f in features if f.id.split("/")[0] != feature.id.split("/")[0] and own_gain[f.id] > chance[f.id]
        ]
        for i, change in enumerate(metrics[own[feature.id]]):
            succeeded, gain, other = change.strength >= work.study.effects.min_edit_strength, None, None
            if gained:
                gain = float(gained[own[feature.id], own[feature.id][0]][i])
                succeeded = succeeded and gain > chance[feature.id]
                leaks = {titled(f): float(gained[own[feature.id], own[f.id][0]][i]) / own_gain[f.id] for f in others}
                strongest = max(leaks, key=lambda name: leaks[name], default=None)
                other = strongest if strongest and leaks[strongest] >= LEAK else None
            shown.append(Shown(edits[feature.id][i], change.strength, change.ssim, gain, bool(succeeded), other))
        rows.append(Row(titled(feature), feature.prompt, tuple(shown)))
    return rows, list(nulls), counts


def settings_grid(study: Study, alike: Callable[[str], bool] = lambda setting: True) -> list[tuple[str, str]]:
    """Other options of the editor in use to try.

    Args:
        alike: as the editor has it (`Calibrates.alike`).

    Returns:
        (what it changes, the setting that asks for it).

    Raises:
        DiffExError: the editor is of a kind that has none.
    """
    part = study.editor_part
    if not (grid := part.grid(alike)):
        raise DiffExError(
            f"{study.file}: editors.{study.editor_name}: an editor of kind {part.kind!r} has no options that --grid "
            "could try; those of kind 'ledits' have"
        )
    return list(grid)
