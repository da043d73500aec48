"""Racing: what it keeps, what it saves, and that it is repeatable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diffex_dagster.bench.racing import NULL, resample, strongest, summarise
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.racing import Need, Race, _contenders, _undecided
from diffex_dagster.search.run import new_race, search
from tests.support.search import Toy, node

IMAGES = 60
ARMS = [f"a{i}" for i in range(30)]


def table(seed: int = 0, strong: int = 5) -> dict[str, np.ndarray]:
    """Five arms of |mean| about 0.3, of either sign, and 25 of almost none."""
    rng = np.random.default_rng(seed)
    means = [0.3 * (-1) ** i if i < strong else 0.01 for i in range(len(ARMS))]
    return {arm: np.clip(rng.normal(mean, 0.05, IMAGES), -1, 1) for arm, mean in zip(ARMS, means, strict=True)}


def race_over(d: dict[str, np.ndarray], needs: Sequence[Need], **options: object) -> tuple[Race, list[tuple]]:
    asked: list[tuple[str, int]] = []

    def score(arms: Sequence[str], images: Sequence[int]) -> dict[str, np.ndarray]:
        asked.extend((arm, image) for arm in arms for image in images)
        return {arm: d[arm][list(images)] for arm in arms}

    order = np.random.default_rng(7).permutation(IMAGES).tolist()
    race = Race(order, len(d), SearchOptions(allocation="racing", **options))  # type: ignore[arg-type]
    race.run(d, needs, score)
    return race, asked


def effect_need(d: dict[str, np.ndarray], top: int = 5, tolerance: float = 0.0) -> Need:
    return Need({arm: (arm,) for arm in d}, top, "effect", finish=True, tolerance=tolerance)


def test_the_strongest_finish_and_the_others_leave_early() -> None:
    d = table()
    race, asked = race_over(d, [effect_need(d)], racing_start=10)
    assert set(race.finalists()) == set(ARMS[:5])
    assert set(race.left) == set(ARMS[5:])
    assert len(asked) == len(set(asked)) == race.spent, "no image is asked for twice"
    assert race.spent < 0.4 * race.exhaustive
    for arm, values in race.result().items():
        if arm in race.left:
            np.testing.assert_array_equal(values, d[arm][race.order[: race.left[arm]]])
        else:
            np.testing.assert_array_equal(values, d[arm])
    assert "25 of 30 features left" in race.describe() and f"{race.spent} edits instead of 1800" in race.describe()


def test_bounded_needs_more_images_and_agrees() -> None:
    d = table()
    careful, _ = race_over(d, [effect_need(d)], racing_bounds="bounded")
    quick, _ = race_over(d, [effect_need(d)])
    assert set(ARMS[:5]) <= set(careful.finalists())
    assert quick.spent < careful.spent < careful.exhaustive
    fails = "does not hold where a few images in a hundred carry an effect"
    assert fails in quick.describe() and fails not in careful.describe()


def test_near_ties_are_all_measured_unless_tolerated() -> None:
    d = table(strong=30)  # all alike
    race, _ = race_over(d, [effect_need(d)], racing_start=6)
    assert len(race.finalists()) > 20
    tolerant, _ = race_over(d, [effect_need(d, tolerance=0.2)], racing_start=6, racing_tolerance=0.2)
    assert 5 <= len(tolerant.finalists()) < 10
    assert "by less than 0.2" in tolerant.describe()


def test_opposite_children_keep_a_group_in_the_race_for_the_beam() -> None:
    """Mean 0 and |d| 0.4: no strong feature by its mean, and yet the beam has to know it."""
    d = table()
    d["a20"] = np.tile([0.4, -0.4], IMAGES // 2)
    beam = Need({arm: (arm,) for arm in d}, 6, "magnitude", finish=False)
    race, _ = race_over(d, [effect_need(d), beam])
    magnitudes = {arm: np.abs(values).mean() for arm, values in race.result().items()}
    assert sorted(magnitudes, key=lambda arm: -magnitudes[arm])[:6].count("a20") == 1
    assert race.left["a20"] < IMAGES, "it is known before all images are spent"


def test_a_group_is_spoken_for_by_its_strongest_arm() -> None:
    d = table()
    groups = {f"g{i}": (ARMS[i], ARMS[29 - i]) for i in range(15)}
    race, _ = race_over(d, [Need(groups, 5, "effect", finish=True)])
    assert set(race.finalists()) == set(ARMS[:5])


def world() -> tuple[Corpus, dict[str, np.ndarray]]:
    """Eight groups of six features over 200 images: three groups matter."""
    rng = np.random.default_rng(5)
    groups = tuple(node(f"g{i}", *(node(f"f{j}") for j in range(6))) for i in range(8))
    corpus, d = Corpus(groups), {NULL: rng.random(200)}
    for feature in corpus.walk():
        group, child = int(feature.id[1]), int(feature.id[-1])
        mean = 0.15 + 0.05 * child if group < 3 and feature.level == 2 else 0.12 if group < 3 else 0.01
        d[feature.id] = np.clip(rng.normal(mean * (-1) ** group, 0.08, 200), -1, 1)
    return corpus, d


def test_resampled_studies_find_the_same_at_a_part_of_the_edits() -> None:
    corpus, d = world()
    options = SearchOptions(beam=4, racing_start=6)
    pairs = resample(corpus, d, options, images=60, studies=40)
    saved = summarise(pairs, "toy", 60, options)
    assert saved.same >= 0.95 and saved.close >= saved.same
    assert saved.share < 0.75
    assert all(exhaustive.edits == 60 * exhaustive.asked for exhaustive, _ in pairs)
    assert all(racing.race is not None and racing.edits == racing.race.spent for _, racing in pairs)


def test_a_race_with_all_images_in_the_first_round_is_the_exhaustive_search() -> None:
    corpus, d = world()
    ((exhaustive, racing),) = resample(corpus, d, SearchOptions(racing_start=50), images=50, studies=1)
    assert racing.edits == exhaustive.edits
    assert strongest(racing, 5) == strongest(exhaustive, 5)
    assert racing.expanded == exhaustive.expanded
    for feature, values in exhaustive.scores.items():
        np.testing.assert_array_equal(racing.scores[feature], values)


def test_the_joint_combination_is_grown_from_finalists_on_all_images() -> None:
    weights = {"g0": 0.2, "g1": -0.35, "g2": 0.2, "g0/f0": 0.4, "g2/f0": 0.3}
    toy = Toy(weights, images=24, noise=0.01)
    corpus = Corpus(tuple(node(f"g{i}", node("f0"), node("f1")) for i in range(6)))
    asked: list[tuple[tuple[str, ...], tuple[int, ...] | None]] = []

    def score(features: Sequence[tuple[Feature, ...]], images: Sequence[int] | None = None) -> dict:
        answers = toy(features)
        asked.extend((ids, None if images is None else tuple(images)) for ids in answers)
        return answers if images is None else {ids: d[list(images)] for ids, d in answers.items()}

    options = SearchOptions(allocation="racing", racing_top=3, racing_start=10)
    result = search(corpus, score, options, race=new_race(corpus, range(24), options))
    assert result.race is not None and result.race.left and result.joint is not None
    assert {f.id for f in result.joint.features} <= set(result.race.finalists())
    assert all((images is None) == (len(ids) > 1) for ids, images in asked)
    joint = sum(len(ids) > 1 for ids, _ in asked)
    assert result.edits == result.race.spent + 24 * joint


def test_a_measure_without_limits_races_as_one_with_wide_limits() -> None:
    """Logits: the beam's race has finished some features before the last race draws them beside others."""
    corpus, d = world()
    found = []
    for reach in (50.0, np.inf):

        def score(combinations: Sequence[tuple[Feature, ...]], images: Sequence[int] = range(60)) -> dict:
            return {(f.id,): 10 * d[f.id][list(images)] for (f,) in combinations}

        options = SearchOptions(allocation="racing", beam=4, racing_start=6, joint_size=1)
        race = new_race(corpus, range(60), options, (-reach, reach), d[NULL][:60].tolist())
        result = search(corpus, score, options, race=race)
        assert result.race is not None and result.race.left
        found.append((strongest(result, 5), result.edits))
    assert found[0] == found[1]


