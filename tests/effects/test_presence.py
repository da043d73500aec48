"""Presence: who shows an attribute already, effects among the others, and do(1) − do(0), where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from diffex_dagster.effects.comparing import compare
from diffex_dagster.effects.deciding import decide
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.effects.presence import (
    both_arms,
    clustered_interval,
    enough,
    least_images,
    prevalence,
    seen_between,
    seen_from,
    share_interval,
)
from tests.support import simulations


def test_a_common_attribute_is_not_weak() -> None:
    """15 of 24 pictures smile already: a perfect editor changes nine, on which the effect is +0.5."""
    without = np.arange(24) >= 15
    rng = np.random.default_rng(0)
    d = np.where(without, 0.5 + rng.normal(0, 0.05, 24), 0.0)
    controls = rng.normal(0, 0.01, (24, 3))
    succeeded = {"smile": float(np.mean(d != 0.0))}
    plain = decide({"smile": d}, controls=controls, edit_success=succeeded)
    among = decide({"smile": d}, controls=controls, edit_success={"smile": 1.0}, without={"smile": without})
    assert plain["smile"].decision == "edit failed"
    assert among["smile"].decision == "raises"
    assert "mean +0.5" in among["smile"].reason


def test_what_nearly_every_picture_shows_is_already_there_and_not_tested() -> None:
    without = np.zeros(24, dtype=bool)
    without[:3] = True
    found = decide({"smile": np.full(24, 0.1)}, edit_success={"smile": 0.1}, without={"smile": without})["smile"]
    assert (found.decision, found.p_value) == ("already there", None)
    assert found.reason == "21 of 24 images are so already, and 3 are too few to judge it by"
    compared = compare({"s": np.zeros(24)}, {"s": np.full(24, 0.5)}, without={"s": without})["s"]
    assert (compared.decision, compared.p_value, compared.images) == ("already there", None, 24)


def test_versions_are_compared_on_the_pictures_without_it() -> None:
    without = np.arange(24) >= 12
    rng = np.random.default_rng(1)
    last = np.where(without, 0.4, 0.0) + rng.normal(0, 0.02, 24)
    found = compare({"s": rng.normal(0, 0.02, 24)}, {"s": last}, without={"s": without})["s"]
    assert found.decision == "more reliant"
    assert found.images == 12 and found.difference == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize(("level", "images"), [(0.05, 6), (0.1, 5), (0.01, 8)])
def test_the_fewest_images_of_which_a_claim_can_come(level: float, images: int) -> None:
    assert least_images(level) == images
    claims = []
    for n in (images - 1, images):
        d = {"a": np.r_[np.full(n, 0.5), np.zeros(20)]}
        without = {"a": np.r_[np.ones(n, bool), np.zeros(20, bool)]}
        options = DecisionOptions(level=level)
        claims.append(decide(d, options, without=without)["a"].decision)
    assert claims == ["already there", "raises"]
    assert enough(np.array([True, True, False]))  # of few images, half


def test_images_that_do_not_count_change_nothing_whatever_they_are() -> None:
    rng = np.random.default_rng(2)
    d, controls = rng.normal(0.1, 0.1, (30, 4)), rng.normal(0, 0.1, (30, 3))
    without = {f"f{j}": rng.random(30) < 0.7 for j in range(4)}
    for rate in ("fwer", "fdr-by", "fdr-ebh"):
        options = DecisionOptions(error_rate=rate, flips=999)  # type: ignore[arg-type]
        names = dict(zip(without, d.T, strict=True))
        odd = {name: np.where(without[name], column, 99.0) for name, column in names.items()}
        one = decide(names, options, controls=controls, without=without)
        assert one == decide(odd, options, controls=controls, without=without)


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="which lack it"):
        decide({"a": np.zeros(8)}, without={"a": np.ones(7, dtype=bool)})


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_features_that_do_what_control_prompts_do_are_not_claimed_among_some_images_either(share: float) -> None:
    setting, studies = simulations.Placebo(24, -3.0, 0.3), 200
    rng, claims = np.random.default_rng(3), 0
    for study in range(studies):
        d, controls = setting.draw(rng)
        options = DecisionOptions(flips=299, seed=study)
        names = {f"f{j}": d[:, j] for j in range(d.shape[1])}
        without = {name: rng.random(24) > share for name in names}
        found = decide(names, options, controls=controls, without=without)
        claims += any(each.decision in ("raises", "lowers") for each in found.values())
    assert claims / studies <= 0.05 + 2 * (0.05 * 0.95 / studies) ** 0.5


def test_effects_among_those_without_it_do_not_depend_on_prevalence_and_judges_may_err() -> None:
    """A judge that misses one picture in four and sees one in ten too many: still nearer than the plain mean."""
    rng, errors = np.random.default_rng(4), {"plain": [], "perfect": [], "judged": []}
    for share in np.linspace(0.0, 0.8, 9):
        has = rng.random(4000) < share
        d = np.where(has, 0.0, 0.5) + rng.normal(0, 0.05, 4000)
        seen = np.where(has, rng.random(4000) < 0.75, rng.random(4000) < 0.1)
        for name, on in (("plain", np.ones(4000, bool)), ("perfect", ~has), ("judged", ~seen)):
            errors[name].append(abs(d[on].mean() - 0.5))
    assert max(errors["perfect"]) < 0.01
    assert np.mean(errors["judged"]) < 0.6 * np.mean(errors["plain"])


def test_both_arms_are_the_causal_concept_effect() -> None:
    """Adding gives +0.3 to each of six without it; taking it away lowers each of the four with it by 0.5."""
    without = np.arange(10) < 6
    put = np.where(without, 0.3, 9.0)  # what adding does where it is already does not count
    effect = both_arms(put, without, np.full(4, -0.5))
    assert effect.mean() == pytest.approx((6 * 0.3 + 4 * 0.5) / 10)
    np.testing.assert_allclose(both_arms(put, np.ones(10, bool), []), put)
    with pytest.raises(ValueError, match="do not fit"):
        both_arms(put, without, np.zeros(3))


def test_intervals_of_do_1_minus_do_0_cover() -> None:
    rng, held = np.random.default_rng(5), []
    for _ in range(400):
        z, has = rng.normal(0, 1.5, 24), rng.random(24) < 0.4
        on, off = simulations.sigmoid(z + 1.5), simulations.sigmoid(z)
        effect = both_arms(on - off, ~has, (off - on)[has])
        low, high = interval(effect, reach=Reach(1.0, -1.0, 1.0, 0.02))
        true = 0.2455  # mean of sigmoid(z + 1.5) − sigmoid(z)
        held.append(low <= true <= high)
    z = rng.normal(0, 1.5, 1_000_000)
    assert float((simulations.sigmoid(z + 1.5) - simulations.sigmoid(z)).mean()) == pytest.approx(true, abs=0.002)
    assert np.mean(held) >= 0.93


def test_prevalence_has_clopper_and_pearsons_interval() -> None:
    for count, images in ((0, 24), (6, 24), (24, 24)):
        low, high = share_interval(count, images)
        exact = stats.binomtest(count, images).proportion_ci(method="exact")
        assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    seen = prevalence(np.arange(8) < 2)
    assert (seen.share, seen.images) == (0.25, 8) and seen.low < 0.25 < seen.high


def test_questions_about_the_same_pictures_are_worth_fewer_independent_ones() -> None:
    """Against what the interval promises: to hold the truth in 95 of 100 samples of pictures."""
    rng = np.random.default_rng(5)
    pictures, each, held, naive = 12, 9, 0, 0
    for _ in range(400):
        own = rng.beta(0.6, 0.6, size=pictures)  # pictures differ: the judge sees most of one, and little of another
        yes = rng.binomial(each, own)
        low, high = clustered_interval(yes, np.full(pictures, each))
        held += low <= 0.5 <= high
        low, high = share_interval(int(yes.sum()), pictures * each)
        naive += low <= 0.5 <= high
    assert held / 400 > 0.93 and naive / 400 < 0.75
    alone = clustered_interval(np.array([1, 0, 0, 1, 1, 0]), np.ones(6))  # a question a picture
    assert alone == pytest.approx(share_interval(3, 6), abs=0.03)
    low, high = clustered_interval(np.zeros(8), np.full(8, 9))
    assert low == 0.0 and share_interval(0, 72)[1] < high < share_interval(0, 8)[1]
    assert clustered_interval(np.full(8, 9), np.full(8, 9)) == pytest.approx((1 - high, 1.0))
    assert clustered_interval([2, 0], [4, 0]) == pytest.approx(share_interval(1, 2), abs=0.2)  # one picture


def test_what_means_nothing_is_seen_in_one_picture_of_ten_and_never_below_nothing() -> None:
    evidence = np.arange(100.0)
    assert np.mean(evidence > seen_from(evidence)) == pytest.approx(0.1)
    assert seen_from(-evidence) == 0.0
    assert seen_from(np.empty((0, 3))) == 0.0


def test_edits_that_succeeded_say_from_which_evidence_on_an_attribute_is_seen() -> None:
    before, after = np.array([1.0, 1.0, 1.0, 4.0]), np.array([5.0, 5.0, 5.0, 4.1])
    level = seen_between(before, after, after - before > 1)
    assert level == pytest.approx(4.0)  # three quarters of the way
    assert list(before > level - 0.1) == [False, False, False, True]
    assert seen_between(after, before, before - after < -1) == pytest.approx(4.0)  # taken away: the same place
    assert seen_between(before, after, np.zeros(4, bool)) is None
    succeeded = np.arange(24) < 7
    rises = np.where(succeeded, 4.0, 0.0)
    assert seen_between(np.zeros(24), rises, succeeded) == pytest.approx(3.0)
    assert seen_between(np.zeros(24), rises, np.arange(24) < 6) is None  # as many edits towards nothing succeed


def test_words_of_weak_evidence_are_seen_by_a_level_of_their_own() -> None:
    """All evidence of a word is below what words that mean nothing reach; with its edits it is told exactly."""
    rng = np.random.default_rng(0)
    shows = np.arange(40) < 12
    before = np.where(shows, -0.5, -8.0) + rng.normal(0.0, 0.3, 40)
    after = np.full(40, -0.4) + rng.normal(0.0, 0.3, 40)
    level = seen_between(before, after, after - before > 1.0)
    assert level is not None and list(before > level) == list(shows)
    assert not (before > seen_from(rng.normal(0.0, 1.0, (3, 40)))).any()
