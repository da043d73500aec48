"""Lineage that never lies: a report is fresh only if a run from nothing would say the same.

One property over every input. Every kind of input is changed on a real instance: the sources are observed, the
automation runs what it requests until it requests nothing, and then nothing is unsynced, every report and the
comparison say what a run in an empty store says, and nothing was edited or scored that existed. Then the change is
taken back, and somebody materializes what is unsynced until nothing is. Every field is in test_lineage_of_fields.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from diffex_dagster.study import load_study
from tests.support.lineage_lab import BASE, MADE, Lab, begin, from_nothing, part, undrawn, write
from tests.support.toys import picture

Fields = dict[str, Any]
Change = Callable[[Path, pytest.MonkeyPatch], Fields | None]
"""Changes a study's folder or environment, and returns other fields of it; None where no process starts anew."""


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with undrawn():
        yield


class Bench:
    """The study with everything made, which every change is made to and taken back from."""

    def __init__(self, home: Path) -> None:
        self.home, self.made, self.spoiled = home, 0, True
        self.lab: Lab
        self.said: dict[str, Any]

    def ready(self) -> Lab:
        """A quiet lab: the one before, unless a test has failed in it."""
        if self.spoiled:
            self.made += 1
            folder = self.home / str(self.made) / "toy"
            self.lab = Lab(begin(folder), dg.DagsterInstance.ephemeral())
            shutil.copytree(folder, self.kept)
            self.lab.observe()
            self.lab.materialize()
            assert self.lab.unsynced() == [] and self.lab.requested() == []
            self.said = self.lab.says()
        self.spoiled = True
        return self.lab

    @property
    def kept(self) -> Path:
        return self.home / f"kept_{self.made}"

    def go_on(self, changed: Lab) -> None:
        """Take every change of a person's back, and materialize by hand what is unsynced; what runs made stays."""
        self.lab.cursor, folder = changed.cursor, self.lab.study.folder
        if (folder / "elsewhere").exists():
            (folder / "elsewhere").rename(folder / "results")
        for each in folder.iterdir():
            if each.name not in MADE:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        shutil.copytree(self.kept, folder, dirs_exist_ok=True)
        assert load_study(folder) == self.lab.study  # as the definitions know it
        with self.lab.nothing_twice():
            self.lab.observe()
            self.lab.by_hand()
        self.spoiled = False


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


# Every kind of input ----------------------------------------------------------------------------------------------


def text(file: str, old: str, new: str) -> Change:
    """Another text in a file."""

    def change(folder: Path, _: pytest.MonkeyPatch) -> None:
        written = (folder / file).read_text()
        assert old in written
        (folder / file).write_text(written.replace(old, new))

    return change


def setting(**fields: Any) -> Change:
    return lambda folder, _: fields


def variable(name: str, value: str) -> Change:
    def change(folder: Path, patch: pytest.MonkeyPatch) -> Fields:
        patch.setenv(name, value.format(folder=folder))
        return {}

    return change


def files(work: Callable[[Path], Any], **fields: Any) -> Change:
    def change(folder: Path, _: pytest.MonkeyPatch) -> Fields | None:
        work(folder)
        return fields or None

    return change


def changed_and_reverted(file: str) -> Change:
    """Changed, and changed back before anybody looked."""

    def work(folder: Path) -> None:
        kept = (folder / file).read_bytes()
        (folder / file).write_bytes(b"another")
        (folder / file).write_bytes(kept)

    return files(work)


def all_of(*changes: Change) -> Change:
    def change(folder: Path, patch: pytest.MonkeyPatch) -> Fields:
        return {field: value for each in changes for field, value in (each(folder, patch) or {}).items()}

    return change


