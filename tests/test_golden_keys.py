"""Literal keys: a change of any of them would silently make or score again what users already have.

Where one has to change on purpose, keep the old rows usable, say so in CHANGELOG.md, and write the new value here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.classifying.http_adapter import HttpClassifier, HttpPart
from diffex_dagster.classifying.python_adapter import CallableClassifier
from diffex_dagster.classifying.torch_file_adapter import TorchFileClassifier
from diffex_dagster.classifying.transformers_adapter import TransformersClassifier
from diffex_dagster.corpus.starters import load_starter
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing import ledits
from diffex_dagster.editing.checkpoints import Checkpoint
from diffex_dagster.editing.instruct import InstructEditor, InstructOptions
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.precomputed import PrecomputedEditor, edits_in_folder
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.judging.clip import ClipJudge
from diffex_dagster.judging.diffusion import DiffusionJudge
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus import merge_edits, propose
from diffex_dagster.stages.edits import concepts_of, control_edits, edit_requests
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.settings import DECIDES, REVISIONS, fields, stage_version, undecided
from diffex_dagster.stages.setup import build_classifier, build_editor
from diffex_dagster.store.keys import edit_key, image_key
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.hashing import digest, file_fingerprint, folder_fingerprint
from tests.support.project import ROOT
from tests.support.toys import picture, write_study

IMAGE = "07a3f8a33b08dbf0a0ddb7f1ef6e2b9a"


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries of a fixed version: the installed ones are part of the fingerprints, and none of this test."""
    for module in ("editing.ledits_options._version", "editing.instruct.version"):
        monkeypatch.setattr(f"diffex_dagster.{module}", lambda name: f"1.0 of {name}")
    for module in ("files_adapter", "transformers_adapter", "python_adapter"):
        monkeypatch.setattr(f"diffex_dagster.classifying.{module}.version", lambda name: f"1.0 of {name}")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose content the editors' fingerprints cover, without a model in it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"a": 1}')
    (folder / "weights.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(ledits.checkpoints, "locate", lambda *_: Checkpoint(folder))
    monkeypatch.setattr(ledits.checkpoints, "content_hash", lambda _: "content")
    return folder


def test_of_pictures_and_edits() -> None:
    assert image_key(picture(100)) == image_key(Image.new("RGBA", (16, 16), (100, 100, 100, 255))) == GOLDEN["image"]
    assert digest("a", 1, ["ü", None], {"b": 0.5}) == GOLDEN["digest"]
    glasses, beard = Concept("glasses"), Concept("full beard", "remove")
    assert edit_key(EditRequest(IMAGE), "paint-1") == GOLDEN["null edit"]
    assert edit_key(EditRequest(IMAGE, (glasses,), 3), "paint-1") == GOLDEN["edit"]
    assert edit_key(EditRequest(IMAGE, (glasses, beard)), "paint-1") == GOLDEN["joint edit"]
    assert edit_key(EditRequest(IMAGE, (beard, glasses)), "paint-1") == GOLDEN["joint edit"]


def test_of_a_corpus() -> None:
    tree = Corpus(
        (
            Feature("eyewear", "Eyewear", "eyewear", editable=False, children=(
                Feature("eyewear/round-glasses", "Round glasses", "round glasses", support=2),)),
            Feature("beard", "Beard", "full beard", "remove", region="chin", source="person"),
        )
    )  # fmt: skip
    assert tree.version == GOLDEN["corpus"]
    face = load_starter("face")
    assert digest([feature.id for feature in face.walk()]) == GOLDEN["features of a starter"]


def test_of_the_toy_study(toy: Study) -> None:
    assert build_editor(toy).fingerprint == "paint-1"
    assert build_classifier(toy, "v1").fingerprint == "warm-3.0-2.0"
    toy = _renamed(toy, "tests.toys")  # the names that the digests were taken of
    assert stage_version(toy, "level1_edits") == GOLDEN["level 1"]
    assert stage_version(toy, "ranked_report") == GOLDEN["report"]
    assert stage_version(toy, "level2_scores") == GOLDEN["level 2"]
    own = toy.changed(classifiers={"v1": toy.classifiers["v1"].model_copy(update={"target": toy.target})})
    assert own.for_classifier("v1").subject("warm") == GOLDEN["subject"]


@pytest.mark.parametrize(
    ("search", "kept"),
    [({}, False), ({"beam": 4}, True), ({"gate": "signed"}, True), ({"beam": 6}, True)],
    ids=["no beam", "the beam that was the default", "a gate that keeps that beam", "another beam"],
)
def test_of_searches_from_before_every_group_was_looked_into(
    toy: Study, search: dict[str, Any], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A beam of 4 was the default and hashed as nothing: the same search is not run again, another one is."""
    for stage in ("editor_calibration", "level2_scores"):
        monkeypatch.delitem(REVISIONS, stage)  # raised since, whatever the beam
    study = _renamed(load_study(write_study(toy.folder, search=search)), "tests.toys")
    before = {
        "level1_edits": "aa0b13de2466b184",
        "editor_calibration": "faac0fee09ec03d3" if search == {"beam": 6} else "aa0b13de2466b184",
        "level2_scores": {"signed": "19967a805896a40d", 6: "1124545d3e473764"}.get(
            search.get("gate") or search.get("beam"), "dc222b2b1ee936c3"
        ),
    }
    now = {stage: stage_version(study, stage) for stage in before}  # type: ignore[arg-type]
    assert now["level1_edits"] == before["level1_edits"]  # no beam decides about them
    assert (now == before) is kept
    assert (now["level2_scores"] == before["level2_scores"]) is kept


def _renamed(study: Study, module: str) -> Study:
    """The study with its own code in another module."""
    parts = {
        kind: {
            name: part.model_copy(update={"factory": f"{module}:{part.factory.partition(':')[2]}"})
            for name, part in getattr(study, kind).items()
        }
        for kind in ("editors", "classifiers")
    }
    return study.changed(**parts)


@pytest.mark.usefixtures("versions")
def test_of_diffusion_editors(checkpoint: Path) -> None:
    plain = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), device="cpu"))
    assert plain.fingerprint == GOLDEN["ledits"]
    chosen = {"scale": 3.5, "prompts": {"beard": {"threshold": 0.7}}, "steps": 25, "resolution": 64, "dtype": "float16"}
    of_gpu = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), device="cuda:1", **chosen))
    assert of_gpu.fingerprint == GOLDEN["ledits, chosen"]
    fast = {"batch_size": 4, "channels_last": False, "compile": True, "inversion_cache_mb": 1, "inversion_folder": "i"}
    assert LeditsEditor(LeditsOptions(checkpoint="x", device="cpu", **fast)).fingerprint == GOLDEN["ledits"]
    assert DiffusionJudge(plain, 2).fingerprint == GOLDEN["diffusion probe"]
    told = InstructEditor(InstructOptions(checkpoint=str(checkpoint), device="cpu", image_guidance=1.5))
    assert told.fingerprint == GOLDEN["instruct"]


def test_of_edits_that_another_tool_made(tmp_path: Path) -> None:
    for prompt in ("null", "remove beard"):
        (tmp_path / prompt).mkdir()
        (tmp_path / prompt / "01.png").write_bytes(prompt.encode())
    editor = PrecomputedEditor(tmp_path, edits_in_folder(tmp_path), dict, lambda picture: picture)
    assert editor.fingerprint == GOLDEN["precomputed"]


@pytest.mark.usefixtures("versions")
def test_of_the_demo(tmp_path: Path) -> None:
    """What b82a64b, the last commit before the package was laid out anew, computes of the demo's own files.

    A demo that it ran is read as it is: each edit of a feature of the corpus, the edits towards nothing and towards
    control prompts, and the scores of both classifiers are found under these keys.
    """
    study = load_study(ROOT / "studies" / "avatars")
    editor = study.editors["diffusion"].model_copy(update={"device": "cpu"})  # kinds of device are kept apart
    study = study.changed(editors={"diffusion": editor})
    work, names = at_work(study.deployed(results={"folder": str(tmp_path), "pictures": None})), tuple(study.classifiers)
    pictures, made_by = sample_images(work).pictures, build_editor(study).fingerprint
    propose(work, names)
    corpus, _ = merge_edits(work, names)
    images = sorted(image_key(picture) for picture in pictures.values())
    first = image_key(pictures["avatar_00.png"])
    glasses, hair = Concept("round glasses"), Concept("grey hair")
    features = [concepts_of([feature]) for feature in corpus.walk() if feature.editable]
    every = edit_requests(images, [(), *control_edits(study), *features], study.seeds)
    assert (len(images), len(every)) == (24, 1728)
    assert {
        "corpus": corpus.version,
        "editor": made_by,
        **{name: build_classifier(study, name).fingerprint for name in study.classifiers},
        "image": first,
        "null edit": edit_key(EditRequest(first), made_by),
        "control prompt": edit_key(EditRequest(first, (Concept("florn"),)), made_by),
        "edit": edit_key(EditRequest(first, (glasses,)), made_by),
        "joint edit": edit_key(EditRequest(first, (glasses, hair)), made_by),
        "images": digest(images),
        "every edit": digest(sorted(edit_key(request, made_by) for request in every)),
    } == DEMO


class Model:
    """A callable that knows its own fingerprint."""

    labels = ("a", "b")
    fingerprint = "model-1"


@pytest.mark.usefixtures("versions")
def test_of_classifiers(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    function = lambda pictures: pictures  # noqa: E731
    function.labels, function.fingerprint = Model.labels, Model.fingerprint  # type: ignore[attr-defined]
    made = {
        "http": HttpClassifier(HttpPart(url="https://localhost/score?key=secret", labels=("a", "b"), version="2")),
        "callable": CallableClassifier(function, name="module:function", files=[tmp_path / "model.pt"]),
        "torchscript": TorchFileClassifier(tmp_path / "model.pt", labels=("a", "b")),
        "transformers": TransformersClassifier(str(checkpoint)),
        "clip probe": ClipJudge(str(checkpoint), "faces"),
    }
    assert {name: classifier.fingerprint for name, classifier in made.items()} == {name: GOLDEN[name] for name in made}


def test_every_field_of_a_study_has_been_decided_about() -> None:
    """A new field belongs in `stages.settings.DECIDES`: which stages' results does it decide?"""
    assert undecided() == []
    assert sorted(DECIDES) == sorted(fields())  # and a field that is gone is no longer there


def test_of_files(checkpoint: Path) -> None:
    assert file_fingerprint(checkpoint / "model_index.json") == GOLDEN["file"]
    assert folder_fingerprint(checkpoint, (".json", ".safetensors")) == GOLDEN["folder"]


def test_a_file_of_the_hubs_cache_has_the_hash_that_it_is_named_by(tmp_path: Path) -> None:
    """Gigabytes of weights are not read for it; no other file is taken at its name."""
    named, hub = "0" * 64, tmp_path / "models--some--model"
    for folder in (hub / "blobs", tmp_path / "blobs"):
        folder.mkdir(parents=True)
        (folder / named).write_bytes(b"weights")
    (hub / "snapshot.safetensors").symlink_to(hub / "blobs" / named)
    assert file_fingerprint(hub / "snapshot.safetensors") == named
    assert file_fingerprint(tmp_path / "blobs" / named) == hashlib.sha256(b"weights").hexdigest()


GOLDEN: dict[str, str] = {
    "image": "3113e4756149955769fe01f9e0c07307",
    "digest": "a78577cf4b7fc0bde0aae0c1b9a50846",
    "null edit": "c993070f25e86ce0957e171ff37e3d08",
    "edit": "050c5408c41c4011bc8f2bb5eaf7d43d",
    "joint edit": "42dc15dac721071fe0093ca934e30458",
    "corpus": "d9f09fb85753bdc0",
    "features of a starter": "d114f0e824b4cddd282d55c9e8f4f940",
    "level 1": "aa0b13de2466b184",
    "level 2": "f894b33a71a44314",
    "report": "77eb0493f68d2467",
    "subject": "warm-4d0dba2d",
    "ledits": "f2ff220b955fafc79ab32be86bbfba865ea9b18f76a9fe4f072cdec512dc7d1e",
    "ledits, chosen": "67abffeb77581527f3a78b16bf7766d144a54e6f7678c6f98cabcce0375f2e00",
    "diffusion probe": "95c36d7d259f3cb4b6ace30528adfbea31bd12cff54b430ae66ddfcd3477f5c3",
    "instruct": "77dd35e73d4d180bc2b322fb05ce6de6",
    "precomputed": "aa4ec15566dc0e60399213aa7d930475",
    "http": "a3ea167cfe4ba979",
    "callable": "fb6f638cbb8f89a6",
    "torchscript": "7d00bf460be3d885",
    "transformers": "9171501d6b9f98fa",
    "clip probe": "37fd71d071ccd1b70db36d3dc75d933d18976d325d25f6ad7b4bd983a264d2f1",
    "file": "f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310",
    "folder": "4d6a3e44ad937aa7684be8c4c062a8d42a62bc5579c13d13215b85ff1e86cbc3",
}

DEMO: dict[str, str] = {
    "corpus": "e9cf50f7a1b1080e",
    "editor": "b6fbd77f900597e4e7153b425fb34684279027a5d3d0b972128a2ff6886269da",
    "persona_v1": "8b12a7c6e24e7ebf",
    "persona_v2": "d33cc6cdcfda6418",
    "image": "810ee3131ff622d5eaac6752a7476eff",
    "null edit": "95f13e28327c4215950654627680c23b",
    "control prompt": "4b0d3aa602a36700be63d4ceb8a7f898",
    "edit": "7c8f29f6fa10907485c5a9c0741154d7",
    "joint edit": "ef03d593c207e4dfc9d6b1f6a4603f4d",
    "images": "5014d5324d4acf1754b2b6844f568845",
    "every edit": "216b1117a0aad00bbc6a5e387e04f784",
}
