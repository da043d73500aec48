"""ONNX files, run by onnxruntime."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.classifying.files_adapter import FileClassifier
from diffex_dagster.classifying.onnx_graph import OnnxGraph, read_graph
from diffex_dagster.classifying.outputs import Outputs, contradiction
from diffex_dagster.classifying.parts import TensorPart, Where
from diffex_dagster.classifying.preprocessing import as_array, as_type
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import ClassifierError, in_words
from diffex_dagster.utils.devices import is_out_of_memory
from diffex_dagster.utils.hashing import file_fingerprint


class OnnxPart(TensorPart):
    """An ONNX file, run by onnxruntime (`pip install diffex-dagster[onnx]`)."""

    short: ClassVar[str] = "file"

    kind: Literal["onnx"] = "onnx"
    file: Path
    manifest: Path | None = Field(
        None, description="a JSON or YAML file, or a folder of a hub model, that gives labels and preprocessing"
    )
    output: str | None = Field(None, description="name of the output to read; the first one when left out")

    def build(self, where: Where) -> Classifier:
        """An `OnnxClassifier`."""
        manifest = None if self.manifest is None else where.path(self.manifest)
        return OnnxClassifier(where.path(self.file), output=self.output, manifest=manifest, **self.common(where))


class OnnxClassifier(FileClassifier):
    """An ONNX file; `output` names the output to read, the one that can be the scores when None."""

    def __init__(self, *arguments: Any, output: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.output = output

    @functools.cached_property
    def _graph(self) -> OnnxGraph:
        self._exists()
        self._installed()
        return read_graph(self.file)

    @functools.cached_property
    def _session(self) -> Any:
        self._exists()
        onnxruntime = self._installed()
        self._graph.external(self.file)  # refuses weights that are somewhere else
        # A provider that is compiled in but finds no GPU falls back to the next one by itself.
        wanted = {"cpu": ["CPUExecutionProvider"]}.get(
            self.device, ["CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider"]
        )
        providers = [provider for provider in wanted if provider in onnxruntime.get_available_providers()]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        try:
            return onnxruntime.InferenceSession(str(self.file), options, providers=providers)
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise ClassifierError(
                f"{self.name}: file: onnxruntime cannot load the model ({in_words(error)}); export it again"
            ) from error

    def _installed(self) -> Any:
        try:
            import onnx  # noqa: F401 (reads what the file says of itself)
            import onnxruntime
        except ImportError as error:
            raise ClassifierError(
                f"{self.name}: {error.name or 'onnxruntime'} is not installed; run `pip install diffex-dagster[onnx]`, "
                "or install onnx with onnxruntime-gpu"
            ) from error
        return onnxruntime

    def _own_labels(self) -> tuple[str, ...]:
        return self._graph.class_names(self.name)

    def _identity(self) -> Any:
        onnxruntime = self._installed()
        content = self._content()
        external = self._graph.external(self.file)  # weights beside the graph, where it is big
        return onnxruntime.__version__, content, self.output, [file_fingerprint(path) for path in external]

    def _facts(self) -> dict[str, Any]:
        return self._graph.facts(self.name, self._stated)

    @property
    def says_preparation(self) -> bool:
        """Also where the graph takes raw pixels, or begins with a normalisation of its own."""
        return super().says_preparation or self._graph.dtype == "uint8" or self._graph.normalises

    def _says(self) -> tuple[Outputs, str] | None:
        found = self._graph.ends_in(self.name, self.output, len(self.labels))
        said = super()._says()
        if said and found and said[0] != found[0]:
            raise contradiction(self.name, said[1], found[1], [found[0]])
        return found or said

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        chosen = self._graph.chosen_output(self.name, self.output, len(self.labels))
        array = as_array(pictures, self.preprocessing)
        given = as_type(array, self._graph.dtype, self.preprocessing, self.name)
        session = self._session
        (first,) = session.get_inputs()
        try:
            return self._fixed(given, self._graph.count, lambda part: session.run([chosen], {first.name: part})[0])
        except ClassifierError:
            raise
        except Exception as error:  # as above
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
            raise ClassifierError(
                f"{self.name}: preprocessing: the model takes {first.type} of shape {first.shape} and was given "
                f"{array.shape} ({in_words(error)}); set preprocessing.size, channels or layout"
            ) from error
