"""The command line: what it prints, and one clear sentence with a non-zero exit for every bad input."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from diffex_dagster.cli import main as cli
from diffex_dagster.resources.queue import STUDY_TAG
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study, load_study
from tests.support.project import Run
from tests.support.toys import edits_made, write_study


@pytest.mark.slow
def test_run_then_show_as_json_and_table(tmp_path: Path, diffex: Run) -> None:
    write_study(tmp_path)
    status, out, err = diffex("run", tmp_path)
    assert status == 0, err
    for page in ("v1", "v2", "comparison"):
        assert str(tmp_path / "results" / "reports" / page / "index.html") in out
    status, out, _ = diffex("show", tmp_path, "v1", "--format", "json")
    rows = json.loads(out)
    keys = {"rank", "feature", "group", "level", "effect", "ci_low", "ci_high", "flip_rate", "images"}
    assert status == 0 and keys <= set(rows[0])
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert "Plain blue" in diffex("show", tmp_path, "v1")[1]
    assert "Red" in diffex("compare", tmp_path)[1]


def test_several_classes_are_explained_from_the_same_edits(tmp_path: Path, diffex: Run) -> None:
    one = {"v1": {"kind": "python", "factory": "tests.support.toys:WarmClassifier"}}
    write_study(tmp_path, 4, target={"label": ["warm", "cold"]}, classifiers=one)
    status, out, err = diffex("run", tmp_path)
    assert status == 0, err
    made = edits_made(tmp_path)
    assert len(made) == len(set(made))
    effects = {}
    for name in ("v1_warm", "v1_cold"):
        assert str(tmp_path / "results" / "reports" / name / "index.html") in out
        rows = json.loads(diffex("show", tmp_path, name, "--format", "json")[1])
        effects[name] = {row["feature"]: row["effect"] for row in rows}
    for feature, effect in effects["v1_warm"].items():  # two classes: what raises one lowers the other
        assert effects["v1_cold"][feature] == pytest.approx(-effect, abs=1e-9)
    assert max(map(abs, effects["v1_warm"].values())) > 0.1


def test_a_classifier_that_cannot_score_stops_before_any_edit(tmp_path: Path, diffex: Run) -> None:
    broken = {"v1": {"python": "tests.support.callables:raises", "labels": ["cold", "warm"]}}
    write_study(tmp_path, classifiers=broken)
    status, _, err = diffex("run", tmp_path)
    assert status == 1 and "classifiers.v1: tests.support.callables:raises: the callable failed on 4 pictures" in err
    assert edits_made(tmp_path) == []


@pytest.mark.slow
def test_plan_says_what_is_missing_before_and_nothing_after(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path)
    # The toy editor holds no GPU memory; as if this machine had a GPU, and had held 3.25 GB of it.
    monkeypatch.setattr("diffex_dagster.stages.edits.measure_gpu_memory", lambda: lambda: 3.25)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))  # one that has seen no other toy study

    def planned(*options: str) -> dict[str, dict[str, Any]]:
        status, out, err = diffex("plan", tmp_path, "--format", "json", *options)
        assert status == 0, err
        return {row["stage"]: row for row in json.loads(out)}

    before = planned()
    # The null edit, two control prompts, three groups, and the two children that compete beside their group.
    assert before["level1_edits"]["edits_missing"] == 8 * 8 and before["level1_edits"]["edits_reused"] == 0
    assert before["v1/level1_scores"]["scores_missing"] == 8 * 8
    assert "up to 48 edits of the groups it keeps, 48 of them of joint" in before["v1/level2_scores"]["note"]
    assert before["corpus"]["why"] == "never made" and before["level1_edits"]["gpu_memory_gb"] is None
    assert edits_made(tmp_path) == []
    diffex("run", tmp_path)
    made = edits_made(tmp_path)
    after = planned()
    assert all(row["why"] == "up to date" for row in after.values())
    assert not any(row["edits_missing"] or row["scores_missing"] or row["note"] for row in after.values())
    (tmp_path / "corpus.yaml").write_text("prompt: {light: glow}\n")
    edited = planned()
    assert edited["level1_edits"]["edits_missing"] == 8 and edited["level1_edits"]["edits_reused"] == 56
    assert edited["v2/level2_scores"]["edits_missing"] == 0  # level 1 of the same run makes them
    assert edited["level1_edits"]["edit_seconds"] is not None and edited["level1_edits"]["gpu_memory_gb"] == 3.25
    assert edited["corpus"]["gpu_memory_gb"] is None
    assert "corpus_overrides" in edited["corpus"]["why"] and edited["sample_images"]["why"] == "up to date"
    assert edits_made(tmp_path) == made
    assert "level1_edits" in diffex("plan", tmp_path, "--classifier", "v1")[1]


def test_show_and_compare_print_csv_and_chosen_versions(tmp_path: Path, diffex: Run) -> None:
    rules = [{"feature": "Red", "below": 0.05, "classifiers": ["v1"]}]
    write_study(tmp_path, rules=rules)
    assert diffex("run", tmp_path)[0] == 0
    shown = list(csv.DictReader(io.StringIO(diffex("show", tmp_path, "v1", "--format", "csv")[1])))
    assert shown[0]["rank"] == "1" and {row["name"] for row in shown} >= {"Red", "Plain blue"}
    compared = json.loads(diffex("compare", tmp_path, "v2", "v1", "--format", "json")[1])
    (red,) = [row for row in compared if row["feature"] == "red"]
    assert red["difference"] > 0.1 and red["decision"] == "more reliant"  # from v2 to v1, as asked for
    assert "broken reliance of v1 on “Red”" in " ".join(diffex("compare", tmp_path)[1].split())
    assert "a comparison needs two" in diffex("compare", tmp_path, "v1")[2]


OPEN = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "r")
print("open", flush=True)
input()
"""


