from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diffex_dagster.report.html import emphasised
from diffex_dagster.report.verdict import comparison_verdict, strongest, verdict
from diffex_dagster.report.wording import measured, plain
from diffex_dagster.results import (
    ComparedFeature,
    Comparison,
    Confounder,
    Control,
    RankedFeature,
    Report,
    RuleOutcome,
    Turn,
)
from tests.support.material import HOSTILE


def ranked(name: str, effect: float, decision: str, **more: object) -> RankedFeature:
    values: dict[str, object] = {
        "rank": 1, "feature": name.lower(), "name": name, "prompt": name.lower(), "direction": "add",
        "group": "Eyewear", "level": 2, "effect": effect, "ci_low": effect - 0.05, "ci_high": effect + 0.05,
        "magnitude": abs(effect),
        "sign_agreement": 1.0, "flip_rate": 0.25, "images": 32, "decision": decision, "becomes": 7, "leaves": 1,
    }  # fmt: skip
    return RankedFeature(**(values | more))  # type: ignore[arg-type]


def control(prompt: str, **more: object) -> Control:
    values: dict[str, object] = {
        "prompt": prompt, "effect": 0.01, "ci_low": -0.02, "ci_high": 0.04, "against_null": 0.03, "null_low": 0.0,
        "null_high": 0.06, "flip_rate": 0.0, "images": 32, "decision": "inconclusive",
    }  # fmt: skip
    return Control(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def with_features(explanation: Report):
    return lambda *features: replace(explanation, features=features)


def test_names_the_planted_feature_its_group_and_its_direction(with_features) -> None:
    explained = with_features(
        ranked("Round glasses", 0.31, "raises"),
        ranked("Smile", -0.08, "lowers", group="Mouth"),
        ranked("Hat", 0.001, "no effect shown", group="Headwear"),
        ranked("Earrings", 0.0, "edit failed", group="Jewellery"),
    )
    first, second, third = verdict(replace(explained, noise_floor=0.01, margin=0.03))
    assert first == (
        "persona_v1 relies most on “round glasses” (in the group “Eyewear”): adding it raises the probability of "
        "“senior” by 31 percentage points on average (95% interval 26 to 36) and the prediction becomes "
        "“senior” on 7 of 32 images."
    )
    assert second == "It also reacts to “smile” (−8 points)."
    assert third == (
        "Of the 4 features tested, 1 shows no effect larger than ±3 percentage points and 1 could "
        "not be judged because the edit did not take (“earrings”)."
    )


def test_a_removed_feature_is_said_to_be_removed(with_features) -> None:
    first, *_ = verdict(with_features(ranked("Beard", -0.2, "lowers", direction="remove", leaves=0)))
    assert "removing it lowers" in first and "the prediction stops being “senior” on none of 32 images" in first


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"becomes": 4, "leaves": 0}, "the prediction becomes “zebra” on 4 of 24 images (it changes on 16)."),
        ({"becomes": 0, "leaves": 3}, "the prediction becomes “zebra” on none of 24 images (it changes on 16)."),
        ({"becomes": 4, "leaves": 12}, "the prediction becomes “zebra” on 4 of 24 images."),
        ({"becomes": None, "leaves": None}, "the predicted class changes on 16 of 24 images."),
    ],
)
def test_flips_are_of_the_explained_class(explanation: Report, more: dict[str, object], says: str) -> None:
    """Among many classes an image may change its class and never become the one that is explained."""
    zebra = Turn("the prediction", "becomes “zebra”", "stops being “zebra”", "", 1000)
    row = ranked("Stripes", 0.3, "raises", images=24, flip_rate=16 / 24, **more)
    first, *_ = verdict(replace(explanation, features=(row,), turn=zebra))
    assert first.endswith(says)


def test_a_mixed_effect_says_both_ways_that_images_turn(explanation: Report) -> None:
    age = Turn("age", "rises above 60 years", "falls below 60 years", "")
    row = ranked("Hat", 0.0, "mixed", becomes=5, leaves=3, images=24)
    first, *_ = verdict(
        replace(explanation, features=(row,), labels=("age",), target="value of “age”", bounded=False, turn=age)
    )
    assert "age rises above 60 years on 5 and falls below 60 years on 3 of 24 images" in first


