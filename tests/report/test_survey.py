"""The survey page in a real Chromium, and what its answers come to."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diffex_dagster.errors import DiffExError
from diffex_dagster.report.survey import COLUMNS, read_answers, render_survey, survey_results
from diffex_dagster.results import Report
from tests.support import material

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def answer(person: str, question: int, chosen: str = "Hat", quality: int = 4, **more: str) -> dict[str, str]:
    row = dict(
        zip(COLUMNS, [person, str(question), "edit", "head/hat", "Hat", chosen, str(quality), "3", "2"], strict=True)
    )
    return row | more


def questions(html: str) -> list[dict]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)["examples"]


def test_questions_take_turns_and_wrong_answers_come_from_other_groups(explanation: Report) -> None:
    asked = [q for q in questions(render_survey(explanation, questions=12)) if q["kind"] == "edit"]
    groups = {feature.name: feature.group for feature in explanation.features}
    assert len(asked) == 12 and len({q["feature"] for q in asked}) >= 6
    for q in asked:
        assert len(set(q["options"])) == 4 and q["options"][0] == q["correct"]
        assert groups[q["correct"]] not in {groups[name] for name in q["options"][1:]}
    assert render_survey(explanation, 12, seed=1) == render_survey(explanation, 12, seed=1)
    assert len(questions(render_survey(explanation, 12))) == 12 + 2  # one attention check for six questions


def test_a_report_with_nothing_to_ask_is_one_sentence(explanation: Report) -> None:
    with pytest.raises(DiffExError, match="a survey needs a feature with a shown effect"):
        render_survey(replace(explanation, features=()))


def test_accuracy_and_ratings_with_intervals() -> None:
    answers = [answer("a", i, chosen="Hat" if i < 8 else "Beard", quality=4) for i in range(10)]
    answers += [answer("b", i, quality=2) for i in range(10)]
    results = survey_results(answers)
    everything, hat = results.rows
    assert (results.participants, results.excluded, everything.answers) == (2, 0, 20)
    assert everything.identified == 0.9
    # Wilson interval of 18 out of 20 (Newcombe 1998, method 3).
    assert (everything.identified_low, everything.identified_high) == pytest.approx((0.6990, 0.9721), abs=1e-4)
    assert everything.quality == 3.0 and (everything.quality_low, everything.quality_high) == (1.0, 5.0)
    assert everything.disentanglement == everything.disentanglement_low == everything.disentanglement_high == 3.0
    assert hat.feature == "head/hat" and replace(hat, feature="all features") == everything


def test_who_fails_an_attention_check_does_not_count() -> None:
    careless = [answer("b", 0, chosen="Beard"), answer("b", 1, chosen="Beard", kind="check")]
    results = survey_results([answer("a", 0), answer("a", 1, kind="check"), *careless])
    assert (results.participants, results.excluded) == (1, 1)
    assert (
        results.rows[0].identified == 1.0 and results.rows[0].answers == 1 and math.isnan(results.rows[0].quality_low)
    )
    with pytest.raises(DiffExError, match="none of the 1 participants passed"):
        survey_results(careless)


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_answers_are_checked_and_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", [answer("a", 0), answer("a", 1)])
    assert len(read_answers([good, good])) == 2
    with pytest.raises(DiffExError, match=r"bad.csv, line 3: quality: '9' is not a rating from 1 to 5"):
        read_answers([write(tmp_path / "bad.csv", [answer("a", 0), answer("a", 1, quality=9)])])
    with pytest.raises(DiffExError, match="no column 'participant'"):
        read_answers([write(tmp_path / "other.csv", [{"x": "1"}])])
    with pytest.raises(DiffExError, match="cannot be read"):
        read_answers([tmp_path / "nowhere.csv"])


@pytest.mark.browser
def test_a_participant_answers_and_downloads(browser: Browser, tmp_path: Path) -> None:
    hostile = material.hostile()
    names = [replace(f, name=f"{f.name} {i}", group=str(i), decision="raises") for i, f in enumerate(hostile.features)]
    (tmp_path / "survey.html").write_text(render_survey(replace(hostile, features=tuple(names)), 7), "utf-8")
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append("a name ran as script"))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url))
    page.goto((tmp_path / "survey.html").as_uri())
    page.get_by_role("button", name="Begin").click()
    for i in range(7 + 2):
        assert page.inner_text("#progress") == f"{i + 1} of 9"
        told = page.inner_text("#instruction") if page.is_visible("#instruction") else ""
        options = page.locator("#options input")
        values = [options.nth(n).get_attribute("value") for n in range(options.count())]
        choose = next((n for n, value in enumerate(values) if f"“{value}”" in told), 0)
        options.nth(choose).check()
        page.locator("#quality input").nth(3).check()
        page.locator("#disentanglement input").nth(4).check()
        page.get_by_role("button", name="Next").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the answers").click()
    file = tmp_path / "answers.csv"
    download.value.save_as(file)
    context.close()
    answers = read_answers([file])
    assert len(answers) == 9 and sum(row["kind"] == "check" for row in answers) == 2
    results = survey_results(answers)
    assert (results.participants, results.excluded) == (1, 0)
    assert results.rows[0].answers == 7 and results.rows[0].quality == 4.0 and results.rows[0].disentanglement == 5.0
    assert problems == []
