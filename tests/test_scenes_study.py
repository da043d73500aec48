"""The scenes study: what it says about itself is true, and its classifiers lean on what was planted in them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from diffex_dagster.classifying.transformers_adapter import TransformersClassifier
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.recorded import RecordedProposer
from diffex_dagster.editing.ledits import LeditsEditor, LeditsEditorPart, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.study import load_study
from diffex_dagster.worlds.base import State
from diffex_dagster.worlds.redrawing import redraw, sample_states
from diffex_dagster.worlds.scenes import WORLD

FOLDER = Path(__file__).parent.parent / "studies" / "scenes"
IMPOSSIBLE = {"a stone bridge", "a sailing boat", "a watercolour painting", "a park bench", "a billboard"}


def test_the_sample_images_are_what_their_states_draw() -> None:
    states = json.loads((FOLDER / "images" / "attributes.json").read_text("utf-8"))
    assert len(states) == 32
    for name, state in states.items():
        assert Image.open(FOLDER / "images" / name).convert("RGB").tobytes() == WORLD.draw(state).tobytes()


def test_the_proposal_names_what_the_world_draws_and_a_few_things_that_it_does_not() -> None:
    corpus = RecordedProposer(FOLDER / "proposal.json").propose([], ProposalRequest("scenes")).corpus
    prompts = {feature.prompt for feature in corpus.walk() if feature.editable}
    assert {prompt for prompt in prompts if WORLD.meaning(prompt) is None} == IMPOSSIBLE
    named = {WORLD.meaning(prompt) for prompt in prompts - IMPOSSIBLE}
    assert len({factor for factor, _ in named}) >= 12
    assert len(named) >= 60


def test_no_option_of_the_editor_is_set() -> None:
    for file in ("study.yaml", "place.yaml", "crowdedness.yaml"):
        editor = load_study(FOLDER / file).editors["diffusion"]
        assert isinstance(editor, LeditsEditorPart)
        assert editor == LeditsEditorPart(kind="ledits", checkpoint="editor")


def differences(states: Sequence[State], *prompts: str) -> dict[str, dict[str, np.ndarray]]:
    """Version -> prompt -> how far P(urban) moves when it is added to each of the drawings, (drawings,)."""
    drawn = redraw(states, [(prompt, False) for prompt in prompts], world=WORLD)
    found = {}
    for name in ("urban_v1", "urban_v2"):
        classifier = TransformersClassifier(str(FOLDER / "classifiers" / name))
        urban = list(classifier.labels).index("urban")

        def probability(pictures: list[Image.Image], classifier=classifier, urban=urban) -> np.ndarray:
            logits = np.asarray(classifier(pictures), dtype=np.float64)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            return (odds / odds.sum(axis=1, keepdims=True))[:, urban]

        found[name] = {prompt: d for (prompt, _), d in drawn.effects(probability).items()}
    return found


def test_the_readme_says_what_is_true_of_the_demo_s_images() -> None:
    states = json.loads((FOLDER / "images" / "attributes.json").read_text("utf-8"))
    of_study = [states[name] for name in sorted(states)[: load_study(FOLDER).images.limit]]
    found = differences(of_study, "fog", "a city street")
    lacking = [not WORLD.has_feature(state, "fog") for state in of_study]
    fog, street = found["urban_v1"]["fog"][lacking].mean(), found["urban_v2"]["a city street"]
    readme = " ".join((FOLDER.parents[1] / "README.md").read_text("utf-8").split())
    assert f"leans on fog first ({fog:+.2f} on images without it)" in readme and f"truth {fog:+.2f})" in readme
    without = [not WORLD.has_feature(state, "a city street") for state in of_study]
    assert f"`urban_v2` on the city street ({street[without].mean():+.2f})" in readme


def test_one_version_leans_on_fog_and_the_other_does_not() -> None:
    found = differences(sample_states(24, world=WORLD), "fog", "a farm")
    effects = {name: {prompt: d.mean() for prompt, d in of.items()} for name, of in found.items()}
    assert effects["urban_v1"]["fog"] > 0.25
    assert abs(effects["urban_v2"]["fog"]) < 0.05
    assert effects["urban_v2"]["a farm"] < -0.1


def test_the_checkpoint_edits_a_scene_under_the_study_s_options() -> None:
    study = load_study(FOLDER)
    part = study.editors["diffusion"]
    options = LeditsOptions(**part.model_dump(exclude={"kind"}) | {"checkpoint": str(FOLDER / "editor"), "steps": 4})
    scene = Image.open(FOLDER / "images" / "scene_00.png").convert("RGB")
    requests = [EditRequest("a"), EditRequest("a", (Concept("a black and white picture"),))]
    made = {r: picture for batch in LeditsEditor(options).edit({"a": scene}, requests) for r, picture in batch}
    null, edited = (np.asarray(made[request], dtype=float) for request in requests)
    assert null.shape == edited.shape == (80, 80, 3)
    others = [Image.open(file).convert("RGB") for file in sorted((FOLDER / "images").glob("*.png"))]
    distances = [np.abs(null - np.asarray(other, dtype=float)).mean() for other in others]
    assert int(np.argmin(distances)) == 0  # the null edit is nearest to its own picture
    assert np.abs(edited - null).mean() > 2


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
def test_the_checkpoint_is_small_and_in_half_precision(part: str) -> None:
    (file,) = (FOLDER / "editor" / part).glob("*.safetensors")
    with safe_open(file, framework="np") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds <= {"F16", "I64"}
    assert sum(each.stat().st_size for each in (FOLDER / "editor").rglob("*")) < 40e6