@contextmanager
def another_has_it_open(database: Path, mode: str) -> Iterator[None]:
    """Another program that reads the results ("r"), or writes them ("w")."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, str(database), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stdout.readline() == "open\n"
        try:
            yield
        finally:
            program.kill()


@pytest.mark.slow
def test_what_only_reads_opens_the_results_to_read(
    explained: Study, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another reader, who keeps writers out, all of it works; beside a writer it says who is in the way."""
    tmp_path = explained.folder
    monkeypatch.setattr("diffex_dagster.store.duck.WRITE_BESIDE", 0.0)
    monkeypatch.setattr("diffex_dagster.store.duck.LOCK_TIMEOUT", 0.0)
    database = tmp_path / "results" / "diffex.duckdb"
    before, edits = database.read_bytes(), edits_made(tmp_path)
    commands = [
        ("show", tmp_path, "v1"), ("compare", tmp_path), ("plan", tmp_path), ("survey", "make", tmp_path, "v1"),
        ("corpus", "show", tmp_path), ("corpus", "check", tmp_path), ("corpus", "diff", tmp_path),
        ("report", tmp_path, "v1"), ("store", "check", tmp_path), ("store", "prune", tmp_path), ("doctor", tmp_path),
    ]  # fmt: skip
    with another_has_it_open(database, "r"):
        for command in commands:
            status, out, err = diffex(*command)
            assert status == 0 and out, (command, err)
    with another_has_it_open(database, "w"):
        for command in commands[:4]:
            status, _, err = diffex(*command)
            assert status == 1 and "is locked by another process" in err and "run again" in err, (command, err)
    assert database.read_bytes() == before and edits_made(tmp_path) == edits


