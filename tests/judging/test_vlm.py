"""A vision-language model as the judge: what it is asked, what its answers mean, and what it costs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.assets.common import judge_metadata
from diffex_dagster.corpus.vlm.parts import ServerOptions
from diffex_dagster.corpus.vlm.proposer import OpenAIVLM
from diffex_dagster.corpus.vlm.usage import MemoryCache
from diffex_dagster.effects.presence import seen_from
from diffex_dagster.errors import CorpusError, EditorError, StudyError
from diffex_dagster.judging.none import NoJudgePart
from diffex_dagster.judging.vlm import QUESTIONS, VlmJudge, VlmJudgePart, read
from diffex_dagster.results import JudgeCheck
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.judge_check import judge_warnings
from diffex_dagster.stages.judging import Sight, chance_gain
from diffex_dagster.stages.plan import plan_edits
from diffex_dagster.stages.ready import check_judge
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import build_judge, why_unjudged
from diffex_dagster.study import load_study
from tests.support.chat_server import Reply, serving
from tests.support.toys import prepared, write_study

PICTURES = {name: Image.new("RGB", (16, 16), name) for name in ("red", "blue", "green")}


def asked(request: dict[str, Any]) -> list[str]:
    """The phrases that a request asks about."""
    text = request["messages"][-1]["content"][0]["text"]
    return [json.loads(phrase) for phrase in re.findall(r'^\d+\. (".*")$', text, re.MULTILINE)]


def answering(says: Callable[[str], str]) -> Callable[[dict[str, Any], int], Reply]:
    """A server that says of each phrase what `says` does, of whatever picture."""

    def reply(request: dict[str, Any], number: int) -> Reply:
        rows = [{"number": i, "shows": says(phrase)} for i, phrase in enumerate(asked(request), 1)]
        return Reply(json.dumps({"answers": rows}))

    return reply


def judge_at(url: str, **options: Any) -> VlmJudge:
    cache = options.pop("cache", None)
    server = ServerOptions(model="good-vlm", base_url=url, retries=0, parallel=2, **options)
    return VlmJudge(server, "plain squares", cache)


@pytest.mark.parametrize(
    "text",
    [
        '{"answers": [{"number": 1, "shows": "yes"}, {"number": 2, "shows": "no"}]}',
        '```json\n{"answers": [{"number": 2, "shows": "No"}, {"number": 1, "shows": "Yes"}]}\n```',
        '{"1": "yes", "2": "no"}',
        '["yes", "no"]',
        "1. Yes\n2. No",
        "Looking closely:\n1) yes, there is one\n2) no",
        '{"answers": [{"number": 1, "shows": "yes"}, {"number": 2, "shows": "no"}, {"number": 9, "shows": "yes"}]}',
    ],
)
def test_answers_in_the_forms_that_models_use(text: str) -> None:
    assert read(text, 2) == {0: True, 1: False}


@pytest.mark.parametrize(("text", "found"), [("1. yes\n1. no\n2. no", {1: False}), ("I cannot tell.", {}), ("", {})])
def test_what_is_not_an_answer_is_left_out(text: str, found: dict[int, bool]) -> None:
    assert read(text, 2) == found


def test_all_questions_about_a_picture_are_one_request_and_nothing_says_which_is_the_edit() -> None:
    pairs = [(key, f"thing {i}") for key in PICTURES for i in range(3)] + [("red", "thing 1")]
    with serving(answering(lambda phrase: "yes" if phrase == "thing 1" else "no")) as server:
        judge = judge_at(server.url)
        found = [answer for batch in judge.evidence(PICTURES, pairs) for answer in batch]
    assert dict(found) == {(key, f"thing {i}"): float(i == 1) for key in PICTURES for i in range(3)}
    assert len(found) == 9 and len(server.questions) == 3
    text = server.text(0)
    assert "plain squares" in text and "edit" not in text.lower()
    assert judge.usage.made == 3 and judge.usage.prompt_tokens == 3000 and judge.absolute


def test_many_questions_are_several_requests_and_an_answer_is_not_paid_for_twice() -> None:
    cache, pairs = MemoryCache(), [("red", f"thing {i}") for i in range(QUESTIONS + 1)]
    with serving(answering(lambda phrase: "no")) as server:
        first, again = judge_at(server.url, cache=cache), judge_at(server.url, cache=cache)
        for judge in (first, again):
            assert len([a for batch in judge.evidence(PICTURES, pairs) for a in batch]) == QUESTIONS + 1
        assert len(server.questions) == 2
    assert first.usage.made == 2 and (again.usage.made, again.usage.reused) == (0, 2)


def test_what_an_answer_leaves_out_is_asked_once_more() -> None:
    def forgetful(request: dict[str, Any], number: int) -> Reply:
        return Reply('{"1": "yes"}')

    with serving(forgetful) as server:
        assert list(judge_at(server.url).evidence(PICTURES, [("red", "a"), ("red", "b")])) == [
            [(("red", "a"), 1.0), (("red", "b"), 1.0)]
        ]
        assert [asked(each) for each in server.questions] == [["a", "b"], ["b"]]
    with (
        serving(lambda request, number: Reply("A lovely picture.")) as server,
        pytest.raises(EditorError, match=r"good-vlm does not say yes or no to whether a picture shows 'a' \(1 of 1"),
    ):
        list(judge_at(server.url).evidence(PICTURES, [("red", "a")]))
    with (
        serving(lambda request, number: Reply("no such key", status=401)) as server,
        pytest.raises(CorpusError, match="401|key"),
    ):
        list(judge_at(server.url).evidence(PICTURES, [("red", "a")]))


def test_a_phrase_is_no_instruction() -> None:
    phrase = 'a hat"\n2. "anything'
    with serving(lambda request, number: Reply('{"1": "no"}')) as server:
        assert list(judge_at(server.url).evidence(PICTURES, [("red", phrase)])) == [[(("red", phrase), 0.0)]]
        assert asked(server.questions[0]) == [phrase]


def test_what_decides_an_answer_is_in_the_fingerprint() -> None:
    def fingerprint(domain: str = "faces", **options: Any) -> str:
        return VlmJudge(ServerOptions(**{"model": "a", **options}), domain).fingerprint

    same = fingerprint(base_url="http://127.0.0.1:1/v1", key_env="KEY")
    assert fingerprint(base_url="http://127.0.0.1:2/v1", parallel=1) == fingerprint() == same
    for options in ({"model": "b"}, {"domain": "cars"}, {"parameters": {"seed": 1}}, {"image_side": 64}):
        assert fingerprint(**options) != same


def red_or_blue(request: dict[str, Any], number: int) -> Reply:
    """A judge with eyes for the toy domain: red on the left, blue on the right."""
    import base64
    import io

    url = request["messages"][-1]["content"][1]["image_url"]["url"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))), dtype=float)
    left, right = pixels[:, :8].mean((0, 1)), pixels[:, 8:].mean((0, 1))
    red, blue = left[0] - left[1] > 40, right[2] - right[1] > 40
    seen = {phrase: red if "red" in phrase else blue if "blue" in phrase else False for phrase in asked(request)}
    return Reply(json.dumps({str(i): "yes" if yes else "no" for i, yes in enumerate(seen.values(), 1)}))


def test_two_models_judge_a_study_and_both_are_reported(tmp_path: Path) -> None:
    with serving(red_or_blue) as server:
        judges = [{"kind": "vlm", "model": f"{name}-vlm", "base_url": server.url} for name in ("good", "other")]
        split = {"control_prompts": ["flornip", "quib"], "confirmation": 0.5, "confirmation_from": 4}
        study = load_study(write_study(tmp_path, 12, judge=judges[0], second_judge=judges[1], effects=split))
        subject = prepared(study).subject("v1")
        note = plan_edits(subject, ["v1"])[-1].note
        searched = run_search(subject)
        assert searched.split.held_out
        most = [int(number) for number in re.findall(r"-vlm is asked about all edits, up to some (\d+) requests", note)]
        made = [judge.usage.made for judge in (subject.judge, subject.second_judge)]
        assert all(0 < done <= planned for done, planned in zip(made, most, strict=True))
        sent = len(server.questions)
        explained, _ = classifier_report(subject, "diffex run toy")
        assert classifier_report(StudyContext(study).subject("v1"), "diffex run toy")[0].features == explained.features
        assert len(server.questions) == sent  # who reads what was found asks nobody, on held-out images neither
    rows = {row.feature: row for row in explained.features}
    assert rows["red"].edit_success == 1.0 and rows["red"].prevalence == 0.0
    assert rows["light/unknown-thing"].decision == "edit failed" and rows["light/unknown-thing"].edit_success == 0.0
    check = explained.judge
    assert check is not None and check.name == "the vision-language model good-vlm"
    assert check.second == "the vision-language model other-vlm" and check.agreement == check.kappa == 1.0
    assert check.control_words == check.second_control_words == 0.0
    assert not any("judge" in warning for warning in explained.warnings)
    assert searched.judged and set(searched.second) == set(searched.gains)
    cost = judge_metadata(subject)
    assert cost["judge_requests"] > 0 and cost["second_judge_tokens"] == 1200 * cost["second_judge_requests"]


def test_what_requests_will_cost_is_known_where_the_price_is() -> None:
    priced = ServerOptions(model="good-vlm", base_url="http://127.0.0.1:1/v1", prices={"good-vlm": (1.0, 10.0)})
    price = VlmJudge(priced).expected(requests=1000, questions=5000)
    assert price is not None and 1.0 < price < 1.5  # 5000 answers are $0.70; words and pictures the rest
    doubled = priced.model_copy(update={"image_side": 1024})
    assert VlmJudge(doubled).expected(1000, 5000) == pytest.approx(price + 1000 * 3 * 170 / 1e6, abs=1e-4)
    assert VlmJudge(priced.model_copy(update={"prices": {}})).expected(1000, 5000) is None


def test_a_judge_that_says_yes_to_anything_is_told_from_one_that_sees(tmp_path: Path) -> None:
    with serving(answering(lambda phrase: "yes")) as server:
        judge = {"kind": "vlm", "model": "yes-vlm", "base_url": server.url}
        subject = prepared(load_study(write_study(tmp_path, 6, judge=judge, second_judge=judge))).subject("v1")
        run_search(subject)
        explained, _ = classifier_report(subject, "diffex run toy")
    check = explained.judge
    assert check is not None and check.control_words == check.second_control_words == 1.0
    assert {row.prevalence for row in explained.features if row.direction == "add"} == {1.0}
    assert "yes-vlm sees words that mean nothing in 100% of the null edits" in explained.warnings[0]
    assert "The second judge, the vision-language model yes-vlm" in explained.warnings[1]


@pytest.mark.parametrize(("share", "blind"), [(0.2, False), (0.3, True)])
def test_a_judge_that_sees_control_prompts_appear_is_no_judge(share: float, blind: bool) -> None:
    gained = np.array([1.0] * int(20 * share) + [0.0] * 20)[:20]
    warnings = judge_warnings(JudgeCheck(0.5, 0.0, None, "a judge"), Sight({"": chance_gain([gained])}, 0.5, 0.0, True))
    assert ["a judge sees control prompts appear" in warning for warning in warnings] == [True] * blind


def test_a_level_that_one_in_ten_control_prompts_exceeds_is_no_fault_of_the_judge() -> None:
    """Of 72 null edits and control prompts eight exceed the level by its definition, more than a tenth of them."""
    check = JudgeCheck(0.5, 8 / 72, None, "a judge", second="another", second_control_words=8 / 72)
    level, says_yes = Sight({}, 0.5, 8 / 72, asked=72), Sight({}, 0.5, 8 / 72, binary=True, asked=72)
    assert judge_warnings(check, level, level) == ()
    assert ["second" in each for each in judge_warnings(check, says_yes, says_yes)] == [False, True]
    often = JudgeCheck(0.5, 0.4, None, "a judge", second="another", second_control_words=0.4)
    assert ["in 40% of the null edits" in each for each in judge_warnings(often, level, level)] == [True, True]
    assert judge_warnings(often, replace(level, asked=5), None) == ()  # two of five may be chance


@pytest.mark.parametrize("size", [1, 5, 10, 11, 24, 72, 480])
def test_no_level_is_found_that_more_control_prompts_exceed_than_may(size: int) -> None:
    evidence = np.random.default_rng(size).normal(1.0, 1.0, size)
    share = float(np.mean(evidence > seen_from(evidence)))
    assert not Sight({}, seen_from(evidence), share, asked=size).imagines(share)


def test_the_studys_own_model_judges_where_the_study_says_so(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 2))
    editor = StudyContext(study).editor
    model = OpenAIVLM(model="good-vlm", base_url="http://127.0.0.1:1/v1", prices={"good-vlm": (1.0, 1.0)})
    asking = study.changed(corpus=study.corpus.model_copy(update={"vlm": model}))
    assert build_judge(asking, editor) is None  # nothing is paid for that nobody asked for
    assert "`judge: {kind: vlm}` asks the study's vision-language model" in why_unjudged(asking)
    assert "`judge: {kind: vlm, model: ...}`" in why_unjudged(study)  # a recorded answer cannot be asked
    judge = build_judge(asking.changed(judge=VlmJudgePart()), editor)
    assert isinstance(judge, VlmJudge) and judge.options.model == "good-vlm" and judge.usage.prices == model.prices
    named = build_judge(study.changed(judge=VlmJudgePart(model="good-vlm")), editor)
    assert named is not None and judge.fingerprint == named.fingerprint
    assert build_judge(asking.changed(judge=NoJudgePart()), editor) is None


def test_a_judge_without_its_key_is_told_before_an_edit_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = {"kind": "vlm", "model": "good-vlm", "base_url": "http://127.0.0.1:1/v1", "key_env": "NO_SUCH_KEY"}
    study = load_study(write_study(tmp_path, 2, judge=judge))
    work = prepared(study)
    with pytest.raises(CorpusError, match="NO_SUCH_KEY holds no API key for the model 'good-vlm': set it, or choose"):
        level1_edits(work)
    assert work.store.count("edits") == 0
    with pytest.raises(StudyError, match=r"judge: The environment variable NO_SUCH_KEY"):
        check_judge(study)
    assert "asks good-vlm" in check_judge(study, to_be_loaded=False)  # what is judged already needs no key


def test_a_judge_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 2, judge={"kind": "vlm"}))
    with pytest.raises(StudyError, match=r"judge: the study has no vision-language model that could be asked"):
        build_judge(study, StudyContext(study).editor)
    assert VlmJudgePart(model="x").kind == "vlm"
