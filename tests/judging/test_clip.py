"""The CLIP direction on a tiny random CLIP: arithmetic, batching, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.errors import ClassifierError
from diffex_dagster.judging.clip import ClipJudge
from tests.support.checkpoints import build_checkpoint


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(build_checkpoint(folder / "sd") / "tokenizer")
    torch.manual_seed(0)
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 12, "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder / "clip")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder / "clip")
    return folder / "clip"


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


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    judge = ClipJudge(str(tmp_path / "gone"), "faces", device="cpu")
    assert judge.fingerprint
    with pytest.raises(ClassifierError, match=r"gone.*name a folder written by save_pretrained"):
        list(judge.evidence({"a": Image.new("RGB", (8, 8))}, [("a", "hat")]))
