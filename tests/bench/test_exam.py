"""The exam: pictures and classifiers of its own, marks with an interval, and marks that can be bad."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.bench import exam, exam_tables, pages, true_effects, truth, truth_tables
from diffex_dagster.bench.exam_classifiers import Recipe
from diffex_dagster.bench.pages import write_between
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.cli.corpus import read_file
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.grading import grade
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.study import Study, load_study
from diffex_dagster.study.sections import ResultsPart
from diffex_dagster.worlds import avatars, scenes
from diffex_dagster.worlds.redrawing import SEED, sample_states
from diffex_dagster.worlds.rules import draw_rule
from tests.support.drawn import write_small
from tests.support.project import ROOT

Graded = tuple[Study, truth.Benchmark]


def test_the_exam_draws_its_own_images_as_the_world_does(small: Study) -> None:
    made = exam.exam_study(small, avatars.WORLD, images=7)
    folder = made.images.folder
    assert folder is not None and len(list(folder.glob("*.png"))) == 7
    states = json.loads((folder / "attributes.json").read_text())
    assert list(states.values()) == sample_states(7, exam.IMAGE_SEED)
    assert made.name != small.name
    assert len({1, 2, 3, SEED, exam.IMAGE_SEED, exam.POPULATION_SEED}) == 6


@pytest.mark.slow
def test_a_world_without_exam_classifiers_has_them_trained_once(tmp_path: Path) -> None:
    """The scenes, whose study has its own recorded proposal and nothing else of an exam."""
    tree = [
        {"name": "Place", "prompt": "place", "editable": False,
         "children": [{"name": "City street", "prompt": "a city street"}, {"name": "Farm", "prompt": "a farm"}]},
        {"name": "Fog", "prompt": "fog"},
    ]  # fmt: skip
    study = write_small(tmp_path, scenes.WORLD, tree)
    recipe, said = Recipe(pool=60, held_out=12, pictures=16, steps=2, batch=8), list[str]()
    chosen = exam.exam_subjects(study, 2, recipe, said.append)
    assert [(each.name, each.label) for each in chosen] == [("rule_000", "yes"), ("rule_001", "yes")]
    assert len(said) == 2 and "rule_001 of the scenes (2 of 2)" in said[1]
    assert not list(study.results_folder.rglob("*.npy"))  # drawings that they learnt from
    assert exam.exam_subjects(study, 2, recipe, said.append) == chosen and len(said) == 2
    facts: dict[str, Any] = exam.facts(chosen)
    assert {fact["world"] for fact in facts.values()} == {"scenes"}

    files, arms = exam.proposals(study), truth.editors(study, "exact")
    assert files == {"proposal": tmp_path / "proposal.json"}
    found = exam.grade_exam(study, arms, chosen, files, exam.exam_scope(4, 5, resamples=2))
    figures = truth_tables.as_json(found["proposal"])["arms"]["exact"]
    assert set(figures["classifiers"]) == {"rule_000", "rule_001"}
    assert figures["mean"]["plain_mae"] == pytest.approx(0.0, abs=1e-6)  # drawn as the truth is
    images = exam.exam_study(study, scenes.WORLD, 4, files["proposal"]).images.folder
    assert images is not None and Image.open(next(images.glob("*.png"))).size == (80, 80)
    with pytest.raises(DiffExError, match="no recorded proposal"):
        exam.proposals(study.changed(corpus=study.corpus.model_copy(update={"vlm": None})))


def test_corpus_recall_counts_the_strongest_attributes_that_the_corpus_names() -> None:
    world = avatars.WORLD
    strengths = dict.fromkeys(truth.attributes(world), 0.0) | {"red clothes": 0.5, "a hoodie": 0.3, "an afro": 0.1}
    named = [
        Feature("a", "A", "a hooded sweatshirt"),
        Feature("b", "B", "red clothes", "remove"),
        Feature("c", "C", "wings"),
    ]
    # A synonym names it; removing an attribute does not name it; what the world cannot draw names nothing.
    assert truth.corpus_recall(world, Corpus(tuple(named)), strengths) == pytest.approx(1 / 3)
    assert math.isnan(truth.corpus_recall(world, Corpus(()), dict.fromkeys(truth.attributes(world), 0.0)))


def test_the_world_of_a_study_is_that_of_its_exact_editor(small: Study) -> None:
    assert truth.world_of(small) is avatars.WORLD
    with pytest.raises(DiffExError, match="exact editor of a world"):
        truth.world_of(small.changed(editors={"toy": small.editors["drawn"].model_copy(update={"factory": "a:b"})}))


def test_a_mean_has_an_interval_over_classifiers() -> None:
    rows = [dict.fromkeys(truth_tables.MARKS, value) for value in (0.0, 0.5, 1.0, math.nan)]
    low, high = truth_tables.intervals(rows)["spearman"] or (math.nan, math.nan)
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert truth_tables.intervals(rows[:2])["spearman"] is None
    same = truth_tables.intervals([dict.fromkeys(truth_tables.MARKS, 0.7)] * 5)["spearman"]
    assert same == pytest.approx([0.7, 0.7])


def test_a_claim_of_the_right_sign_and_a_wrong_size_is_false() -> None:
    estimated, decisions = {"a": 0.5, "b": 0.5, "c": 0.25}, dict.fromkeys("abc", "raises")
    truths = {"a": 0.2, "b": 0.2, "c": 0.2}
    bounds = {"a": (0.4, 0.6), "b": (0.1, 0.9), "c": (0.24, 0.26)}
    graded = grade(estimated, truths, bounds, decisions)
    # a is off by 0.3 and its interval rules the truth out; b admits it; c is off by less than it matters.
    assert graded.false_discoveries == {"a": "another size"}


def test_decoys_and_the_whole_corpus_are_marked(graded: Graded) -> None:
    _, found = graded
    (marked,) = found.arms["exact"]
    assert (marked.decoys, marked.decoy_claims) == (1, 0)  # earrings
    assert marked.controls == len(truth.CONTROL_PROMPTS) > 1  # not the study's own one
    assert 0.0 < marked.corpus_recall < 1.0
    figures = truth_tables.as_json(found)["arms"]["exact"]
    assert figures["mean"]["decoy_claims"] == 0.0
    assert figures["mean"]["spearman_whole"] == pytest.approx(marked.ours_whole.spearman)
    assert figures["interval"]["spearman"] is None  # one classifier has no spread


def test_the_pipeline_with_a_choice_undone_is_marked_as_the_pipeline_is(graded: Graded) -> None:
    (marked,) = graded[1].arms["exact"]
    of = {title: each["mean"] for title, each in truth_tables.as_json(graded[1])["arms"]["exact"]["baselines"].items()}
    for title in ("ours, beam of 6", "ours, no placebo"):
        for key in ("plain_mae", "both_mae", "prevalence_mae"):
            assert of[title][key] == pytest.approx(0.0, abs=1e-6), (title, key)
        assert of[title]["coverage"] is not None and of[title]["decoy_claims"] == 0.0
    assert (of["ours, beam of 6"]["control_claims"], of["ours, no placebo"]["control_claims"]) == (0.0, None)
    # The paper's reading claims, has no control prompts and says nothing of what pictures show; a list claims nothing.
    assert of["paper"]["decoy_claims"] == 0.0 and of["released"]["decoy_claims"] is None
    assert {of["paper"][key] for key in ("both_mae", "prevalence_mae", "control_claims")} == {None}

    every = marked.with_decoys({point.feature for point in marked.points})
    (beamed,), (paper,) = every.baselines["ours, beam of 6"], every.baselines["paper"]
    assert every.decoys == len(marked.points) and every.decoy_claims == marked.ours.discoveries
    assert beamed.decoy_claims == beamed.grade.discoveries / len(marked.points)
    assert paper.decoy_claims == paper.grade.discoveries / len(marked.points) > 0.0


def test_every_reading_has_all_columns_and_a_dash_where_an_early_exam_kept_nothing(graded: Graded) -> None:
    (run,) = exam_tables.published(_written(graded))
    variant = "ours, beam of 6"
    arm = run["arms"]["diffusion"]
    lines = exam_tables.as_markdown([run]).splitlines()
    head = next(line for line in lines if line.startswith("|  | ρ, every feature | ρ, reported"))
    columns = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert columns == list(exam_tables.BESIDE.values())

    def cell(column: str) -> str:
        row = next(line for line in exam_tables.as_markdown([run]).splitlines() if line.startswith(f"| {variant} |"))
        return [each.strip() for each in row.strip("|").split("|")][1 + columns.index(column)]

    mean = arm["baselines"][variant]["mean"]
    assert cell("coverage") == f"{100 * mean['coverage']:.1f}%" and cell("control prompts claimed") == "0.0%"
    assert cell("error of do(1) − do(0)") == "0.000"
    mean["both_mae"] = None
    del mean["control_claims"]
    assert (cell("error of do(1) − do(0)"), cell("control prompts claimed")) == ("–", "–")


def test_the_figure_of_many_classifiers_is_one_panel(graded: Graded) -> None:
    _, found = graded
    (marked,) = found.arms["exact"]
    many = truth.Benchmark({"exact": (marked,) * 40}, 6, 12, 5)
    assert truth_tables.figure(many).startswith(b"\x89PNG")
    assert list(truth_tables._panels(many.arms["exact"])) == ["40 classifiers"]


@pytest.mark.slow
def test_every_proposal_is_graded_and_a_drawing_is_scored_once(small: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.folder / exam.PROPOSALS
    folder.mkdir()
    own, synonym = ("round glasses", "red clothes"), ("circular glasses", "wings")
    for name, prompts in {"own": own, "reworded": synonym}.items():
        tree = [{"name": prompt, "prompt": prompt, "editable": True} for prompt in prompts]
        (folder / f"{name}.json").write_text(json.dumps({"categories": tree}))
    scored: list[int] = []
    score = true_effects._score

    def counted(classifier: Classifier, label: str, pictures: list[Image.Image]) -> NDArray[np.float64]:
        scored.append(len(pictures))
        return score(classifier, label, pictures)

    monkeypatch.setattr(true_effects, "_score", counted)
    arms, chosen = truth.editors(small, "exact"), truth.subjects(small)
    files = exam.proposals(small)
    found = exam.grade_exam(small, arms, chosen, files, exam.exam_scope(4, 5, resamples=2))
    assert list(found) == ["own", "reworded"]
    # Round glasses of the second are those of the first: only the unchanged drawings are scored again.
    assert len(scored) == 6
    # A run that goes on later scores no drawing, and says the same.
    again = exam.grade_exam(small, arms, chosen, files, exam.exam_scope(4, 5, resamples=2))
    assert len(scored) == 6
    assert [truth_tables.as_json(each) for each in again.values()] == [
        truth_tables.as_json(each) for each in found.values()
    ]
    (first,), (second,) = found["own"].arms["exact"], found["reworded"].arms["exact"]
    glasses = {p.name: p.true for p in first.points}["round glasses"]
    assert {p.name: p.true for p in second.points}["circular glasses"] == glasses
    assert (second.decoys, first.controls) == (1, len(exam.CONTROL_PROMPTS))
    assert truth_tables.as_json(found["own"])["arms"]["exact"]["mean"]["control_claims"] == 0.0
    with pytest.raises(DiffExError, match="no proposal 'other'"):
        exam.proposals(small, "other")


PROPOSALS = sorted((Path(__file__).parent.parent.parent / "studies" / "avatars" / "proposals").glob("*.json"))


@pytest.mark.parametrize("file", PROPOSALS, ids=lambda file: file.stem)
def test_an_exam_on_a_recorded_proposal_leaves_out_the_studys_own_overrides(file: Path, tmp_path: Path) -> None:
    shipped = load_study(file.parent.parent / "study.yaml")
    shipped = shipped.changed(results=ResultsPart(folder=tmp_path))
    made = exam.exam_study(shipped, avatars.WORLD, images=2, proposal=file)
    assert shipped.path(shipped.corpus.overrides).exists()
    work = StudyContext(made)
    sample_images(work)
    graded = truth.kept_corpus(made, work)
    prompts = {f.prompt for f in graded.walk()}
    assert prompts <= {f.prompt for f in read_file(file).walk()} and len(prompts) > 40


@pytest.mark.parametrize("file", PROPOSALS, ids=lambda file: file.stem)
def test_recorded_proposals_are_not_the_worlds_own_phrases(file: Path) -> None:
    prompts = [f.prompt for f in read_file(file).walk() if f.editable]
    own = [prompt for prompt in prompts if prompt in avatars.WORLD.phrases]
    assert len(prompts) >= 40 and len(own) <= len(prompts) / 2
    drawable = [prompt for prompt in prompts if avatars.WORLD.meaning(prompt)]
    # Two proposals mostly name what this world has; a third of the last one does not exist here.
    assert len(drawable) / len(prompts) > (0.3 if file.stem == "partly_irrelevant" else 0.8)
    assert file.stem != "partly_irrelevant" or len(drawable) / len(prompts) < 0.67


def test_a_synonym_is_drawn_as_what_it_means_and_is_in_no_caption() -> None:
    world = avatars.WORLD
    state = {**sample_states(1)[0], "eyewear": "none"}
    assert world.set_feature(state, "circular glasses")["eyewear"] == "round"
    assert not set(world.synonyms) & set(world.phrases)
    assert all(value in world.factors[factor] for factor, values in world.synonyms.values() for value in values)


def test_the_exact_editor_knows_the_exams_images(small: Study) -> None:
    made = exam.exam_study(small, avatars.WORLD, images=3)
    editor = build_editor(made)
    assert len(editor.by_image) == 3  # type: ignore[attr-defined]


def test_the_exams_classifiers_are_the_forty_rules_of_their_seeds() -> None:
    folder = PROPOSALS[0].parent.parent / "exam"
    for seed in range(40):
        rule = draw_rule(avatars.WORLD, seed)
        facts = json.loads((folder / rule.name / "rule.json").read_text("utf-8"))
        assert {key: facts[key] for key in rule.as_json()} == rule.as_json()
        assert (folder / rule.name / "model.safetensors").stat().st_size <= 100_000


def _written(graded: Graded) -> dict[str, Any]:
    """What an exam of one proposal writes, with both arms."""
    found = truth_tables.as_json(graded[1])
    found["arms"]["diffusion"] = found["arms"]["exact"]
    return {"commit": "aaaaaaa", "proposals": {"own": found}, "classifiers": {"v1": {}}}


def test_the_figures_of_an_exam_are_published(
    graded: Graded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _written(graded)
    found = whole["proposals"]["own"]
    file, docs = tmp_path / "exam.json", tmp_path / "docs"
    file.write_text(json.dumps(whole))
    (docs / "figures").mkdir(parents=True)
    page = docs / "validity.md"
    page.write_text("before\n<!-- exam begins -->\n<!-- exam ends -->\nafter\n", "utf-8")
    for _ in range(2):  # again changes nothing
        assert exam_tables.main([str(file), "--docs", str(docs)]) == 0
        text = page.read_text("utf-8")
        kept = json.loads((docs / "figures" / "exam.json").read_text("utf-8"))["runs"]
        marks = exam_tables.as_markdown(kept)
        assert text == f"before\n<!-- exam begins -->\n\n{marks}\n<!-- exam ends -->\nafter\n"
    (run,) = kept
    arm = run["arms"]["diffusion"]
    assert arm["mean"]["precision_at_5"] == round(found["arms"]["exact"]["mean"]["precision_at_5"], 4)
    discoveries = sum(row["discoveries"] for row in found["arms"]["diffusion"]["classifiers"].values())
    assert arm["claims"] == discoveries and marks.count(pages.of_claims(arm)) == 1
    assert "points" not in arm and arm["baselines"].keys() == found["arms"]["exact"]["baselines"].keys()
    diffusion, exact = marks.split("**Every exam**")[0].split("**Exact editor**")
    assert f"| precision@5 | {arm['mean']['precision_at_5']:.2f} |" in diffusion and "precision@5" not in exact
    reached = exam_tables.verdicts(kept)["own"]
    assert reached["precision_at_5"] == (arm["mean"]["precision_at_5"] >= 0.85)
    assert reached["fdr"] == (arm["mean"]["fdr"] <= 0.05)
    printed = capsys.readouterr().out
    missed = [key for key, met in reached.items() if not met]
    assert all(f"own: {exam_tables.ROWS[key]} is " in printed for key in missed)
    assert ("every aim is met" in printed) == (not missed)
    worse = {**run["arms"], "diffusion": {"mean": {**arm["mean"], "fdr": 0.25}}}
    said = exam_tables.missed_aims([run, {**run, "arms": worse}])
    assert "own: false among the claims is 25.0%, the aim ≤ 5%" in said.splitlines()


def test_an_exam_adds_to_the_history_and_replaces_nothing(graded: Graded, tmp_path: Path) -> None:
    first = _written(graded)
    del first["commit"]  # as a file of before it was noted
    own = first["proposals"]["own"]
    other = {**first, "commit": "bbbbbbb", "proposals": {"other": own}}
    later = {**first, "commit": "ccccccc", "classifiers": {"v1": {}, "v2": {}}}
    (tmp_path / "figures").mkdir()
    page = tmp_path / "validity.md"
    page.write_text("<!-- exam begins -->\n<!-- exam ends -->\n", "utf-8")

    def publish(*exams: dict[str, Any], more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        files = [tmp_path / f"{i}.json" for i in range(len(exams))]
        for file, exam_of in zip(files, exams, strict=True):
            file.write_text(json.dumps(exam_of))
        exam_tables.main([*map(str, files), "--docs", str(tmp_path), *more])
        runs: list[dict[str, Any]] = json.loads((tmp_path / "figures" / "exam.json").read_text("utf-8"))["runs"]
        return runs

    with pytest.raises(DiffExError, match="at which commit it ran; name it with --commit"):
        publish(first)
    publish(first, other, more=("--commit", "aaaaaaa"))
    kept = publish(later)
    assert [(run["commit"], run["proposal"]) for run in kept] == [
        ("aaaaaaa", "own"), ("bbbbbbb", "other"), ("ccccccc", "own")
    ]  # fmt: skip
    tables, history = page.read_text("utf-8").split("**Every exam**")
    assert "| commit | ccccccc | bbbbbbb |" in tables and "| classifiers | 2 | 1 |" in tables
    assert "aaaaaaa" not in tables  # the last of each proposal is what the aims are held against
    rows = [line.split(" | ")[:4] for line in history.splitlines() if line.startswith("| ") and "---" not in line][1:]
    runs = (("aaaaaaa", "own", "1"), ("bbbbbbb", "other", "1"), ("ccccccc", "own", "2"))
    assert rows == [[f"| {at}", of, arm, count] for at, of, count in runs for arm in ("diffusion", "exact")]
    drawn_alone = {"commit": "eeeeeee", "arms": {"diffusion": kept[-1]["arms"]["diffusion"]}}
    tables = exam_tables.as_markdown([*kept, kept[-1] | drawn_alone]).split("**Every exam**")[0]
    diffusion, exact = tables.split("**Exact editor**")
    assert "| commit | eeeeeee | bbbbbbb |" in diffusion  # the last of each arm
    assert "| commit | ccccccc | bbbbbbb |" in exact
    with pytest.raises(DiffExError, match="other at commit bbbbbbb is in the history with other figures"):
        worse = json.loads(json.dumps(other))
        worse["proposals"]["other"]["arms"]["exact"]["mean"]["coverage"] = 0.123
        publish(worse)
    few = {**first, "commit": "ddddddd", "proposals": {"own": json.loads(json.dumps(own))}}
    arm = few["proposals"]["own"]["arms"]["diffusion"]
    arm["baselines"]["ours, no describe"] = arm["baselines"].pop("paper")
    publish(few)  # of fewer classifiers: it has no column, but a reading that the other lacks
    tables = page.read_text("utf-8").split("**Every exam**")[0]
    assert "| commit | ccccccc | bbbbbbb |" in tables and "ddddddd |" not in tables.split("Other readings")[0]
    assert "| ours, no describe (1 classifiers, ddddddd) |" in tables and tables.count("(1 classifiers, ddddddd)") == 2
    before = json.loads(json.dumps(kept))
    for run in before:
        del run["arms"]["diffusion"]["claims"]  # as they were kept before claims were counted
    assert exam_tables.with_runs(before, kept) == kept
    with pytest.raises(DiffExError, match="other figures"):
        exam_tables.with_runs(kept, before)


def test_another_world_s_exam_has_a_history_and_a_page_of_its_own(graded: Graded, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    page, file = tmp_path / "worlds.md", tmp_path / "written.json"
    page.write_bytes((Path(__file__).parent.parent.parent / "docs" / "worlds.md").read_bytes())
    file.write_text(json.dumps(_written(graded)))
    with pytest.raises(DiffExError, match="of the world 'avatars', not 'scenes': say --world avatars"):
        exam_tables.main([str(file), "--docs", str(tmp_path), "--world", "scenes"])
    file.write_text(json.dumps({**_written(graded), "world": "scenes"}))
    with pytest.raises(DiffExError, match="say --world scenes"):
        exam_tables.main([str(file), "--docs", str(tmp_path)])
    file.with_name("worlds.md").rename(tmp_path / "away.md")
    with pytest.raises(FileNotFoundError):
        exam_tables.main([str(file), "--docs", str(tmp_path), "--world", "scenes"])
    assert not list((tmp_path / "figures").iterdir())
    (tmp_path / "away.md").rename(page)
    assert exam_tables.main([str(file), "--docs", str(tmp_path), "--world", "scenes"]) == 0
    assert [each.name for each in (tmp_path / "figures").iterdir()] == ["exam_scenes.json"]
    assert "**Exact editor**" in page.read_text("utf-8") and not (tmp_path / "validity.md").exists()


@pytest.mark.parametrize("world", ["avatars", "scenes"])
def test_the_page_shows_the_exams_that_are_committed(world: str, tmp_path: Path) -> None:
    figures, page, place = exam_tables.places(Path(__file__).parents[2] / "docs", exam_tables.MARK, world)
    copy = tmp_path / page.name
    copy.write_bytes(page.read_bytes())
    write_between(copy, place, exam_tables.as_markdown(json.loads(figures.read_text("utf-8"))["runs"]))
    assert copy.read_text("utf-8") == page.read_text("utf-8"), "publish the exam again"


def test_a_title_with_bars_stays_in_its_cell() -> None:
    table = pages.table(["", "ρ"], [["|mean d| top B", "0.1"]])
    assert table.splitlines()[-1] == r"| \|mean d\| top B | 0.1 |"


def test_the_readme_says_what_the_exam_comes_to() -> None:
    """Beside the figures of worlds that the method was made on stand those of what nobody tuned on."""
    runs = json.loads((ROOT / "docs" / "figures" / "exam.json").read_text("utf-8"))["runs"]
    latest = {run["proposal"]: run["arms"]["diffusion"]["mean"] for run in runs
              if run["classifiers"] == 40 and "diffusion" in run["arms"]}  # fmt: skip
    means = [latest[name] for name in ("partly_irrelevant", "plain", "regrouped")]
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "On 40 classifiers of random rules" in readme
    ranks, precisions, false = (
        "{}, {} and {}".format(*(f"{mean[key]:{form}}" for mean in means))
        for key, form in (("spearman_whole", ".2f"), ("precision_at_5", ".2f"), ("fdr", ".0%"))
    )
    assert f"ρ {ranks} over every feature by three recorded proposals, precision@5 to {precisions}" in readme
    assert f"and {false} of the claims are false" in readme
