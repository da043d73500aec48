"""The speed bench: the same work for every contender, ratios of one round, errors in words. No time is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from diffex_dagster.bench.contenders import CONTENDERS, Sample, Workload
from diffex_dagster.bench.profiling import profile
from diffex_dagster.bench.speed import Contender, Ratio, Speed, as_json, as_markdown, options_of, ratios, workload_of
from diffex_dagster.cli.bench import bench
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.errors import DiffExError
from diffex_dagster.study import load_study
from tests.support.checkpoints import build_checkpoint
from tests.support.toys import write_study

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("bench")
    build_checkpoint(folder / "checkpoint")
    files = []
    for i in range(2):
        files.append(str(folder / f"{i}.png"))
        Image.new("RGB", (64, 64), (60 + 90 * i, 80, 40)).save(files[-1])
    options = {"checkpoint": str(folder / "checkpoint"), "steps": 4, "skip": 0.0, "mask": "intersection"}
    return Workload(options | {"device": "cpu", "batch_size": 3}, tuple(files), ("beard", "hat", "smile"))


@pytest.mark.slow
def test_every_contender_makes_every_edit(workload: Workload) -> None:
    """UNet rows and calls, counted by hand: 2 pictures, 3 prompts, 4 steps."""
    counted = {}
    for name in ("authors", "invert_once", "engine", "store"):
        work, rows = CONTENDERS[name](workload)
        assert work(False) == 6, name
        counted[name] = (rows.rows, rows.calls)
    assert counted["authors"] == (6 * (4 + 2 * 4), 6 * (4 + 4))
    assert counted["invert_once"] == (2 * 4 + 6 * 2 * 4, 2 * 4 + 6 * 4)
    # The engine inverts a picture in one call, and has the first step's unconditional output from there.
    assert counted["engine"] == counted["store"] == (2 * 4 + 6 * (2 * 4 - 1), 2 * (2 + 4) - 2)


def test_at_scale_1_without_a_mask_the_unguided_row_cancels(workload: Workload) -> None:
    plain = replace(workload, options=workload.options | {"scale": 1.0, "mask": "none"})
    work, rows = CONTENDERS["engine"](plain)
    assert work(False) == 6
    assert rows.rows == 2 * 4 + 6 * 4


def test_the_limit_computes_the_rows_it_is_told(workload: Workload) -> None:
    work, rows = CONTENDERS["limit"](replace(workload, rows=20, rows_at_once=6))
    work(False)
    assert (rows.rows, rows.calls) == (20, 4)


@pytest.mark.slow
def test_the_profile_names_the_operators_of_the_unet(workload: Workload, tmp_path: Path) -> None:
    operators = profile(workload, tmp_path / "trace.json")
    calls = {operator.name: operator.calls for operator in operators}
    assert calls["aten::mkldnn_convolution"] > 100 and calls["aten::addmm"] > 100
    assert sum(operator.share for operator in operators) == pytest.approx(1.0)
    assert operators == sorted(operators, key=lambda operator: -operator.share)
    assert (tmp_path / "trace.json").stat().st_size > 0


@pytest.mark.slow
def test_a_process_takes_turns_and_says_why_it_ended(workload: Workload, tmp_path: Path) -> None:
    with Contender("engine", workload, tmp_path) as contender:
        first, second = contender.turn(), contender.turn()
    assert (first.edits, first.rows) == (second.edits, second.rows) == (6, 50)
    assert first.seconds > 0 and first.peak_mb > 0
    broken = Workload({"checkpoint": str(tmp_path / "nothing")}, (), ())
    with pytest.raises(DiffExError, match=r"contender 'engine' ended early: .*there is no diffusion checkpoint"):
        Contender("engine", broken, tmp_path)


def sample(seconds: float) -> Sample:
    return Sample(seconds, 2 * seconds, 6, 50, 12, 100.0)


def test_ratios_compare_turns_of_one_round() -> None:
    seconds = {"authors": [6, 16], "invert_once": [4, 8], "engine_single": [2, 4], "engine": [1, 4], "limit": [0.5, 3]}
    samples = {name: [sample(s) for s in of] for name, of in seconds.items()}
    found = ratios(samples, "seconds")
    assert found["vs_authors"] == Ratio(5.0, 4.0, 6.0)
    assert found["vs_invert_once"] == Ratio(3.0, 2.0, 4.0)
    assert found["of_limit"] == Ratio(0.625, 0.5, 0.75)
    speed = Speed(8, samples, found, ratios(samples, "cpu_seconds"), {8: sample(1)}, {"2× images": sample(2)})
    figures = json.loads(json.dumps(as_json(speed)))
    assert figures["ratios"]["vs_authors"] == 5.0 and len(figures["samples"]["limit"]) == 2
    text = as_markdown(speed)
    assert "| this engine, 8 edits at a time | 417 | 12 | 50 | 1.00 |" in text
    assert "| vs_authors | 5.00 | 4.00 | 6.00 | 5.00 |" in text
    assert "| 2× images (6 edits) | 333 | 100 |" in text


@pytest.mark.slow
def test_the_whole_bench_with_random_weights_of_sdxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command, at a tiny size: what `--device cuda --size sdxl` does on a GPU."""
    editors = {"ledits": {"kind": "ledits", "checkpoint": "none", "steps": 4, "inversion_folder": "kept"}}
    write_study(tmp_path / "study", editors=editors)
    # Contenders in this process: six imports of torch would be all that the test does.
    monkeypatch.setattr("diffex_dagster.bench.speed.Contender", InThisProcess)
    arguments = f"speed {tmp_path / 'study'} --size tiny-xl --device cpu --dtype float32 --mask intersection"
    arguments += f" --images 1 --prompts 1 --repetitions 1 --batches 2 --json {tmp_path / 'speed.json'}"
    outcome = CliRunner().invoke(bench, arguments.split(), catch_exceptions=False)
    assert outcome.exit_code == 0 and "| 4× images (4 edits) |" in outcome.stdout
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert figures["workload"]["size"] == "tiny-xl" and figures["machine"]["dtype"] == "float32"
    # 4 steps; the last three without noise: the second and third of them are walked again at inversion.
    assert [figures["samples"][name][0]["rows"] for name in ("authors", "engine")] == [12, 4 + 2 * 4 - 1]
    assert figures["growth"].keys() == {f"{n}× {what}" for n in (1, 2, 4) for what in ("features", "images")} - {
        "1× images"
    }
    assert figures["growth"]["4× features"]["edits"] == 4
    assert not (tmp_path / "study" / "kept").exists(), "what an earlier run kept must not make the bench faster"


