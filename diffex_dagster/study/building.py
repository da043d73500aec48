"""From a study's parts to the objects that do the work in this process. Nothing heavy is loaded before it is used.

A worker makes its parts here as well: nothing here knows of workers (`setup` puts the parts of a study on them).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from diffex_dagster.classifying.parts import Where
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.vlm.parts import VLMPart
from diffex_dagster.corpus.vlm.parts import Where as VLMWhere
from diffex_dagster.corpus.vlm.usage import MemoryCache
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.editing.parts import Where as EditorWhere
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import EditorError, StoreError
from diffex_dagster.images.files import open_picture, prepare
from diffex_dagster.judging.parts import Where as JudgeWhere
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.store import Store
from diffex_dagster.study import Study


def build_store(study: Study, reading: bool = False) -> Store:
    """The study's results database and pictures; opened read-only for a command that only reads."""
    folder, pictures, url = study.results_folder, study.pictures_place, study.shared.database
    if url is None:
        return Store(folder, reading=reading, pictures=pictures)
    from diffex_dagster.store.postgres import PgDatabase

    return Store(folder, pictures=pictures, database=PgDatabase(url, reading))


def editor_where(study: Study) -> EditorWhere:
    """What the editor in use is made with."""
    images = study.images

    def names() -> dict[str, str]:
        store = build_store(study)
        try:
            return store.samples(study.kept_as) if store.exists() else {}
        except StoreError:  # the sample images have not been read yet
            return {}

    def picture(file: Path) -> Image.Image:
        with open_picture(file) as opened:
            return prepare(opened, images.size, images.fit, images.background)

    return EditorWhere(
        study.folder, study.checkpoint, f"editors.{study.editor_name}",
        place=study.deployment.editor.model_dump(exclude_none=True, exclude={"workers"}),
        calibrates=study.calibrates,
        names=names, picture=picture,
    )  # fmt: skip


def build_own_editor(study: Study) -> Editor:
    """The editor in use, in this process; a checkpoint is looked for at once, and loaded at the first edit."""
    return placed_editor(study).build(editor_where(study))


def placed_editor(study: Study) -> EditorPart:
    """What the study says of the editor in use, where it works as this deployment says.

    Raises:
        EditorError: an option of the editor does not go with that device.
    """
    try:
        return study.editor_part.placed(editor_where(study))
    except EditorError as error:
        raise EditorError(f"{study.file}: {error}") from error


def build_own_classifier(study: Study, name: str) -> Classifier:
    """One of the study's classifiers, in this process; its weights are loaded at the first picture."""
    place, part = study.deployment.classifiers, study.classifiers[name]
    if place.device is not None:
        part = part.model_copy(update={"device": place.device})
    written = study.settings("classifiers")["classifiers"]["classifiers"][name]
    return part.build(Where(study.folder, study.checkpoint, f"classifiers.{name}", written, place.urls.get(name)))


def judge_where(study: Study) -> JudgeWhere:
    """What a study's judge is made with."""
    vlm = placed_vlm(study)
    return JudgeWhere(
        study.folder, study.checkpoint, domain=study.domain, editor_name=study.editor_name,
        device=study.deployment.editor.device, vlm=vlm.server() if vlm else None,
    )  # fmt: skip


def build_own_judge(study: Study, editor: Editor) -> Judge | None:
    """The judge, in this process; `editor` is asked for a judge of its own where the study names no other."""
    return study.judge.build(judge_where(study), editor)


def build_second_judge(study: Study, editor: Editor) -> Judge | None:
    """The judge that the first one is held against; None where the study names none.

    Raises:
        DiffExError: the judge cannot be made.
    """
    return study.second_judge.build(replace(judge_where(study), field="second_judge"), editor)


def vlm_where(study: Study, store: Store | None = None) -> VLMWhere:
    """What the vision-language model of a study is asked with; its answers are kept in the store."""
    return VLMWhere(
        study.folder, study.checkpoint, place=study.deployment.vlm.model_dump(exclude_none=True),
        cache=MemoryCache() if store is None else store,
    )  # fmt: skip


def placed_vlm(study: Study) -> VLMPart | None:
    """The vision-language model that the study names, at the address that this deployment says."""
    return study.corpus.vlm.placed(vlm_where(study)) if study.corpus.vlm else None
