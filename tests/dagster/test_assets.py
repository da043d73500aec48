"""The asset graph on a real Dagster instance: specs, staleness, checks, errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from diffex_dagster.assets import scores
from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.common import SHEET_ROWS, sheet
from diffex_dagster.assets.lineage import observe
from diffex_dagster.assets.status import statuses
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.resources import RESOURCES
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.searched import Level1
from diffex_dagster.study import Study, load_study
from tests.support.toys import edits_made, picture, write_study

CLASSIFIERS = ("v1", "v2")
SHARED = {"sample_images", "vlm_corpus", "corpus", "level1_edits"}
OF_EACH = {"level1_scores", "level2_scores", "ranked_report"}
SOURCES = {"image_files", "proposal_inputs", "corpus_overrides", "editor", "results", "v1/classifier", "v2/classifier"}
EVERYTHING = SHARED | {f"{name}/{stage}" for name in CLASSIFIERS for stage in OF_EACH} | {"classifier_comparison"}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def test_a_contact_sheet_says_what_it_leaves_out() -> None:
    row = ("", [picture(100)] * 2)
    assert "Not shown" not in str(sheet([row] * SHEET_ROWS).value)
    assert str(sheet([row] * (SHEET_ROWS + 3)).value).endswith("Not shown: 3 more rows.")


class Home:
    """A study on an instance, used as a person uses the UI."""

    def __init__(self, study: Study, instance: dg.DagsterInstance) -> None:
        self.study, self.instance = study, instance
        self.definitions = build_study(study)

    def observe(self) -> None:
        observations, problems = observe(self.study, tuple(self.study.classifiers))
        assert not problems
        for observation in observations:
            self.instance.report_runless_asset_event(observation)

    def materialize(self, *stages: str) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def("toy_explain")
        selection = [dg.AssetKey(["toy", *stage.split("/")]) for stage in stages] or None
        return job.execute_in_process(instance=self.instance, asset_selection=selection, raise_on_error=False)

    def stale(self) -> set[str]:
        """What the UI calls unsynced."""
        return {status.stage for status in statuses(self.definitions, self.instance) if not status.fresh}


@pytest.fixture(scope="module")
def everything_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy study and its instance, on which every stage was materialized; and a copy beside it."""
    folder = tmp_path_factory.mktemp("made") / "home"
    (folder / "instance").mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(folder / "instance")) as instance:
        made = Home(load_study(write_study(folder / "toy")), instance)
        made.observe()
        assert made.materialize().success
    shutil.copytree(folder, folder.with_name("kept"))
    return folder


@pytest.fixture
def home(everything_made: Path) -> Iterator[Home]:
    """The study with every stage materialized, whatever an earlier test has made of it."""
    shutil.rmtree(everything_made)
    shutil.copytree(everything_made.with_name("kept"), everything_made)
    with dg.DagsterInstance.local_temp(str(everything_made / "instance")) as instance:
        yield Home(load_study(everything_made / "toy"), instance)


def metadata(result: dg.ExecuteInProcessResult, stage: str) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node("toy__" + stage.replace("/", "__"))
    return {name: value.value for name, value in event.metadata.items()}


def test_the_graph_has_every_stage_with_a_description_group_and_kinds(toy: Study) -> None:
    graph = build_study(toy).resolve_asset_graph()
    assert {"/".join(key.path[1:]) for key in graph.materializable_asset_keys} == EVERYTHING
    observed = {"/".join(key.path[1:]) for key in graph.observable_asset_keys}
    assert observed == SOURCES
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description and node.group_name and node.code_version, key
        assert any(tag.startswith("dagster/kind/") for tag in node.tags), key
    keys = {"/".join(key.path[1:]): key for key in graph.get_all_asset_keys()}
    parents = {name: {"/".join(k.path[1:]) for k in graph.get(key).parent_keys} for name, key in keys.items()}
    assert parents["sample_images"] == {"image_files", "results"}
    assert parents["corpus"] == {"sample_images", "vlm_corpus", "corpus_overrides", "results"}
    first = {"sample_images", "corpus", "editor", "results"}
    assert parents["level1_edits"] == first  # no classifier: versions share the edits
    assert parents["v1/level1_scores"] == {*first, "v1/classifier", "level1_edits"}
    assert parents["v1/ranked_report"] == {*first, "v1/classifier", "v1/level2_scores"}
    of_versions = {f"{name}/{what}" for name in CLASSIFIERS for what in ("classifier", "ranked_report")}
    assert parents["classifier_comparison"] == {*first, *of_versions}
    with_models = {"level1_edits", *OF_EACH, "classifier_comparison"}  # no edit, score or judgement outside the pool
    for key in graph.materializable_asset_keys:
        assert (graph.get(key).pools == {"gpu"}) == (key.path[-1] in with_models), key
    assert [check.name for check in graph.asset_check_keys if check.asset_key == keys["corpus"]]


