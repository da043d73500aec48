"""Text and YAML that people write: encodings, numbers that are names, and files that nobody writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAMLError

from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.errors import CorpusError, StudyError
from diffex_dagster.study import load_study, study_of
from diffex_dagster.utils.text import UnreasonableYAML, decoded, load_yaml
from tests.support.toys import write_study

LAUGHS = "a: &a [l, l, l, l, l, l, l, l, l]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_whatever_it_was_saved_as(tmp_path: Path, encoding: str) -> None:
    assert decoded("Müller’s".encode(encoding))[0] == "Müller’s"
    file = write_study(tmp_path, 2, title="Müller’s")
    file.write_bytes(file.read_text("utf-8").encode(encoding))
    assert load_study(file).title == "Müller’s"
    (tmp_path / "corpus.yaml").write_bytes("remove: [Müller’s]\n".encode(encoding))
    assert [each.feature for each in read_overrides(tmp_path / "corpus.yaml").remove] == ["Müller’s"]


@pytest.mark.parametrize(
    "text",
    [LAUGHS, f"name: {LAUGHS[3:]}", "a: &a [*a]\n", "a: " + "[" * 500 + "]" * 500, "{" * 4000, "a: " + "x" * 5_000_000,
     "- &a {x: 1}\n" + "".join(f"- &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 9)}]}}\n" for i in range(8))],
    ids=["laughs", "laughs in a field", "in itself", "deep", "deep and open", "long", "merges"],
)  # fmt: skip
def test_yaml_that_nobody_writes_is_refused_before_it_is_built(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreasonableYAML):
        load_yaml(text)
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"study\.yaml: no study file is like this \(") as raised:
        load_study(tmp_path / "study.yaml")
    assert len(str(raised.value)) < 400
    (tmp_path / "corpus.yaml").write_text(text)
    with pytest.raises(CorpusError, match=r"corpus\.yaml"):
        read_overrides(tmp_path / "corpus.yaml")


def test_ordinary_aliases_and_merges_are_yaml_as_ever() -> None:
    assert load_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1},
    }
    with pytest.raises(YAMLError):
        load_yaml("a: [")


def test_a_value_of_any_size_is_quoted_in_a_few_letters(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        study_of({"name": [["l"] * 9] * 100_000, "domain": "x"}, tmp_path / "study.yaml")
    assert len(str(raised.value)) < 1000


def test_whole_numbers_are_names_as_they_were_written(tmp_path: Path) -> None:
    text = write_study(tmp_path, 2).read_text()
    labels = "  size: 16\n  labels: [007, 12, '3']\n"
    (tmp_path / "study.yaml").write_text(text.replace("name: toy", "name: 007").replace("  size: 16\n", labels))
    study = load_study(tmp_path / "study.yaml")
    assert (study.name, study.images.labels) == ("007", ("007", "12", "3"))
    assert study.seed == 0 and isinstance(study.images.size, int)


@pytest.mark.parametrize("value", ["true", "1e3", "2024-01-01", "1.0"])
def test_what_yaml_makes_of_a_word_asks_for_quotes_without_pydantics_inside(tmp_path: Path, value: str) -> None:
    text = write_study(tmp_path, 2).read_text()
    (tmp_path / "study.yaml").write_text(text.replace("  size: 16\n", f"  labels: [{value}]\n"))
    with pytest.raises(StudyError, match=r"images\.labels\.0: .*put it in quotes, so that it is text"):
        load_study(tmp_path / "study.yaml")
    fields = load_yaml(text)
    fields["classifiers"] = {"v1": {"kind": "onnx", "file": "m.onnx", "labels": [1.5, "a"]}}
    with pytest.raises(StudyError, match=r"classifiers\.v1\.labels") as raised:
        study_of(fields, tmp_path / "study.yaml")
    assert not any(word in str(raised.value) for word in ("lax-or-strict", "tuple[", "union", "json-or-python"))
