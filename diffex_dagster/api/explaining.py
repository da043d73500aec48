"""Explain a classifier, or one picture, from parts that are passed: all stages one after another, in this process."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from PIL import Image

from diffex_dagster.api.explanation import Explanation, ImageExplanation
from diffex_dagster.api.passed import ImageSettings, Passed, Settings, is_given, keep_given
from diffex_dagster.errors import StudyError
from diffex_dagster.utils.progress import shown, silent
from diffex_dagster.utils.secrets import none_raised

if TYPE_CHECKING:
    from diffex_dagster.classifying.protocol import Classifier
    from diffex_dagster.corpus.tree import Corpus
    from diffex_dagster.editing.protocol import Editor
    from diffex_dagster.report.image_model import ImageFinding
    from diffex_dagster.results import Report
    from diffex_dagster.stages.context import StudyContext, Subject
    from diffex_dagster.stages.picture_edits import Wishes
    from diffex_dagster.study import Study


def explain(
    images: str | Path | Sequence[Image.Image] | Mapping[str, Image.Image] | Mapping[str, Any],
    classifier: Classifier | Callable[..., Any] | Mapping[str, Any] | str,
    editor: Editor | Mapping[str, Any] | str,
    corpus: Corpus | Sequence[Any] | Path | str,
    target: str | Mapping[str, Any],
    **settings: Unpack[Settings],
) -> Explanation:
    """Explain one classifier: which attributes it relies on, how much, in which direction, and how sure that is.

    The method is DiffEx (Kazimi, Allada and Yanardag, CVPR 2025, arXiv 2412.18604). An effect is the mean over images
    of f(edit) − f(null edit), in the unit of the target measure (a probability in [0, 1] by default); a claim stands
    against edits towards control prompts too.

    Args:
        images: a folder, pictures (a list, or by name), or the fields of a study's `images`.
        classifier: a `Classifier`, any callable from a list of pictures to outputs (N, C), a hub id or folder of a
            `transformers` model, or the fields of a study's classifier.
        editor: an `Editor`, a hub id or folder for LEDITS++, or the fields of a study's editor.
        corpus: a `Corpus`, a shipped starter's name, a corpus file, or a tree as a corpus file writes it
            (`[{"name": "Eyewear", "children": ["round glasses"]}]`).
        target: the class to explain, or the fields of a study's target.
        **settings: `labels`, `size`, `domain`, `name`, `folder`, `progress`, and further parts of a study; see
            `Settings`.

    Returns:
        Features by rank, with effect, interval, decision and pictures.

    Raises:
        DiffExError: something that was passed cannot be used; the message says what and what to do.
    """
    passed = Passed.of(classifier, editor, corpus, target, settings)
    with none_raised(), _home(passed) as (home, keep):
        given = images if is_given(images) else None
        with _at_work(passed, home, images) as work:
            report = _explain(work, given, passed.tree())
        return Explanation(keep(report), passed.folder)


def explain_image(
    image: str | Path | Image.Image,
    classifier: Classifier | Callable[..., Any] | Mapping[str, Any] | str,
    editor: Editor | Mapping[str, Any] | str | None = None,
    corpus: Corpus | Sequence[Any] | Path | str | None = None,
    target: str | Mapping[str, Any] | None = None,
    **settings: Unpack[ImageSettings],
) -> ImageExplanation:
    """Explain one picture: what each feature does to it, the fewest edits that flip the decision, and what is noise.

    The same as `diffex explain`. An effect is f(edit) − mean over control prompts of f(control edit), in the unit of
    the target measure (a probability in [0, 1] by default), of this picture alone; what one picture can claim is in
    `effects.one_picture`, the search for sets in `search.flipping`.

    Args:
        image: a picture, or a file. With `study`, also the name or the key of one of its images.
        classifier: as of `explain`; with `study` the name of one of its classifiers.
        editor: as of `explain`; not with `study`.
        corpus: as of `explain`; not with `study`.
        target: as of `explain`; not with `study`.
        **settings: `study`, `most`, `controls`, and those of `explain`; see `ImageSettings`. A `folder` of an earlier
            `explain(...)` has the same edits already.

    Returns:
        Features by rank, and the smallest sets of edits that flip the decision.

    Raises:
        DiffExError: something that was passed cannot be used; the message says what and what to do.
    """
    from diffex_dagster.search.flipping import FlipOptions
    from diffex_dagster.stages.picture_edits import Wishes

    others: dict[str, Any] = dict(settings)
    study: Study | None = others.pop("study", None)
    wishes = Wishes(FlipOptions(most=others.pop("most", FlipOptions().most)), others.pop("controls", None))
    parts = (editor, corpus, target)
    if study is not None:
        if any(part is not None for part in parts) or others.keys() - {"progress"}:
            raise StudyError("explain_image(study=...): a study has its own editor, corpus, target and results")
        return _explain_of(study, classifier, image, wishes, others.get("progress", True))
    if any(part is None for part in parts):
        raise StudyError("explain_image: pass an editor, a corpus and a target, or study=load_study(...)")
    passed = Passed.of(classifier, *parts, others)
    with none_raised(), _home(passed) as (home, _):
        with _at_work(passed, home) as work:
            finding = _explain_one(work.subject("classifier"), image, passed.tree(), wishes)
        if passed.folder is None:
            from diffex_dagster.report.image_model import in_memory

            finding = in_memory(finding)
        return ImageExplanation(finding, passed.folder)


@contextmanager
def _home(passed: Passed) -> Iterator[tuple[Path, Callable[[Report], Report]]]:
    """Where results are, and what keeps a temporary folder for as long as a report whose pictures are in it."""
    if passed.folder is not None:
        yield passed.folder.resolve(), lambda report: report
        return
    home, kept = Path(tempfile.mkdtemp(prefix="diffex_")).resolve(), []

    def keep(report: Report) -> Report:
        kept.append(weakref.finalize(report, shutil.rmtree, home, ignore_errors=True))
        return report

    try:
        yield home, keep
    finally:
        if not kept:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _at_work(passed: Passed, home: Path, images: Any = None) -> Iterator[StudyContext]:
    from diffex_dagster.stages.context import at_work

    study = passed.study(home, images)
    editor, classifiers = passed.objects()
    with shown() if passed.progress else nullcontext(silent) as reporter:
        yield at_work(study, editor=editor, classifiers=classifiers, report=reporter)


def _explain_of(study: Study, classifier: Any, image: Any, wishes: Wishes, progress: bool) -> ImageExplanation:
    """Explain one picture to one of a study's classifiers."""
    from diffex_dagster.stages.context import at_work

    if not isinstance(classifier, str) or classifier not in study.classifiers:
        raise StudyError(
            f"{study.file}: classifiers: there is no {classifier!r}; the study has {', '.join(study.classifiers)}"
        )
    with none_raised(), shown() if progress else nullcontext(silent) as reporter:
        subject = at_work(study, report=reporter).subject(classifier)
        return ImageExplanation(_explain_one(subject, image, None, wishes), study.results_folder)


