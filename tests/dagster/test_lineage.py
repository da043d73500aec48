"""Lineage that never lies: a report is fresh only if a run from nothing would say the same.

One property over every input. Every kind of input is changed on a real instance: the sources are observed, the
automation runs what it requests until it requests nothing, and then nothing is unsynced, every report and the
comparison say what a run in an empty store says, and nothing was edited or scored that existed. Then the change is
taken back, and somebody materializes what is unsynced until nothing is. And every field of a study, as the models list
them, is changed: what it does to any stage is followed by Dagster's own rule.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from diffex_dagster.assets.build import build_study
from diffex_dagster.resources import ClassifierResource, EditorResource, at_work
from diffex_dagster.stages.settings import DECIDES, fields
from diffex_dagster.stages.sources import Sources
from diffex_dagster.study import Study, load_study
from tests.support.lineage_lab import BASE, MADE, HeldResults, Lab, Said, begin, from_nothing, part, write
from tests.support.toys import picture

Fields = dict[str, Any]
Change = Callable[[Path, pytest.MonkeyPatch], Fields]


@pytest.fixture(scope="module", autouse=True)
def no_drawings() -> Iterator[None]:
    """Reports without their pages and figures, which take most of the time: what they say is in report.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffex_dagster.report.files.ranked_bars", lambda *_, **__: {"svg": b"", "png": b""})
        for page in ("render_report", "render_comparison"):
            patch.setattr(f"diffex_dagster.report.files.{page}", lambda _: "")
        logging.getLogger("dagster.automation_condition_tester").setLevel(logging.WARNING)
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

    def take_back(self) -> Lab:
        """Every file that a person wrote as it was at first; what runs made stays."""
        folder = self.lab.study.folder
        if (folder / "elsewhere").exists():
            (folder / "elsewhere").rename(folder / "results")
        for each in folder.iterdir():
            if each.name not in MADE:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        shutil.copytree(self.kept, folder, dirs_exist_ok=True)
        return Lab(load_study(folder), self.lab.instance, self.lab.cursor)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


# Every kind of input ----------------------------------------------------------------------------------------------


def text(file: str, old: str, new: str, **fields: Any) -> Change:
    """Another text in a file."""

    def change(folder: Path, _: pytest.MonkeyPatch) -> Fields:
        written = (folder / file).read_text()
        assert old in written
        (folder / file).write_text(written.replace(old, new))
        return fields

    return change


def setting(**fields: Any) -> Change:
    return lambda folder, _: fields


def variable(name: str, value: str) -> Change:
    def change(folder: Path, patch: pytest.MonkeyPatch) -> Fields:
        patch.setenv(name, value.format(folder=folder))
        return {}

    return change


def files(work: Callable[[Path], Any], **fields: Any) -> Change:
    def change(folder: Path, _: pytest.MonkeyPatch) -> Fields:
        work(folder)
        return fields

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
        return {field: value for each in changes for field, value in each(folder, patch).items()}

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
    "settings of edits": setting(effects={"nonsense": ["quib", "zork"], "seeds": 2}, seed=3),
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
        assert changed.unsynced() == []
        assert len(ran) == len(set(ran)), f"a stage ran twice: {ran}"
        assert (ran == []) == (kind == "nothing that matters")
        changed.observe()
        assert changed.unsynced() == []

    bench.lab.cursor = changed.cursor
    back = bench.take_back()
    with back.nothing_twice():
        back.observe()
        back.by_hand()
    assert back.says() == bench.said
    assert back.requested() == []  # what a person has done is done
    bench.lab, bench.spoiled = back, False


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


# Every field of a study -------------------------------------------------------------------------------------------

RACING = {"search": {"probes": 1, "allocation": "racing", "racing_start": 2}}
SPLIT = {
    "effects": BASE["effects"] | {"confirmation": 0.5, "confirmation_from": 4},
    "images": {"folder": "many", "size": 16},
}
TABLE = {"images": {"table": "table.csv", "size": 16}}
DRAWN = {"images": {"sample": 2, "size": 16}}
SERVER = {"corpus": {"vlm": {"kind": "openai", "model": "one", "base_url": "http://127.0.0.1:9/v1"}}}


def images(**changes: Any) -> Fields:
    return {"images": {"size": 16, **changes}}


def search(**changes: Any) -> Fields:
    return {"search": BASE["search"] | changes}


def effects(**changes: Any) -> Fields:
    return {"effects": BASE["effects"] | changes}


def proposing(**changes: Any) -> Fields:
    return {"corpus": BASE["corpus"] | changes}


def asking(**changes: Any) -> Fields:
    return {"corpus": {"vlm": SERVER["corpus"]["vlm"] | changes}}


