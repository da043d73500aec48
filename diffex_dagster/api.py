"""`explain(...)`: the whole method as one function, without a study file and without Dagster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diffex_dagster.errors import ClassifierError, EditorError, StudyError
from diffex_dagster.utils.progress import shown, silent
from diffex_dagster.utils.secrets import none_raised

if TYPE_CHECKING:
    import pandas as pd

    from diffex_dagster.classifying.protocol import Classifier
    from diffex_dagster.corpus.tree import Corpus
    from diffex_dagster.editing.protocol import Editor
    from diffex_dagster.results import Report
    from diffex_dagster.stages.context import StudyContext

_UNUSED = {
    "kind": "python",
    "factory": "diffex_dagster.api:explain",
}  # in the study's place of what is passed as object


@dataclass(frozen=True)
class Explanation:
    """Which attributes a classifier relies on.

    Attributes:
        report: everything as plain data (`results.Report`): features by rank, groups, joint combination.
        folder: where the edits and scores are; None where they were kept only while the function ran.
    """

    report: Report
    folder: Path | None = None

    def __repr__(self) -> str:
        """Ten lines: what was explained, and the strongest features."""
        from diffex_dagster.report.notebook import in_lines

        return in_lines(self.report)

    def _repr_html_(self) -> str:
        """A table with pictures, for a notebook."""
        from diffex_dagster.report.notebook import as_html

        return as_html(self.report)

    @property
    def meta(self) -> dict[str, Any]:
        """What the numbers belong to: classifier, target, editor, corpus version, images, noise floor, caveats."""
        fields = (
            "study", "domain", "classifier", "classifier_fingerprint", "labels", "target", "baseline",
            "editor_fingerprint", "corpus_version", "images", "noise_floor", "gate", "caveats", "warnings", "hints",
        )  # fmt: skip
        return {field: getattr(self.report, field) for field in fields}

    def to_frame(self) -> pd.DataFrame:
        """One row a feature, by rank: effect, interval, decision, flip rate, ..."""
        import pandas as pd

        from diffex_dagster.report.rows import flat_rows

        return pd.DataFrame(flat_rows(self.report.features))

    def to_json(self, file: Path | None = None) -> str:
        """`meta` and the features as JSON; written to a file where one is named."""
        from diffex_dagster.report.rows import rows

        text = json.dumps({"meta": self.meta, "features": rows(self.report.features)}, indent=2, ensure_ascii=False)
        if file is not None:
            file.write_text(text + "\n", "utf-8")
        return text

    def plot(self, file: Path | None = None, limit: int = 25) -> Image.Image:
        """The ranked features as bars with their intervals; also written as .png or .svg where a file is named.

        Raises:
            StudyError: the file ends in neither.
        """
        import io

        from diffex_dagster.report.figures import ranked_bars

        drawn = ranked_bars(self.report.features, self.report.target, self.report.noise_floor, limit)
        if file is not None:
            if file.suffix.lstrip(".") not in drawn:
                raise StudyError(f"{file}: figures end in .png or .svg; choose one of them")
            file.write_bytes(drawn[file.suffix.lstrip(".")])
        return Image.open(io.BytesIO(drawn["png"]))

    def to_html(self, folder: Path) -> Path:
        """Write the report page and its data files; returns the page."""
        from diffex_dagster.report.files import write_report

        write_report(self.report, folder)
        return folder / "index.html"


def explain(
    images: str | Path | Sequence[Image.Image] | Mapping[str, Image.Image] | Mapping[str, Any],
    classifier: Classifier | Callable[..., Any] | Mapping[str, Any] | str,
    editor: Editor | Mapping[str, Any] | str,
    corpus: Corpus | Sequence[Any] | Path | str,
    target: str | Mapping[str, Any],
    *,
    labels: Sequence[str] = (),
    size: int = 512,
    domain: str = "images",
    name: str = "explanation",
    folder: Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Explanation:
    """Explain one classifier.

    Args:
        images: a folder, pictures (a list, or by name), or the fields of a study's `images`.
        classifier: a `Classifier`, any callable from a list of pictures to outputs (N, C), a hub id or folder of a
            `transformers` model, or the fields of a study's classifier.
        editor: an `Editor`, a hub id or folder for LEDITS++, or the fields of a study's editor.
        corpus: a `Corpus`, a shipped starter's name, a corpus file, or a tree as a corpus file writes it
            (`[{"name": "Eyewear", "children": ["round glasses"]}]`).
        target: the class to explain, or the fields of a study's target.
        labels: class names of a callable's outputs.
        size: side in pixels of the square that the editor works on.
        domain: what the images show.
        name: of the explanation, on its page.
        folder: where edits and scores are kept, so that asking again costs only what is new; a temporary one when None.
        progress: show how far it is: a bar in a terminal or notebook, else a line every few seconds.
        settings: further parts of a study: `search`, `effects`, `seed`, `judge`.

    Raises:
        DiffExError: something that was passed cannot be used; the message says what and what to do.
    """
    with none_raised(), tempfile.TemporaryDirectory() as temporary:
        home = (folder or Path(temporary)).resolve()
        where = images if isinstance(images, str | Path) else None
        fields = {
            "name": name,
            "domain": domain,
            "images": _image_fields(images, size),
            "corpus": {},
            "editors": {"editor": _part(editor, "ledits")},
            "classifiers": {"classifier": _part(classifier, "transformers")},
            "target": {"label": target} if isinstance(target, str) else dict(target),
            "results": str(home),
            **settings,
        }
        from diffex_dagster.stages.context import at_work
        from diffex_dagster.study import study_of

        study = study_of(fields, Path.cwd() / "explain()")
        given = None if where or _is_fields(images) else images
        made_editor, made_classifier = _objects(classifier, editor, labels)
        with shown() if progress else nullcontext(silent) as reporter:
            work = at_work(study, editor=made_editor, classifiers=made_classifier, report=reporter)
            report = _explain(work, given, _corpus(corpus))
        return Explanation(report, folder)


def _objects(classifier: Any, editor: Any, labels: Sequence[str]) -> tuple[Editor | None, dict[str, Classifier]]:
    """The editor and the classifier that were passed as objects; what was named, the study builds."""
    from diffex_dagster.classifying.python_adapter import CallableClassifier
    from diffex_dagster.utils.own_code import own

    made_editor = own(editor, "editor", EditorError) if hasattr(editor, "edit") else None
    if isinstance(classifier, Mapping | str | Path):
        return made_editor, {}
    if hasattr(classifier, "fingerprint") and hasattr(classifier, "labels"):
        return made_editor, {"classifier": own(classifier, "classifier", ClassifierError)}
    return made_editor, {"classifier": CallableClassifier(classifier, labels)}


def _explain(work: StudyContext, pictures: Any, tree: Corpus) -> Report:
    from diffex_dagster.stages.calibration import calibrate
    from diffex_dagster.stages.edits import level1_edits
    from diffex_dagster.stages.report import classifier_report
    from diffex_dagster.stages.sample_images import sample_images
    from diffex_dagster.stages.scores import check_classifier
    from diffex_dagster.stages.search import run_search
    from diffex_dagster.stages.source_prompts import find_source_prompts

    subject, study = work.subject("classifier"), work.study
    check_classifier(subject)
    if pictures is None:
        sample_images(work)
    else:
        _keep_given(work, pictures)
    work.store.put_corpus(study.kept_as, tree)
    work.store.set_current(study.kept_as, "corpus", tree.version)
    if study.finds_source_prompts:
        find_source_prompts(work)
        work = work.changed()  # whose editor knows the words
        subject = work.subject("classifier")
    if study.calibrates:
        calibrate(work)
    level1_edits(work)
    run_search(subject)
    report, _ = classifier_report(subject, "diffex_dagster.explain(...)")
    return report


def _keep_given(work: StudyContext, pictures: Any) -> None:
    """Make pictures that were passed (a list, or by name) the sample images."""
    from diffex_dagster.images.files import prepare
    from diffex_dagster.stages.sample_images import keep_samples

    named = pictures if isinstance(pictures, Mapping) else {f"{i:04d}": each for i, each in enumerate(pictures)}
    if not named:
        raise StudyError("images: there is no picture; pass at least one")
    if others := [key for key, each in named.items() if not isinstance(each, Image.Image)]:
        kind = type(named[others[0]]).__name__
        raise StudyError(
            f"images: {others[0]!r} is of type {kind}; pass PIL pictures (Image.fromarray(array), "
            "Image.open(file)), or a folder"
        )
    size = work.study.images.size
    keep_samples(work.study, work.store, {str(key): prepare(each, size) for key, each in named.items()})


def _is_fields(images: Any) -> bool:
    return isinstance(images, Mapping) and not all(isinstance(each, Image.Image) for each in images.values())


def _image_fields(images: Any, size: int) -> dict[str, Any]:
    if isinstance(images, str | Path):
        return {"folder": str(Path(images).expanduser().resolve()), "size": size}
    return {"size": size, **images} if _is_fields(images) else {"size": size}


def _part(given: Any, kind: str) -> dict[str, Any]:
    """A study's part from its fields or a checkpoint; a stand-in for an object."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | Path):
        local = Path(given).expanduser()
        return {"kind": kind, "checkpoint": str(local.resolve()) if local.exists() else str(given)}
    return dict(_UNUSED)


def _corpus(given: Any) -> Corpus:
    from ruamel.yaml import YAML

    from diffex_dagster.corpus.overrides import merge
    from diffex_dagster.corpus.overrides_file import overrides_from_text, read_overrides
    from diffex_dagster.corpus.starters import load_starter
    from diffex_dagster.corpus.tree import Corpus

    if isinstance(given, Corpus):
        return given
    if isinstance(given, str):
        return load_starter(given)
    if isinstance(given, Path):
        return merge(Corpus(()), read_overrides(given))
    import io

    text = io.StringIO()
    YAML().dump({"tree": list(given)}, text)
    return merge(Corpus(()), overrides_from_text(text.getvalue(), "corpus"))
