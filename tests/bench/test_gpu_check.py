"""The check of everything that needs a GPU, at a tiny size on the CPU. No time is judged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from diffex_dagster.bench.gpu_check import main
from diffex_dagster.bench.gpu_parity import _differ, parity
from diffex_dagster.bench.gpu_plan import TINY, Check
from diffex_dagster.bench.gpu_tables import as_markdown, merged, write_into
from diffex_dagster.editing.protocol import EditRequest


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)  # thirteen sections, Ray and processes of their own; a busy machine takes long
def test_every_section_runs_at_a_tiny_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of workers; on processors the bits depend on how many there are
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _every_section_at_a_tiny_size(tmp_path)
    finally:
        torch.set_num_threads(threads)


def _every_section_at_a_tiny_size(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    # Processors multiply float16 by way of float32, at twenty times the cost of bfloat16.
    assert main(["--tiny", "--device", "cpu", "--half", "bfloat16", "--json", str(file), "--budget", "3000"]) == 0
    figures = json.loads(file.read_text("utf-8"))
    sections = {name: found for name, found in figures.items() if isinstance(found, dict) and "seconds" in found}
    assert not [name for name, found in sections.items() if "left_out" in found or "error" in found]
    assert sections["machine"]["torch"] == torch.__version__

    for size, pictures, prompts in (("tiny", 2, 2), ("tiny-xl", 1, 2)):
        found = sections[f"speed {size}"]
        assert found["ratios"].keys() >= {"vs_authors", "vs_invert_once", "of_limit"}
        samples = {name: of[0] for name, of in found["samples"].items()}
        assert samples["engine"]["edits"] == pictures * prompts and samples["invert_once"]["edits"] == prompts
        assert samples["limit"]["rows"] == samples["engine"]["rows"]
        # An edit's share of the contender's seconds, against the engine's.
        authors, engine = (samples[name]["seconds"] / samples[name]["edits"] for name in ("authors", "engine"))
        assert found["ratios"]["vs_authors"]["median"] == pytest.approx(authors / engine)
    # By hand: 2 pictures inverted in 3 rows, and 4 edits of 3 steps, whose first unguided output is known.
    assert sections["speed tiny"]["samples"]["engine"][0]["rows"] == 2 * 3 + 4 * (2 * 3 - 1)
    assert sections["speed tiny"]["batches"].keys() == {"2", "3"}

    bits = sections["same bits tiny"]
    for name in ("again", "resumed", "backwards"):
        assert bits[name]["edits_that_differ"] == 0, name
    two = sections["two processes"]
    assert two["same_edits"] and two["edits_that_differ"] == 0 and min(two["made_by_each"]) > 0
    crew = sections["two workers"]
    assert crew["same_edits"] and crew["edits_that_differ"] == 0 and crew["edits"] == 2 * 3 + 1
    assert sum(crew["workers"]["made_by_each"]) == crew["edits"] and crew["alone"]["made_by_each"] == []
    for mask in ("intersection", "none"):
        exact = sections["parity tiny float32"][mask]
        assert exact["latents_max"] < 1e-4 < exact["edit_mean"] and exact["pixels_max"] <= 1
    rough = sections["parity tiny-xl bfloat16"]["none"]  # three digits fewer than float32 has of an edit of 0.33
    assert rough["latents_mean"] < 0.5 * rough["edit_mean"]
    assert sections["operators tiny"]["operators"][0]["ms"] > 0
    assert sections["rows tiny"].keys() >= {"channels_last", "contiguous"}

    page, begin, end = tmp_path / "speed.md", "<!-- gpu-check begins -->", "<!-- gpu-check ends -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n", "utf-8")
    for _ in range(2):  # again changes nothing
        assert main(["--json", str(file), "--write", str(page)]) == 0
        text = page.read_text("utf-8")
        assert text == f"before\n{begin}\n\n{as_markdown(figures)}\n{end}\nafter\n"
    median = sections["speed tiny-xl"]["ratios"]["of_limit"]["median"]
    assert (
        f"| of_limit | {median:.2f} | {median:.2f}, {median:.2f} | 0.85: {'met' if median >= 0.85 else 'mis'}" in text
    )
    assert "| tiny float32, mask `none` |" in text and "**The same bits**: yes. 8 edits in batches of" in text
    assert "8 edits, the same bits, in" in text and "7 edits, the same bits, " in text


def test_half_precision_edits_as_diffusers_does(tmp_path: Path) -> None:
    found = parity(Check("cpu", tmp_path / "gpu.json", tmp_path, TINY, budget=1000.0), TINY[1], "float16")
    assert found["none"]["latents_mean"] < 0.05 * 0.33


def test_what_failed_and_what_was_left_out_is_named() -> None:
    figures = {
        "machine": {"device": "cpu", "half": "float16", "processor": "AMD EPYC 9654", "seconds": 1},
        "speed sdxl": {"error": "OutOfMemoryError: 80 GB", "trace": "...", "seconds": 1},
        "rows sd15": {"left_out": "9 s were left and it takes at least 12", "seconds": 0},
        "total_seconds": 2,
    }
    text = as_markdown(figures)
    assert text.startswith("Measured on cpu, AMD EPYC 9654, float16; random weights.")
    assert "*speed sdxl*: failed (OutOfMemoryError: 80 GB)." in text and "Left out for want of time: rows sd15." in text


def test_runs_on_one_machine_are_put_together() -> None:
    machine = {"device": "cpu", "half": "float16", "seconds": 1}
    late = {"left_out": "5 s were left", "seconds": 0}
    first = {"machine": machine, "rows sd15": {"seconds": 3}, "rows sdxl": late, "total_seconds": 4}
    second = {"machine": machine | {"seconds": 2}, "rows sd15": late, "rows sdxl": {"seconds": 7}, "total_seconds": 9}
    whole = merged([first, second])
    assert (whole["rows sd15"], whole["rows sdxl"]) == ({"seconds": 3}, {"seconds": 7})
    assert whole["total_seconds"] == 13 and "2 runs on one machine" in as_markdown(whole)
    with pytest.raises(ValueError, match="different machines"):
        merged([first, second | {"machine": machine | {"device": "cuda"}}])


def test_a_page_without_marks_is_named(tmp_path: Path) -> None:
    (tmp_path / "speed.md").write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match=r"speed\.md has no <!-- gpu-check begins -->"):
        write_into(tmp_path / "speed.md", {"machine": {"device": "cpu", "half": "float16", "seconds": 1}})


def test_a_section_that_fails_or_comes_too_late_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    check = Check("cpu", tmp_path / "gpu.json", tmp_path, TINY, budget=1000.0)

    def fails() -> dict[str, object]:
        raise RuntimeError("no kernel image\nis available")

    check.section("first", 0, fails)
    check.section("late", 2000, lambda: {"found": 1})
    check.section("last", 10, lambda: {"found": 1})
    figures = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert figures["first"]["error"].startswith("RuntimeError: no kernel image")
    assert "in fails" in figures["first"]["trace"]
    assert "it takes at least 2000" in figures["late"]["left_out"] and figures["last"]["found"] == 1


def test_a_machine_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "there is no CUDA device; `--tiny --device cpu` tries the check itself" in capsys.readouterr().err


def test_differences_are_counted_by_edit_and_by_value() -> None:
    one, two = EditRequest("one"), EditRequest("two")
    mask, none = np.array([0, 255], np.uint8), np.zeros(0, np.uint8)
    once = {one: (np.array([0, 255, 7], np.uint8), none), two: (np.array([1, 1, 1], np.uint8), mask)}
    again = once | {one: (np.array([1, 253, 7], np.uint8), none)}
    found = {"edits": 2, "edits_that_differ": 1, "masks_that_differ": 0, "share_of_values": 2 / 6, "most": 2}
    assert _differ(once, again) == found | {"mean": 0.5}
    assert _differ(once, {two: again[two]})["edits_that_differ"] == 0
    moved = {two: (once[two][0], mask[::-1])}
    assert (_differ(once, moved)["edits_that_differ"], _differ(once, moved)["masks_that_differ"]) == (1, 1)


def test_the_page_shows_the_figures_that_are_committed(tmp_path: Path) -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    copy = tmp_path / "speed.md"
    copy.write_bytes((docs / "speed.md").read_bytes())
    files = sorted((docs / "figures").glob("gpu*.json"))
    marks = {file.stem.replace("gpu", "gpu-check") for file in files}
    assert marks and marks == set(re.findall(r"<!-- (gpu-check\S*) begins -->", copy.read_text("utf-8")))
    for file in files:
        assert main(["--json", str(file), "--write", str(copy), "--mark", file.stem.replace("gpu", "gpu-check")]) == 0
    assert copy.read_text("utf-8") == (docs / "speed.md").read_text("utf-8"), "write it again with --write"
