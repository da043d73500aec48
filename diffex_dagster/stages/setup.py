"""From a study's parts to the objects that do the work, on the study's workers where it has some; and its pages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.vlm.protocol import Proposer
from diffex_dagster.corpus.vlm.recorded import StarterProposer
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import EditorError
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.study.building import (
    build_own_classifier,
    build_own_editor,
    build_own_judge,
    judge_where,
    placed_editor,
    placed_vlm,
    vlm_where,
)
from diffex_dagster.study.building import build_store as build_store
from diffex_dagster.utils.hashing import digest


def build_editor(study: Study) -> Editor:
    """The editor in use, on the study's workers where it has some; no worker is started before the first edit.

    Raises:
        EditorError: its checkpoint is missing, it cannot be made, or workers might edit on another device than is said.
    """
    editor, crew, part = build_own_editor(study), study.crew, placed_editor(study)
    if crew is None or not part.makes_edits:
        return editor
    from diffex_dagster.workers.pool import Pool, differs
    from diffex_dagster.workers.remote import on_workers

    device, field = part.works_on(), f"editors.{study.editor_name}"
    if device == "auto":
        raise EditorError(
            f"{study.file}: {field}: with workers, write device: cuda (or cpu, or DIFFEX_DEVICE), so that edits are "
            "kept as those of the workers' device, whatever this machine has"
        )
    gpus = float(str(device).startswith("cuda")) if crew.gpus is None else crew.gpus
    return on_workers(editor, Pool(study, crew, gpus, lambda hello: differs(editor, hello, field)))


def build_classifier(study: Study, name: str) -> Classifier:
    """One of the study's classifiers, on the study's workers where it has some; its weights load at the first picture.

    One that asks a service stays in this process, which has its key.
    """
    made = build_own_classifier(study, name)
    if study.crew is None or getattr(made, "networked", False):
        return made
    from diffex_dagster.workers.remote import scored_by_workers

    return scored_by_workers(made, name)


def build_judge(study: Study, editor: Editor) -> Judge | None:
    """The judge of whether edits show their attribute; None where there is none.

    Raises:
        DiffExError: the judge cannot be made.
    """
    judge = build_own_judge(study, editor)
    if judge is None or study.crew is None:
        return judge
    from diffex_dagster.workers.remote import judged_by_workers

    return judged_by_workers(judge, editor)


def judges_beside_the_editor(study: Study) -> tuple[str, ...]:
    """Which of "judge" and "second_judge" are models beside the editor.

    Such a judge is a source by itself: neither the editor's fingerprint nor the part's own settings say which it is.
    """
    parts = {"judge": study.judge, "second_judge": study.second_judge}
    return tuple(source for source, part in parts.items() if part.own_model)


def why_unjudged(study: Study) -> str:
    """Why nobody judges the edits of a study for which `build_judge` finds nobody."""
    return study.judge.absent(judge_where(study))


def know(*parts: Editor | Classifier | Judge | None) -> None:
    """Ask for fingerprints that may read whole checkpoints, so that they are known before the database is held."""
    for part in parts:
        getattr(part, "fingerprint", None)


def classifier_labels(study: Study, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The class names of these classifiers, without loading their weights."""
    return {name: tuple(build_classifier(study, name).labels) for name in names}


def reports_folder(study: Study, name: str) -> Path:
    """Where a classifier's report (or "comparison") is written.

    Results that may belong to several studies (a folder outside the study's own, or several study files in one folder)
    have a folder of reports for each study.
    """
    arm = study.editor_name
    folder = study.results_folder / "reports"
    own = study.file.name == "study.yaml" and study.results_folder.is_relative_to(study.folder)
    folder = folder / study.kept_as if study.space else folder if own else folder / study.name
    return folder / name if arm == next(iter(study.editors)) else folder / f"{name}-{arm}"


def study_pages(study: Study) -> list[str]:
    """The classifiers, and "comparison", of which there is a page."""
    pages = [*study.classifiers, *(["comparison"] if len(study.comparable) > 1 else [])]
    return [page for page in pages if (reports_folder(study, page) / "index.html").is_file()]


def link_pages(study: Study) -> None:
    """Let every page of a study that is there lead to the others that are there.

    Raises:
        DiffExError: a page cannot be written.
    """
    from diffex_dagster.report.files import link_page

    for page in study_pages(study):
        link_page(reports_folder(study, page) / "index.html", other_pages(study, page), image_pages(study, page))


def image_page(study: Study, classifier: str, image: str) -> Path:
    """Where the page about one image (by key) alone is written, beside the classifier's report."""
    return reports_folder(study, classifier) / "images" / f"{image}.html"


def applied_folder(study: Study, classifier: str, pictures: Path) -> Path:
    """Where is written what a classifier's report says about the pictures of another folder."""
    name = re.sub(r"[^\w.-]+", "_", pictures.name) or "pictures"
    return reports_folder(study, classifier) / "applied" / f"{name[:60]}-{digest(str(pictures))[:8]}"


def image_pages(study: Study, name: str) -> dict[str, str]:
    """Image key -> address, relative to the report of a classifier, of the pages about one image that go with it.

    A page goes with the report that was made with the same classifier, target, editor and corpus; how images are
    prepared is in their keys. The files of others stay, and are not linked.
    """
    pages = sorted((reports_folder(study, name) / "images").glob("*.html"))
    of = report_made_with(study, name) if pages else {}
    if not of or of["target"] != study.for_classifier(name).target.describe():
        return {}
    with_target = of | {"target": target_key(study.for_classifier(name))}
    return {file.stem: f"images/{file.name}" for file in pages if _page_made_with(file) == with_target}


def target_key(study: Study) -> str:
    """What tells a classifier's target from any other: its words do not say all of it (a threshold)."""
    return digest(study.target.model_dump(mode="json"))[:16]


def report_made_with(study: Study, name: str) -> dict[str, str]:
    """What the report of a classifier that is there was made with: fingerprints of classifier and editor, the version
    of the corpus, and the target in words; nothing where there is none that says so.
    """
    data = _written(reports_folder(study, name) / "report.json")
    try:
        return {
            "classifier": data["classifier"]["fingerprint"], "editor": data["editor"]["fingerprint"],
            "corpus_version": data["corpus_version"], "target": data["target"],
        }  # fmt: skip
    except (KeyError, TypeError):
        return {}


def _page_made_with(page: Path) -> object:
    return _written(page.with_suffix(".json")).get("made_with")


def _written(file: Path) -> dict[str, Any]:
    """What a JSON file beside a page says; nothing where there is none, or no such file."""
    try:
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def other_pages(study: Study, name: str) -> tuple[tuple[str, str], ...]:
    """The other pages of a study that are there, as (what, address relative to the page of `name`)."""
    here = reports_folder(study, name)
    pages = study_pages(study)
    return tuple(
        (
            "what changed between versions" if page == "comparison" else f"what {page} relies on",
            Path(os.path.relpath(reports_folder(study, page) / "index.html", here)).as_posix(),
        )
        for page in pages
        if page != name
    )


def source_prompts_in_words(editor: Editor) -> str:
    """What an editor's pictures are described in, as a sentence after others; nothing where they are not described."""
    words = getattr(getattr(editor, "options", None), "vocabulary", None)
    if not words:
        return ""
    groups = ", ".join(words)
    return f" The model first says what a picture shows ({groups}), and its edits leave the rest of that as it is."


def build_proposer(study: Study, store: Store) -> Proposer:
    """What proposes the corpus: a vision-language model, a starter, or nothing."""
    part = placed_vlm(study)
    return StarterProposer(study.corpus.starter) if part is None else part.build(vlm_where(study, store))