def racing(**changes: Any) -> tuple[Fields, Fields]:
    return RACING, {"search": RACING["search"] | changes}


# Field -> what a study says with another value of it; or what it says before and after.
FIELDS: dict[str, Fields | tuple[Fields, Fields]] = {
    "title": {"title": "Warmth"},
    "domain": {"domain": "squares"},
    "images.folder": images(folder="copies"),
    "images.glob": images(glob="images/0[01].png"),
    "images.files": images(files="list.txt"),
    "images.table": images(table="table.csv"),
    "images.dataset": images(dataset="dataset"),
    "images.path_column": (TABLE, images(table="table.csv", path_column="other")),
    "images.label_column": (images(table="table.csv", labels=["a"]),
                            images(table="table.csv", labels=["a"], label_column="kind")),
    "images.labels": (TABLE, images(table="table.csv", labels=["b"])),
    "images.predicted": images(predicted={"classifier": "v1", "min_confidence": 0.1}),
    "images.sample": images(sample=2),
    "images.stratify": (images(table="table.csv", sample=2), images(table="table.csv", sample=2, stratify=True)),
    "images.limit": images(limit=2),
    "images.size": {"images": {"size": 24}},
    "images.fit": images(fit="pad"),
    "images.background": images(background="black"),
    "images.unreadable": images(unreadable=0.5),
    "corpus.vlm.recorded.kind": asking(),
    "corpus.vlm.recorded.file": proposing(vlm={"kind": "recorded", "file": "other.json"}),
    "corpus.vlm.openai.kind": (asking(), proposing()),
    "corpus.vlm.openai.model": (SERVER, asking(model="two")),
    "corpus.vlm.openai.base_url": (SERVER, asking(base_url="http://127.0.0.1:10/v1")),
    "corpus.vlm.openai.key_env": (SERVER, asking(key_env="MY_KEY")),
    "corpus.vlm.openai.images_per_call": (SERVER, asking(images_per_call=2)),
    "corpus.vlm.openai.max_images": (SERVER, asking(max_images=2)),
    "corpus.vlm.openai.image_side": (SERVER, asking(image_side=64)),
    "corpus.vlm.openai.groups_per_call": (SERVER, asking(groups_per_call=2)),
    "corpus.vlm.openai.parallel": (SERVER, asking(parallel=1)),
    "corpus.vlm.openai.parameters": (SERVER, asking(parameters={"temperature": 0})),
    "corpus.vlm.openai.prices": (SERVER, asking(prices={"one": [1, 2]})),
    "corpus.vlm.openai.embedding_model": (SERVER, asking(embedding_model="three")),
    "corpus.vlm.openai.leak_check": (SERVER, asking(leak_check=True)),
    "corpus.vlm.openai.retries": (SERVER, asking(retries=0)),
    "corpus.vlm.openai.timeout_s": (SERVER, asking(timeout_s=1)),
    "corpus.starter": ({"corpus": {"starter": "leaf-health"}}, {"corpus": {"starter": "pet"}}),
    "corpus.edits": proposing(edits="mine.yaml"),
    "corpus.examples": proposing(examples=["a lamp"]),
    "corpus.levels": proposing(levels=3),
    "corpus.groups": proposing(groups=2),
    "corpus.max_children": proposing(max_children=1),
    "corpus.leakage": proposing(leakage=["bright"]),
    "corpus.vague": proposing(vague=["sparkles"]),
    "corpus.context": proposing(context=["other.md"]),
    "corpus.context_tokens": proposing(context_tokens=100),
    "editors": {"editors": {"own": BASE["editors"]["own"] | {"options": {"version": "2"}}}},
    "classifiers": {"classifiers": BASE["classifiers"] | {"v1": part("v3.json")}},
    "target": {"target": {"label": "cold"}},
    "search.gate": search(gate="signed"),
    "search.beam": search(beam=1),
    "search.delta": (search(gate="signed"), search(gate="signed", delta=0.3)),
    "search.probes": search(probes=2),
    "search.joint_size": search(joint_size=1),
    "search.joint_width": search(joint_width=1),
    "search.joint_directions": search(joint_directions="strongest"),
    "search.joint_search": search(joint_search="published"),
    "search.joint_gain": search(joint_gain=0.3),
    "search.interactions": search(interactions=2),
    "search.allocation": RACING,
    "search.racing_top": racing(racing_top=1),
    "search.racing_error": racing(racing_error=0.5),
    "search.racing_tolerance": racing(racing_tolerance=0.5),
    "search.racing_gate_tolerance": racing(racing_gate_tolerance=0.5),
    "search.racing_start": racing(racing_start=3),
    "search.racing_growth": racing(racing_growth=3.0),
    "search.racing_bounds": ({"target": {"label": "warm"}} | RACING,
                             {"target": {"label": "warm"}} | racing(racing_bounds="bounded")[1]),
    "effects.error_rate": effects(error_rate="fdr-by"),
    "effects.level": effects(level=0.6),
    "effects.minimum_effect": effects(minimum_effect=0.3),
    "effects.confidence": effects(confidence=0.8),
    "effects.margin": effects(margin=0.3),
    "effects.absence": effects(absence=0),
    "effects.side_effects": effects(side_effects=0),
    "effects.subgroups": (TABLE, TABLE | effects(subgroups=["kind"])),
    "effects.seeds": effects(seeds=2),
    "effects.confirmation": (RACING | SPLIT, RACING | SPLIT | {"effects": SPLIT["effects"] | {"confirmation": 0.3}}),
    "effects.confirmation_from": (RACING | SPLIT, RACING | images(folder="many")),
    "effects.nonsense": effects(nonsense=["quib", "zork"]),
    "effects.min_edit_strength": effects(min_edit_strength=0.5),
    "effects.min_edit_success": effects(min_edit_success=1.0),
    "probe": {"probe": {"kind": "none"}},
    "calibrate": {"calibrate": True},
    "calibration.images": ({"calibrate": True}, {"calibrate": True, "calibration": {"images": 2}}),
    "calibration.budget": ({"calibrate": True}, {"calibrate": True, "calibration": {"budget": 0.5}}),
    "report": {"report": {"gradcam": 1}},
    "rules": {"rules": [{"feature": "Red", "below": 0.01}]},
    "seed": (DRAWN, DRAWN | {"seed": 5}),
    "results": {"results": "elsewhere"},
    "owners": {"owners": ["team:vision"]},
    "truth": {"truth": "own:warmth"},
}  # fmt: skip
OF_THE_KEYS = {"name", "editor"}  # of another name are other assets


