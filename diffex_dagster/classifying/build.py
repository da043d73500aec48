"""From a study's part to a classifier. Nothing is loaded before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffex_dagster.classifying import parts
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.utils.imports import load_object, make
from diffex_dagster.utils.paths import located


def build(
    part: parts.ClassifierPart,
    folder: Path,
    checkpoint: Callable[[str], str],
    field: str = "classifier",
    known_as: str | None = None,
) -> Classifier:
    """A classifier of any kind.

    Args:
        part: what the study says.
        folder: the study file's, which its paths are relative to.
        checkpoint: resolves a hub id or a folder.
        field: where the part is in the study file, for messages.
        known_as: what stands for a service's address in its fingerprint; see `HttpClassifier`.

    Raises:
        StudyError: a module that the part names cannot be imported, or its factory fails.
    """

    def path(relative: Path) -> Path:
        return located(relative, folder, field).resolve()

    common: dict[str, Any] = {"batch_size": part.batch_size, "device": part.device}
    if isinstance(part, parts.TransformersPart):
        from diffex_dagster.classifying.transformers_adapter import TransformersClassifier

        return TransformersClassifier(checkpoint(part.checkpoint), revision=part.revision, **common)
    if isinstance(part, parts.ClipPart):
        from diffex_dagster.classifying.clip_adapter import ClipClassifier

        name = checkpoint(part.checkpoint)
        return ClipClassifier(name, part.labels, part.template, revision=part.revision, **common)
    assert isinstance(part, parts.HttpPart | parts.TensorPart)
    labels = path(part.labels) if isinstance(part.labels, Path) else part.labels
    if isinstance(part, parts.HttpPart):
        from diffex_dagster.classifying.http_adapter import HttpClassifier

        return HttpClassifier(
            labels=labels, known_as=known_as, **part.model_dump(exclude={"kind", "target", "device", "labels"})
        )
    assert isinstance(part, parts.TensorPart)
    common |= {"labels": labels, "preprocessing": part.preprocessing, "outputs": part.stated_outputs}
    if isinstance(part, parts.OnnxPart | parts.TorchFilePart):
        from diffex_dagster.classifying.files_adapter import ExportedClassifier, OnnxClassifier, TorchFileClassifier

        common["manifest"] = None if part.manifest is None else path(part.manifest)
        if isinstance(part, parts.OnnxPart):
            return OnnxClassifier(path(part.file), output=part.output, **common)
        kind = TorchFileClassifier if part.kind == "torchscript" else ExportedClassifier
        return kind(path(part.file), trusted=part.trusted, **common)
    if isinstance(part, parts.TimmPart):
        from diffex_dagster.classifying.timm_adapter import TimmClassifier

        return TimmClassifier(part.model, weights=None if part.weights is None else path(part.weights), **common)
    assert isinstance(part, parts.PythonPart)
    if part.factory is not None:
        needs = ("labels", "fingerprint", "__call__")
        made: Classifier = make(part.factory, folder, f"{field}.factory", needs, part.options)
        return made
    assert part.callable is not None
    from diffex_dagster.classifying.python_adapter import CallableClassifier

    function = load_object(part.callable, folder, f"{field}.callable")
    files = [located(file, folder, f"{field}.files") for file in part.files]
    return CallableClassifier(
        function, takes=part.takes, files=files, version=part.version, name=part.callable, **common
    )
