"""Stage: hold one classifier's reports under two editors of a study against each other. Reads the store only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.effects.agreement import Said, agree
from diffex_dagster.errors import DiffExError
from diffex_dagster.results import AgreedFeature, EditorComparison, Picture, RankedFeature, UnderEditor
from diffex_dagster.stages.calibrated import chosen_settings
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.setup import reports_folder
from diffex_dagster.store import StoredPicture
from diffex_dagster.utils.hashing import digest

ORDER = (
    "holds under both",
    "contradicted",
    "under one alone",
    "not confirmed",
    "not judged by both",
    "claimed by neither",
)


def compare_editors(work: StudyContext, classifier: str, editors: Sequence[str], command: str) -> EditorComparison:
    """The latest reports of a classifier under two editors, feature by feature.

    Features are the same where id, prompt and direction are. Their effects are over the same sample images; each
    editor's report leaves out those that show the attribute already, as its own judge sees them.

    Raises:
        DiffExError: it is not two editors of the study, or under one of them there is no report, or only one of another
            version of the classifier or the corpus.
    """
    study, store = work.study, work.store
    if len(set(editors)) != 2 or not set(editors) <= set(study.editors):
        raise DiffExError(
            f"{study.file}: editors: name two different ones to compare, of {', '.join(study.editors)}; got "
            f"{', '.join(editors) or 'none'}"
        )
    first, second = editors
    arms = [work.changed(study.for_classifier(classifier).with_editor(name)) for name in (first, second)]
    with store.hold():
        of_now = work.subject(classifier).classifier.fingerprint
        ranked = [_by_feature(arm, classifier, of_now) for arm in arms]
        image = next(iter(arms[0].split.reported))
        shown = [_pictures(arm, image, rows) for arm, rows in zip(arms, ranked, strict=True)]
    said = [{f: Said(row.effect, row.ci_low, row.ci_high, row.decision) for f, row in of.items()} for of in ranked]
    agreed = agree(said[0], said[1])
    rows = []
    for feature, verdict in agreed.verdicts.items():
        of = [_under(rows_of.get(feature), edits.get(feature)) for rows_of, edits in zip(ranked, shown, strict=True)]
        one = ranked[0].get(feature) or ranked[1][feature]
        rows.append(
            AgreedFeature(
                one.feature, one.name, one.prompt, one.direction, one.group, one.level, verdict, (of[0], of[1])
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (ORDER.index(row.verdict), -max(abs(e.effect) for e in row.editors if e)))
    return EditorComparison(
        study=study.name,
        title=study.title or study.name,
        classifier=classifier,
        target=arms[0].study.target.describe(),
        unit=arms[0].study.target.effect_unit,
        bounded=arms[0].study.target.bounded,
        editors=(first, second),
        created=datetime.now(UTC),
        command=command,
        images=len(arms[0].split.reported),
        features=tuple(rows),
        judged=agreed.judged,
        spearman=agreed.spearman,
        same_sign=agreed.same_sign,
        error_rate=study.effects.error_rate,
        nulls=(shown[0].get(_NULL), shown[1].get(_NULL)),
    )


def editors_page(
    work: StudyContext, classifier: str, editors: Sequence[str], command: str
) -> tuple[EditorComparison, Path]:
    """Compare two editors and write the page; returns what was found and the folder of its files."""
    from diffex_dagster.report.files import write_editor_comparison

    found = compare_editors(work, classifier, editors, command)
    pages = reports_folder(work.study, classifier).parent
    folder = pages / f"{classifier}-{'-and-'.join(editors)}"
    write_editor_comparison(found, folder)
    return found, folder


def agreement_version(found: EditorComparison) -> str:
    """Data version: what is shown, without when it was found and by which command."""

    def seen(picture: Picture | None) -> str:
        return picture.relative if isinstance(picture, StoredPicture) else ""

    def under(one: UnderEditor | None) -> object:
        return one and [*vars(replace(one, picture=None)).values(), seen(one.picture)]

    rows = [
        (f.feature, f.name, f.prompt, f.direction, f.group, f.level, f.verdict, [under(each) for each in f.editors])
        for f in found.features
    ]
    of = (found.classifier, found.title, found.target, found.error_rate, found.images, *map(seen, found.nulls))
    return digest(found.editors, *of, rows)[:16]


_Key = tuple[str, str, str]  # feature id, prompt, direction
_NULL: _Key = ("", "", "")


def _by_feature(arm: StudyContext, classifier: str, fingerprint: str) -> dict[_Key, RankedFeature]:
    """The rows of the latest report, which has to be of this version of the classifier and of the corpus of now."""
    study, store, editor = arm.study, arm.store, arm.editor.fingerprint
    option = "" if study.editor_name == next(iter(study.editors)) else f" --editor {study.editor_name}"
    run = f"run `diffex run {study.folder.name} --classifier {classifier}{option}` first"
    made_of = store.latest_report(study.kept_as, classifier, editor)
    if made_of is None:
        raise DiffExError(f"{study.name}: {classifier} has no report under the editor {study.editor_name} yet; {run}")
    now = {"weights, code or target": study.subject(fingerprint), "corpus": arm.corpus.version}
    for (what, is_now), was in zip(now.items(), made_of, strict=True):
        if was != is_now:
            raise DiffExError(
                f"{study.name}: the report of {classifier} under the editor {study.editor_name} was made with other "
                f"{what} than it has now; {run}"
            )
    if store.less_control_edits(study.kept_as, classifier, editor):
        raise DiffExError(
            f"{study.name}: the report of {classifier} under the editor {study.editor_name} is of an earlier version, "
            f"whose effects are less those of the control prompts; {run}"
        )
    ranking = store.latest_ranking(study.kept_as, classifier, editor)
    return {(row.feature, row.prompt, row.direction): row for row in ranking}


def _pictures(arm: StudyContext, image: str, rows: Mapping[_Key, RankedFeature]) -> dict[_Key, StoredPicture]:
    """The edits of one image that are there, by feature; the null edit under `_NULL`."""
    settings, seed = chosen_settings(arm.study, arm.store), arm.study.seed

    def request(key: _Key) -> EditRequest:
        _, prompt, direction = key
        setting = settings.get((prompt, direction), "")
        return EditRequest(
            image,
            () if key == _NULL else (Concept(prompt, "remove" if direction == "remove" else "add", setting),),
            seed,
        )

    wanted = {key: request(key) for key in (_NULL, *rows)}
    found = arm.store.stored_edits(list(wanted.values()), arm.editor.fingerprint)
    return {key: StoredPicture(arm.store.pictures, found[of]) for key, of in wanted.items() if of in found}


def _under(row: RankedFeature | None, picture: Picture | None) -> UnderEditor | None:
    if row is None:
        return None
    other = row.confounded_with
    name, apart = (other.name, other.told_apart) if other else (None, True)
    return UnderEditor(row.effect, row.ci_low, row.ci_high, row.decision, row.edit_success, name, apart, picture)
