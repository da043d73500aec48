"""Rows of what reports show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.results import Confounder, RankedFeature
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.tables import Tables
from diffex_dagster.utils.columns import Kind, columns, row_fields
from diffex_dagster.utils.hashing import digest

RANKING_FIELDS = tuple(field.name for field in row_fields(RankedFeature) if field.row is None)
"""The fields of a ranked feature that are columns of `rankings`."""
COLUMNS: Mapping[str, Mapping[str, Kind]] = {
    "rankings": {name: columns(RankedFeature)[name] for name in (*RANKING_FIELDS, "confounded_with")},
    "side_effects": columns(SideEffect),
    "interactions": columns(Interaction),
    "subgroups": columns(SubgroupEffect),
}
"""Table -> the columns that its rows have besides what identifies their report, and what they hold."""


class ReportTables(Tables):
    """`reports`, `rankings`, `effects`, `side_effects`, `interactions` and `subgroups`."""

    def put_report(
        self,
        identity: Mapping[str, str],
        ranked: Sequence[RankedFeature],
        side_effects: Iterable[SideEffect],
        effects: Sequence[Mapping[str, Any]],
        interactions: Sequence[Interaction] = (),
        subgroups: Sequence[SubgroupEffect] = (),
    ) -> None:
        """Keep what a report shows; where one of the same study, classifier, editor and corpus said the same, only that
        it was made again.

        Args:
            identity: study, classifier_name, classifier, editor, corpus_version and run.
            effects: the paired differences behind it, rows of `effects` without the identity.
        """
        side_effects = list(side_effects)
        of_rows = {name: value for name, value in identity.items() if name != "classifier_name"}
        same = {name: value for name, value in identity.items() if name not in ("run", "classifier")}
        shown = [[repr(getattr(row, field)) for field in RANKING_FIELDS] for row in ranked]
        content = digest(
            shown,
            [repr(row.confounded_with) for row in ranked],
            sorted(repr(each) for each in side_effects),
            sorted(repr(sorted(row.items())) for row in effects),
            *(sorted(map(repr, some)) for some in (interactions, subgroups) if some),
        )
        earlier = self._existing("reports", "classifier", [identity["classifier"]], "rows_of", content=content, **same)
        rows_of = earlier[0][0] if earlier else identity["run"]
        if not earlier:
            self.put_ranking(identity, ranked)
            self.put_side_effects(of_rows, side_effects)
            self.put_effects(of_rows, effects)
            self._insert("interactions", [{**of_rows, **vars(each)} for each in interactions], replace=True)
            self._insert("subgroups", [{**of_rows, **vars(each)} for each in subgroups], replace=True)
        report = {**identity, "rows_of": rows_of, "content": content}

        def put(connection: Connection) -> None:
            ((written,),) = connection.execute("SELECT coalesce(max(written), 0) + 1 FROM reports")
            connection.insert("reports", [{"written": written, **report}])

        self.database.write(put)

    def latest_ranking(self, study: str, classifier_name: str, editor: str) -> list[RankedFeature]:
        """The ranked list of the latest report of a classifier under an editor (fingerprint); empty without one."""
        with self.hold():
            latest = self._latest(study, classifier_name, editor)
            if not latest:
                return []
            columns = ", ".join(f'r."{field}"' for field in RANKING_FIELDS)
            same = "study, classifier, editor, corpus_version, run"
            rows = self.rows(
                f"""WITH r AS (SELECT * FROM rankings
                    WHERE study = ? AND editor = ? AND classifier = ? AND corpus_version = ? AND run = ?)
                SELECT {columns}, s.looked_for, o.name, s.leak, s.direct, s.direct_low, s.direct_high FROM r
                LEFT JOIN (SELECT *, edited AS feature, looked_for AS confounded_with FROM side_effects) s
                    USING ({same}, feature, confounded_with)
                LEFT JOIN r o ON o.feature = r.confounded_with
                ORDER BY r.rank""",  # noqa: S608 (our own column names)
                [study, editor, *latest],
            )
        return [_ranked(row) for row in rows]

    def latest_report(self, study: str, classifier_name: str, editor: str) -> tuple[str, str] | None:
        """What the latest report of a classifier under an editor is of: the classifier as reports name it
        (`Study.subject`), and the corpus version; None without one.
        """
        latest = self._latest(study, classifier_name, editor)
        return (latest[0], latest[1]) if latest else None

    def less_control_edits(self, study: str, classifier_name: str, editor: str) -> bool:
        """Whether the effects of the latest report are differences to control edits, as those of earlier versions were.

        They are differences to null edits now; an image whose row says otherwise tells.
        """
        latest = self._latest(study, classifier_name, editor)
        if not latest:
            return False
        others = self.rows(
            """SELECT count(*) FROM effects
                WHERE study = ? AND editor = ? AND classifier = ? AND corpus_version = ? AND run = ?
                    AND abs(effect - (score_edit - score_null)) > 1e-9""",
            [study, editor, *latest],
        )
        return bool(others[0][0])

    def _latest(self, *of: str) -> tuple[Any, ...]:
        """Classifier, corpus version and run of the rows of the latest report; empty without one."""
        latest = self.rows(_LATEST.format(run="rows_of", table="reports", order="written"), of)
        if not latest:  # from before reports were counted
            latest = self.rows(_LATEST.format(run="run", table="rankings", order="created"), of)
        return latest[0] if latest else ()

    def put_ranking(self, identity: Mapping[str, str], ranked: Sequence[RankedFeature]) -> None:
        """Keep a report's ranked list; `identity` has all other columns but `created`."""
        rows = [
            {
                **identity,
                **{field: getattr(row, field) for field in RANKING_FIELDS},
                "confounded_with": row.confounded_with and row.confounded_with.feature,
            }
            for row in ranked
        ]
        self._insert("rankings", rows, replace=True)

    def put_side_effects(self, identity: Mapping[str, str], found: Iterable[SideEffect]) -> None:
        """Keep what the edits of features do to each other; `identity` has study, classifier, editor, version, run."""
        self._insert("side_effects", [{**identity, **vars(each)} for each in found], replace=True)

    def put_effects(self, identity: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the paired differences behind a report."""
        self._insert("effects", [{**identity, **row} for row in rows], replace=True)


_LATEST = """SELECT classifier, corpus_version, {run} FROM {table}
    WHERE study = ? AND classifier_name = ? AND editor = ? ORDER BY {order} DESC LIMIT 1"""


def _ranked(row: Sequence[Any]) -> RankedFeature:
    """A row of the query for the latest ranking."""
    shown, (other, name, *numbers) = row[: len(RANKING_FIELDS)], row[len(RANKING_FIELDS) :]
    companion = Confounder(other, name or other, *numbers) if other else None  # one that no search reached has no row
    values = dict(zip(RANKING_FIELDS, shown, strict=True))
    values["among"] = values["among"] or "all"  # rows from before there was a choice
    return RankedFeature(**values, confounded_with=companion)