def test_everything_is_fresh_after_a_run_and_each_edit_stage_said_before_what_it_would_do(home: Home) -> None:
    assert home.stale() == set()
    for stage in ("level1_edits", "v1/level2_scores"):
        (said,) = home.instance.fetch_observations(dg.AssetKey(["toy", *stage.split("/")]), limit=5).records
        (done,) = home.instance.fetch_materializations(said.asset_key, limit=5).records
        assert said.storage_id < done.storage_id and said.asset_observation and done.asset_materialization
        told = {name: value.value for name, value in said.asset_observation.metadata.items()}
        made = done.asset_materialization.metadata["edits_made"].value
        assert 0 <= told["edits_to_make"] <= made and (stage != "level1_edits" or told["edits_to_make"] > 0)
        assert told["edits_to_make"] == made or "what the scores of these lead to" in str(told["and_then"])


def test_a_comment_in_the_corpus_file_leaves_everything_fresh(home: Home) -> None:
    (home.study.folder / "corpus.yaml").write_text("# another comment\n")
    home.observe()
    assert home.stale() == set()
    merged = home.materialize("corpus")
    counts = metadata(merged, "corpus")
    assert [counts[f"features_{what}"] for what in ("added", "removed", "changed", "to_edit")] == [0, 0, 0, 0]
    assert home.stale() == set()

    # An edit that changes nothing touches only the merge.
    (home.study.folder / "corpus.yaml").write_text("deny: [a word that no feature has]\n")
    home.observe()
    assert home.stale() == {"corpus"}
    assert home.materialize("corpus").success
    assert home.stale() == set()  # the merged tree is the same: early cut-off

    # A broken file shows as a change, and the merge says what is wrong with it.
    (home.study.folder / "corpus.yaml").write_text("add: [unclosed\n")
    home.observe()
    assert home.stale() == {"corpus"}
    assert not home.materialize("corpus").success


@pytest.mark.slow
def test_a_new_child_feature_costs_its_own_edits_alone(home: Home) -> None:
    made = len(edits_made(home.study.folder))
    (home.study.folder / "corpus.yaml").write_text("add: [{group: Red, name: Ruby, prompt: ruby patch}]\n")
    home.observe()
    assert home.stale() == {"corpus"}
    merged = home.materialize("corpus")
    counts = metadata(merged, "corpus")
    assert [counts[f"features_{what}"] for what in ("added", "removed", "changed", "to_edit")] == [1, 0, 0, 1]
    assert "ruby" in str(counts["change"])
    # Everything that reads the corpus, at once: each stage runs once, in the order of the graph.
    assert home.stale() == EVERYTHING - {"sample_images", "vlm_corpus", "corpus"}
    assert home.materialize(*home.stale()).success
    assert home.stale() == set()
    new = edits_made(home.study.folder)[made:]
    assert len(new) == 8 and {prompts for _, prompts in new} == {("ruby patch",)}


def test_new_weights_of_one_version_touch_only_its_own_stages(home: Home) -> None:
    options = {"v1": {"red": 3.5}, "v2": {"red": 0.0}}
    classifiers = {
        name: {"kind": "python", "factory": "tests.support.toys:WarmClassifier", "options": chosen}
        for name, chosen in options.items()
    }
    study = load_study(write_study(home.study.folder, classifiers=classifiers))
    changed = Home(study, home.instance)
    changed.observe()
    made = edits_made(study.folder)
    touched: set[str] = set()
    while stale := changed.stale():
        assert not stale & touched
        assert changed.materialize(*sorted(stale)).success
        touched |= stale
    assert touched == {f"v1/{stage}" for stage in OF_EACH} | {"classifier_comparison"}
    assert edits_made(study.folder) == made


