"""The effects over a study, for questions about other pictures: its latest report, and whether that is of the same."""

from __future__ import annotations

from dataclasses import dataclass

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.report.wording import listing
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.setup import report_made_with


@dataclass(frozen=True)
class LatestReport:
    """The rows of a classifier's latest report under the editor in use.

    Attributes:
        rows: by rank.
        differs: in what its report differs from what is asked now: "classifier", "target", "corpus", "definition of
            effects".
    """

    rows: tuple[RankedFeature, ...]
    differs: tuple[str, ...]


def latest_report(subject: Subject, corpus: Corpus | None = None) -> LatestReport | None:
    """What the latest report of a classifier says, and in what it is of something else; None without a report.

    Args:
        corpus: that it should be of; any when None.
    """
    study = subject.study
    of = study.kept_as, subject.name, subject.editor.fingerprint
    latest = subject.store.latest_report(*of)
    if latest is None:
        return None
    written = report_made_with(study, subject.name)  # its words of a target that all classifiers of a study share
    same = {
        "classifier": latest[0] == study.subject(subject.classifier.fingerprint),
        "target": not written or written["target"] == study.target.describe(),
        "corpus": corpus is None or latest[1] == corpus.version,
        "definition of effects": not subject.store.less_control_edits(*of),
    }
    rows = tuple(subject.store.latest_ranking(*of))
    return LatestReport(rows, tuple(name for name, is_same in same.items() if not is_same))


def effects_beside(subject: Subject, corpus: Corpus) -> tuple[dict[str, RankedFeature], str]:
    """Feature -> its row of the latest report of the study, where that is of this classifier, target and corpus.

    Also why there are none, as a sentence; "" where there are, or no report at all.
    """
    latest = latest_report(subject, corpus)
    if latest is None:
        return {}, ""
    if latest.differs:
        which = listing([f"another {name}" for name in latest.differs])
        return {}, (
            f"The study's latest report is of {which}: its effects are not shown beside these. Run the study again "
            "(diffex run) to have them."
        )
    return {row.feature: row for row in latest.rows}, ""