def _explain_one(subject: Subject, image: Any, tree: Corpus | None, wishes: Wishes) -> ImageFinding:
    """Explain one picture of a study; `tree` is the corpus of one that is not in a file."""
    from diffex_dagster.images.files import prepare
    from diffex_dagster.stages.asked_images import find_asked, named_apart
    from diffex_dagster.stages.corpus_now import corpus_now
    from diffex_dagster.stages.one_picture import explain_images
    from diffex_dagster.stages.picture_edits import asked_of
    from diffex_dagster.stages.prepared import prepared_for
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
    store.put_images(named_apart(found))
    if tree is None:
        kept = store.current(study.kept_as, "corpus") is not None
        tree = store.current_corpus(study.kept_as) if kept else corpus_now(study)
    else:
        subject = prepared_for(subject, dict(found.values()), tree).subject(subject.name)
    names = {key: name for key, (name, _) in found.items()}
    (finding,) = explain_images(asked_of(subject, tree, wishes), names, "diffex_dagster.explain_image(...)")
    return finding


def _explain(work: StudyContext, pictures: Any, tree: Corpus) -> Report:
    from diffex_dagster.stages.edits import level1_edits
    from diffex_dagster.stages.prepared import prepared
    from diffex_dagster.stages.report import classifier_report
    from diffex_dagster.stages.sample_images import sample_images
    from diffex_dagster.stages.scores import check_classifier
    from diffex_dagster.stages.search import run_search

    study = work.study
    check_classifier(work.subject("classifier"))
    if pictures is None:
        sample_images(work)
    else:
        keep_given(work, pictures)
    work.store.put_corpus(study.kept_as, tree)
    work.store.set_current(study.kept_as, "corpus", tree.version)
    work = prepared(work)
    subject = work.subject("classifier")
    level1_edits(work)
    run_search(subject)
    report, _ = classifier_report(subject, "diffex_dagster.explain(...)")
    return report
