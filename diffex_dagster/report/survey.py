"""A survey for people, as in the paper's user studies: which attribute changed, and how good is the edit?

The page holds everything: questions, pictures, script. A participant opens it from disk or any web server, answers, and
sends back the CSV that the page offers at the end; `diffex survey results` reads those files.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffex_dagster.errors import DiffExError
from diffex_dagster.report.examples import Failures
from diffex_dagster.report.html import render
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.verdict import shown
from diffex_dagster.report.wording import plain, titled
from diffex_dagster.results import Example, RankedFeature, Report

OPTIONS = 4  # the right one and three wrong ones; the page adds "I cannot tell"
CHECK_EVERY = 6  # real questions for each one that only shows whether the participant reads
COLUMNS = ("participant", "question", "kind", "feature", "correct", "chosen", "quality", "disentanglement", "seconds")


def render_survey(explanation: Report, questions: int = 20, seed: int = 0, budget: int = BUDGET) -> str:
    """One self-contained page that asks about null edit and edit of the features with a shown effect.

    Args:
        questions: how many in all, attention checks not counted; features take turns, the strongest first.
        seed: picks images and wrong answers. The order in which a participant sees them is drawn in the browser.

    Raises:
        DiffExError: fewer than two features can be told apart, so that there is nothing to choose from.
    """
    asked = _choose(explanation, questions, seed)
    book, data = fitted(lambda book: [_question(*item, book) for item in asked], budget)
    every = [{"kind": "check", "number": i} for i in range(math.ceil(len(asked) / CHECK_EVERY))]
    return render("survey.html.j2", book, [*data, *every], script="survey.js", e=explanation, total=len(asked))


def _choose(explanation: Report, questions: int, seed: int) -> list[tuple[RankedFeature, Example, list[str]]]:
    rng, failures = random.Random(seed), Failures()
    pools: dict[str, tuple[RankedFeature, list[Example]]] = {}
    for feature in explanation.features:
        examples = [x for x in explanation.examples.get(feature.feature, ()) if failures(x) is None]
        if shown(feature) and examples:
            rng.shuffle(examples)
            pools[feature.feature] = (feature, examples)
    names = {titled(feature, None): feature.group for feature in explanation.features}
    if not pools or len(names) < 2:
        raise DiffExError(
            f"{explanation.study}: a survey needs a feature with a shown effect and another to confuse it with; the "
            f"report of {explanation.classifier} has {len(pools)} of {len(names)}: add images, or features"
        )
    asked: list[tuple[RankedFeature, Example, list[str]]] = []
    while len(asked) < questions and any(examples for _, examples in pools.values()):
        for feature, examples in pools.values():
            if examples and len(asked) < questions:
                # Wrong answers come from other groups where there are enough: "round glasses" is no fair wrong answer
                # to "square glasses".
                others = [name for name in names if name != titled(feature, None)]
                rng.shuffle(others)
                others.sort(key=lambda name: names[name] == feature.group)
                asked.append((feature, examples.pop(), others[: OPTIONS - 1]))
    return asked


def _question(feature: RankedFeature, example: Example, others: Sequence[str], book: Book) -> dict[str, Any]:
    return {
        "kind": "edit",
        "feature": feature.feature,
        "correct": plain(titled(feature, None), 90),
        "options": [plain(name, 90) for name in (titled(feature, None), *others)],
        "p": [book.add(example.null), book.add(example.edit)],
    }


@dataclass(frozen=True)
class SurveyRow:
    """One line of the results: a feature, or all of them.

    Attributes:
        answers: how many answers count.
        identified: share that named the attribute; `identified_low`, `identified_high`: Wilson interval.
        quality, disentanglement: mean rating from 1 to 5, each with a 95% t interval over the participants' means.
    """

    feature: str
    answers: int
    identified: float
    identified_low: float
    identified_high: float
    quality: float
    quality_low: float
    quality_high: float
    disentanglement: float
    disentanglement_low: float
    disentanglement_high: float


@dataclass(frozen=True)
class SurveyResults:
    """What the participants said: all features together first, then each one."""

    participants: int
    excluded: int  # who failed an attention check; their answers do not count
    rows: tuple[SurveyRow, ...]


def read_answers(files: Iterable[Path]) -> list[dict[str, str]]:
    """The rows of downloaded answer files; a file that is given twice counts once.

    Raises:
        DiffExError: a file cannot be read, lacks a column, or a rating is not one of 1 to 5; names file and line.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for file in files:
        try:
            with file.open(encoding="utf-8-sig", newline="") as opened:
                found = list(csv.DictReader(opened))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DiffExError(
                f"{file}: the answers cannot be read ({error}); name a CSV that the survey made"
            ) from error
        if not found or (missing := [column for column in COLUMNS if column not in found[0]]):
            what = f"has no column {missing[0]!r}" if found else "is empty"
            raise DiffExError(f"{file}: the file {what}; name a CSV that the survey made")
        for line, row in enumerate(found, 2):
            for column in ("quality", "disentanglement"):
                if row[column] not in {"1", "2", "3", "4", "5"}:
                    raise DiffExError(f"{file}, line {line}: {column}: {row[column]!r} is not a rating from 1 to 5")
            rows[row["participant"], row["question"]] = row
    return list(rows.values())


def survey_results(answers: Sequence[Mapping[str, str]]) -> SurveyResults:
    """Accuracy and ratings, over all features and for each one.

    Participants who fail an attention check are left out whole.

    Raises:
        DiffExError: nobody is left.
    """
    everyone = {row["participant"] for row in answers}
    careless = {row["participant"] for row in answers if row["kind"] == "check" and row["chosen"] != row["correct"]}
    kept = [row for row in answers if row["kind"] == "edit" and row["participant"] not in careless]
    if not kept:
        raise DiffExError(f"none of the {len(everyone)} participants passed the attention checks; nothing can be said")
    features = list(dict.fromkeys(row["feature"] for row in kept))
    lines = [_line("all features", kept)]
    lines += [_line(feature, [row for row in kept if row["feature"] == feature]) for feature in sorted(features)]
    return SurveyResults(len(everyone - careless), len(careless), tuple(lines))


def _line(feature: str, rows: Sequence[Mapping[str, str]]) -> SurveyRow:
    from scipy import stats

    right = sum(row["chosen"] == row["correct"] for row in rows)
    wilson = stats.binomtest(right, len(rows)).proportion_ci(method="wilson")
    accuracy = (right / len(rows), float(wilson.low), float(wilson.high))
    return SurveyRow(feature, len(rows), *accuracy, *_rating(rows, "quality"), *_rating(rows, "disentanglement"))


def _rating(rows: Sequence[Mapping[str, str]], column: str) -> tuple[float, float, float]:
    """Mean and 95% interval over participants: answers of one person are not independent. NaN ends for one person."""
    from scipy import stats

    by_person: dict[str, list[int]] = {}
    for row in rows:
        by_person.setdefault(row["participant"], []).append(int(row[column]))
    means = np.array([np.mean(ratings) for ratings in by_person.values()])
    if len(means) < 2:
        return float(means.mean()), math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return float(means.mean()), max(1.0, float(means.mean()) - half), min(5.0, float(means.mean()) + half)
