"""The diffusion classifier: its arithmetic on a random checkpoint, and whether it sees what the demo model knows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.editing.diffusion_classifier import errors, noise_error
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.models import Texts
from diffex_dagster.editing.solver import Step
from diffex_dagster.errors import EditorError
from diffex_dagster.judging.diffusion import DiffusionJudge
from diffex_dagster.worlds import avatars
from tests.support.checkpoints import build_checkpoint, noisy_pictures

DEMO = Path(__file__).parent.parent.parent / "studies" / "avatars" / "editor"
COUNT = 4  # drawings for the slow test
PAIRS = [("one", "hat"), ("one", "beard"), ("two", "hat"), ("three", "smile")]


def judge_on(checkpoint: Path, **options) -> DiffusionJudge:
    return DiffusionJudge(LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), steps=10, device="cpu")), **options)


@pytest.fixture(scope="module")
def images() -> dict[str, Image.Image]:
    return noisy_pictures()


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("judge"), request.param)


def answers(of: DiffusionJudge, pictures, pairs) -> dict[tuple[str, str], float]:
    return dict(answer for batch in of.evidence(pictures, pairs) for answer in batch)


def test_evidence_is_the_difference_of_noise_prediction_errors(checkpoint: Path, images) -> None:
    judge = judge_on(checkpoint, draws=2)
    found = answers(judge, images, PAIRS)
    engine = judge.editor.engine()
    kind = json.loads((checkpoint / "scheduler" / "scheduler_config.json").read_text())["prediction_type"]
    pixels = torch.from_numpy(np.asarray(images["two"], dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    clean = engine.encode(pixels)
    expected = 0.0
    for draw, share in enumerate((0.8, 0.7)):  # one picture, one text and one draw at a time, from the definition
        step = min(engine.steps, key=lambda s: abs(s.timestep - 1000 * share))
        noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(draw))
        x = step.signal * clean + step.sigma * noise
        errors = []
        for prompt in ("", "hat"):
            with torch.no_grad():
                output = engine.unet(
                    x, torch.tensor([step.timestep]), encoder_hidden_states=engine.text(prompt).embedding[None]
                ).sample
            predicted = output if kind == "epsilon" else step.signal * output + step.sigma * x
            errors.append(float((noise - predicted).square().mean()))
        expected += (errors[0] - errors[1]) / 2
    assert found["two", "hat"] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_an_answer_does_not_depend_on_what_else_is_asked(checkpoint: Path, images) -> None:
    judge = judge_on(checkpoint)
    together = answers(judge, images, [*PAIRS, *PAIRS])
    alone = {pair: answers(judge, images, [pair])[pair] for pair in PAIRS}
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-7)
    assert answers(judge, images, []) == {}
    many = [("one", f"thing {'abcdefghij'[i % 10]} {'klmnopqrst'[i // 10]}") for i in range(50)]
    assert set(answers(judge, images, many)) == set(many)  # more concepts than a batch has rows


def test_what_is_held_at_a_time_is_bounded_by_a_batch_and_the_numbers_are_those_of_all_at_once(
    checkpoint: Path, images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cuts in the middle of a draw and of a picture's words, and batches that end with fewer rows."""
    engine, rows = judge_on(checkpoint).editor.engine(), 5
    pixels = np.stack([np.asarray(images[key], dtype=np.float32) for key in ("one", "two", "three")])
    latents = engine.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    prompts, levels = [["", "hat", "beard"], ["", "hat", "smile", "a red hat"], [""]], (0.8, 0.7, 0.9)
    expected = _all_at_once(engine, latents, prompts, levels, rows)
    largest = {"unet": 0, "texts": 0, "noised": 0, "noise": 0}

    def note(what: str, size: int) -> None:
        largest[what] = max(largest[what], size)

    def predict(x, timesteps, texts, words, most, asked=engine.predict):
        note("unet", len(x))
        note("texts", len(texts.embeddings))
        return asked(x, timesteps, texts, words, most)

    def noised(self, clean, noise, asked=Step.noised):
        note("noised", len(clean))
        return asked(self, clean, noise)

    def randn(*arguments, asked=torch.randn, **options):
        made = asked(*arguments, **options)
        note("noise", made.numel())
        return made

    monkeypatch.setattr(engine, "predict", predict)
    monkeypatch.setattr(Step, "noised", noised)
    monkeypatch.setattr("torch.randn", randn)
    found = errors(engine, latents, prompts, levels, rows)
    assert [of.shape for of in found] == [(len(some), len(levels)) for some in prompts]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert largest == {"unet": rows, "texts": rows, "noised": rows, "noise": latents[0].numel()}
    few = dict(largest)
    errors(engine, latents, [[f"{word} {i}" for i in range(6)] for word in ("", "hat", "beard")], levels * 2, rows)
    assert largest == few  # many words and draws need no more


