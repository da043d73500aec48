"""Every field of a study, as the models list them, and every file behind one: what it does to any stage is followed.

Each is changed, and what a run from nothing says before and after is held against Dagster's rule: a stage is made again
where its code version, or the version of something that it reads, is another. What is not made again must be as it was.
Kinds of inputs on a real instance are in test_lineage.py.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from diffex_dagster.assets.build import build_study
from diffex_dagster.stages.settings import DECIDES, decided_by, fields
from diffex_dagster.utils.hashing import digest
from tests.support import onnx_models
from tests.support.chat_server import Reply, embeddings, serving
from tests.support.lineage_lab import BASE, Lab, Said, begin, from_nothing, part, sources_of, undrawn, write
from tests.support.onnx_models import WEIGHTS
from tests.support.toys import picture

Fields = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with undrawn():
        yield


# Every field of a study -------------------------------------------------------------------------------------------

RACING = {"search": {"probes": 1, "allocation": "racing", "racing_start": 2}}
SPLIT = {
    "effects": BASE["effects"] | {"confirmation": 0.5, "confirmation_from": 4},
    "images": {"folder": "many", "size": 16},
}
TABLE = {"images": {"table": "table.csv", "size": 16}}
DRAWN = {"images": {"sample": 2, "size": 16}}
VLM = {"kind": "openai", "model": "one", "base_url": "{server}"}  # the address of a server that answers every request
ASKED: dict[str, Any] = {"corpus": {"vlm": VLM, "context": ["context.md"]}}


def images(**changes: Any) -> Fields:
    return {"images": {"size": 16, **changes}}


def search(**changes: Any) -> Fields:
    return {"search": BASE["search"] | changes}


def effects(**changes: Any) -> Fields:
    return {"effects": BASE["effects"] | changes}


def proposing(**changes: Any) -> Fields:
    return {"corpus": BASE["corpus"] | changes}


def asked(**changes: Any) -> tuple[Fields, Fields]:
    return ASKED, {"corpus": ASKED["corpus"] | changes}


def asking(**changes: Any) -> tuple[Fields, Fields]:
    return asked(vlm=VLM | changes)


def racing(**changes: Any) -> tuple[Fields, Fields]:
    return RACING, {"search": RACING["search"] | changes}


TWO = {"editors": BASE["editors"] | {"other": {"kind": "python", "factory": "own:Editor", "options": {"entangled": 9}}}}

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
    "corpus.vlm.recorded.kind": (proposing(), ASKED),
    "corpus.vlm.recorded.file": proposing(vlm={"kind": "recorded", "file": "other.json"}),
    "corpus.vlm.recorded.suggestions": proposing(
        vlm={"kind": "recorded", "file": "proposal.json", "suggestions": "other.json"}
    ),
    "corpus.vlm.openai.kind": (ASKED, proposing()),
    "corpus.vlm.openai.model": asking(model="two"),
    "corpus.vlm.openai.base_url": asking(base_url="{other}"),
    "corpus.vlm.openai.key_env": asking(key_env="MY_KEY"),
    "corpus.vlm.openai.images_per_call": asking(images_per_call=2),
    "corpus.vlm.openai.max_images": asking(max_images=2),
    "corpus.vlm.openai.image_side": asking(image_side=64),
    "corpus.vlm.openai.groups_per_call": asking(groups_per_call=2),
    "corpus.vlm.openai.parallel": asking(parallel=1),
    "corpus.vlm.openai.parameters": asking(parameters={"temperature": 0}),
    "corpus.vlm.openai.prices": asking(prices={"one": [1, 2]}),
    "corpus.vlm.openai.embedding_model": asking(embedding_model="three"),
    "corpus.vlm.openai.leak_check": asking(leak_check=True),
    "corpus.vlm.openai.retries": asking(retries=0),
    "corpus.vlm.openai.timeout_s": asking(timeout_s=1),
    "corpus.starter": ({"corpus": {"starter": "leaf-health"}}, {"corpus": {"starter": "pet"}}),
    "corpus.overrides": proposing(overrides="mine.yaml"),
    "corpus.examples": asked(examples=["a lamp"]),
    "corpus.levels": asked(levels=3),
    "corpus.groups": asked(groups=2),
    "corpus.max_children": asked(max_children=1),
    "corpus.leakage": asked(leakage=["bright"]),
    "corpus.vague": asked(vague=["sparkles"]),
    "corpus.context": asked(context=["other.md"]),
    "corpus.context_tokens": asked(context_tokens=100),
    "editors": {"editors": {"own": BASE["editors"]["own"] | {"options": {"entangled": 40}}}},
    "second_editor": (TWO, TWO | {"second_editor": "other"}),
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
    "effects.control_prompts": effects(control_prompts=["quib", "zork"]),
    "effects.min_edit_strength": effects(min_edit_strength=0.5),
    "effects.min_edit_success": effects(min_edit_success=1.0),
    "judge": {"judge": {"kind": "none"}},
    "second_judge": {"second_judge": {"kind": "diffusion", "draws": 3}},
    "calibrate": {"calibrate": True},
    "calibration.images": ({"calibrate": True}, {"calibrate": True, "calibration": {"images": 2}}),
    "calibration.budget": ({"calibrate": True}, {"calibrate": True, "calibration": {"budget": 0.5}}),
    "report": {"report": {"gradcam": 1}},
    "rules": {"rules": [{"feature": "Red", "below": 0.01}]},
    "seed": (DRAWN, DRAWN | {"seed": 5}),
    "workers": {"workers": 2},  # none are started: this deployment says 0
    "results.folder": {"results": "elsewhere"},
    "results.pictures": {"results": {"pictures": "elsewhere"}},
    "results.database": (
        {"results": {"pictures": "elsewhere", "space": "alice"}},
        {"results": {"pictures": "elsewhere", "space": "alice", "database": "postgresql://db/results"}},
    ),
    "results.space": {"results": {"space": "alice"}},
    "owners": {"owners": ["team:vision"]},
    "truth": {"truth": "own:warmth"},
}  # fmt: skip
OF_THE_KEYS = {"name", "editor"}  # of another name are other assets


def test_every_field_of_a_study_has_a_change() -> None:
    assert set(FIELDS) == set(fields()) - OF_THE_KEYS == set(DECIDES) - OF_THE_KEYS


# A file (or what leads to one) behind a field -> the study, and what changes in its folder.
ONNX = {"kind": "onnx", "file": "model.onnx", "manifest": "manifest.json"}
MODEL: Fields = {"classifiers": BASE["classifiers"] | {"v2": ONNX}}


def written(file: str, old: str, new: str) -> Callable[[Path, pytest.MonkeyPatch], object]:
    def change(folder: Path, _: pytest.MonkeyPatch) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return change


def drawn(file: str) -> Callable[[Path, pytest.MonkeyPatch], object]:
    return lambda folder, _: picture(140).save(folder / file)


def shard(folder: Path, shade: int) -> None:
    """A Parquet file with one picture, as `datasets` writes it."""
    file = io.BytesIO()
    picture(shade).save(file, "PNG")
    folder.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (image STRUCT(bytes BLOB, path VARCHAR))")
        connection.execute("INSERT INTO t VALUES ({'bytes': ?, 'path': '00.png'})", [file.getvalue()])
        connection.execute(f"COPY t TO '{folder / 'train.parquet'}' (FORMAT parquet)")


def led_elsewhere(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "linked").unlink()
    (folder / "linked").symlink_to("dataset/a")


FILES: dict[str, tuple[Fields, Callable[[Path, pytest.MonkeyPatch], object]]] = {
    "external weights": (MODEL, lambda folder, _: (folder / "weights.bin").write_bytes((2 * WEIGHTS).tobytes())),
    "preprocessing in a manifest": (MODEL, written("manifest.json", "0.5", "0.25")),
    "labels in a manifest": (MODEL, written("manifest.json", "cold", "cool")),
    "picture behind a table": (TABLE, drawn("images/01.png")),
    "label in a table": (images(table="table.csv", labels=["a"]), written("table.csv", "02.png,a", "02.png,b")),
    "path in a table": (TABLE, written("table.csv", "images/02.png,many", "many/04.png,many")),
    "picture behind a list": (images(files="list.txt"), drawn("images/00.png")),
    "line of a list": (images(files="list.txt"), written("list.txt", "images/00.png", "many/04.png")),
    "picture that a pattern finds": (images(glob="images/*.png"), drawn("images/new.png")),
    "picture of a data set": (images(dataset="dataset"), drawn("dataset/a/00.png")),
    "Parquet file of a data set": (images(dataset="shards"), lambda folder, _: shard(folder / "shards", 140)),
    "folder behind a link": (images(folder="linked"), led_elsewhere),
    "folder behind a variable": (
        images(folder="${TOY_PICTURES}"), lambda _, patch: patch.setenv("TOY_PICTURES", "copies")
    ),
    "reference text of a model that is asked": (ASKED, written("context.md", "warm", "cold")),
    "corpus file of another name": (proposing(overrides="mine.yaml"), written("mine.yaml", "Light", "Red")),
    "another recorded answer": (
        proposing(vlm={"kind": "recorded", "file": "other.json"}), written("other.json", "blue patch", "bright")
    ),
}  # fmt: skip


def answered(request: dict[str, Any], number: int) -> Reply:
    """A model that answers anything else differently."""
    if "input" in request:
        return embeddings(request, lambda text: [float(len(text)), float(len(request["model"]))])
    if "does the picture show it" in json.dumps(request):  # as a judge: mostly yes, model, options and domain by turns
        text = request["messages"][-1]["content"][0]["text"]
        told = digest(request["model"], request.get("temperature"), text.partition("For each phrase")[0])
        phrases = [line for line in text.splitlines() if line[:1].isdigit()]
        return Reply(json.dumps({str(i): "yes" if digest(told, line) < "6" else "no"
                                 for i, line in enumerate(phrases, 1)}))  # fmt: skip
    mark = digest({name: value for name, value in request.items() if name not in ("authorization", "path")})[:6]
    if "restating" in json.dumps(request):
        return Reply(json.dumps({"restating": []}))
    children = [{"name": f"Tint {mark}", "prompt": f"tint {mark}"}, {"name": "Dark red", "prompt": "dark red patch"}]
    tree = {"categories": [{"name": "Red", "prompt": "red patch", "editable": True, "children": children}]}
    return Reply(json.dumps(tree))


@dataclass(frozen=True)
class State:
    """What lineage knows of a study, and what a run from nothing says of it."""

    parents: dict[str, list[str]]  # of every stage, in the order in which they run
    codes: dict[str, str | None]
    sources: dict[str, str]
    said: Said

    @property
    def seen(self) -> dict[str, str]:
        """The version of everything that a stage can read."""
        return self.sources | {f"toy/{stage}": version for stage, version in self.said.versions.items()}


class Place:
    """A folder in which a study is written again and again."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.kept, self.nothing = folder / "toy", folder / "kept", folder / "nothing"
        self.server, self._known = server, {}
        begin(self.folder)
        onnx_models.save(self.folder / "model.onnx", external="weights.bin")
        manifest = {"labels": ["cold", "warm"], "preprocessing": {"size": 16, "mean": 0.5, "std": 0.5}}
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        shard(self.folder / "shards", 100)
        (self.folder / "linked").symlink_to("copies")
        shutil.copytree(self.folder, self.kept, symlinks=True)

    def state(self, fields: Fields, file: str = "") -> State:
        """Of a study with these fields; once for all that ask for it.

        Args:
            file: which file behind the study is changed, of FILES.
        """
        key = f"{fields} {file}"
        if key not in self._known:
            with pytest.MonkeyPatch.context() as patch:
                if file:
                    FILES[file][1](self.folder, patch)
                self._known[key] = self._state(fields)
            if file:
                shutil.rmtree(self.folder)
                shutil.copytree(self.kept, self.folder, symlinks=True)
        return self._known[key]

    def _state(self, fields: Fields) -> State:
        other = self.server.replace("127.0.0.1", "localhost")
        said = json.dumps(fields).replace("{server}", self.server).replace("{other}", other)
        study = write(self.folder, json.loads(said))
        known = sources_of(study)
        graph = build_study(study).resolve_asset_graph()
        stages = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
        return State(
            {key.to_user_string(): [each.to_user_string() for each in graph.get(key).parent_keys] for key in stages},
            {key.to_user_string(): graph.get(key).code_version for key in stages},
            {f"toy/{name}": known.version(name) for name in known.names},
            from_nothing(study, self.nothing),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with serving(answered) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_PICTURES", "images")
        patch.setenv("MY_KEY", "a-key")
        patch.setenv("DIFFEX_WORKERS", "0")
        yield Place(tmp_path_factory.mktemp("place"), server.url)


def followed(before: State, after: State) -> None:
    """What Dagster would not make again is as it was."""
    old, new = before.seen, after.seen
    for stage, parents in after.parents.items():
        if stage not in old.keys() & new.keys():
            continue
        again = before.codes[stage] != after.codes[stage] or any(old.get(each) != new.get(each) for each in parents)
        if not again:
            assert old[stage] == new[stage], f"{stage} would be another, and stays"
            if stage.endswith(("/ranked_report", "/classifier_comparison")):
                page = "comparison" if stage.endswith("comparison") else stage.split("/")[1]
                assert before.said.pages[page] == after.said.pages[page], f"the page of {stage} would be another"


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_what_a_field_changes_is_made_again(place: Place, field: str) -> None:
    change = FIELDS[field]
    ways = change if isinstance(change, tuple) else ({}, change)
    before, after = (place.state(fields_) for fields_ in ways)
    both = before.codes.keys() & after.codes.keys()  # a recorded answer has no suggestions
    touched = {stage.rpartition("/")[2] for stage in both if before.codes[stage] != after.codes[stage]}
    there = {stage.rpartition("/")[2] for stage in both}  # a study that does not calibrate has no such stage
    assert touched == decided_by(field) & there, "other stages than it decides"
    followed(before, after)


UNJUDGED: Fields = {"editors": {"own": {"kind": "python", "factory": "own:Unjudged"}}}
OWN_VLM: Fields = {"judge": {"kind": "vlm"}}
JUDGE = {"kind": "vlm", "model": "one", "base_url": "{server}"}
# What may change a model that judges -> the study before and after, and the sources that are others.
JUDGES: dict[str, tuple[Fields, Fields, set[str]]] = {
    "the study's model": (*(UNJUDGED | OWN_VLM | each for each in asking(model="two")), {"judge"}),
    "a judge for a study without": (UNJUDGED | ASKED, UNJUDGED | ASKED | OWN_VLM, {"judge"}),
    "what the pictures show": (UNJUDGED | ASKED | OWN_VLM, UNJUDGED | ASKED | OWN_VLM | {"domain": "squares"},
                               {"judge"}),
    "the second judge": (UNJUDGED | ASKED | OWN_VLM | {"second_judge": {"kind": "vlm"}},
                         UNJUDGED | ASKED | OWN_VLM | {"second_judge": JUDGE | {"parameters": {"temperature": 1}}},
                         {"second_judge"}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", JUDGES)
def test_a_model_that_judges_is_followed(place: Place, what: str) -> None:
    *ways, others = JUDGES[what]
    before, after = (place.state(fields_) for fields_ in ways)
    changed = {source for source, version in after.sources.items() if before.sources.get(source) != version}
    assert {source.removeprefix("toy/") for source in changed} >= others
    read_by = {stage.rpartition("/")[2] for stage, of in after.parents.items() if f"toy/{min(others)}" in of}
    assert read_by >= {"level2_scores", "ranked_report", "classifier_comparison"}
    followed(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_what_a_file_changes_is_made_again(place: Place, file: str) -> None:
    fields_, _ = FILES[file]
    before, after = place.state(fields_), place.state(fields_, file)
    assert before.sources != after.sources and before.codes == after.codes
    assert before.said.pages != after.said.pages, "it changes nothing that anybody reads"
    followed(before, after)


@pytest.mark.slow
def test_files_behind_a_study_are_followed_on_an_instance(place: Place, tmp_path: Path) -> None:
    """External weights, a table, reference text and a model that is asked, in one study on a real instance."""
    there = Place(tmp_path, place.server)
    fields_ = json.loads(json.dumps(ASKED | TABLE | MODEL).replace("{server}", place.server))
    lab = Lab(write(there.folder, fields_), dg.DagsterInstance.ephemeral())
    lab.observe()
    lab.materialize()
    assert lab.unsynced() == [] and lab.requested() == []
    firsts = []
    for file in ("external weights", "path in a table", "reference text of a model that is asked"):
        with pytest.MonkeyPatch.context() as patch:
            FILES[file][1](there.folder, patch)
        lab.observe()
        ran = lab.by_automation()
        assert len(ran) == len(set(ran)), f"a stage ran twice: {ran}"
        assert lab.says() == from_nothing(lab.study, there.nothing).pages, file
        lab.observe()
        assert lab.unsynced() == []
        firsts.append(ran[0])
    assert firsts == ["v2/level1_scores", "sample_images", "vlm_corpus"]
