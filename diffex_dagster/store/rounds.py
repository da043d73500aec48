"""Rows of rounds: how much a version of a corpus explains, and what was suggested to try next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from diffex_dagster.corpus.refining import Suggestion
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.tables import Tables

_COMPARED = ("study", "classifier_name", "classifier", "editor")
_OF = "WHERE " + " AND ".join(f"{column} = ?" for column in _COMPARED)


def _values(compared: Mapping[str, str]) -> list[str]:
    return [compared[column] for column in _COMPARED]


@dataclass(frozen=True)
class Round:
    """One version of a study's corpus, as one classifier was explained with it.

    Attributes:
        round: 1 for the first.
        corpus_version: the version.
        features, images: how many had a part in the score.
        score, low, high: how much was explained, with its interval; None where that is not known.
        created: when it was first found.
    """

    round: int
    corpus_version: str
    features: int
    images: int
    score: float | None
    low: float | None
    high: float | None
    created: datetime


class After(NamedTuple):
    """Which round of a study something was suggested after.

    Attributes:
        classifier: its name.
        weights, editor: fingerprints of the classifier and the editor; empty where they were not kept.
        corpus_version: with which the classifier had been explained.
    """

    classifier: str
    weights: str
    editor: str
    corpus_version: str


@dataclass(frozen=True)
class KeptSuggestion:
    """One attribute that was suggested.

    Attributes:
        after: the round.
        suggestion: what was suggested.
        model: that was asked.
    """

    after: After
    suggestion: Suggestion
    model: str


class RoundTables(Tables):
    """`completeness`, `round_suggestions` and `suggestions`."""

    def put_completeness(
        self, compared: Mapping[str, str], corpus_version: str, found: Mapping[str, float | int | None]
    ) -> None:
        """Keep how much is explained; a version that was explained before keeps the number of its round.

        Args:
            compared: study, classifier_name, classifier and editor: whose rounds are counted and compared.
            corpus_version: the version.
            found: features, images, score, low, high.
        """

        def put(connection: Connection) -> None:
            known = connection.execute(f"SELECT corpus_version, round FROM completeness {_OF}", _values(compared))  # noqa: S608 (our own names)
            rounds: dict[str, int] = dict(known)
            number = rounds.get(corpus_version, max(rounds.values(), default=0) + 1)
            connection.insert(
                "completeness", [{**compared, "corpus_version": corpus_version, "round": number, **found}], True
            )

        self.database.write(put)

    def rounds(self, compared: Mapping[str, str]) -> list[Round]:
        """The rounds that can be compared with each other (see `put_completeness`), the first one first."""
        rows = self.rows(
            f"""SELECT round, corpus_version, features, images, score, low, high, created FROM completeness
            {_OF} ORDER BY round""",  # noqa: S608 (our own names)
            _values(compared),
        )
        return [Round(*row) for row in rows]

    def put_suggestions(
        self, compared: Mapping[str, str], corpus_version: str, found: Sequence[Suggestion], model: str
    ) -> None:
        """Keep what a model suggested after a round, in place of what the same one suggested after it before.

        Args:
            compared, corpus_version: the round, as of `put_completeness`.
            model: that was asked.
        """
        of = {**compared, "corpus_version": corpus_version, "model": model}
        rows = [
            {
                **of, "suggestion": s.id, "position": i, "kind": s.kind, "under": s.under, "name": s.name,
                "entries": json.dumps([dict(entry) for entry in s.entries]), "why": s.why, "left_out": s.left_out,
            }
            for i, s in enumerate(found)
        ]  # fmt: skip

        def put(connection: Connection) -> None:
            connection.execute(
                f"DELETE FROM round_suggestions {_OF} AND corpus_version = ? AND model = ?",  # noqa: S608 (our own names)
                [*_values(compared), corpus_version, model],
            )
            if rows:
                connection.insert("round_suggestions", rows)

        self.database.write(put)

    def suggestions(self, study: str) -> list[KeptSuggestion]:
        """What was suggested after all rounds of a study, the latest round last."""
        columns = "corpus_version, suggestion, kind, under, name, entries, why, left_out, model, created, position"
        rows = self.rows(
            f"""SELECT classifier_name, classifier, editor, {columns} FROM round_suggestions WHERE study = ?
            UNION ALL SELECT classifier_name, '', '', {columns} FROM suggestions WHERE study = ?
            ORDER BY created, classifier_name, classifier, editor, model, position""",  # noqa: S608 (our own names)
            [study, study],
        )
        return [
            KeptSuggestion(After(name, weights, editor, version), Suggestion(one, kind, under, called,
                      tuple(json.loads(entries)), why, left_out), model)
            for name, weights, editor, version, one, kind, under, called, entries, why, left_out, model, _, _ in rows
        ]  # fmt: skip