class InThisProcess:
    """In the place of `Contender`: the same work without a process of its own."""

    def __init__(self, name: str, workload: Workload, folder: Path) -> None:
        self.work, self.rows = CONTENDERS[name](workload)

    def turn(self) -> Sample:
        self.rows.rows = self.rows.calls = 0
        return Sample(1.0, 1.0, self.work(False), self.rows.rows, self.rows.calls, 1.0)

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_another_scale_and_mask_hold_for_every_prompt_and_nothing_is_described() -> None:
    study = load_study(ROOT / "studies" / "avatars")
    own = options_of(study)
    assert (
        own.vocabulary == {}
        and own.setting(Concept("eyewear")).scale == 3.0
        and own.setting(Concept("a hat")).scale == 1.0
    )
    changed = options_of(study, scale=5.0, mask="noise")
    for prompt in ("eyewear", "a hat"):
        assert (changed.setting(Concept(prompt)).scale, changed.setting(Concept(prompt)).mask) == (5.0, "noise")


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    toy = load_study(write_study(tmp_path / "toy"))
    with pytest.raises(DiffExError, match=r"editors\.paint is of kind 'python', and the bench measures 'ledits'"):
        options_of(toy)
    editors = {"ledits": {"kind": "ledits", "checkpoint": "../checkpoint", "scheduler": "ddim"}}
    with pytest.raises(DiffExError, match="cannot invert with scheduler 'ddim'"):
        workload_of(load_study(write_study(tmp_path / "ddim", editors=editors)), 1, 1, tmp_path)
    editors["ledits"]["scheduler"] = "dpm"
    study = load_study(write_study(tmp_path / "dpm", editors=editors))
    with pytest.raises(DiffExError, match="the corpus has 6 editable features"):
        workload_of(study, 1, 7, tmp_path)
    with pytest.raises(DiffExError, match="the study has 8 images: ask for --images that many"):
        workload_of(study, 9, 1, tmp_path)
    with pytest.raises(DiffExError, match="--size 'huge' is not known: use one of sd15, sdxl, tiny, tiny-xl"):
        workload_of(study, 1, 1, tmp_path, size="huge")
    with pytest.raises(DiffExError, match=r"--mask: Input should be 'noise'.* \(got 'everywhere'\)"):
        workload_of(study, 1, 1, tmp_path, mask="everywhere")
    found = workload_of(study, 2, 3, tmp_path, mask="noise")
    assert len(found.pictures) == 2 and found.prompts[0] == "red patch" and found.options["mask"] == "noise"
