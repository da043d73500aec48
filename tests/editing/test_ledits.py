"""The editor around the engine: batches, memory, fingerprint, errors. `test_parity` checks the arithmetic."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import combinations as combinations_of
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.editing.checkpoints import locate, variant
from diffex_dagster.editing.edit_plan import Edit, GuidedConcept, Inversion
from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.guidance import Guidance
from diffex_dagster.editing.inversions import InversionsOnDisk, inversion_seed
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.editing.settings import PromptOptions
from diffex_dagster.errors import EditorError
from diffex_dagster.utils.hashing import picture_digest
from tests.support.parity import Case, diffusers_edit, distance, pipeline_for, tensor

Images = dict[str, Image.Image]

# Two joint edits, every mask, both directions, different strengths and times, null edits and two seeds.
OWN_OPTIONS = {
    "hat": PromptOptions(scale=9, threshold=0.5, mask="noise", warmup=2),
    "glasses": PromptOptions(scale=4, threshold=0.8, mask="cross_attention", cooldown=4),
    "smile": PromptOptions(scale=3, mask="none", warmup=1, cooldown=5),
    "never": PromptOptions(warmup=99),
    "bald": PromptOptions(scale=1, mask="none", warmup=1, cooldown=5),  # what it follows does not depend on e
}
MIXED = [
    EditRequest("one", (Concept("beard"),)),
    EditRequest("two", (Concept("hat", "remove"),)),
    EditRequest("one"),
    EditRequest("three", (Concept("glasses"), Concept("beard", "remove"), Concept("smile"))),
    EditRequest("one", (Concept("hat"), Concept("glasses", "remove"))),
    EditRequest("two", (Concept("smile"),), seed=1),
    EditRequest("one", (Concept("bald"),)),
    EditRequest("three", (Concept("bald"), Concept("smile"))),
    EditRequest("two", (Concept("never"),)),
]


def editor_for(checkpoint: Path, **options: object) -> LeditsEditor:
    defaults = {"checkpoint": str(checkpoint), "steps": 6, "scale": 6.0, "threshold": 0.7, "device": "cpu"}
    return LeditsEditor(LeditsOptions.model_validate(defaults | options))


def edited(editor: LeditsEditor, images: Images, requests: list[EditRequest]) -> dict[EditRequest, torch.Tensor]:
    parts = editor.edit_tensors(images, requests)
    return {request: picture for batch, made in parts for request, picture in zip(batch, made, strict=True)}


@pytest.mark.slow
def test_a_mixed_batch_equals_its_edits_one_by_one(checkpoint: Path, images: Images) -> None:
    together = edited(editor_for(checkpoint, prompts=OWN_OPTIONS, batch_size=50), images, MIXED)
    assert set(together) == set(MIXED)
    for request in MIXED:  # a new editor each time, so that nothing is kept from the edit before
        alone = edited(editor_for(checkpoint, prompts=OWN_OPTIONS, batch_size=1), images, [request])
        assert distance(together[request], alone[request]) < 1e-4, request
    null = together[EditRequest("one")]
    assert all(distance(null, together[r]) > 0.01 for r in MIXED if r.image == "one" and r.concepts)
    null_of_two = edited(editor_for(checkpoint), images, [EditRequest("two")])[EditRequest("two")]
    assert distance(together[MIXED[-1]], null_of_two) < 1e-4  # guidance that never sets in


def test_batches_come_as_they_are_finished_and_in_a_fixed_order(checkpoint: Path, images: Images) -> None:
    editor = editor_for(checkpoint, prompts=OWN_OPTIONS, batch_size=2)
    batches = [[request for request, _ in batch] for batch in editor.edit(images, MIXED)]
    assert batches == editor.batches(MIXED) == editor.batches(MIXED[::-1])
    assert [len(batch) for batch in batches] == [1, 2, 1, 1, 1, 2, 1]
    assert [{len(r.concepts) for r in batch} for batch in batches] == [{0}, {1}, {2}, {2}, {3}, {1}, {1}]
    assert sorted(r for batch in batches for r in batch) == sorted(MIXED)


def test_what_is_left_after_some_batches_is_cut_into_the_other_batches(checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    words = [Concept(word, way) for word in ("beard", "hat", "smile") for way in ("add", "remove")]
    combinations = [(), *[(word,) for word in words], *combinations_of(words, 2), *combinations_of(words, 3)]
    requests = [EditRequest(f"{i:02}", each, seed) for each in combinations for i in range(7) for seed in (0, 1)]
    editor = editor_for(checkpoint, batch_size=5)
    whole = editor.batches(requests)
    assert {len(batch) for batch in whole} >= {10, 5, 3, 2}  # ten UNet rows each
    for _ in range(20):
        done = {tuple(whole[i]) for i in rng.permutation(len(whole))[: rng.integers(len(whole))]}
        made = {request for batch in done for request in batch}
        left = [request for request in requests if request not in made]
        assert editor.batches(left) == [batch for batch in whole if tuple(batch) not in done]


@pytest.mark.slow
def test_the_same_bits_in_one_run_after_a_stop_and_by_processes_that_share_the_work(
    checkpoint: Path, images: Images
) -> None:
    requests = [EditRequest(i, (Concept(p),)) for p in ("beard", "hat", "smile") for i in images]
    requests += [EditRequest(i) for i in images] + [EditRequest("two", (Concept("hat"), Concept("beard")))]

    def made_by(wanted: list[EditRequest]) -> dict[EditRequest, bytes]:
        new = editor_for(checkpoint, batch_size=2)
        return {r: p.tobytes() + p.info.get(MASK, p).tobytes() for batch in new.edit(images, wanted) for r, p in batch}

    once = made_by(requests)
    batches = editor_for(checkpoint, batch_size=2).batches(requests)
    stopped = [request for batch in batches[2:] for request in batch]
    assert made_by(stopped[::-1]) == {request: once[request] for request in stopped}
    shared = [made_by([r for batch in batches[i::3] for r in batch]) for i in range(3)]
    assert shared[0] | shared[1] | shared[2] == once


def test_pixels_match_diffusers(checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """From picture to picture, through the protocol; at most one level of 255 apart."""
    case = Case(mask="intersection", steps=6, skip=0.1)
    monkeypatch.setattr("diffex_dagster.editing.ledits_inversions.inversion_seed", lambda digest, seed: seed)
    request = EditRequest("one", (Concept("beard"),), seed=5)
    [[(_, ours)]] = editor_for(checkpoint, mask="intersection", correct_end=False).edit(images, [request])
    pipeline = pipeline_for(checkpoint, case)
    latents = diffusers_edit(checkpoint, [images["one"]], case)
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    theirs = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    assert np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1
    assert ours.size == (64, 64) and ours.mode == "RGB"


def test_a_null_edit_is_the_autoencoders_reconstruction(checkpoint: Path, images: Images) -> None:
    request = EditRequest("one")
    engine = Engine(
        checkpoint, LeditsOptions(checkpoint=str(checkpoint), steps=1, skip=0), torch.device("cpu"), torch.float32
    )
    picture = torch.from_numpy(np.asarray(images["one"], dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    reconstruction = engine.decode(engine.encode(picture))[0]
    assert distance(edited(editor_for(checkpoint), images, [request])[request], reconstruction) < 1e-4
    as_diffusers = edited(editor_for(checkpoint, correct_end=False), images, [request])[request]
    assert distance(as_diffusers, reconstruction) > 1e-3


@pytest.mark.slow
def test_each_picture_and_seed_is_inverted_once(
    checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverted = []
    original = Engine.invert
    monkeypatch.setattr(Engine, "invert", lambda self, x, *rest: inverted.append(len(x)) or original(self, x, *rest))
    editor = editor_for(checkpoint, batch_size=2, mask="noise")
    requests = [EditRequest(i, (Concept(p),)) for i in images for p in ("beard", "hat", "smile")]
    edited(editor, images, requests)
    assert sum(inverted) == 3
    edited(editor, images, [EditRequest(i, (Concept("glasses"),)) for i in images])
    edited(editor, dict(zip("abc", images.values(), strict=True)), [EditRequest("a")])  # other keys, same pictures
    assert sum(inverted) == 3
    edited(editor, images, [EditRequest("one", seed=1)])
    assert sum(inverted) == 4

    inverted.clear()
    forgetful = editor_for(checkpoint, batch_size=1, mask="noise", inversion_cache_mb=0)
    edited(forgetful, images, requests)
    assert sum(inverted) == 9


def test_inversions_are_kept_on_disk_for_later_runs(
    checkpoint: Path, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverted = []
    original = Engine.invert
    monkeypatch.setattr(Engine, "invert", lambda self, x, *rest: inverted.append(len(x)) or original(self, x, *rest))
    folder = tmp_path / "inversions"
    beard = [EditRequest("one", (Concept("beard"),))]

    def edit_in_a_new_run(requests: list[EditRequest] = beard, **options: object) -> dict[EditRequest, torch.Tensor]:
        inverted.clear()
        return edited(editor_for(checkpoint, inversion_folder=folder, **options), images, requests)

    first = edit_in_a_new_run()[beard[0]]
    assert inverted == [1] and len(list(folder.iterdir())) == 1
    again = edit_in_a_new_run()[beard[0]]
    assert inverted == [] and torch.equal(first, again)
    stronger = edit_in_a_new_run(scale=9.0)[beard[0]]  # how an edit is guided does not change the inversion
    assert inverted == [] and distance(first, stronger) > 1e-3
    edit_in_a_new_run(steps=7)
    assert inverted == [1], "other steps are another inversion"
    edit_in_a_new_run([EditRequest("one", seed=1)])
    assert inverted == [1]

    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:100])  # a disk that ran full
    torn = edit_in_a_new_run()[beard[0]]
    assert inverted == [1] and torch.equal(first, torn)


def test_the_folder_of_inversions_stays_in_its_bounds(images: Images, tmp_path: Path) -> None:
    parts = (torch.randn(4, 4, 16, 16) for _ in range(3))
    inversion = Inversion(*parts)
    kept = InversionsOnDisk(tmp_path / "kept", limit=3 * 50_000, settings="x")  # one takes 49 kB
    for seed in range(3):
        kept.put(("picture", seed), inversion)
        os.utime(kept._file(("picture", seed)), (seed, seed))
    cpu = torch.device("cpu")
    assert kept.get(("picture", 0), cpu) is not None  # used now, so that 1 is the oldest
    kept.put(("picture", 3), inversion)
    assert [seed for seed in range(4) if kept.get(("picture", seed), cpu)] == [0, 2, 3]
    (tmp_path / "new").touch()
    assert {each.stat().st_mode for each in kept.folder.iterdir()} == {(tmp_path / "new").stat().st_mode}  # not 0600
    found = kept.get(("picture", 3), cpu)
    assert found is not None and torch.equal(found.noises, inversion.noises)
    assert InversionsOnDisk(kept.folder, 3 * 50_000, settings="y").get(("picture", 3), cpu) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(
        EditorError, match=r"inversions cannot be kept in .*file.*: correct the editor's inversion_fold"
    ):
        InversionsOnDisk(tmp_path / "file", 10**6, "x").put(("picture", 0), inversion)


def test_what_a_killed_run_was_writing_counts_and_goes_later(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inversion, cpu = Inversion(*(torch.randn(4, 4, 16, 16) for _ in range(3))), torch.device("cpu")
    kept = InversionsOnDisk(tmp_path, limit=3 * 50_000, settings="x")  # one takes 49 kB

    def killed(*_: object) -> None:
        raise OSError(5, "as good as killed")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(EditorError):
            kept.put(("picture", 9), inversion)
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("the GPU waits for the disk"))
    for seed in range(3):
        kept.put(("picture", seed), inversion)
        os.utime(kept._file(("picture", seed)), (seed, seed))
    assert left.exists() and sum(each.stat().st_size for each in tmp_path.iterdir()) <= kept.limit
    assert [seed for seed in range(3) if kept.get(("picture", seed), cpu)] == [1, 2]
    os.utime(left, (0, 0))  # nobody writes for so long
    kept.put(("picture", 3), inversion)
    assert not left.exists() and [seed for seed in range(4) if kept.get(("picture", seed), cpu)] == [1, 2, 3]


def test_the_noise_depends_on_picture_and_seed(images: Images) -> None:
    seeds = {inversion_seed(picture_digest(picture), seed) for picture in images.values() for seed in range(3)}
    assert len(seeds) == 9 and all(0 <= seed < 2**63 for seed in seeds)


def test_steps_before_guidance_are_not_computed(
    checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = editor_for(checkpoint, mask="noise", warmup=2, cooldown=5, steps=6)
    edited(editor, images, [EditRequest("one")])
    rows = []
    original = Engine._unet
    monkeypatch.setattr(Engine, "_unet", lambda self, x, *rest: rows.append(len(x)) or original(self, x, *rest))
    edited(editor, images, [EditRequest("one", (Concept("beard"),))])
    assert rows == [1, 2, 2, 1]  # the first unconditional output is the inversion's; after the cool-down no concept
    rows.clear()
    edited(editor, images, [EditRequest("one")])
    assert rows == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    error: RuntimeError, checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [EditRequest(i, (Concept(p),)) for i in images for p in ("beard", "hat", "smile")]
    whole = edited(editor_for(checkpoint, mask="noise", batch_size=50), images, requests)
    original, sizes = Engine._unet, []

    def small_memory(self: Engine, x: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 4 and len(sizes) > 8:  # after the first batch is done
            raise error
        return original(self, x, *rest)

    monkeypatch.setattr(Engine, "_unet", small_memory)
    editor = editor_for(checkpoint, mask="noise", batch_size=4)
    parts = list(editor.edit_tensors(images, requests))
    assert [len(batch) for batch, _ in parts] == [4, 4, 1]  # the same edits together, fewer UNet rows at a time
    assert max(sizes[-5:]) <= 4
    for request, picture in ((r, p) for batch, ps in parts for r, p in zip(batch, ps, strict=True)):
        assert distance(picture, whole[request]) < 1e-4


def test_out_of_memory_in_decoding_takes_no_row_from_the_unet(
    checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [EditRequest(i, (Concept(p),)) for i in images for p in ("beard", "hat")]
    whole = edited(editor_for(checkpoint, mask="noise", batch_size=6), images, requests)
    decode, unet = Engine.decode, Engine._unet
    decoded, rows, most = [], [], [2]

    def small_memory(self: Engine, latents: torch.Tensor) -> torch.Tensor:
        decoded.append(len(latents))
        if len(latents) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, latents)

    monkeypatch.setattr(Engine, "decode", small_memory)
    monkeypatch.setattr(Engine, "_unet", lambda self, x, *rest: rows.append(len(x)) or unet(self, x, *rest))
    editor = editor_for(checkpoint, mask="noise", batch_size=6)
    made = edited(editor, images, requests)
    assert decoded == [4, 2, 2, 2]  # and nothing is edited again
    assert max(rows) == 12
    assert all(distance(made[each], whole[each]) < 1e-4 for each in requests)
    most[0] = 0
    with pytest.raises(EditorError, match="does not fit into the device's memory: ask for a smaller resolution"):
        edited(editor, images, requests)


def test_out_of_memory_at_the_smallest_batch_is_an_error(
    checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Engine, "_unet", no_memory)
    with pytest.raises(EditorError, match="does not fit into the device's memory: ask for a smaller resolution"):
        edited(editor_for(checkpoint), images, MIXED[:1])


def test_other_errors_of_the_model_are_not_hidden(
    checkpoint: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Engine, "_unet", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        edited(editor_for(checkpoint), images, MIXED[:1])


def test_fingerprint_covers_what_changes_pixels_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    plain = editor_for(checkpoint).fingerprint
    assert plain == editor_for(checkpoint).fingerprint
    for change in (
        {"steps": 7}, {"skip": 0.2}, {"scale": 5.0}, {"threshold": 0.8}, {"mask": "noise"}, {"warmup": 1},
        {"cooldown": 5}, {"mask_resolution": 8}, {"scheduler": "ddim"}, {"resolution": 96}, {"dtype": "bfloat16"},
        {"device": "cuda"}, {"prompts": {"hat": {"scale": 9}}},
    ):  # fmt: skip
        assert editor_for(checkpoint, **change).fingerprint != plain, change
    for same in (
        {"batch_size": 3},
        {"channels_last": False},
        {"inversion_cache_mb": 1},
        {"dtype": "float32"},
        {"inversion_folder": "here"},
    ):
        assert editor_for(checkpoint, **same).fingerprint == plain, same

    copy = shutil.copytree(checkpoint, tmp_path / "moved")
    assert editor_for(copy).fingerprint == plain, "a checkpoint is what it holds, not where it lies"
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert editor_for(copy).fingerprint != plain


def test_missing_and_incomplete_checkpoints_are_named(checkpoint: Path, images: Images, tmp_path: Path) -> None:
    missing = editor_for(tmp_path / "nothing here")
    message = "there is no diffusion checkpoint at .*nothing here: give the folder of a Stable Diffusion checkpoint"
    with pytest.raises(EditorError, match=message):
        _ = missing.fingerprint
    with pytest.raises(EditorError, match=message):
        edited(missing, images, MIXED)
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").rename(copy / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(
        EditorError, match=r"no \*\.safetensors file in vae: save it again with safe_serialization=True"
    ):
        locate(str(copy))
    shutil.rmtree(copy / "unet")
    with pytest.raises(EditorError, match="has no unet: give a folder in Stable Diffusion format"):
        locate(str(copy))


def test_a_damaged_checkpoint_is_named(checkpoint: Path, images: Images, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EditorError, match=r"safetensors: the file of weights is damaged or cut off"):
        edited(editor_for(copy), images, MIXED)


def test_half_precision_files_are_found(checkpoint: Path, images: Images, tmp_path: Path) -> None:
    assert variant(checkpoint) is None
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    for part in ("unet", "vae"):
        old = copy / part / "diffusion_pytorch_model.safetensors"
        old.rename(old.with_name("diffusion_pytorch_model.fp16.safetensors"))
    old = copy / "text_encoder" / "model.safetensors"
    old.rename(old.with_name("model.fp16.safetensors"))
    assert variant(copy) == "fp16"
    assert distance(*(edited(editor_for(c), images, MIXED[:1])[MIXED[0]] for c in (checkpoint, copy))) < 1e-5


def test_bad_requests_are_named(checkpoint: Path, images: Images) -> None:
    editor = editor_for(checkpoint)
    with pytest.raises(EditorError, match="image 'four', which was not given"):
        edited(editor, images, [EditRequest("four")])
    with pytest.raises(EditorError, match="empty prompt"):
        edited(editor, images, [EditRequest("one", (Concept(" "),))])
    with pytest.raises(EditorError, match=r"no cross-attention at 5×5.*set mask_resolution"):
        edited(editor_for(checkpoint, mask_resolution=5), images, MIXED[:1])
    with pytest.raises(EditorError, match="resolution 70 does not fit the checkpoint: use a multiple of 16"):
        edited(editor_for(checkpoint, resolution=70), images, MIXED[:1])
    with pytest.raises(EditorError, match="ask for fewer steps"):
        edited(editor_for(checkpoint, steps=1000), images, MIXED[:1])
    assert edited(editor, images, []) == {}


def test_a_finer_attention_mask(checkpoint: Path, images: Images) -> None:
    coarse, fine = (
        edited(editor_for(checkpoint, mask="cross_attention", mask_resolution=side), images, MIXED[:1])[MIXED[0]]
        for side in (4, 8)
    )
    assert distance(coarse, edited(editor_for(checkpoint, mask="cross_attention"), images, MIXED[:1])[MIXED[0]]) < 1e-4
    assert distance(coarse, fine) > 0.01


def test_pictures_of_any_size_and_kind(checkpoint: Path, images: Images) -> None:
    wide = Image.new("RGBA", (200, 100), (200, 30, 30, 255))
    [[(_, picture)]] = editor_for(checkpoint).edit({"wide": wide}, [EditRequest("wide")])
    assert picture.size == (64, 64)
    hat = EditRequest("wide", (Concept("hat"),))
    [[(_, larger)]] = editor_for(checkpoint, resolution=96).edit({"wide": wide}, [hat])
    assert larger.size == (96, 96)
    assert tensor(images["one"]).shape == (3, 64, 64)


@pytest.mark.parametrize("scheduler", ["dpm", "ddim"])
def test_half_precision_stays_close(scheduler: str, checkpoint: Path, images: Images) -> None:
    request = EditRequest("one", (Concept("beard"),))
    full, half = (
        edited(editor_for(checkpoint, dtype=dtype, mask="none", scheduler=scheduler, scale=2), images, [request])
        for dtype in ("float32", "bfloat16")
    )
    # bfloat16 keeps 8 bits, and 20 steps of an untrained network add its rounding up: close, not equal.
    assert (full[request] - half[request]).abs().mean() < 0.03


def test_importing_the_editor_loads_no_model_library() -> None:
    code = (
        "import sys, diffex_dagster.editing.ledits, diffex_dagster.editing.protocol;"
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_masked_edits_carry_where_they_were_guided(checkpoint: Path, images: Images) -> None:
    """The union over steps and concepts; none where a concept is not masked, and none for what is no edit."""
    options = {"prompts": OWN_OPTIONS, "batch_size": 50}
    made = {r: p for batch in editor_for(checkpoint, **options).edit(images, MIXED) for r, p in batch}
    carried = {request: MASK in picture.info for request, picture in made.items()}
    assert [carried[request] for request in MIXED] == [True, True, False, False, True, False, False, False, False]
    for request, picture in made.items():  # a batch mixes sizes and strengths: each mask is the edit's own
        if carried[request]:
            mask = np.asarray(picture.info[MASK])
            [[(_, alone)]] = editor_for(checkpoint, **options).edit(images, [request])
            assert mask.shape == (16, 16) and set(np.unique(mask)) <= {0, 255}
            assert np.array_equal(mask, np.asarray(alone.info[MASK]))


def test_the_mask_of_one_step_is_the_share_that_its_threshold_leaves_open(checkpoint: Path, images: Images) -> None:
    beard = [EditRequest("one", (Concept("beard"),))]
    for threshold, places in ((0.75, 64), (0.0, 256)):
        options = {"mask": "noise", "threshold": threshold, "warmup": 2, "cooldown": 3}
        [[(_, picture)]] = editor_for(checkpoint, **options).edit(images, beard)
        assert (np.asarray(picture.info[MASK]) > 0).sum() == places
    [[(_, picture)]] = editor_for(checkpoint, mask="noise", threshold=0.75).edit(images, beard)
    assert 64 < (np.asarray(picture.info[MASK]) > 0).sum() < 256  # six steps open more than one


def test_the_latents_outside_every_mask_are_touched_by_nothing_but_the_model(checkpoint: Path, images: Images) -> None:
    """Guided in the last step alone, an edit differs from its null edit inside the mask and nowhere else."""
    engine = editor_for(checkpoint).engine()
    picture = torch.from_numpy(np.asarray(images["one"], dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    [inversion] = engine.invert(engine.encode(picture), [torch.Generator().manual_seed(0)])
    last = len(engine.steps) - 1
    concept = GuidedConcept(engine.text("beard"), 1.0, Guidance(9.0, 0.75, "noise", last, None))
    latents, opened = engine.edit_with_masks([Edit(inversion, (concept,))])
    moved = (latents[0] - inversion.latents[-1]).abs().amax(dim=0) > 1e-5
    assert torch.equal(moved, opened[0]) and moved.sum() == 64