def _all_at_once(engine, latents, prompts, levels, rows: int) -> list[torch.Tensor]:
    """The same with every draw of every prompt in one tensor, which the engine cuts."""
    owner = torch.tensor([i for i, some in enumerate(prompts) for _ in some])
    texts = Texts.stack([engine.text(prompt) for some in prompts for prompt in some] * len(levels))
    steps = [min(engine.steps, key=lambda each: abs(each.timestep - at * 1000)) for at in levels]
    noise = [torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(i)) for i in range(len(levels))]
    clean = latents[owner]
    noised = [step.noised(clean, of) for step, of in zip(steps, noise, strict=True)]
    timesteps = torch.tensor([step.timestep for step in steps]).repeat_interleave(len(clean))
    with torch.no_grad():
        outputs, _ = engine.predict(torch.cat(noised), timesteps, texts, None, rows)
    each = zip(steps, noised, outputs.split(len(clean)), strict=True)
    draws = [noise_error(step, clean, x, output).double() for step, x, output in each]
    return list(torch.stack(draws, dim=1).split([len(some) for some in prompts]))


def test_where_memory_does_not_suffice_less_is_judged_at_a_time_and_one_row_that_does_not_fit_is_one_sentence(
    checkpoint: Path, images, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judge = judge_on(checkpoint)
    expected = answers(judge, images, PAIRS)
    engine = judge.editor.engine()
    room, encoded = {"rows": 5}, []

    def predict(x, *rest, asked=engine.predict):
        if len(x) > room["rows"]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return asked(x, *rest)

    def encode(batch, asked=engine.encode):
        encoded.append(len(batch))
        return asked(batch)

    monkeypatch.setattr(engine, "predict", predict)
    monkeypatch.setattr(engine, "encode", encode)
    assert answers(judge, images, PAIRS) == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert encoded[0] == 3 and encoded[-2:] == [2, 1]  # pictures too
    assert "judging goes on with 4 UNet rows at a time" in caplog.text
    room["rows"] = 0
    with pytest.raises(EditorError, match=r"to judge one edit at a time does not fit .*another judge"):
        answers(judge, images, PAIRS)
    monkeypatch.setattr(engine, "encode", lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answers(judge, images, PAIRS)


def test_no_words_are_no_evidence_and_a_perfect_prediction_no_error(checkpoint: Path, images) -> None:
    judge = judge_on(checkpoint)
    assert answers(judge, images, [("one", "")])["one", ""] == pytest.approx(0.0, abs=1e-9)
    step = judge.editor.engine().steps[3]
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    x = step.noised(clean, noise)
    right = (clean - step.prediction_x * x) / step.prediction_out
    assert noise_error(step, clean, x, right).max() < 1e-6
    assert noise_error(step, clean, x, right + 1.0).min() > 1e-4


def test_the_fingerprint_covers_draws_and_editor(checkpoint: Path) -> None:
    prints = {judge_on(checkpoint).fingerprint, judge_on(checkpoint, draws=3).fingerprint}
    other = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), steps=11, device="cpu"))
    assert len(prints | {DiffusionJudge(other).fingerprint}) == 3
    assert judge_on(checkpoint).fingerprint in prints


def test_evidence_rises_where_the_drawing_shows_it_and_not_elsewhere() -> None:
    """Exact edits are judged, so that a miss is the judge's: what is drawn raises the evidence of itself."""
    rng = random.Random(7)
    prompts = ["sunglasses", "a majestic beard", "a turban", "red clothes", "grey hair", "an afro"]
    pictures, gained, other = {}, [], []
    for i in range(COUNT):
        state = avatars.sample_state(rng) | {"top": "short", "eyewear": "none", "facial_hair": "none"}
        state |= {"hair_colour": "brown", "clothes_colour": "blue"}
        pictures[f"{i}"] = avatars.draw(state)
        pictures |= {f"{i} {prompt}": avatars.draw(avatars.set_feature(state, prompt)) for prompt in prompts}
    judge = DiffusionJudge(LeditsEditor(LeditsOptions(checkpoint=str(DEMO), steps=15, skip=0.0, device="cpu")))
    after = {prompt: prompts[(j + 1) % len(prompts)] for j, prompt in enumerate(prompts)}
    pairs = [(f"{i}", prompt) for i in range(COUNT) for prompt in prompts]
    pairs += [(f"{i} {edit}", prompt) for i in range(COUNT) for prompt in prompts for edit in (prompt, after[prompt])]
    found = answers(judge, pictures, pairs)
    for i in range(COUNT):
        for prompt in prompts:
            gained.append(found[f"{i} {prompt}", prompt] - found[f"{i}", prompt])
            other.append(found[f"{i} {after[prompt]}", prompt] - found[f"{i}", prompt])
    assert np.mean(np.array(gained) > 0) >= 0.85
    assert np.mean(np.array(gained) > np.array(other)) >= 0.8