def test_every_field_of_a_study_has_a_change() -> None:
    assert set(FIELDS) == set(fields()) - OF_THE_KEYS == set(DECIDES) - OF_THE_KEYS


class Place:
    """A folder whose study file is written again and again, and what a run from nothing says of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._known = folder, {}
        begin(folder / "toy")

    def study(self, fields: Fields) -> Study:
        return write(self.folder / "toy", fields)

    def said(self, fields: Fields) -> Said:
        """The same fields say the same: once for all that begin with them."""
        key = repr(fields)
        if key not in self._known:
            self._known[key] = from_nothing(self.study(fields), self.folder / "nothing")
        return self._known[key]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


def versions_of_sources(study: Study) -> dict[str, str]:
    work = at_work(study, HeldResults(), EditorResource(), ClassifierResource())
    known = Sources(work, tuple(study.classifiers))
    return {f"toy/{name}": known.version(name) for name in known.names}


@pytest.mark.parametrize("field", FIELDS)
def test_what_a_field_changes_is_made_again(place: Place, field: str) -> None:
    change = FIELDS[field]
    ways = change if isinstance(change, tuple) else ({}, change)
    codes, seen = [], []
    for fields_ in ways:
        study = place.study(fields_)
        graph = build_study(study).resolve_asset_graph()
        codes.append({key.to_user_string(): graph.get(key).code_version for key in graph.materializable_asset_keys})
        seen.append(versions_of_sources(study))
    touched = {name for name in codes[0] if codes[0][name] != codes[1][name]}
    there = {name.rpartition("/")[2] for name in codes[0]}  # a study that does not calibrate has no such stage
    assert {name.rpartition("/")[2] for name in touched} == set(DECIDES[field]) & there, "other stages than it decides"
    if any("openai" in repr(fields_) for fields_ in ways):
        return  # nothing answers here: what is asked is tests/corpus'

    before, after = (place.said(fields_) for fields_ in ways)
    old, new = ({f"toy/{stage}": version for stage, version in of.versions.items()} for of in (before, after))
    for key in graph.toposorted_asset_keys:
        if (name := key.to_user_string()) not in old.keys() & new.keys():
            continue
        parents = [parent.to_user_string() for parent in graph.get(key).parent_keys]
        again = name in touched or any((seen[0] | old).get(each) != (seen[1] | new)[each] for each in parents)
        if not again:
            assert old[name] == new[name], f"{name} would be another, and stays"
            page = key.path[-2] if key.path[-1] == "ranked_report" else "comparison"
            if key.path[-1] in ("ranked_report", "classifier_comparison"):
                assert before.pages[page] == after.pages[page], f"the page of {name} would be another, and stays"