def test_a_changed_setting_touches_the_stages_that_it_decides(home: Home) -> None:
    study = load_study(write_study(home.study.folder, title="Another title"))
    touched = Home(study, home.instance).stale()
    assert touched == {"v1/ranked_report", "v2/ranked_report", "classifier_comparison"}
    study = load_study(write_study(home.study.folder))
    (study.folder / "proposal.json").write_text('{"Red": ["ruby patch"]}')
    again = Home(study, home.instance)
    again.observe()
    assert again.stale() == {"vlm_corpus"}  # a new recorded answer is a new proposal


def test_metadata_shows_counts_and_a_contact_sheet_of_bounded_size(home: Home) -> None:
    result = home.materialize()
    edits = metadata(result, "level1_edits")
    assert edits["edits_made"] == 0 and edits["edits_reused"] == edits["dagster/row_count"]
    assert str(edits["edits"]).startswith("![contact sheet](data:image/webp;base64,")
    for stage in EVERYTHING:
        assert sum(len(str(value)) for value in metadata(result, stage).values()) < 200_000, stage
    report, ranking = (metadata(result, "v1/ranked_report")[name] for name in ("report", "ranking"))
    assert "Plain blue" in str(report) and str(report).count("![null edit and edit](data:image/webp;base64,") > 3
    assert [record.data["rank"] for record in ranking.records] == [1, 2, 3, 4, 5, 6][: len(ranking.records)]
    assert str(metadata(result, "classifier_comparison")["report"]).count("](data:image/webp") > 3


def test_a_corpus_without_an_editable_group_stops_before_the_editor(toy: Study, instance: dg.DagsterInstance) -> None:
    (toy.folder / "corpus.yaml").write_text("tree: [{name: Colours, editable: false}]\n")
    home = Home(toy, instance)
    result = home.materialize()
    assert not result.success
    assert edits_made(toy.folder) == []


def test_what_the_user_can_put_right_is_the_failure_of_the_step(toy: Study, instance: dg.DagsterInstance) -> None:
    (toy.folder / "corpus.yaml").write_text("remove:\n  - Nothing like this\n")
    result = Home(toy, instance).materialize()
    (failure,) = result.get_step_failure_events()
    assert "corpus.yaml, line 2" in failure.step_failure_data.user_failure_data.description


def test_untrusted_names_are_escaped_in_metadata(toy: Study, instance: dg.DagsterInstance) -> None:
    name = "<img src=x onerror=alert(1)>"
    (toy.folder / "corpus.yaml").write_text(f'add: [{{name: "{name}", prompt: "red patch two"}}]\n')
    result = Home(toy, instance).materialize()
    assert result.success
    for stage in EVERYTHING:
        for value in metadata(result, stage).values():  # what a table holds is shown as text
            assert isinstance(value, dg.TableMetadataValue) or name not in str(value), stage
    pages = list((toy.results_folder / "reports").rglob("index.html"))
    assert len(pages) == 3
    assert not any(name in page.read_text("utf-8") for page in pages)
    assert any("&lt;img" in page.read_text("utf-8") for page in pages)


def test_the_watch_sensor_reports_changes_once(toy: Study, instance: dg.DagsterInstance) -> None:
    definitions = build_study(toy)
    sensor = definitions.resolve_sensor_def("toy_watch")

    def tick(cursor: str | None) -> dg.SensorExecutionData:
        with dg.build_sensor_context(instance, cursor, resources=RESOURCES) as context:
            return sensor.evaluate_tick(context)

    first = tick(None)
    assert {"/".join(event.asset_key.path[1:]) for event in first.asset_events} == SOURCES
    assert not tick(first.cursor).asset_events
    (toy.folder / "corpus.yaml").write_text("# a comment\n")
    assert not tick(first.cursor).asset_events
    (toy.folder / "corpus.yaml").write_text("remove: [Light]\n")
    assert tick(first.cursor).asset_events


