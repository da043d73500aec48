"""What the scenes checkpoint is trained on is true of the pictures, and its script ends when it was told to."""

import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from diffex_dagster.worlds.scenes import WORLD
from training import text
from training.captions import description

STATES = [WORLD.sample_state(random.Random(seed)) for seed in range(40)]


def test_a_description_is_true_and_names_each_group_once() -> None:
    lengths = set()
    for seed, state in enumerate(STATES):
        names = description(WORLD, state, random.Random(seed))
        assert all(WORLD.has_feature(state, name) for name in names)
        assert len({WORLD.phrases[name][0] for name in names}) == len(names)
        lengths.add(len(names))
    assert len(lengths) > 5


def test_every_word_of_the_world_is_one_token_and_the_longest_description_fits(tmp_path: Path) -> None:
    tokenizer = text.build_tokenizer(tmp_path, WORLD, 77)
    for phrase in WORLD.phrases:
        assert len(tokenizer.tokenize(phrase)) == len(phrase.replace("-", " - ").split()), phrase
    longest = 0
    for seed, state in enumerate(STATES):
        names = WORLD.named(state, random.Random(seed), full=True)
        read = text.tokens(tokenizer, [", ".join(names)], 200)
        longest = max(longest, int((read[0] == tokenizer.eos_token_id).argmax()) + 1)
    assert longest <= 77


def test_the_clock_ends_a_stage_and_lowers_the_rate() -> None:
    from training.scenes_gpu import Clock

    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([weight], lr=1.0)
    ticks = itertools.count()  # a second passes each time that anybody looks
    clock = Clock(minutes=10, now=lambda: float(next(ticks)))
    rates = [optimiser.param_groups[0]["lr"] for _ in clock.steps(0.5, optimiser, [0.5])]
    assert 100 < len(rates) < 300
    assert rates[0] < 0.1 < 0.45 < max(rates) <= 0.5
    assert rates[-1] < 0.01
    assert len(list(clock.steps(0.5, optimiser, [0.5]))) == 2  # no time left, and still something is learnt


@pytest.mark.slow
def test_the_script_trains_packs_and_measures(tmp_path: Path) -> None:
    """Two steps of every stage: what comes out is a checkpoint that draws, a probe and their figures."""
    command = (
        "-m training.scenes_gpu --minutes 0.02 --count 16 --batch 4 --each 0 --workers 1 --held-out 8 --out".split()
    )
    subprocess.run([sys.executable, *command, str(tmp_path)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    (tmp_path / "whole.tar").write_bytes(b"".join(p.read_bytes() for p in sorted(tmp_path.glob("scenes.tar.*"))))
    with tarfile.open(tmp_path / "whole.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    assert json.loads((tmp_path / "quality.json").read_text())["denoiser"]["steps"] >= 2
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "checkpoint", torch_dtype=torch.float32)
    assert pipe("a farm", num_inference_steps=1, height=80, width=80).images[0].size == (80, 80)
    from training.probe import load

    probe = load(tmp_path / "probe" / "probe.safetensors", WORLD)
    assert set(probe.read([WORLD.draw(STATES[0])])[0]) == set(WORLD.factors)