def test_numbers_have_the_unit_of_the_target_and_one_image_is_one(explanation: Report) -> None:
    rows = (ranked("Turban", -12.24, "lowers", images=1), ranked("Beanie", -10.1, "lowers", group="Hats"))
    age = {"target": "age (years)", "unit": "years", "bounded": False, "labels": ("age",), "turn": None}
    about = replace(explanation, features=rows, noise_floor=0.5, **age)
    first, second, third = verdict(about)
    assert "adding it lowers the age by 12.24 years on average" in first and first.endswith("over 1 image.")
    assert "“beanie” (−10.10 years)" in second
    assert third == "Each of the 2 features tested was shown to have an effect, held against the null edits."
    quiet = [ranked(name, 0.01, "no effect shown") for name in ("Turban", "Beanie")]
    _, _, third = verdict(replace(about, features=tuple(quiet), margin=0.4))
    assert third == "Of the 2 features tested, 2 show no effect larger than ±0.4 years."
    assert measured(about) == "age"
    assert measured(replace(about, target='logit of "cat (tabby)"', unit="")) == "logit of “cat (tabby)”"


def test_a_class_of_the_target_is_no_feature_also_where_it_is_cut_short() -> None:
    name = "academic gown, academic robe, judge's robe"
    sentence = f"“a beanie” raises the logit of “{name}” and it becomes “{plain(name, 30)}” on none."
    assert emphasised(sentence, f'logit of "{name}"').count('<b class="term">') == 1


def test_one_group_behind_many_features_is_counted_not_listed(with_features) -> None:
    features = [ranked(name, 0.4, "raises") for name in ("Round glasses", "Square glasses", "Shades")]
    _, second, _ = verdict(with_features(*features, ranked("Grey hair", 0.2, "raises", group="Hair")))
    assert second == "“Eyewear” is behind 3 of the 4 strongest features; it also reacts to “grey hair” (+20 points)."


def test_an_effect_within_the_noise_is_said_to_be(explanation: Report) -> None:
    first, *_ = verdict(replace(explanation, features=(ranked("Hat", 0.015, "raises"),), noise_floor=0.02))
    assert "no larger than the noise of the edits" in first


def test_a_mixed_feature_moves_both_ways(with_features) -> None:
    first, *_ = verdict(with_features(ranked("Glasses", 0.01, "mixed", magnitude=0.4)))
    assert "moves the probability of “senior” by 40 percentage points on average, up on some images" in first


def test_nothing_found_claims_nothing(with_features) -> None:
    first, second, third = verdict(with_features(ranked("Hat", 0.01, "no effect shown")))
    assert first.startswith("No feature was shown to move persona_v1")
    assert "“hat”" in second and "within the noise" in second
    assert "1 shows no effect larger than ±2 percentage points" in third
    _, second, _ = verdict(with_features(ranked("Hat", 0.2, "inconclusive")))
    assert second.endswith(
        "(95% interval 15 to 25), inconclusive: these images cannot tell it from none, or from what control prompts do."
    )


def test_only_what_the_decisions_tested_is_said(explanation: Report) -> None:
    """Claims are held against null edits and control prompts, not against the noise floor."""
    lone = replace(explanation, features=(ranked("Hat", 0.3, "raises"),))
    assert not lone.controls
    _, second, third = verdict(lone)
    assert second == "No other feature was shown to move it."
    assert third == "The one feature tested was shown to have an effect, held against the null edits."
    _, _, third = verdict(replace(lone, controls=(control("flumox"),)))
    assert third.endswith("was shown to have an effect, held against the null edits and the control prompts.")
    earlier = replace(explanation, features=(ranked("Hat", 0.0, "no effect shown"),), margin=None)
    assert verdict(earlier)[-1] == ("Of the one feature tested, 1 shows no effect larger than the study's margin.")