def test_what_is_known_of_every_image_before_the_edit_saves_edits() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(IMAGES)
    d = {arm: (0.1 + 0.02 * i) * (1 - before) + rng.normal(0, 0.01, IMAGES) for i, arm in enumerate(ARMS)}
    order, spent = rng.permutation(IMAGES).tolist(), []
    for known in ((), before.tolist()):
        race = Race(order, len(d), SearchOptions(allocation="racing", racing_start=10), before=known)
        race.run(d, [effect_need(d)], lambda arms, images: {arm: d[arm][list(images)] for arm in arms})
        assert set(race.finalists()) >= set(ARMS[-5:])
        spent.append(race.spent)
    assert spent[1] < spent[0]


def test_an_arm_that_left_comes_back_where_it_might_be_missed_after_all() -> None:
    """The five that looked strong at first do nothing on later images."""
    rng = np.random.default_rng(9)
    order = list(range(IMAGES))
    d = {arm: rng.normal(0.3, 0.01, IMAGES) for arm in ARMS}
    for arm in ARMS[:5]:
        d[arm] = np.where(np.arange(IMAGES) < 10, 0.5, 0.0) + rng.normal(0, 0.01, IMAGES)
    asked = []

    def score(arms: Sequence[str], images: Sequence[int]) -> dict[str, np.ndarray]:
        asked.append((len(arms), images[0]))
        return {arm: d[arm][list(images)] for arm in arms}

    race = Race(order, len(d), SearchOptions(allocation="racing", racing_start=10))
    race.run(d, [effect_need(d)], score)
    assert not set(ARMS[:5]) & set(strongest_of(race, d))
    assert any(first == 10 and count >= 5 for count, first in asked[2:]), "asked again after others had gone on alone"


