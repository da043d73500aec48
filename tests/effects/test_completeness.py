"""How much of the outputs the features explain: near 1 where they make them, 0 where they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffex_dagster.effects.completeness import (
    LEAST,
    Explained,
    Node,
    Predicted,
    chance_shown,
    explained,
    folds,
    from_effects,
    from_ridge,
    mean_effects,
    scored,
    weights_of,
)


def of(
    pictures: int = 24,
    features: int = 12,
    used: tuple[float, ...] = (0.5, -0.3, 0.2),
    noise: float = 0.02,
    left_out: tuple[int, ...] = (),
    seed: int = 0,
    embedded: bool = False,
) -> Explained:
    """A classifier that adds up the first features, explained by all of them but those left out."""
    rng = np.random.default_rng(seed)
    shown = (rng.random((pictures, features)) < 0.5).astype(float)
    weights = np.zeros(features)
    weights[: len(used)] = used
    outputs = shown @ weights + 0.01 * rng.normal(size=pictures)
    effects = np.where(shown > 0, math.nan, weights + noise * rng.normal(size=(pictures, features)))
    kept = [k for k in range(features) if k not in left_out]
    return explained(
        outputs,
        {f"f{k}": shown[:, k] for k in kept},
        {f"f{k}": effects[:, k] for k in kept},
        embedding=shown if embedded else None,
    )


def test_what_the_features_make_is_explained_and_falls_when_the_strongest_is_unknown() -> None:
    for seed in range(3):
        whole, part = of(seed=seed, embedded=True), of(seed=seed, left_out=(0,))
        assert whole.by_effects.score > 0.95 and whole.scale == pytest.approx(1.0, abs=0.1)
        assert whole.by_effects.low > 0.9 and whole.by_effects.high <= 1.0
        assert part.by_effects.score < 0.6 and part.by_effects.low < part.by_effects.score
        assert whole.ceiling is not None and whole.ceiling.score > part.by_effects.score


def test_features_that_do_nothing_explain_nothing_even_where_there_are_more_of_them_than_pictures() -> None:
    """The outputs are noise, and so is what 40 edits do: a fitted coefficient each would explain the seen pictures."""
    scores = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shown = {f"f{k}": (rng.random(24) < 0.5).astype(float) for k in range(40)}
        effects = {name: 0.05 * rng.normal(size=24) for name in shown}
        scores.append(explained(rng.random(24), shown, effects).by_effects.score)
    assert np.mean(scores) < 0.05 and np.quantile(scores, 0.9) < 0.2


def test_outputs_that_go_along_with_a_feature_are_not_explained_by_it() -> None:
    """Every picture with a hat is old, and the edit shows that the hat does nothing."""
    rng = np.random.default_rng(1)
    hat = (rng.random(24) < 0.5).astype(float)
    found = explained(0.8 * hat + 0.05 * rng.normal(size=24), {"hat": hat}, {"hat": np.zeros(24)})
    assert found.by_effects.score == 0.0 and found.fitted.score > 0.9
    wrong_way = explained(0.8 * hat, {"hat": hat}, {"hat": np.full(24, -0.8)})
    assert wrong_way.by_effects.score == 0.0 and wrong_way.scale == pytest.approx(-1.0)


def test_a_prediction_knows_nothing_of_its_own_picture() -> None:
    """Neither its output, nor what its own edits did."""
    rng = np.random.default_rng(2)
    shown = (rng.random(24) < 0.5).astype(float)
    outputs, effects = 0.4 * shown, np.full(24, 0.4)
    before = explained(outputs, {"a": shown}, {"a": effects}).by_effects.values
    changed = np.array(outputs), np.array(effects)
    changed[0][5], changed[1][5] = 9.0, -7.0
    after = explained(changed[0], {"a": shown}, {"a": changed[1]}).by_effects.values
    assert after[5] == pytest.approx(before[5]) and not np.allclose(np.delete(after, 5), np.delete(before, 5))


def test_every_picture_is_held_out_once() -> None:
    for pictures in (LEAST, 20, 24, 331):
        found = folds(pictures)
        assert sorted(np.concatenate(found).tolist()) == list(range(pictures)) and len(found) <= 20


def drawn(pictures: int, features: int, noise: float, differs: float, seed: int) -> tuple[np.ndarray, ...]:
    """Outputs, what is shown and what edits did, where effects differ from picture to picture."""
    rng = np.random.default_rng(seed)
    shows = (rng.random((pictures, features)) < 0.5).astype(float)
    weights = np.zeros(features)
    weights[:3] = 0.5, -0.3, 0.2
    own = weights + differs * (weights != 0) * rng.normal(size=shows.shape)
    does = np.where(shows > 0, math.nan, own + noise * rng.normal(size=shows.shape))
    return (shows * own).sum(axis=1) + 0.1 * rng.normal(size=pictures), shows, does


@pytest.mark.parametrize("pictures", [12, 24])
@pytest.mark.parametrize(("features", "noise", "differs"), [(10, 0.3, 0.3), (40, 0.2, 0.1)])
def test_the_interval_covers_the_score_of_very_many_pictures(
    pictures: int, features: int, noise: float, differs: float
) -> None:
    """Few pictures know less of the effects: that is in the interval only if everything is found again each time."""

    def score(of: int, seed: int) -> Predicted:
        outputs, shows, does = drawn(of, features, noise, differs, seed)
        return scored(outputs, from_effects(outputs, shows, does))

    true = score(2000, 0).score
    found = [score(pictures, seed) for seed in range(1, 151)]
    assert 0.2 < true < 0.95
    assert 0.88 <= np.mean([each.low <= true <= each.high for each in found]) <= 1.0


def test_an_interval_is_everything_where_one_fold_holds_all_that_varies() -> None:
    outputs = np.zeros(12)
    outputs[3] = 1.0
    shown, effect = np.eye(12)[3], np.where(np.arange(12) == 3, math.nan, 1.0)
    found = explained(outputs, {"a": shown}, {"a": effect}).by_effects
    assert found.score == pytest.approx(1.0) and (found.low, found.high) == (0.0, 1.0)


def test_an_embedding_in_fewer_numbers_predicts_the_same() -> None:
    """Of more numbers than pictures only the distances count."""
    rng = np.random.default_rng(3)
    wide, outputs = rng.normal(size=(16, 40)), rng.random(16)
    padded = np.concatenate([wide, np.zeros((16, 300))], axis=1)
    known = np.ones((1, 16), dtype=bool)
    known[0, :3] = False
    assert from_ridge(outputs, padded)(known) == pytest.approx(from_ridge(outputs, wide)(known))


def test_a_finer_feature_is_not_counted_twice() -> None:
    full, some, none = 1.0, 1.0, 0.0
    shown = {
        "beard": np.array([full, some, none]),
        "beard/full": np.array([1.0, 0.0, 0.0]),
        "beard/goatee": np.array([1.0, 0.0, 0.0]),
        "hat": np.array([0.0, 1.0, 1.0]),
    }
    tree = [Node("beard", True, (Node("beard/full"), Node("beard/goatee"))), Node("hat")]
    found = weights_of(tree, shown)
    assert found["beard"].tolist() == [0, 1, 0] and found["hat"].tolist() == [0, 1, 1]
    assert found["beard/full"].tolist() == found["beard/goatee"].tolist() == [0.5, 0, 0]
    both = weights_of([Node("beard", False, tree[0].children)], shown)
    assert both["beard/full"].tolist() == both["beard/goatee"].tolist() == [1, 0, 0] and both["beard"][0] == 0
    unknown = weights_of([Node("beard", True, tree[0].children)], {k: v for k, v in shown.items() if k != "beard"})
    assert set(unknown) == {"beard/full", "beard/goatee"}


def test_a_judge_that_errs_is_believed_as_far_as_it_is_right() -> None:
    seen = np.array([1.0] * 50 + [0.0] * 50)
    assert chance_shown(seen).tolist() == seen.tolist()
    found = chance_shown(seen, hit=0.9, false_alarm=0.1)
    assert found[0] == pytest.approx(0.9) and found[-1] == pytest.approx(0.1)
    assert found.mean() == pytest.approx(0.5)  # Rogan and Gladen: (0.5 - 0.1) / (0.9 - 0.1)
    rare = chance_shown(np.array([1.0] * 10 + [0.0] * 90), hit=1.0, false_alarm=0.1)
    assert rare.tolist() == [0.0] * 100  # as many as a judge sees in pictures that do not show it
    assert chance_shown(seen, hit=0.1, false_alarm=0.1).tolist() == seen.tolist()


def test_a_mean_of_edits_is_pulled_to_nothing_as_far_as_it_may_be_noise() -> None:
    sure, noisy = np.full(16, 0.3), 0.05 + np.where(np.arange(16) % 2, 1.0, -1.0)
    missing = np.array([0.3, *[math.nan] * 15])
    found = mean_effects(np.stack([sure, noisy, missing], axis=1))
    assert found[0] == pytest.approx(0.3) and found[1] == 0.0 and found[2] == 0.0


def test_what_cannot_be_said_is_not() -> None:
    flat = explained(np.full(12, 0.5), {"a": np.arange(12) % 2 * 1.0}, {"a": np.zeros(12)})
    assert math.isnan(flat.by_effects.score) and math.isnan(flat.fitted.score)
    with pytest.raises(ValueError, match="too few"):
        explained(np.arange(LEAST - 1), {}, {})
    nothing = explained(np.arange(12.0), {}, {})
    assert nothing.by_effects.score == 0.0 and nothing.scale == 0.0