@pytest.mark.parametrize(
    ("there", "failed", "says"),
    [
        (2, 0, "2 features could not be tried, since most images are so already."),
        (0, 1, "the edits of 1 feature failed."),
        (1, 3, "1 feature could not be tried, since most images are so already; the edits of 3 features failed."),
    ],
)
def test_why_nothing_was_tested_goes_by_the_decisions(explanation: Report, comparison: Comparison,
                                                      there: int, failed: int, says: str) -> None:  # fmt: skip
    decisions = ["already there"] * there + ["edit failed"] * failed
    rows = tuple(ranked(f"Hat {i}", 0.0, decision) for i, decision in enumerate(decisions))
    _, second, _ = verdict(replace(explanation, features=rows))
    assert second == f"The classifier has not been tested: {says}"
    both = tuple(compared(f"Hat {i}", 0.0, 0.0, decision) for i, decision in enumerate(decisions))
    _, second, _ = comparison_verdict(replace(comparison, features=both))
    assert second == f"Nothing can be said about what either version relies on: {says}"


@pytest.mark.parametrize("features", [(), (ranked("Hat", 0.0, "edit failed"),)])
def test_always_three_sentences(explanation: Report, features: tuple[RankedFeature, ...]) -> None:
    assert len(verdict(replace(explanation, features=features))) == 3


def test_a_logit_is_not_called_points(explanation: Report) -> None:
    first, *_ = verdict(
        replace(explanation, target='logit of "senior"', bounded=False, features=(ranked("Hat", 1.234, "raises"),))
    )
    assert "by 1.23 on average (95% interval 1.18 to 1.28)" in first


def test_hostile_names_stay_one_short_line(with_features) -> None:
    sentences = verdict(with_features(ranked("“" + HOSTILE + "\n\x1b[31m" * 9, 0.3, "raises")))
    assert all("\n" not in text and "\x1b" not in text and len(text) < 500 for text in sentences)


def compared(name: str, before: float, after: float, decision: str, **more: object) -> ComparedFeature:
    values: dict[str, object] = {
        "feature": name.lower(), "name": name, "group": "Eyewear", "level": 2, "effects": (before, after),
        "ranks": (1, 9), "flip_rates": (0.4, 0.0), "difference": after - before, "ci_low": after - before - 0.05,
        "ci_high": after - before + 0.05, "images": 32, "decision": decision,
    }  # fmt: skip
    return ComparedFeature(**(values | more))  # type: ignore[arg-type]


def test_the_comparison_says_that_the_shortcut_is_gone_and_what_matters_now(comparison: Comparison) -> None:
    features = (
        compared("Round glasses", 0.31, 0.01, "less reliant"),
        compared("Grey hair", 0.2, 0.25, "more reliant", group="Hair"),
        compared("Hat", 0.0, 0.0, "no change shown"),
        compared("Hoodie", 0.0, 0.03, "inconclusive"),
    )
    rules = (RuleOutcome("persona_v2", "a stays low", False),)
    first, second, third = comparison_verdict(replace(comparison, features=features, rules=rules))
    assert first.startswith("The biggest change is “round glasses” (in the group “Eyewear”)")
    assert "from +31 points in persona_v1 to +1 point in persona_v2" in first
    assert first.endswith("so persona_v2 hardly reacts to it any more, unlike persona_v1.")
    assert "more reliant on “grey hair”" in second and "strongest effects are now “grey hair” (+25 points)" in second
    assert third == (
        "Of 4 features, 2 changed, 1 shows no change and 1 is inconclusive; 1 rule of the study is broken: a stays low."
    )


def test_a_weaker_shortcut_is_not_called_gone(comparison: Comparison) -> None:
    first, *_ = comparison_verdict(
        replace(comparison, features=(compared("Glasses", 0.5, 0.2, "less reliant"),))
    )  # fmt: skip
    assert "still leans on it, but less than persona_v1" in first


def test_a_version_that_still_moves_on_the_image_shown_is_not_said_to_react_no_more(comparison: Comparison) -> None:
    (first, last), *_ = comparison.features[0].examples
    shown = ((first, replace(last, score_null=0.5, score_edit=0.22)),)
    gone = compared("Glasses", 0.5, 0.01, "less reliant", reliance=(0.5, 0.02), reliance_change=-0.48)
    said, *_ = comparison_verdict(replace(comparison, features=(replace(gone, examples=shown),)))
    assert "hardly reacts" not in said and "persona_v2 reacts to it on few images only, unlike persona_v1" in said
    still = ((first, replace(last, score_null=0.5, score_edit=0.51)),)
    said, *_ = comparison_verdict(replace(comparison, features=(replace(gone, examples=still),)))
    assert "hardly reacts to it any more" in said