def test_a_full_disk_under_dagsters_database_is_one_sentence(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OperationalError("INSERT INTO event_logs", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(dg.DagsterInstance, "report_runless_asset_event", full)
    write_study(tmp_path, 2)
    for command in ("plan", "run"):
        status, _, err = diffex(command, tmp_path)
        assert status == 1 and "database or disk is full" in err and "make room there, or name another" in err
        assert "Traceback" not in err


ALL = [
    ("run", "toy"), ("plan", "toy"), ("preview", "toy"), ("report", "toy"), ("show", "toy", "v1"), ("compare", "toy"),
    ("survey", "make", "toy"), ("corpus", "show", "toy"), ("corpus", "check", "toy"), ("corpus", "diff", "toy"),
    ("store", "check", "toy"), ("store", "prune", "toy"), ("doctor", "toy"), ("schema",), ("corpus", "read", "answer"),
    ("survey", "results", "answers"), ("init", "toy", "--images", "images", "--classifier", "mine:f"),
]  # fmt: skip


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_ctrl_c_ends_every_command_with_one_line(
    command: tuple[str, ...], diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    for place in ("main.load", "corpus.read_file", "results.survey_results", "init.make_study", "init.json_schema"):
        monkeypatch.setattr(f"diffex_dagster.cli.{place}", interrupted)
    monkeypatch.setattr("diffex_dagster.study.find_study", interrupted)
    status, out, err = diffex(*command)
    assert status == 130 and not out
    assert err == "interrupted: what was finished is kept; the same command goes on from there"


def test_report_prints_the_page_and_opens_it(
    explained: Study, tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path / "new")
    status, _, err = diffex("report", tmp_path / "new")
    assert status == 1 and "comparison has no report yet; run `diffex run" in err
    tmp_path = explained.folder
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    page = tmp_path / "results" / "reports" / "v1" / "index.html"
    assert diffex("report", tmp_path, "v1")[1].strip() == str(page) and opened == []
    assert diffex("report", tmp_path, "v1", "--open")[0] == 0 and opened == [page.as_uri()]
    assert "comparison" in diffex("report", tmp_path)[1]


def test_weights_are_loaded_once_for_the_check_and_the_run(tmp_path: Path, diffex: Run) -> None:
    late = {"v1": {"kind": "python", "factory": "tests.support.callables:LoadsLate"}}
    write_study(tmp_path, 4, classifiers=late)
    assert diffex("run", tmp_path)[0] == 0
    assert (tmp_path / "loaded.txt").read_text() == "loaded\n"


@contextmanager
def gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Another run has the place in the pool and gives it back when somebody says that it waits; yields what is said."""
    said: list[str] = []
    with dg.DagsterInstance.get() as home:
        storage = home.event_log_storage
        storage.initialize_concurrency_limit_to_default("gpu")
        assert storage.claim_concurrency_slot("gpu", "another-run", "its_step").is_claimed

        def note(sentence: str) -> None:
            said.append(sentence)
            storage.free_concurrency_slots_for_run("another-run")

        monkeypatch.setattr(cli, "note", note)
        yield said


def study_of_the_last_run() -> str | None:
    with dg.DagsterInstance.get() as home:
        return home.get_runs(limit=1)[0].tags.get(STUDY_TAG)


def test_a_run_that_waits_for_another_says_so(tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, 4)
    with gpu_in_use(monkeypatch) as said:
        status, _, err = diffex("run", tmp_path, "--classifier", "v1")
    assert status == 0, err
    (sentence,) = said
    assert sentence.startswith("level1_edits waits for another run that uses the gpu: it goes on when that run ends")
    assert study_of_the_last_run() == "toy"


def test_a_preview_waits_for_a_run_too(tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, 2)
    with gpu_in_use(monkeypatch) as said:
        status, _, err = diffex("preview", tmp_path, "--images", "1")
        assert status == 0, err
        assert said[0].startswith("preview waits for another run that uses the gpu")
        assert study_of_the_last_run() is None  # a run of the study need not wait for it in a queue
        status, _, err = diffex("preview", tmp_path, "--grid")  # what the work raises is what the command says
    assert status == 1 and "has no options that --grid could try" in err


def test_one_classifier_only(tmp_path: Path, diffex: Run) -> None:
    write_study(tmp_path)
    assert diffex("run", tmp_path, "--classifier", "v1")[0] == 0
    assert (tmp_path / "results" / "reports" / "v1" / "index.html").exists()
    assert not (tmp_path / "results" / "reports" / "v2").exists()
    status, _, err = diffex("show", tmp_path, "v2")
    assert status == 1 and f"v2 has no report yet; run `diffex run {tmp_path.name}` first" in err


def test_fresh_starts_over_and_keeps_the_old_results(explained: Study, diffex: Run) -> None:
    tmp_path = explained.folder
    made = len(edits_made(tmp_path))
    assert diffex("run", tmp_path, "--fresh")[0] == 0
    assert len(edits_made(tmp_path)) == 2 * made
    (aside,) = tmp_path.glob("results-*")
    assert (aside / "diffex.duckdb").exists()


def test_another_editor_keeps_its_own_reports(tmp_path: Path, diffex: Run) -> None:
    editors = {
        "paint": {"kind": "python", "factory": "tests.support.toys:PaintEditor"},
        "other": {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"version": "2"}},
    }
    write_study(tmp_path, editors=editors)
    assert diffex("run", tmp_path, "--editor", "other", "--classifier", "v1")[0] == 0
    assert (tmp_path / "results" / "reports" / "v1-other" / "index.html").exists()
    assert diffex("show", tmp_path, "v1")[0] == 1
    assert diffex("show", tmp_path, "v1", "--editor", "other")[0] == 0


def breaks(folder: Path, what: str) -> None:
    """Put one mistake into a good study."""
    match what:
        case "images folder":
            (folder / "images").rename(folder / "elsewhere")
        case "unreadable image":
            (folder / "images" / "03.png").write_bytes(b"not a picture")
        case "duplicate feature":
            (folder / "corpus.yaml").write_text("add:\n  - {group: Red, name: dark red, prompt: a wine red patch}\n")
        case "unknown class":
            write_study(folder, target={"label": "hot"})
        case "missing checkpoint":
            write_study(folder, editors={"sd": {"kind": "ledits", "checkpoint": "./nowhere"}})
        case "missing classifier":
            write_study(folder, classifiers={"v1": {"kind": "transformers", "checkpoint": "./nowhere"}})
        case "missing proposal":
            (folder / "proposal.json").unlink()
        case "broken yaml":
            (folder / "corpus.yaml").write_text("add: [unclosed\n")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("images folder", "images: images.folder: there is no such folder; put the sample images there"),
        (
            "unreadable image",
            "1 of 8 files cannot be read as pictures (03.png: not a picture of a known format); replace or remove",
        ),
        ("duplicate feature", "corpus.yaml, line 2"),
        ("unknown class", "target.label: the classifier has no class 'hot'; it knows cold, warm"),
        ("missing checkpoint", "nowhere"),
        ("missing classifier", "nowhere: there is no classifier in this folder (no config.json)"),
        ("missing proposal", "proposal.json"),
        ("broken yaml", "corpus.yaml"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_lost(explained: Study, diffex: Run, what: str, sentence: str) -> None:
    tmp_path = explained.folder
    made = edits_made(tmp_path)
    breaks(tmp_path, what)
    status, _, err = diffex("run", tmp_path, "--classifier", "v1")
    said, _, error = err.partition("error: ")
    assert status == 1 and error and "Traceback" not in err, err
    assert not said or "still at it" in said, err  # what a slow machine says before, and nothing else
    assert sentence in error, err
    assert edits_made(tmp_path) == made
    write_study(tmp_path)
    (tmp_path / "elsewhere").exists() and (tmp_path / "elsewhere").rename(tmp_path / "old")
    (tmp_path / "corpus.yaml").write_text("# no changes\n")
    assert diffex("run", tmp_path, "--classifier", "v1")[0] == 0
    assert edits_made(tmp_path) == made  # what was computed before the mistake is still there


HOLD = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(10)"


@pytest.mark.slow
def test_a_run_waits_for_a_program_that_has_the_results_open(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = load_study(write_study(tmp_path))
    store = build_store(study)
    store.set_current("toy", "corpus", "x")
    monkeypatch.setattr("diffex_dagster.store.opening.SAY_AFTER", 0.5)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        status, _, err = diffex("run", tmp_path, "--classifier", "v1")
    finally:
        holder.kill()
        holder.wait()
    assert status == 0, err
    assert f"process {holder.pid}), which has the results open; close it to go on" in caplog.text
    assert len(edits_made(tmp_path)) > 0


def test_unknown_names_list_the_known_ones(tmp_path: Path, diffex: Run) -> None:
    write_study(tmp_path)
    assert "the study has v1, v2" in diffex("run", tmp_path, "--classifier", "v3")[2]
    assert "the study has paint" in diffex("run", tmp_path, "--editor", "sd")[2]
    assert "there is no such study" in diffex("run", tmp_path / "nowhere")[2]


def test_corpus_shows_checks_compares_and_reads(explained: Study, tmp_path: Path, diffex: Run) -> None:
    write_study(tmp_path / "new")
    assert "Dark red" in diffex("corpus", "show", tmp_path / "new")[1]
    assert "7 features in 3 groups: ready" in diffex("corpus", "check", tmp_path / "new")[1]
    tmp_path = explained.folder
    assert "no difference" in diffex("corpus", "diff", tmp_path)[1]
    (tmp_path / "corpus.yaml").write_text("add: [{group: Red, name: Ruby, prompt: ruby patch}]\n")
    assert "+ red/ruby" in diffex("corpus", "diff", tmp_path)[1]
    (tmp_path / "corpus.yaml").write_text("add: [{gruop: Red, name: Ruby}]\n")
    status, _, err = diffex("corpus", "check", tmp_path)
    assert status == 1 and "line 1" in err and "group" in err
    answer = tmp_path / "answer.txt"
    answer.write_text('Here you are:\n```json\n{"Hat": {"red hat", "blue hat",},}\n```')
    tree = json.loads(diffex("corpus", "read", answer, "--format", "json")[1])
    assert [child["name"].lower() for child in tree["groups"][0]["children"]] == ["red hat", "blue hat"]
    assert diffex("corpus", tmp_path)[0] == 2 and "No such command" in diffex("corpus", tmp_path)[2]
