"""What users write themselves (editors, classifiers, judges, target functions) may do anything: it is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.api import explain
from diffex_dagster.classifying.asking import outputs_of
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.target import measure
from diffex_dagster.editing.asking import made_edits
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import ClassifierError, CorpusError, DiffExError, EditorError, StudyError
from diffex_dagster.judging.asking import evidence_of
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.corpus import propose
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study
from diffex_dagster.utils.own_code import own
from tests.support.project import Run
from tests.support.stand_ins import ANYTHING, Editor, Judge, failing, late, one_sentence
from tests.support.toys import PaintEditor, WarmClassifier, edits_made, picture, warm, write_study

RED, NULL = EditRequest("a", (Concept("red patch"),)), EditRequest("a")


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
def test_whatever_an_editor_raises_is_one_sentence(error: BaseException) -> None:
    for does in (failing(error), late(error)):
        with pytest.raises(EditorError, match="the editor Editor fails while it makes 2 edits") as caught:
            list(made_edits(Editor(does), {"a": picture(90)}, [NULL, RED]))
        assert "stand_ins.py, line" in one_sentence(caught.value) or isinstance(error, StopIteration)


@pytest.mark.parametrize(
    ("batches", "told"),
    [
        ([[(NULL, picture(90))]], "leaves out 1 of 2 edits, first add 'red patch' on face.png .seed 0."),
        ([], "leaves out 2 of 2 edits, first the null edit on face.png"),
        ([[(NULL, picture(90)), (NULL, picture(90)), (RED, picture(90))]], "the null edit on face.png .* twice"),
        ([[(EditRequest("b"), picture(90))]], "nobody asked for it"),
        ([[(NULL, Image.new("RGB", (16, 16))), (RED, Image.new("RGB", (8, 16)))]], "8×16 pixels, and other .*16×16"),
        ([[(NULL, Image.new("RGBA", (16, 16)))]], r"a picture of mode RGBA; end with \.convert"),
        ([[(NULL, np.zeros((16, 16, 3)))]], r"\(EditRequest, ndarray\)"),
        ([[picture(90)]], r"gives back \(Image\) in a batch"),
        ([(NULL, picture(90))], r"in a batch; yield lists"),
        ([None], "fails while it makes 2 edits"),
        (None, "fails while it makes 2 edits"),
    ],
)  # fmt: skip
def test_what_an_editor_gives_back_is_looked_at(batches: Any, told: str) -> None:
    editor = Editor(lambda requests: batches)
    with pytest.raises(EditorError, match=told) as caught:
        list(made_edits(editor, {"a": picture(90)}, [NULL, RED], name={"a": "face.png", "b": "b"}.__getitem__))
    one_sentence(caught.value)


def test_names_are_looked_up_for_a_message_only() -> None:
    whole: Any = [[(NULL, picture(90)), (RED, picture(90))]]
    asked: list[str] = []
    assert list(made_edits(Editor(lambda requests: whole), {"a": picture(90)}, [NULL, RED], name=asked.append)) == whole  # type: ignore[arg-type]
    assert not asked


def test_what_was_given_back_before_is_kept_and_sizes_are_those_of_before(toy: Study) -> None:
    store = build_store(toy)
    image = next(iter(sample_images(at_work(toy, store=store)).keys))
    null, red = EditRequest(image), EditRequest(image, (Concept("red patch"),))
    half = Editor(lambda requests: [[(requests[0], picture(90))]])
    with pytest.raises(EditorError, match=r"leaves out 1 of 2 edits, first add 'red patch' on 00\.png"):
        ensure_edits(store, half, [null, red])
    assert list(store.stored_edits([null, red], half.fingerprint)) == [null]
    larger = Editor(lambda requests: [[(each, Image.new("RGB", (32, 32))) for each in requests]])
    with pytest.raises(EditorError, match=r"00\.png \(seed 0\) at 32×32 pixels, and other edits at 16×16"):
        ensure_edits(store, larger, [null, red])


def test_a_run_with_an_editor_that_makes_nothing_is_one_sentence(tmp_path: Path, diffex: Run) -> None:
    for batch, told in ((-1, "the editor PaintEditor leaves out"), (0, "range() arg 3 must not be zero"), ("x", "'x'")):
        paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"batch": batch}}
        file = write_study(tmp_path / "toy", 2, editors={"paint": paint})
        status, _, said = diffex("run", file)
        assert status == 1 and told in said and "Traceback" not in said
    assert not edits_made(tmp_path / "toy")


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
def test_whatever_a_classifier_or_a_target_function_raises_is_one_sentence(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WarmClassifier, "__call__", failing(error))
    with pytest.raises(ClassifierError, match="the classifier WarmClassifier fails on 1 pictures") as caught:
        outputs_of(WarmClassifier(Path(), {}), [picture(90)])
    one_sentence(caught.value)
    monkeypatch.setattr("tests.support.toys.warm", failing(error))
    with pytest.raises(
        ClassifierError, match="target.function: tests.support.toys:warm fails on the outputs"
    ) as caught:
        measure(np.zeros((2, 2)), ("cold", "warm"), Target(measure="function", function="tests.support.toys:warm"))
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (np.zeros((2, 2)), r"shape \(2, 2\) for 1 pictures"),
        (np.array([[0.0, np.nan]]), "not finite"),
        ([["cold", "warm"]], "fails on 1 pictures"),
        (None, "not finite|shape"),
        ([[1.0], [2.0, 3.0]], "fails on 1 pictures"),
    ],
)
def test_what_a_classifier_returns_is_looked_at(returned: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WarmClassifier, "__call__", lambda self, pictures: returned)
    with pytest.raises(ClassifierError, match=told):
        outputs_of(WarmClassifier(Path(), {}), [picture(90)])


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (failing(KeyError("x")), "the judge Judge fails while it judges 2 edits"),
        (lambda pairs: [[(pairs[0], 1.0)]], "leaves out 1 of 2 questions, first about 'blue'"),
        (lambda pairs: [[(pair, float("nan")) for pair in pairs]], "says nan of 'red'"),
        (lambda pairs: [[(pairs[0], 1.0), (pairs[0], 1.0)]], "judges 'red' twice, or unasked"),
        (lambda pairs: [[(pairs[0], "much")]], "fails while it judges"),
        (lambda pairs: None, "fails while it judges"),
    ],
)
def test_what_a_judge_says_is_looked_at(says: Callable[[Sequence[Any]], Any], told: str) -> None:
    with pytest.raises(DiffExError, match=told) as caught:
        list(evidence_of(Judge(says), {"k": picture(90)}, [("k", "red"), ("k", "blue")]))
    one_sentence(caught.value)


def test_attributes_that_fail_or_are_nothing_are_one_sentence() -> None:
    class Bad:
        labels = 7
        judge = property(failing(ZeroDivisionError("division by zero")))

        def __init__(self, fingerprint: Any) -> None:
            self.said = fingerprint

        @property
        def fingerprint(self) -> Any:
            return self.said()

    for says, told in ((failing(ValueError("no file")), "cannot be asked for"), (lambda: None, "is None"), (str, "''")):
        with pytest.raises(EditorError, match=f"editors.mine: its fingerprint .*{told}"):
            own(Bad(says), "editors.mine", EditorError).fingerprint  # type: ignore[type-var]
    bad: Any = own(Bad(lambda: "x"), "classifiers.mine", ClassifierError)  # type: ignore[type-var]
    with pytest.raises(ClassifierError, match="its labels are 7; give it the class names"):
        bad.labels
    with pytest.raises(ClassifierError, match="its 'judge' cannot be asked for .*division by zero"):
        bad.judge
    assert bad.fingerprint == "x" and not hasattr(bad, "outputs") and isinstance(bad, Bad)


def test_a_proposer_that_fails_is_one_sentence(toy: Study) -> None:
    class Proposer:
        propose = staticmethod(failing(KeyError("choices")))

    work = StudyContext(toy).changed(proposer=Proposer())
    sample_images(work)
    with pytest.raises(CorpusError, match=r"corpus\.vlm: Proposer fails while it proposes features \(.*choices"):
        propose(work)


def test_explain_says_what_is_wrong_with_what_it_is_given(tmp_path: Path) -> None:
    tree, pictures = [{"name": "Red", "prompt": "red patch"}], [picture(90 + 4 * i) for i in range(4)]
    editor = PaintEditor(tmp_path, {})

    def asked(**other: Any) -> None:
        given = {"images": pictures, "classifier": warm, "editor": editor, "corpus": tree, "target": "warm"}
        explain(**{**given, "labels": ("cold", "warm"), "size": 16, "progress": False, **other})  # type: ignore[arg-type]

    with pytest.raises(StudyError, match="'0001' is of type ndarray; pass PIL pictures"):
        asked(images=[picture(90), np.zeros((16, 16, 3))])
    with pytest.raises(EditorError, match="the editor Editor fails"):
        asked(editor=Editor(failing(KeyError("radius"))))
    with pytest.raises(ClassifierError, match="the callable failed on .* pictures .KeyError"):
        asked(classifier=failing(KeyError("radius")))
