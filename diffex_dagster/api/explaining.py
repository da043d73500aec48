"""`explain(...)` and `explain_image(...)`: the whole method as one function, without a study file and Dagster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diffex_dagster.errors import ClassifierError, DiffExError, EditorError, StudyError, in_words
from diffex_dagster.utils.progress import shown, silent
from diffex_dagster.utils.secrets import none_raised

if TYPE_CHECKING:
    import pandas as pd

    from diffex_dagster.classifying.protocol import Classifier
    from diffex_dagster.corpus.tree import Corpus
    from diffex_dagster.editing.protocol import Editor
    from diffex_dagster.report.image_model import ImageFinding
    from diffex_dagster.results import Report
    from diffex_dagster.stages.context import StudyContext, Subject
    from diffex_dagster.stages.picture_edits import Wishes
    from diffex_dagster.study import Study

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

    @classmethod
    def read(cls, folder: Path) -> Explanation:
        """A report that was written earlier, by this version or one before: its numbers, without pictures.

        Args:
            folder: with its `report.json`. What an earlier version did not say is in the last of the caveats.

        Raises:
            DiffExError: there is no such file, or it is no report; says which field is wrong.
        """
        from diffex_dagster.report.schema import report_from_json

        file = folder / "report.json"
        try:
            return cls(report_from_json(json.loads(file.read_text("utf-8"))))
        except OSError as error:
            raise DiffExError(f"{file} cannot be read ({in_words(error)}); name the folder of a report") from error
        except json.JSONDecodeError as error:
            raise DiffExError(f"{file} is not JSON ({error}); make the report again") from error
        except ValueError as error:
            raise DiffExError(
                f"{file}: {error}; make the report again, or read it with the version that made it"
            ) from error

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
            "study", "domain", "classifier", "classifier_fingerprint", "labels", "target", "unit", "bounded",
            "baseline", "editor_fingerprint", "corpus_version", "images", "noise_floor", "gate", "caveats",
            "warnings", "hints",
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


@dataclass(frozen=True)
class ImageExplanation:
    """What moves one picture's score, what flips the decision about it, and what is noise.

    Attributes:
        finding: everything as plain data (`report.image_model.ImageFinding`): features by rank, the smallest sets of
            edits that flip the decision, control edits.
        folder: where the edits and scores are; None where they were kept only while the function ran.
    """

    finding: ImageFinding
    folder: Path | None = None

    def __repr__(self) -> str:
        """What flips it, and the features that move it most."""
        from diffex_dagster.report.image_page import in_lines

        return in_lines(self.finding)

    def _repr_html_(self) -> str:
        """A table with pictures, for a notebook."""
        from diffex_dagster.report.image_page import as_html

        return as_html(self.finding)

    @property
    def flips(self) -> tuple[tuple[str, ...], ...]:
        """The smallest sets of features that flip the decision, by id, the closest picture first; empty for none."""
        return tuple(each.features for each in self.finding.flips)

    def to_frame(self) -> pd.DataFrame:
        """One row a feature, by rank: effect on this picture, its interval, verdict, effect over the study."""
        import pandas as pd

        from diffex_dagster.report.image_model import COLUMNS, feature_rows

        return pd.DataFrame(feature_rows(self.finding.features), columns=list(COLUMNS))

    def to_json(self, file: Path | None = None) -> str:
        """Everything but the pictures as JSON; written to a file where one is named."""
        from diffex_dagster.report.image_model import finding_data
        from diffex_dagster.utils.columns import finite

        text = json.dumps(finite(finding_data(self.finding)), indent=2, ensure_ascii=False)
        if file is not None:
            file.write_text(text + "\n", "utf-8")
        return text

    def to_html(self, file: Path) -> Path:
        """Write the page about this picture, one self-contained file; returns it."""
        from diffex_dagster.report.image_page import render_image

        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render_image(self.finding), "utf-8")
        return file


def explain_image(
    image: str | Path | Image.Image,
    classifier: Classifier | Callable[..., Any] | Mapping[str, Any] | str,
    editor: Editor | Mapping[str, Any] | str | None = None,
    corpus: Corpus | Sequence[Any] | Path | str | None = None,
    target: str | Mapping[str, Any] | None = None,
    *,
    study: Study | None = None,
    most: int = 3,
    controls: int | None = None,
    labels: Sequence[str] = (),
    size: int = 512,
    domain: str = "images",
    name: str = "explanation",
    folder: Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> ImageExplanation:
    """Explain one picture: what each feature does to it, the fewest edits that flip the decision, and what is noise.

    The same as `diffex explain`. An effect is f(edit) − mean over control prompts of f(control edit), in the unit of
    the target measure (a probability in [0, 1] by default), of this picture alone; what one picture can claim is in
    `effects.one_picture`, the search for sets in `search.flipping`.

    Args:
        image: a picture, or a file. With `study`, also the name or the key of one of its images.
        classifier: as of `explain`; with `study` the name of one of its classifiers.
        editor, corpus, target: as of `explain`; not with `study`.
        study: a study (`load_study`), whose editor, corpus, target, results and effects over all images are used.
        most: features of the largest set that is tried.
        controls: control prompts; as few as let something be claimed of one picture when None (19 at 5%).
        labels, size, domain, name, settings: as of `explain`; not with `study`.
        folder: where edits and scores are kept; that of an earlier `explain(...)` has the same edits already. A
            temporary one when None. Not with `study`, which has its own.
        progress: as of `explain`.

    Raises:
        DiffExError: something that was passed cannot be used; the message says what and what to do.
    """
    from diffex_dagster.search.flipping import FlipOptions
    from diffex_dagster.stages.picture_edits import Wishes

    wishes = Wishes(FlipOptions(most=most), controls)
    if study is not None:
        if any(part is not None for part in (editor, corpus, target, folder)) or settings or labels:
            raise StudyError("explain_image(study=...): a study has its own editor, corpus, target and results")
        if not isinstance(classifier, str) or classifier not in study.classifiers:
            raise StudyError(
                f"{study.file}: classifiers: there is no {classifier!r}; the study has {', '.join(study.classifiers)}"
            )
        with none_raised(), shown() if progress else nullcontext(silent) as reporter:
            from diffex_dagster.stages.context import at_work

            work = at_work(study, report=reporter)
            return ImageExplanation(_explain_one(work.subject(classifier), image, None, wishes), study.results_folder)
    if editor is None or corpus is None or target is None:
        raise StudyError("explain_image: pass an editor, a corpus and a target, or study=load_study(...)")
    with none_raised(), tempfile.TemporaryDirectory() as temporary:
        home = (folder or Path(temporary)).resolve()
        of = _study(home, {"size": size}, classifier, editor, target, domain, name, settings)
        from diffex_dagster.stages.context import at_work

        made_editor, made_classifier = _objects(classifier, editor, labels)
        with shown() if progress else nullcontext(silent) as reporter:
            work = at_work(of, editor=made_editor, classifiers=made_classifier, report=reporter)
            finding = _explain_one(work.subject("classifier"), image, _corpus(corpus), wishes)
        if folder is None:
            from diffex_dagster.report.image_model import in_memory

            finding = in_memory(finding)
        return ImageExplanation(finding, folder)


def _explain_one(subject: Subject, image: Any, tree: Corpus | None, wishes: Wishes) -> ImageFinding:
    """Explain one picture of a study; `tree` is the corpus of one that is not in a file."""
    from diffex_dagster.images.files import prepare
    from diffex_dagster.stages.asked_images import find_asked
    from diffex_dagster.stages.corpus_now import corpus_now
    from diffex_dagster.stages.one_picture import explain_images
    from diffex_dagster.stages.picture_edits import asked_of
    from diffex_dagster.stages.prepared import prepared
    from diffex_dagster.stages.scores import check_classifier
    from diffex_dagster.store import image_key

    study, store = subject.study, subject.store
    if isinstance(image, Image.Image):
        images = study.images
        picture = prepare(image, images.size, images.fit, images.background)
        found = {image_key(picture): ("picture", picture)}
    elif isinstance(image, str | Path):
        found = find_asked(subject, [str(image)])
    else:
        kind = type(image).__name__
        raise StudyError(f"image: it is of type {kind}; pass a PIL picture (Image.fromarray(array)), or a file")
    check_classifier(subject)
    store.put_images(dict(found.values()))
    if tree is None:
        kept = store.current(study.kept_as, "corpus") is not None
        tree = store.current_corpus(study.kept_as) if kept else corpus_now(study)
    else:
        subject = prepared(subject, dict(found.values()), tree).subject(subject.name)
    names = {key: name for key, (name, _) in found.items()}
    (finding,) = explain_images(asked_of(subject, tree, wishes), names, "diffex_dagster.explain_image(...)")
    return finding


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
        study = _study(home, _image_fields(images, size), classifier, editor, target, domain, name, settings)
        from diffex_dagster.stages.context import at_work

        given = None if where or _is_fields(images) else images
        made_editor, made_classifier = _objects(classifier, editor, labels)
        with shown() if progress else nullcontext(silent) as reporter:
            work = at_work(study, editor=made_editor, classifiers=made_classifier, report=reporter)
            report = _explain(work, given, _corpus(corpus))
        return Explanation(report, folder)


def _study(
    home: Path, images: Mapping[str, Any], classifier: Any, editor: Any, target: Any, domain: str, name: str,
    settings: Mapping[str, Any],
) -> Study:  # fmt: skip
    """The study that passed parts amount to, with stand-ins for what was passed as object."""
    from diffex_dagster.study import study_of

    fields = {
        "name": name,
        "domain": domain,
        "images": images,
        "corpus": {},
        "editors": {"editor": _part(editor, "ledits")},
        "classifiers": {"classifier": _part(classifier, "transformers")},
        "target": {"label": target} if isinstance(target, str) else dict(target),
        "results": str(home),
        **settings,
    }
    return study_of(fields, Path.cwd() / "explain()")


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
