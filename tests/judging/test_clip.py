"""The CLIP direction on a tiny random CLIP: arithmetic, batching, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.errors import ClassifierError
from diffex_dagster.judging.clip import ClipJudge
from tests.support.checkpoints import save_random_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_clip(tmp_path_factory.mktemp("clip"))


def test_evidence_is_the_projection_on_the_direction_of_the_words(clip: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = {k: Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for k in ("null", "edit")}
    judge = ClipJudge(str(clip), "x", template="{}", device="cpu")
    pairs = [("null", "hat"), ("edit", "hat"), ("edit", "beard")]
    found = dict(answer for batch in judge.evidence(pictures, pairs) for answer in batch)
    assert set(found) == set(pairs)
    model, processor = judge._model

    def embedded(**inputs):
        features = model.get_text_features if "input_ids" in inputs else model.get_image_features
        with torch.inference_mode():
            out = features(**inputs)
        vector = getattr(out, "pooler_output", out)[0].numpy()
        return vector / np.linalg.norm(vector)

    texts = [embedded(**processor(text=[t], return_tensors="pt")) for t in ("x", "x with hat")]
    shown = [embedded(**processor(images=[pictures[k]], return_tensors="pt")) for k in ("null", "edit")]
    direction = (texts[1] - texts[0]) / np.linalg.norm(texts[1] - texts[0])
    gain = found["edit", "hat"] - found["null", "hat"]
    assert gain == pytest.approx(float((shown[1] - shown[0]) @ direction), abs=1e-5)


def test_a_batch_that_does_not_fit_is_halved_and_the_vectors_stay(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(7)]
    judge = ClipJudge(str(clip), "x", device="cpu")
    whole = judge.embeddings(pictures)
    evidence = dict(
        answer
        for batch in judge.evidence(dict(zip("abcdefg", pictures, strict=True)), [(key, "hat") for key in "abcdefg"])
        for answer in batch
    )
    model, sizes, most = judge._model[0], [], [3]
    ask = model.get_image_features

    def small_memory(pixel_values: torch.Tensor, **further: object) -> object:
        sizes.append(len(pixel_values))
        if len(pixel_values) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ask(pixel_values=pixel_values, **further)

    monkeypatch.setattr(model, "get_image_features", small_memory)
    assert np.allclose(judge.embeddings(pictures), whole, atol=1e-6) and sizes == [7, 3, 3, 1]
    most[0] = 1
    sizes.clear()
    again = dict(
        answer
        for batch in judge.evidence(dict(zip("abcdefg", pictures, strict=True)), [(key, "hat") for key in "abcdefg"])
        for answer in batch
    )
    assert again == pytest.approx(evidence, abs=1e-5) and sizes == [3, *[1] * 7]
    most[0] = 0
    with pytest.raises(ClassifierError, match="one picture alone does not fit into the memory of the judge's device"):
        judge.embeddings(pictures)


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    judge = ClipJudge(str(tmp_path / "gone"), "faces", device="cpu")
    assert judge.fingerprint
    with pytest.raises(ClassifierError, match=r"gone.*name a folder written by save_pretrained"):
        list(judge.evidence({"a": Image.new("RGB", (8, 8))}, [("a", "hat")]))