def test_the_watch_sensor_sees_every_state_of_the_images_and_says_when_to_reload(
    toy: Study, instance: dg.DagsterInstance
) -> None:
    sensor = build_study(toy).resolve_sensor_def("toy_watch")

    def tick(cursor: str | None) -> dg.SensorExecutionData:
        with dg.build_sensor_context(instance, cursor, resources=RESOURCES) as context:
            return sensor.evaluate_tick(context)

    last = tick(None)
    assert tick(last.cursor).skip_message == "nothing changed"
    new = toy.folder / "images" / "new.png"
    seen = []
    for there in (True, False, True):  # in, out, and in again: each is a change, whatever was seen before
        picture(40).save(new) if there else new.unlink()
        last = tick(last.cursor)
        (event,) = last.asset_events
        assert event.asset_key.to_user_string() == "toy/image_files" and not last.run_requests
        seen.append(event.data_version)
    assert seen[0] == seen[2] != seen[1]
    with toy.file.open("a") as file:
        file.write("title: Another title\n")
    assert "reload the code location" in tick(last.cursor).skip_message


def test_a_source_that_cannot_be_read_does_not_hide_the_others(toy: Study, instance: dg.DagsterInstance) -> None:
    sensor = build_study(toy).resolve_sensor_def("toy_watch")

    def tick(cursor: str | None) -> dg.SensorExecutionData:
        with dg.build_sensor_context(instance, cursor, resources=RESOURCES) as context:
            return sensor.evaluate_tick(context)

    first = tick(None)
    (toy.folder / "images").rename(toy.folder / "away")
    (toy.folder / "corpus.yaml").write_text("remove: [Light]\n")
    second = tick(first.cursor)
    assert [event.asset_key.path[-1] for event in second.asset_events] == ["corpus_overrides"]
    assert "images.folder: there is no such folder" in str(tick(second.cursor).skip_message)


def automated(home: Home, cursor: object) -> tuple[list[set[str]], object]:
    """What the automation requests, tick by tick, when every request is run, until it has no more to request."""
    rounds: list[set[str]] = []
    while True:
        tick = dg.evaluate_automation_conditions(home.definitions, home.instance, cursor=cursor)
        cursor = tick.cursor
        keys = home.definitions.resolve_asset_graph().materializable_asset_keys
        requested = {"/".join(key.path[1:]) for key in keys if tick.get_num_requested(key)}
        if not requested:
            return rounds, cursor
        rounds.append(requested)
        assert home.materialize(*sorted(requested)).success


@pytest.mark.slow
def test_an_edited_corpus_file_requests_exactly_the_stages_it_touches(home: Home) -> None:
    rounds, cursor = automated(home, None)
    assert rounds == []
    (home.study.folder / "corpus.yaml").write_text("# another comment\n")
    home.observe()
    rounds, cursor = automated(home, cursor)
    assert rounds == []  # a comment edits nothing
    (home.study.folder / "corpus.yaml").write_text("prompt: {light: glow}\n")
    home.observe()
    rounds, cursor = automated(home, cursor)
    assert rounds == [{"corpus"}, EVERYTHING - {"sample_images", "vlm_corpus", "corpus"}]  # each once, in one run
    assert home.stale() == set()


def test_what_is_read_is_recorded_though_nothing_was_observed(home: Home) -> None:
    """Edited, materialized without observing, reverted and observed: the stage shows that it holds the edited state."""
    file = home.study.folder / "corpus.yaml"
    kept = file.read_text()
    file.write_text("remove: [Light]\n")
    assert home.materialize().success
    assert home.stale() == set()  # what was read was observed
    file.write_text(kept)
    home.observe()
    assert home.stale() == {"corpus"}


