"""What the training scripts say about a picture has to be true of it."""

import random

import pytest

from diffex_dagster.worlds import avatars
from training.judge import agreement
from training.unet import description, training_caption

STATES = [avatars.sample_state(random.Random(seed)) for seed in range(60)]


def says(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """(factor, values) of every phrase of a list of phrases that names something."""
    return [avatars.PHRASES[phrase] for phrase in text.split(", ") if phrase in avatars.PHRASES]


@pytest.mark.parametrize("coarsely", [0.0, 1.0])
def test_a_name_is_true_of_the_state(coarsely: float) -> None:
    for seed, state in enumerate(STATES):
        for factor in avatars.FACTORS:
            if avatars.FACTORS[factor][state[factor]].phrases:
                of, values = avatars.PHRASES[avatars.name_of(state, factor, random.Random(seed), coarsely)]
                assert of == factor
                assert state[factor] in values


def test_a_description_is_true_and_names_each_factor_once() -> None:
    for seed, state in enumerate(STATES):
        named = says(description(state, random.Random(seed)))
        assert len(named) >= 3
        assert all(state[factor] in values for factor, values in named)
        assert len({factor for factor, _ in named}) == len(named)


def test_training_captions_contain_descriptions_only_when_asked() -> None:
    plain = [training_caption(STATES[0], random.Random(seed)) for seed in range(300)]
    described = [training_caption(STATES[0], random.Random(seed), described=1.0) for seed in range(300)]
    assert max(len(says(text)) for text in plain) <= 5
    assert sum(len(says(text)) > 5 for text in described) > 100
    assert plain.count("") == described.count("") > 10


def test_agreement_of_a_judge_counts_its_errors_of_both_kinds() -> None:
    says, shown = [True] * 6 + [False] * 4, [True] * 5 + [False] * 4 + [True]
    found = agreement(says, shown)
    assert (found["edits"], found["agreement"], found["edits_that_show"]) == (10, 0.8, 0.6)
    assert (found["said_to_show_and_do_not"], found["show_and_said_not_to"]) == (1, 1)
    low, high = found["interval"]
    assert low == pytest.approx(0.490, abs=1e-3) and high == pytest.approx(0.943, abs=1e-3)
    assert found["kappa"] == pytest.approx((0.8 - 0.52) / 0.48)