def strongest_of(race: Race, d: dict[str, np.ndarray]) -> list[str]:
    return sorted(race.finalists(), key=lambda arm: -abs(d[arm].mean()))[:5]


def draws(*means: float, spread: float = 0.001) -> np.ndarray:
    return np.random.default_rng(0).normal(np.array(means)[:, None], spread, (len(means), 500))


def beam(top: int, floor: float = -np.inf, tolerance: float = 0.0) -> Need:
    return Need({}, top, "magnitude", finish=False, floor=floor, tolerance=tolerance)


def test_who_is_undecided() -> None:
    near = np.vstack([draws(0.5), draws(0.3, 0.3, spread=0.05), draws(0.1)])
    assert set(_undecided(near, beam(2), 0.01)) == {1, 2}, "two near ties for the second place"
    assert _undecided(near, beam(2, tolerance=0.4), 0.01) == []
    assert _undecided(near, beam(3), 0.01) == []
    assert _undecided(near, beam(2, floor=0.6), 0.01) == [], "all are below the floor"
    assert set(_undecided(near, beam(4, floor=0.3), 0.01)) == {1, 2}, "places for all, but two may be below the floor"
    # Fewer than the places are above the floor: what is hopeless is no candidate for the rest.
    hopeless = np.vstack([draws(0.5, 0.4), draws(0.1, 0.1, spread=0.07)])
    assert (hopeless[2:] > 0.3).any() and _undecided(hopeless, beam(3, floor=0.3), 0.01) == []
    # Signed, as the paper's gate: what lowers most is not strong.
    assert _undecided(np.vstack([draws(-0.9), draws(0.2, 0.1)]), beam(1, floor=0.0), 0.01) == []


def test_the_fewest_contenders_hold_the_top() -> None:
    need = Need({}, 2, "effect", finish=True)
    spent = np.full(4, 10)
    clear = draws(0.1, 0.5, 0.2, 0.4)
    assert sorted(_contenders(clear, spent, need, 0.01)) == [1, 3]
    near = np.vstack([draws(0.5), draws(0.3, 0.3, spread=0.05), draws(0.1)])
    assert sorted(_contenders(near, spent, need, 0.01)) == [0, 1, 2]
    assert _contenders(near[:2], spent[:2], need, 0.01) == [0, 1], "no more than there are places"
    tolerant = Need({}, 2, "effect", finish=True, tolerance=0.4)
    assert sorted(_contenders(near, np.array([10, 10, 20, 10]), tolerant, 0.01)) == [0, 2], (
        "what went on before goes on"
    )


def test_options_are_checked() -> None:
    for wrong in (
        {"allocation": "random"}, {"racing_bounds": "sure"}, {"racing_error": 0.0}, {"racing_growth": 1.0},
        {"racing_start": 1}, {"racing_top": 0}, {"racing_tolerance": -0.1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SearchOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="racing needs a race"):
        search(world()[0], Toy({}), SearchOptions(allocation="racing"))