KINDS: dict[str, Change] = {
    "weights": text("v1.json", "3.0", "-3.0"),
    "weights that move no level-1 effect": text("v1.json", "3.0", '3.0, "dark": -9.0'),
    "checkpoint": text("checkpoint.txt", "0", "40"),
    "library version": variable("TOY_LIBRARY", "2.0"),
    "code that theirs imports": text("constants.py", "1.0", "-4.0"),
    "target function": text("own.py", "expit(outputs[:, 1])", "expit(-2 * outputs[:, 1])"),
    "recorded proposal": text("proposal.json", "bright", "glow"),
    "reference text": text("context.md", "warm", "cold"),
    "corpus file": text("corpus.yaml", "# no changes", "remove: [Light]"),
    "corpus file, a new name for the same edit": text("corpus.yaml", "# no changes", "rename: {red: Crimson}"),
    "image added": files(lambda folder: picture(31).save(folder / "images" / "zz.png")),
    "image removed": files(lambda folder: (folder / "images" / "00.png").unlink()),
    "image changed": files(lambda folder: picture(20).save(folder / "images" / "01.png")),
    "image renamed": files(lambda folder: (folder / "images" / "00.png").rename(folder / "images" / "zz.png")),
    "results deleted": files(lambda folder: shutil.rmtree(folder / "results")),
    "results elsewhere by the environment": variable("DIFFEX_RESULTS", "{folder}/../prod"),
    "classifier added": setting(classifiers=BASE["classifiers"] | {"v3": part("v3.json")}),
    "settings of edits": setting(effects={"control_prompts": ["quib", "zork"], "seeds": 2}, seed=3),
    "settings of the search": setting(search={"beam": 1, "joint_size": 2, "probes": 2}),
    "settings of the pages": setting(title="Warmth", effects=BASE["effects"] | {"level": 0.3, "margin": 0.2}),
    "nothing that matters": all_of(
        text("own.py", "import os\n", "import os  # for the library\n\n"),
        text("corpus.yaml", "# no changes", "# none"),
        changed_and_reverted("v1.json"), changed_and_reverted("images/00.png"), changed_and_reverted("list.txt"),
        variable("DIFFEX_BATCH_SIZE", "2"), variable("DIFFEX_DEVICE", "cuda"),
        files(lambda folder: (folder / "results").rename(folder / "elsewhere"), results="elsewhere"),
        setting(owners=["team:vision"]),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_quiet_study_says_what_a_run_from_nothing_says(bench: Bench, tmp_path: Path, kind: str) -> None:
    lab = bench.ready()
    with pytest.MonkeyPatch.context() as patch:
        changed = lab.changed(KINDS[kind](lab.study.folder, patch))
        with changed.nothing_twice():
            changed.observe()
            ran = changed.by_automation()
        said = from_nothing(changed.study, tmp_path / "nothing")
        assert changed.says() == said.pages
        assert len(ran) == len(set(ran)), f"a stage ran twice: {ran}"
        assert (ran == []) == (kind == "nothing that matters")
        changed.observe()
        assert changed.unsynced() == []

    bench.go_on(changed)
    assert bench.lab.says() == bench.said


@pytest.mark.slow
def test_a_change_beside_a_materialization_is_requested(bench: Bench) -> None:
    """Between two ticks of the automation, in whatever order: nothing is missed, and nothing is requested twice."""
    lab = bench.ready()

    def edit(text: str) -> None:
        (lab.study.folder / "corpus.yaml").write_text(text)
        lab.observe()

    edit("prompt: {light: glow}\n")
    lab.materialize()  # by hand
    edit("prompt: {light: gleam}\n")  # and edited again, before the automation looks
    ran = lab.by_automation()
    assert ran[0] == "corpus" and len(ran) == len(set(ran)) and lab.unsynced() == []

    edit("prompt: {light: shine}\n")
    lab.by_hand()  # what is there now: nothing is left to request
    assert lab.requested() == []

    edit("prompt: {light: blaze}\n")
    assert lab.requested() == ["corpus"]
    lab.materialize("corpus")  # as requested
    edit("prompt: {light: glow}\n")  # and edited again, before the next tick
    assert lab.by_automation()[0] == "corpus" and lab.unsynced() == []

    edit("prompt: {nowhere: at all}\n")
    assert lab.requested() == ["corpus"]
    lab.materialize("corpus", succeeds=False)
    assert lab.requested() == lab.requested() == []  # what failed is not requested again for the same state
    edit("prompt: {light: gleam}\n")
    assert lab.by_automation()[0] == "corpus" and lab.unsynced() == []

    bench.go_on(lab)
    assert bench.lab.says() == bench.said


def test_nothing_is_edited_or_scored_outside_the_pool(tmp_path: Path) -> None:
    begin(tmp_path / "toy")
    chosen = {"folder": "images", "size": 16, "predicted": {"classifier": "v1", "min_confidence": 0.1}}
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(write(tmp_path / "toy", {"images": chosen}), instance)
        graph = lab.definitions.resolve_asset_graph()
        worked = set()
        for stage in lab.unsynced():
            before = lab.worked()
            lab.materialize(stage)
            if lab.worked() != before:
                worked.add(stage)
                assert graph.get(dg.AssetKey(["toy", *stage.split("/")])).pools == {"gpu"}, stage
        assert worked >= {"sample_images", "level1_edits", "v1/level1_scores", "v1/level2_scores", "v1/ranked_report"}
