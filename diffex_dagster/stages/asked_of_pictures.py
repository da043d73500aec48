"""What is asked of the pictures of a folder: which attributes are looked for in them, and what that costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.wording import same_key
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.errors import StoreError, StudyError
from diffex_dagster.judging.protocol import KnowingJudge, traits_of
from diffex_dagster.judging.vlm import QUESTIONS, VlmJudge
from diffex_dagster.report.wording import titled
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import control_edits, edit_requests
from diffex_dagster.stages.folder_pictures import Folder
from diffex_dagster.stages.scores import check_target
from diffex_dagster.stages.setup import why_unjudged
from diffex_dagster.stages.study_effects import latest_report
from diffex_dagster.store import edit_key
from diffex_dagster.study import Study

TOP = 10  # attributes that are looked for where none is named


@dataclass(frozen=True)
class Wanted:
    """What is asked of other pictures.

    Attributes:
        shortcuts: attributes by name or id, whatever the study found of them; none: only those that it claims.
        top: of those that the study claims, at most so many, the strongest first.
        null_edits: judge and score the null edits of the pictures, as the study does, not the pictures as they are.
    """

    shortcuts: tuple[str, ...] = ()
    top: int = TOP
    null_edits: bool = False


@dataclass(frozen=True)
class AskedOfPictures:
    """A subject at work on the pictures of a folder, and the attributes that are looked for in them."""

    subject: Subject
    folder: Folder
    wanted: Wanted
    rows: tuple[RankedFeature, ...]  # of the study's latest report
    named: frozenset[str]  # ids of those that were asked for by name
    warnings: tuple[str, ...] = ()

    @property
    def prompts(self) -> list[str]:
        """What the judge is asked about: the attributes, and the study's control prompts where they say something."""
        words = [row.prompt for row in self.rows]
        if traits_of(self.subject.judge).absolute:
            words += [concepts[0].prompt for concepts in control_edits(self.subject.study)]
        return list(dict.fromkeys(words))


@dataclass(frozen=True)
class PlannedApply:
    """What applying a study to pictures would cost.

    Attributes:
        files, images: files that can be read, and different pictures among them.
        unread: files that cannot.
        attributes: that are looked for.
        edits_missing, scores_missing, questions_missing: null edits to make, pictures to score, answers of the judge.
        requests, price: what the questions are for a judge behind a server, in requests and US dollars; None otherwise.
        seconds: expected for the edits; None where no pace is known.
        on_this_machine: whether a model here edits or judges.
    """

    files: int
    images: int
    unread: int
    attributes: int
    edits_missing: int
    scores_missing: int
    questions_missing: int
    requests: int | None
    price: float | None
    seconds: float | None
    on_this_machine: bool


def asked_of_pictures(subject: Subject, folder: Folder, wanted: Wanted) -> AskedOfPictures:
    """Ready a subject to be applied to the pictures of a folder.

    Raises:
        StoreError: the study has no report of this classifier and target yet.
        StudyError: nobody judges which pictures show an attribute, there is no such attribute, or the report claims
            none.
    """
    study = subject.study
    check_target(subject)
    subject.know()
    if subject.judge is None:
        raise StudyError(
            f"{study.file}: judge: nobody can say which pictures show an attribute ({why_unjudged(study)}); name a "
            "judge in the study"
        )
    again = f"run the study (diffex run {study.folder.name}) first"
    latest = latest_report(subject) if subject.store.exists() else None
    if latest is None:
        raise StoreError(f"{subject.store.place}: there is no report of {subject.name} yet; {again}")
    if latest.differs:
        raise StoreError(
            f"{subject.store.place}: the latest report of {subject.name} is of another "
            f"{' and another '.join(latest.differs)}; {again}"
        )
    named = [_by_name(study, latest.rows, each) for each in wanted.shortcuts]
    claimed = [row for row in latest.rows if row.decision in CLAIMS and row not in named]
    rows = tuple(dict.fromkeys(row.feature for row in (*named, *claimed[: wanted.top])))
    if not rows:
        raise StudyError(
            f"{study.file}: the report of {subject.name} claims no attribute that raises or lowers "
            f"{study.target.describe()}; name one (--shortcut) of those that it has tried"
        )
    by_id = {row.feature: row for row in latest.rows}
    warnings = tuple(
        f"The study did not show that “{titled(row)}” moves {study.target.describe()} ({row.decision}): what is said "
        "of pictures without it is a guess."
        for row in named
        if row.decision not in CLAIMS
    )
    ids = frozenset(row.feature for row in named)
    return AskedOfPictures(subject, folder, wanted, tuple(by_id[f] for f in rows), ids, warnings)


def _by_name(study: Study, rows: Sequence[RankedFeature], asked: str) -> RankedFeature:
    """The row of a feature by its id, name, title or prompt."""

    def matches(row: RankedFeature) -> bool:
        return any(same_key(asked) == same_key(each) for each in (row.name, row.prompt, titled(row, None)))

    found = [row for row in rows if row.feature == asked] or [row for row in rows if matches(row)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(row.feature for row in found)
        raise StudyError(f"{study.file}: several attributes are called {asked!r}: {ids}; name one by its id")
    known = ", ".join(row.feature for row in rows[:12]) + (", …" if len(rows) > 12 else "")
    raise StudyError(f"{study.file}: the report has no attribute {asked!r}; it has {known}")


def plan_apply(asked: AskedOfPictures) -> PlannedApply:
    """What it would cost. Nothing is edited, judged, scored or kept."""
    subject, folder = asked.subject, asked.folder
    store, images, judge = subject.store, folder.images, subject.judge
    editor = subject.editor.fingerprint
    with store.hold():
        requests = edit_requests(images, [()], subject.seeds) if asked.wanted.null_edits else []
        stored = store.stored_edits(requests, editor)
        subjects = [edit_key(request, editor) for request in requests] or images
        scored = store.stored_scores(subjects, subject.classifier.fingerprint)
        knows = isinstance(judge, KnowingJudge)
        pairs = [] if knows else [(each, prompt) for each in subjects for prompt in asked.prompts]
        known = store.stored_evidence(pairs, judge.fingerprint) if judge else {}
        pace = store.seconds_per_edit(editor)
    open_questions = [pair for pair in pairs if pair not in known]
    edits = len(requests) - len(stored)
    sent, price = None, None
    if isinstance(judge, VlmJudge):
        of = Counter(key for key, _ in open_questions)
        sent = sum(math.ceil(n / QUESTIONS) for n in of.values())
        price = judge.expected(sent, len(open_questions)) if sent else 0.0
    return PlannedApply(
        len(folder.keys), len(images), len(folder.unread), len(asked.rows), edits, len(subjects) - len(scored),
        len(open_questions), sent, price, None if pace is None else edits * pace,
        bool(edits or (open_questions and not traits_of(judge).networked)),
    )  # fmt: skip