def test_movement_both_ways_is_told_by_its_size_and_not_by_its_mean(comparison: Comparison) -> None:
    both = compared("Hat", 0.0, 0.01, "less reliant", reliance=(0.3, 0.05), reliance_change=-0.25)
    said, *_ = comparison_verdict(replace(comparison, features=(both,)))
    assert "of an image by 30 percentage points on average in persona_v1 and by 5 percentage points" in said
    assert "difference −25 points" in said


def test_failed_edits_are_neither_unchanged_nor_strong(comparison: Comparison) -> None:
    features = (compared("Ghost", 0.4, 0.4, "edit failed"), compared("Hat", 0.1, 0.1, "no change shown"))
    _, second, third = comparison_verdict(replace(comparison, features=features, rules=()))
    assert "ghost" not in second and "“hat”" in second
    assert third == (
        "Of 2 features, 0 changed, 1 shows no change and 1 could not be judged because the edit did not take (“ghost”)."
    )
    _, second, _ = comparison_verdict(replace(comparison, features=features[:1]))
    assert second == "Nothing can be said about what either version relies on: the edits of 1 feature failed."


def test_a_turned_direction_is_a_change(comparison: Comparison) -> None:
    features = (
        compared("Glasses", 0.4, -0.4, "direction changed"),
        compared("Hat", 0.2, -0.2, "direction changed", group="Headwear"),
    )
    first, second, third = comparison_verdict(replace(comparison, features=features, rules=()))
    assert "from +40 points in persona_v1 to −40 points in persona_v2" in first
    assert first.endswith("so persona_v2 reacts to it in another direction than persona_v1.")
    assert "moved in another direction by “hat”" in second and third.startswith("Of 2 features, 2 changed")


@pytest.mark.parametrize("features", [(), (compared("Hat", 0.0, 0.0, "no change shown"),)])
def test_a_comparison_always_has_three_sentences(comparison: Comparison, features: tuple[ComparedFeature, ...]) -> None:
    assert len(comparison_verdict(replace(comparison, features=features))) == 3


def test_a_confounded_effect_is_never_told_without_its_companion(with_features) -> None:
    def told(other: Confounder) -> list[str]:
        grey = ranked("Grey hair", 0.31, "raises", confounded_with=other)
        return verdict(with_features(grey, ranked("Beard", 0.2, "raises", group="Beard", confounded_with=other)))

    hat = Confounder("hat", "Wide hat", 0.6, 0.01, -0.02, 0.04)
    first, second, _ = told(hat)
    assert first.endswith("of 32 images; but it is confounded with “wide hat”, which its edits also change.")
    assert "“beard” (+20 points, confounded with “wide hat”)" in second
    first, second, _ = told(replace(hat, direct=math.nan, direct_low=math.nan, direct_high=math.nan))
    assert first.endswith("; but it cannot be told from “wide hat”: the edits towards either change both.")
    assert "“beard” (+20 points, cannot be told from “wide hat”)" in second


def test_headline_and_table_rank_by_one_number(with_features) -> None:
    both = ranked("Hat", 0.01, "mixed", magnitude=0.4)
    features = [ranked("Beard", 0.3, "raises"), ranked("Glasses", -0.2, "lowers"), both]
    assert [f.name for f in strongest(with_features(*reversed(features)).features)] == ["Beard", "Glasses", "Hat"]
    first, *_ = verdict(with_features(*features))
    assert "relies most on “beard”" in first


def test_one_output_has_nothing_to_flip(with_features) -> None:
    report = replace(
        with_features(ranked("Beard", 15.0, "raises", becomes=None, leaves=None)),
        labels=("age",),
        target="value of “age”",
        bounded=False,
    )
    first, *_ = verdict(replace(report, turn=None))
    assert "flip" not in first and first.endswith("over 32 images.")
