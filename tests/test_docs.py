"""The examples of the how-to pages and of the README run: what a reader copies works.

Commands and Python run as they stand, in a folder with pictures and a study of the toy domain. The models of the hub
that they name are there, small and with random weights, where the hub's client keeps what it has downloaded.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import huggingface_hub.constants
import pytest
from dagster_cloud_cli.config.models import load_dagster_cloud_yaml
from ruamel.yaml import YAML
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.typing import Evaluator

import diffex_dagster
from diffex_dagster.classifying.parts import Where
from diffex_dagster.classifying.preprocessing import read_manifest
from diffex_dagster.corpus.overrides import merge
from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.corpus.starters import starter_names
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.deployment import VARIABLES
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.study import study_of
from tests.support.checkpoints import build_checkpoint, save_random_vit
from tests.support.project import Run
from tests.support.toys import picture, write_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
INLINE = re.compile(r"`((?:search|effects|corpus|target|images): [{\[][^`]*[}\]])`")
BASE: dict[str, Any] = {
    "name": "s", "domain": "d", "corpus": {"starter": "face"}, "target": {"label": "a"},
    "editors": {"e": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}},
    "classifiers": {"v1": {"kind": "clip", "labels": ["a"]}},
}  # fmt: skip
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub client's cache, with small random models under the names that the pages use."""
    cache = tmp_path_factory.mktemp("hub")

    def folder(name: str) -> Path:
        model = cache / f"models--{name.replace('/', '--')}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        return model / "snapshots" / ("0" * 40)

    build_checkpoint(folder("stable-diffusion-v1-5/stable-diffusion-v1-5"))
    save_random_vit(folder("nateraw/vit-age-classifier"), AGES)
    return cache


