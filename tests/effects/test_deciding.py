"""Decisions on differences whose right decision is plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffex_dagster.effects.comparing import compare
from diffex_dagster.effects.deciding import adjust_holm, decide
from diffex_dagster.effects.options import DecisionOptions, ErrorRate
from diffex_dagster.effects.paired import Reach, images_that_undo, interval
from tests.support import simulations

PATIENT = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

RNG = np.random.default_rng(0)
IMAGES = 32
PLAIN = {
    "up": RNG.normal(0.3, 0.1, IMAGES),
    "down": RNG.normal(-0.3, 0.1, IMAGES),
    "both ways": np.where(np.arange(IMAGES) % 2, 0.3, -0.3) + RNG.normal(0, 0.01, IMAGES),
    "nothing": RNG.normal(0.0, 0.005, IMAGES),
    "untouched": np.zeros(IMAGES),
    "tiny but sure": RNG.normal(0.008, 0.002, IMAGES),
    "a few images": np.r_[np.zeros(IMAGES - 3), 0.9, 0.5, -0.7],
}
EXPECTED = {
    "up": "raises",
    "down": "lowers",
    "both ways": "mixed",
    "nothing": "inconclusive",  # 32 images do not show that others would not move
    "untouched": "inconclusive",
    "tiny but sure": "inconclusive",
    "a few images": "inconclusive",
}
RATES: tuple[ErrorRate, ...] = ("fwer", "fdr-by", "fdr-ebh")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", RATES)
def test_plain_cases(rate: ErrorRate) -> None:
    decisions = decide(PLAIN, DecisionOptions(error_rate=rate))
    assert {name: decision.decision for name, decision in decisions.items()} == EXPECTED
    assert list(decisions) == list(PLAIN)
    assert "32 images do not rule out that others do" in decisions["tiny but sure"].reason
    assert decisions["untouched"].p_value == 1.0
    many = decide({name: np.tile(d, 10) for name, d in PLAIN.items()}, DecisionOptions(error_rate=rate))
    shown = ("nothing", "untouched", "tiny but sure")
    assert {many[name].decision for name in shown} == {"no effect shown"}
    assert "though it differs from zero" in many["tiny but sure"].reason


def test_a_feature_whose_edits_failed_is_not_judged() -> None:
    decisions = decide(PLAIN, edit_success={"up": 0.2, "down": 0.9})
    assert decisions["up"].decision == "edit failed" and decisions["up"].p_value is None
    assert "20% of its edits show it" in decisions["up"].reason
    assert decisions["down"].decision == "lowers"
    others = {name: values for name, values in PLAIN.items() if name != "up"}
    assert {n: d for n, d in decisions.items() if n != "up"} == decide(others, edit_success={"down": 0.9})


def test_moves_within_the_noise_of_one_image_are_not_mixed() -> None:
    d = {"noisy": np.random.default_rng(1).normal(0.0, 0.1, IMAGES)}
    assert decide(d)["noisy"].decision == "mixed"  # had the editor no noise, it would be
    assert decide(d, image_noise=0.2)["noisy"].decision == "inconclusive"


def test_a_sure_mean_is_stated_with_its_exceptions() -> None:
    d = {"mostly up": np.r_[np.full(26, 0.3), np.full(6, -0.2)] + np.random.default_rng(2).normal(0, 0.02, 32)}
    decision = decide(d)["mostly up"]
    assert decision.decision == "raises" and "6 of 32 images move the other way" in decision.reason


def test_minimum_effect_asks_for_more() -> None:
    d = {"0.1": np.random.default_rng(3).normal(0.1, 0.1, IMAGES)}
    assert decide(d)["0.1"].decision == "raises"
    assert decide(d, DecisionOptions(minimum_effect=0.1))["0.1"].decision == "inconclusive"


def test_few_still_images_show_nothing() -> None:
    assert decide({"still": np.zeros(4)})["still"].decision == "inconclusive"
    assert decide({"still": np.zeros(100)})["still"].decision == "inconclusive"
    assert decide({"still": np.zeros(160)})["still"].decision == "no effect shown"
    assert decide({"still": np.zeros(40)}, DecisionOptions(margin=0.1))["still"].decision == "no effect shown"
    assert decide({"one": [0.5]})["one"].decision == "inconclusive"


@pytest.mark.parametrize("rate", RATES)
def test_what_is_smaller_than_the_margin_is_never_claimed(rate: ErrorRate) -> None:
    for images in (6, 24, 300):
        assert decide({"x": [1e-9] * images}, DecisionOptions(error_rate=rate))["x"].decision != "raises"


@pytest.mark.parametrize("rate", RATES)
def test_a_claim_and_its_interval_agree(rate: ErrorRate) -> None:
    rng, claims = np.random.default_rng(9), 0
    for _ in range(200):
        d = rng.normal(0, 0.01, 12) + (rng.random(12) < 0.5) * rng.uniform(-0.5, 0.5)
        decision = decide({"x": d}, DecisionOptions(error_rate=rate))["x"].decision
        low, high = interval(d, reach=Reach(still=0.02))
        if decision in ("raises", "lowers"):
            claims += 1
            assert low > 0 if decision == "raises" else high < 0
    assert claims


def test_nothing_to_decide() -> None:
    assert decide({}) == {}
    assert decide({"a": [0.1, 0.2]}, edit_success={"a": 0.0})["a"].decision == "edit failed"


def test_errors_name_the_feature() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(3,\)"):
        decide({"a": [0.1, 0.2], "b": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match="'b' is not a finite number"):
        decide({"a": [0.1, 0.2], "b": [0.1, float("nan")]})
    with pytest.raises(ValueError, match="'fwer', 'fdr-by' or 'fdr-ebh'"):
        DecisionOptions(error_rate="bh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="level"):
        DecisionOptions(level=5)


def test_equivalence_is_two_one_sided_tests() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(50):
        half = rng.normal(0, 0.05, 12)
        d = np.r_[half, -half] + rng.uniform(0, 0.04)
        furthest = np.abs(d - d.mean()).max()
        more = np.r_[d, d.mean() + furthest, d.mean() - furthest]  # the interval's own two images
        p = weightstats.DescrStatsW(more).ttost_mean(-0.03, 0.03)[0]
        low, high = interval(d)
        assert (low >= -0.03 and high <= 0.03) == (p <= 0.025)
        seen.add(p <= 0.025)
    assert seen == {True, False}


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(5).uniform(0, 1, 30) ** 4
    np.testing.assert_allclose(adjust_holm(p), multitest.multipletests(p, method="holm")[1])


@PATIENT
@given(st.integers(0, 10_000), st.sampled_from(RATES), st.floats(0.01, 100))
def test_order_of_features_and_images_and_the_unit_do_not_matter(seed: int, rate: ErrorRate, unit: float) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(rng.uniform(-1, 1, 5), 0.5, (10, 5))
    d = {f"f{j}": table[:, j] for j in range(5)}
    options = DecisionOptions(error_rate=rate, margin=0.1)  # 2^10 patterns: exact, hence free of image order

    def texts(values: dict[str, np.ndarray], options: DecisionOptions = options) -> dict[str, str]:
        return {name: decision.decision for name, decision in decide(values, options).items()}

    expected = texts(d)
    assert texts(dict(reversed(d.items()))) == expected
    order = rng.permutation(10)
    assert texts({name: values[order] for name, values in d.items()}) == expected
    scaled = DecisionOptions(error_rate=rate, margin=0.1 * unit)
    assert texts({name: values * unit for name, values in d.items()}, scaled) == expected
    swap = {"raises": "lowers", "lowers": "raises"}
    assert texts({n: -v for n, v in d.items()}) == {n: swap.get(text, text) for n, text in expected.items()}


@pytest.mark.parametrize("error_rate", ["fwer", "fdr-by", "fdr-ebh"])
def test_features_that_left_a_race_still_count(error_rate: str) -> None:
    """As if they were there with differences that say nothing: never a smaller p-value than without them."""
    rng = np.random.default_rng(3)
    d = {f"f{i}": rng.normal(0.3 if i < 2 else 0.0, 0.3, 14) for i in range(6)}
    options = DecisionOptions(error_rate=error_rate)  # type: ignore[arg-type]
    alone, among = decide(d, options), decide(d, options, left=60)
    for name in d:
        assert among[name].p_value >= alone[name].p_value - 1e-12
    assert decide({"f0": d["f0"]}, options, left=500)["f0"].decision == "inconclusive"
    if error_rate == "fwer":
        raw = np.array([alone[name].p_raw for name in d] + [1.0] * 60)
        expected = dict(zip(d, adjust_holm(raw), strict=False))
        tested = {name: among[name].p_value for name in d if among[name].decision != "mixed"}
        assert tested == pytest.approx({name: expected[name] for name in tested})


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_no_effect_shown_is_seldom_wrong_at_any_number_of_images(share: float) -> None:
    """At every number of images that it is allowed at, for effects that few images carry, small and large."""
    for images in (8, 24, 59, 100, 149, 160, 250, 400):
        for size in (1.25 * 0.02 / share, 0.5, 0.9):
            rate = simulations.false_all_clear(images, share, size, studies=300)
            assert rate <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5, (images, size)
    assert decide({"x": np.zeros(400)})["x"].decision == "no effect shown"  # it can be said at all


@pytest.mark.parametrize(("features", "left"), [(200, 0), (10, 190)])
def test_one_effect_among_two_hundred_features_can_be_claimed(features: int, left: int) -> None:
    """The number of random flips grows with the family: a p-value can get as small as the claim needs."""
    rng = np.random.default_rng(6)
    d = {f"f{j}": rng.normal(0.5 if j == 0 else 0.0, 0.1, 40) for j in range(features)}
    for rate in ("fdr-by", "fwer"):
        decided = decide(d, DecisionOptions(error_rate=rate), left=left)  # type: ignore[arg-type]
        assert decided["f0"].decision == "raises", rate


def test_a_decision_and_its_interval_never_contradict_each_other() -> None:
    """Over studies of all kinds, among some images too: what is claimed, the interval shows."""
    rng, options, claimed, quiet = np.random.default_rng(9), DecisionOptions(flips=299, margin=0.1), 0, 0
    for study in range(40):
        n, shape = int(rng.integers(6, 120)), rng.choice(["few", "skewed", "small", "still"])
        d = {
            "few": (rng.random((n, 6)) < 0.2) * rng.uniform(-0.1, 0.8, (n, 6)),
            "skewed": np.where(rng.random((n, 6)) < 0.15, 0.5, -0.06) + rng.normal(0, 0.02, (n, 6)),
            "still": rng.normal(0, 0.005, (n, 6)),
            "small": rng.normal(rng.normal(0, 0.05, 6), 0.08, (n, 6)),
        }[shape]
        columns = {f"f{j}": np.clip(d[:, j], -1, 1) for j in range(6)}
        without = {name: rng.random(n) < 0.7 for name in ("f0", "f1")}
        controls = rng.normal(0, 0.01, (n, int(rng.integers(0, 4))))
        found = decide(columns, options, controls=controls, without=without, reach=Reach())
        placebo = controls.mean(axis=1) if controls.shape[1] else 0.0
        for name, decision in found.items():
            if decision.decision == "already there":
                continue
            low, high = interval((columns[name] - placebo)[without.get(name, np.ones(n, bool))], 0.95, Reach(still=0.1))
            holds = {"raises": low > 0, "lowers": high < 0, "no effect shown": low >= -0.1 and high <= 0.1}
            assert holds.get(decision.decision, True), (study, name, decision, low, high)
            claimed += decision.decision in ("raises", "lowers")
            quiet += decision.decision == "no effect shown"
    assert claimed > 20 and quiet > 5


def test_one_more_image_undoes_a_claim_of_little() -> None:
    """A hair style that lowers most of 21 pictures by 0.03; a moustache of the same study raises one by 0.9."""
    rng = np.random.default_rng(7)
    hair, moustache = rng.normal(-0.03, 0.02, 21), np.r_[np.full(20, 0.0), 0.9]
    assert images_that_undo(float(hair.mean()), 21, 0.9) == 1
    assert decide({"hair": hair})["hair"].decision == "lowers"  # nothing says that an image could move further
    beside = decide({"hair": hair, "moustache": moustache})["hair"]
    assert beside.decision == "inconclusive" and "one more image that moves by 0.9 the other way" in beside.reason
    assert decide({"hair": hair, "moustache": -moustache})["hair"].decision == "lowers"  # not against its mean
    assert decide({"hair": np.tile(hair, 3), "moustache": np.tile(moustache, 3)})["hair"].decision == "lowers"
    strong = decide({"hair": hair - 0.05, "moustache": moustache})["hair"]
    assert strong.decision == "lowers" and "3 more that move by 0.9 the other way would undo it" in strong.reason
    many = {f"nothing {j}": np.zeros(21) for j in range(20)}  # one move in 462 is rarer than one in 400
    assert decide({"hair": hair, "moustache": moustache} | many)["hair"].decision == "lowers"
    failed = decide({"hair": hair, "moustache": moustache}, edit_success={"moustache": 0.1})
    assert failed["hair"].decision == "lowers"  # an edit that failed says nothing of how far an image can move


def test_images_that_undo_a_mean() -> None:
    for mean, images, against, least in ((0.1, 24, 0.5, 0.0), (-0.3, 12, 0.9, 0.02), (0.04, 48, 0.9, 0.0)):
        k = images_that_undo(mean, images, against, least)
        left = [(images * abs(mean) - more * against) / (images + more) for more in (k - 1, k)]
        assert left[0] > least >= left[1]
    assert images_that_undo(0.01, 6, 0.9) == 1.0 and images_that_undo(0.01, 6, 0.0) == np.inf


def test_an_interval_of_a_small_measure_is_never_printed_as_nothing() -> None:
    """A class of a thousand has probabilities of hundred thousandths; its effects have digits all the same."""
    d = np.random.default_rng(3).normal(2e-5, 1e-5, 24)
    reason = decide({"x": d}, DecisionOptions(margin=1e-6), reach=Reach(1e-3))["x"].reason
    assert "0.000," not in reason and "0.000]" not in reason and "mean +0.000020" in reason.replace("19", "20")
    changed = compare({"x": d}, {"x": 3 * d}, DecisionOptions(margin=1e-6), reach=Reach(1e-3))["x"].reason
    assert "0.000 " not in changed and "0.000," not in changed