def test_what_another_process_makes_of_an_earlier_stage_meanwhile_is_recorded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that finds another corpus at its end than at its beginning has read a mixture, and stays unsynced."""
    real = scores.level1_scores

    def beside(subject: Subject) -> Level1:
        found = real(subject)
        corpus = subject.store.current_corpus("toy")
        other = Corpus(corpus.groups[:-1])
        subject.store.put_corpus("toy", other)
        subject.store.set_current("toy", "corpus", other.version)
        return found

    monkeypatch.setattr(scores, "level1_scores", beside)
    assert home.materialize("v1/level1_scores").success
    assert "v1/level1_scores" in home.stale()


@pytest.mark.slow
def test_a_new_version_is_requested_without_a_level_1_edit(home: Home) -> None:
    _, cursor = automated(home, None)
    made = len(edits_made(home.study.folder))
    own = {name: {"kind": "python", "factory": "tests.support.toys:WarmClassifier", "options": {"red": red}}
           for name, red in (("v1", 3.0), ("v2", 0.0), ("v3", 1.0))}  # fmt: skip
    added = Home(load_study(write_study(home.study.folder, classifiers=own)), home.instance)
    rounds, cursor = automated(added, cursor)  # the code location is loaded again; nothing is known of v3 yet
    added.observe()  # as the watch sensor does
    more, _ = automated(added, cursor)
    asked = [stage for each in rounds + more for stage in each]
    assert sorted(asked) == sorted(["classifier_comparison", *(f"v3/{stage}" for stage in OF_EACH)])
    level1 = {("red patch",), ("blue patch",), ("dark blue patch",), ("bright",), ("flornip",), ()}
    assert not {prompts for _, prompts in edits_made(home.study.folder)[made:]} & level1
    assert added.stale() == set()


def test_a_broken_rule_fails_the_checks_and_a_warning_warns(toy: Study, instance: dg.DagsterInstance) -> None:
    rules = [
        {"feature": "Red", "below": 0.05, "classifiers": ["v1"]},
        {"feature": "Blue", "below": 0.01, "severity": "warn"},
    ]
    home = Home(load_study(write_study(toy.folder, rules=rules)), instance)
    result = home.materialize()
    # A rule judges the classifier; it stops nothing.
    assert result.success, [e.step_failure_data.user_failure_data for e in result.get_step_failure_events()]
    found = {
        "/".join(check.asset_key.path[1:]): check
        for check in result.get_asset_check_evaluations()
        if check.check_name == "reliance_rules"
    }
    assert set(found) == {"v1/ranked_report", "v2/ranked_report", "classifier_comparison"}
    assert not any(check.passed for check in found.values())
    severities = {stage: check.severity.value for stage, check in found.items()}
    assert severities == {"v1/ranked_report": "ERROR", "v2/ranked_report": "WARN", "classifier_comparison": "ERROR"}
    assert "reliance of v1 on “Red” stays below 0.05: measured" in str(found["classifier_comparison"].description)
    assert metadata(result, "classifier_comparison")["rules_broken"] == 2
    assert isinstance(found["v1/ranked_report"].metadata["v1: Red"].value, float)  # so that the UI draws a line


def test_assets_lead_to_their_code_and_numbers_can_be_plotted(home: Home) -> None:
    graph = home.definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        study, code = graph.get(key).metadata["dagster/code_references"].code_references
        assert study.file_path == str(home.study.file) and Path(code.file_path).parent.name == "assets", key
        assert code.line_number and Path(code.file_path).exists()
    result = home.materialize("corpus", "level1_edits", "v1/level1_scores", "v1/ranked_report")
    numbers = metadata(result, "v1/ranked_report")
    assert "**Red**, searched" in str(numbers["report"])
    assert {"top_effect", "top_flip_rate", "joint_effect", "effects_shown", "edits_failed"} <= set(numbers)
    assert all(isinstance(numbers[name], int | float) for name in ("top_effect", "effects_shown", "noise_floor"))
    # Sources and checks too.
    counted = {}
    for key in graph.observable_asset_keys:
        (seen,) = home.instance.fetch_observations(key, limit=1).records
        said = {name: value.value for name, value in seen.asset_observation.metadata.items()}
        assert said and all(isinstance(number, int) for number in said.values()), key
        counted["/".join(key.path[1:])] = said
    assert counted["image_files"] == {"images": 8} and counted["corpus_overrides"] == {"overrides": 0}
    assert counted["v1/classifier"]["classes"] == 2 and counted["results"]["edits_kept"] == 0
    checks = {check.check_name: check.metadata for check in result.get_asset_check_evaluations()}
    for name in ("corpus_can_be_searched", "edits_changed_the_pictures", "noise_floor"):
        assert sum(isinstance(value.value, int | float) for value in checks[name].values()) >= 2, name
    assert 0 <= checks["edits_changed_the_pictures"]["weakest"].value < 1


def test_the_code_location_loads_every_study_under_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "studies" / "toy")
    monkeypatch.setenv("DIFFEX_ROOT", str(tmp_path))
    from diffex_dagster.definitions import defs

    loaded = defs() if callable(defs) else defs
    graph = loaded.resolve_asset_graph()
    assert {key.path[0] for key in graph.materializable_asset_keys} == {"toy"}