class Page:
    """Runs the examples of one page."""

    def __init__(self, page: Path, folder: Path, diffex: Run) -> None:
        self.page, self.folder, self.diffex = page, folder, diffex
        self.ran: set[str] = set()

    def run(self) -> int:
        """Every example in order; returns how many there are, those that are skipped included."""
        skip = SkipParser()
        evaluators: dict[str, Evaluator] = {
            "console": self.console, "python": self.python, "yaml": self.yaml, "yml": self.yml, "json": self.json,
        }  # fmt: skip
        parsers = [CodeBlockParser(language, evaluator) for language, evaluator in evaluators.items()]
        document = Sybil(parsers=[skip, *parsers]).parse(self.page)
        for example in document:  # a file may be named before it is shown
            if name := re.match(r"# (\w+\.py)\n", str(example.parsed)):
                (self.folder / name[1]).write_text(example.parsed)
        count = 0
        for example in document:
            count += example.region.evaluator is not skip.skipper
            with contextlib.suppress(SkipTest):
                example.evaluate()
        return count

    def console(self, example: Example) -> str | None:
        """Runs `diffex` commands, and compares what they print with the lines below them; "..." is anything."""
        for part in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            program, *arguments = shlex.split(command)
            assert program == "diffex", f"{command!r} is not of this project: mark the block with skip"
            status, out, err = self.diffex(*arguments)
            assert status == 0, f"{command}: {out}{err}"
            self.ran.add(command)
            pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
            if not re.fullmatch(pattern or ".*", out.strip(), flags=re.DOTALL):
                return f"{command} printed\n{out}\nand the page says\n{expected}"
            if arguments[0] == "init":
                self.shrink(self.folder / "studies" / arguments[1])
        return None

    @staticmethod
    def shrink(study: Path) -> None:
        """Fewer attributes and steps than a real study needs."""
        text, corpora = re.subn(r'{"starter": "\w+"}', "{}", (study / "study.yaml").read_text())
        text, editors = re.subn('"kind": "ledits"', '"kind": "ledits", "steps": 2', text)
        assert corpora == editors == 1
        (study / "study.yaml").write_text(text)
        (study / "corpus.yaml").write_text("tree: [{name: Eyewear, prompt: glasses}, {name: Hat, prompt: hat}]\n")

    def python(self, example: Example) -> None:
        """As it stands; a block that begins with the name of a file is a module of its own."""
        if name := re.match(r"# (\w+)\.py\n", example.parsed):
            compile(example.parsed, f"{self.page}: {name[1]}", "exec")  # whoever names it imports it
        else:
            PythonEvaluator()(example)

    def yaml(self, example: Example) -> None:
        """A part of a study, or a whole one; each line by itself where they are alternatives to each other."""
        if example.parsed.startswith("# corpus.yaml\n"):
            file = self.folder / "studies" / "faces" / "corpus.yaml"
            file.write_text(example.parsed)
            assert merge(Corpus(()), read_overrides(file)).groups
            return
        lines = example.parsed.splitlines()
        alternatives = len({line.partition(":")[0] for line in lines}) == 1 and len(lines) > 1
        for text in lines if alternatives else [example.parsed]:
            self.study(YAML(typ="safe").load(text))

    def study(self, fields: dict[str, Any]) -> None:
        """Valid, and what it names in Python is there."""
        fields = {"corpus": fields} if "vlm" in fields else fields
        study = study_of({**BASE, **fields}, self.folder / "study.yaml")
        for name, part in study.classifiers.items():
            assert part.build(Where(study.folder, study.checkpoint, name))
        for name, editor in study.editors.items():
            if editor.kind == "python":
                assert build_editor(study.with_editor(name)).fingerprint

    def yml(self, example: Example) -> None:
        """Other files: a component of Dagster, its instance, and a workflow, whose commands run."""
        fields = YAML(typ="safe").load(example.parsed)
        if "type" in fields:
            assert fields["type"] == "diffex_dagster.StudyComponent"
            assert diffex_dagster.StudyComponent.resolve_from_dict(fields["attributes"])
        elif "locations" in fields:
            (location,) = load_dagster_cloud_yaml(example.parsed).locations
            assert location.code_source and location.code_source.module_name == "diffex_dagster.definitions"
            self.variables(each.partition("=")[0] for each in location.container_context["k8s"]["env_vars"])
        elif "dagster-user-deployments" in fields:
            self.chart(fields)
        elif set(fields) == {"run_retries"}:
            shipped = YAML(typ="safe").load((ROOT / ".dagster" / "dagster.yaml").read_text())
            assert fields == {"run_retries": shipped["run_retries"]}
        elif "concurrency" in fields:
            shipped = YAML(typ="safe").load((ROOT / ".dagster" / "dagster.yaml").read_text())
            assert fields["concurrency"] == shipped["concurrency"]
        else:
            for command in (step["run"] for job in fields["jobs"].values() for step in job["steps"] if "run" in step):
                program, *arguments = shlex.split(command)
                if program == "diffex" and command not in self.ran:
                    assert self.diffex(*arguments)[0] == 0
                elif program == "python":
                    with pytest.raises(SystemExit) as stop:
                        runpy.run_path(arguments[0], run_name="__main__")
                    assert stop.value.code in (False, True)

    @staticmethod
    def variables(names: Iterable[str]) -> None:
        """Variables that are read: of this project, of Dagster, or the key of a VLM."""
        assert set(names) <= {*VARIABLES, "DIFFEX_CODE_URL", "DAGSTER_HOME", "OPENAI_API_KEY"}

    def chart(self, fields: dict[str, Any]) -> None:
        """The code location is started as on the rest of the page, and the pool is as shipped."""
        (deployment,) = fields["dagster-user-deployments"]["deployments"]
        (code,) = re.findall(r"^\$ dagster api grpc (.*)$", self.page.read_text("utf-8"), flags=re.MULTILINE)
        assert deployment["dagsterApiGrpcArgs"] == code.split()[:2]
        self.variables(each["name"] for each in deployment["env"])
        assert {each["name"] for each in deployment["volumeMounts"]} == {each["name"] for each in deployment["volumes"]}
        shipped = YAML(typ="safe").load((ROOT / ".dagster" / "dagster.yaml").read_text())

        def snake(name: str) -> str:
            return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)

        pools = {snake(name): value for name, value in fields["concurrency"]["pools"].items()}
        assert pools == shipped["concurrency"]["pools"]
        monitoring = {snake(name): value for name, value in fields["dagsterDaemon"]["runMonitoring"].items()}
        assert monitoring.items() <= shipped["run_monitoring"].items()
        retries = {snake(name): value for name, value in fields["dagsterDaemon"]["runRetries"].items()}
        assert retries.items() <= shipped["run_retries"].items()

    def json(self, example: Example) -> None:
        """The manifest of a classifier."""
        (self.folder / "manifest.json").write_text(example.parsed)
        labels, preprocessing = read_manifest(self.folder / "manifest.json")
        assert labels and preprocessing


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(
    page: Path, hub: Path, tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("DIFFEX_ROOT", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "photos").mkdir()
    for i in range(4):
        picture(60 + 40 * i).resize((64, 64)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "answer.json").write_text('{"Eyewear": ["round glasses", "sunglasses"]}')
    if page.name != "tasks.md":
        names = ("v1", "v2") if page.name == "compare_in_ci.md" else ("v1",)
        warm = {"kind": "python", "factory": "tests.support.toys:WarmClassifier"}
        versions = {name: {**warm, "options": {"red": red}} for name, red in zip(names, (3.0, 0.0), strict=False)}
        quick = {"search": {"joint_size": 1, "beam": 1}, "effects": {"control_prompts": ["flornip"], "side_effects": 0}}
        write_study(tmp_path / "studies" / "faces", 3, name="faces", classifiers=versions, **quick)
    if page.name == "read_results.md":
        assert diffex("run", "faces")[0] == 0
    count = Page(page, tmp_path, diffex).run()
    assert count == len(re.findall(r"^```\w+$", page.read_text("utf-8"), flags=re.MULTILINE))


def test_inline_parts_of_a_study_are_valid(tmp_path: Path) -> None:
    found = [each for page in PAGES for each in INLINE.findall(page.read_text("utf-8"))]
    assert len(found) >= 5
    for each in found:
        study_of({**BASE, **YAML(typ="safe").load(each)}, tmp_path / "study.yaml")


def test_the_pages_name_every_starter_and_lead_to_each_other() -> None:
    without = (ROOT / "docs" / "howto" / "no_vlm.md").read_text("utf-8")
    assert re.findall(r"`([a-z-]+)`", without.partition("**A shipped list**")[2].partition("\n")[0]) == starter_names()
    tasks = (ROOT / "docs" / "howto" / "tasks.md").read_text("utf-8")
    assert {page.name for page in PAGES[1:]} - {"tasks.md"} == set(re.findall(r"\((\w+\.md)\)", tasks))
    for page in PAGES:
        for link in re.findall(r"\]\(([\w./-]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """`make docs` ends where one is not."""
    docs = ROOT / "docs"
    named = re.findall(r"^ +- (\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.MULTILINE)
    pages = [page.relative_to(docs).as_posix() for end in ("md", "ipynb") for page in docs.rglob(f"*.{end}")]
    assert sorted(named) == sorted(pages)
