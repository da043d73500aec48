"""Model files: ONNX through onnxruntime, TorchScript and exported programs through torch."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from diffex_dagster.classifying import untrusted
from diffex_dagster.classifying.base import BatchedClassifier, Task
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.manifests import Manifest, load_manifest, manifest_beside
from diffex_dagster.classifying.onnx_graph import OnnxGraph, facts_of_shape, read_graph
from diffex_dagster.classifying.outputs import SMALLEST, Outputs, contradiction, rows_of
from diffex_dagster.classifying.parts import Preprocessing, TensorPart, Where
from diffex_dagster.classifying.preprocessing import as_array, as_type, merged, read_labels
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import ClassifierError, in_words
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


class TorchFilePart(TensorPart):
    """A TorchScript file (`torch.jit.save`) or an exported program (`torch.export.save`)."""

    short: ClassVar[str] = "file"
    later: ClassVar[frozenset[str]] = frozenset({"trusted"})

    kind: Literal["torchscript", "torch_export"]
    file: Path
    manifest: Path | None = None
    trusted: bool = Field(
        False, description="load it although it could run code: you know who made it (docs/howto/classifier.md)"
    )

    def build(self, where: Where) -> Classifier:
        """A `TorchFileClassifier` or an `ExportedClassifier`."""
        made = TorchFileClassifier if self.kind == "torchscript" else ExportedClassifier
        manifest = None if self.manifest is None else where.path(self.manifest)
        return made(where.path(self.file), trusted=self.trusted, manifest=manifest, **self.common(where))


class FileClassifier(BatchedClassifier):
    """A model in a file, with labels, preprocessing and outputs from the study, a manifest and the file itself.

    Preprocessing is put together field by field: what the study says wins over a manifest, and a manifest over what the
    file says of its input (size, layout, channels).

    Args:
        file: the model.
        labels: class names in order, or a file with them.
        preprocessing: from a picture to the model's input; pixels in [0, 1] where nobody says more.
        manifest: see `load_manifest`; what lies beside the model when None.
        batch_size: pictures at a time; a model that was exported for a fixed number gets that number.
        device: "auto", "cpu", "cuda" or "mps".
        outputs: "logits", "probabilities" or "sigmoid"; where None, what manifest and file say.
    """

    def __init__(
        self,
        file: Path,
        labels: Sequence[str] | Path = (),
        preprocessing: Preprocessing | None = None,
        manifest: Path | None = None,
        batch_size: int = 32,
        device: str = "auto",
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(str(file), batch_size, outputs)
        self.file, self.device, self.given_labels = file, device, labels
        self.given_preprocessing, self.given_manifest = preprocessing, manifest

    @functools.cached_property
    def _manifest(self) -> Manifest:
        return manifest_beside(self.file) if self.given_manifest is None else load_manifest(self.given_manifest)

    @functools.cached_property
    def _stated(self) -> Preprocessing:
        """What study and manifest say; the file's own facts are in its hash already."""
        return merged(self._manifest.preprocessing, self.given_preprocessing)

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the model's input."""
        return merged(self._facts(), self._manifest.preprocessing, self.given_preprocessing)

    def _facts(self) -> dict[str, Any]:
        """What the file says of its input, as fields of `Preprocessing`."""
        return {}

    @property
    def says_preparation(self) -> bool:
        """Whether study, manifest or file say how pixels become numbers; where none does, those are 0 to 1."""
        return bool({"scale", "mean", "std"} & self._stated.model_fields_set)

    def _says(self) -> tuple[Outputs, str] | None:
        said = self._manifest.outputs
        return (said, f"{self._manifest.file} says outputs: {said}") if said else None

    @property
    def task(self) -> Task | None:
        """What the outputs stand for, where the model's last operator or a configuration beside it says so."""
        return super().task or self._manifest.task

    def _own_labels(self) -> tuple[str, ...]:
        """What the file itself calls its classes."""
        return ()

    def _labels(self) -> tuple[str, ...]:
        own = self._own_labels()
        labels = read_labels(self.given_labels) or self._manifest.labels or own
        if own and labels != own and sorted(labels) == sorted(own):
            raise ClassifierError(
                f"{self.name}: labels: the model file itself has them in another order ({', '.join(own[:5])}"
                f"{', …' if len(own) > 5 else ''}); leave them out, or correct the order"
            )
        if not labels:
            raise ClassifierError(
                f"{self.name}: labels: a model file does not say what its outputs are; name the classes in their order"
            )
        return labels

    def _identity(self) -> Any:
        return version("torch"), self._content()

    def _content(self) -> Any:
        self._exists()
        return file_fingerprint(self.file), self.labels, self._stated.model_dump()

    def _exists(self) -> None:
        if not self.file.is_file():
            what = "this is a folder" if self.file.is_dir() else "there is no such model file"
            raise ClassifierError(f"{self.name}: file: {what}; export the model there")

    def _fixed(self, array: np.ndarray, count: int | None, run: Any) -> Any:
        """Run a model whose batch size is fixed at `count`: the last batch is filled up and cut again."""
        if count is None:
            return run(array)
        parts = []
        for start in range(0, len(array), count):
            part = array[start : start + count]
            filled = np.concatenate([part, np.repeat(part[-1:], count - len(part), axis=0)])
            parts.append(rows_of(run(filled), count, len(self.labels), self.name)[: len(part)])
        return np.concatenate(parts)


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
            raise ClassifierError(
                f"{self.name}: preprocessing: the model takes {first.type} of shape {first.shape} and was given "
                f"{array.shape} ({in_words(error)}); set preprocessing.size, channels or layout"
            ) from error


class TorchFileClassifier(FileClassifier):
    """A TorchScript file, run by torch.

    Its code is written in a small language that can read and write files: one that does is loaded only with `trusted`.
    """

    def __init__(self, *arguments: Any, trusted: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trusted = trusted

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        """The module on its device, and the device's name."""
        import torch

        from diffex_dagster.utils.devices import pick_device

        self._exists()
        device = pick_device(self.device)
        try:
            module = self._read(torch, device)
        except ClassifierError:
            raise
        except Exception as error:  # torch raises RuntimeError, pickle and zip errors, and its own
            what = untrusted.what_it_is(self.file)
            raise ClassifierError(
                f"{self.name}: file: torch {torch.__version__} cannot load it ({what or in_words(error)}); kind "
                "torchscript reads what torch.jit.save wrote, torch_export what torch.export.save wrote"
            ) from error
        return module, device

    def _read(self, torch: Any, device: str) -> Any:
        if not self.trusted:
            untrusted.check_torchscript(self.file)
        module = torch.jit.load(str(self.file), map_location=device).eval()
        self._agrees(_ending(module))
        return module

    def _agrees(self, found: Outputs | None) -> None:
        """Raise ClassifierError where the last operator of the graph is not what the study says of the outputs."""
        one_for_two = found == "sigmoid" and self.outputs == "probabilities" and len(self.labels) == 2
        if found and found != self.outputs and not one_for_two:
            said = f"the study says outputs: {self.outputs}" if self.given_outputs else "nothing says what they are"
            operator = "softmax" if found == "probabilities" else "sigmoid"
            raise contradiction(self.name, said, f"the model's last operator is a {operator}", [found])

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        module, device = self._model
        array = as_array(pictures, self.preprocessing)
        given = array if self._dtype is None else as_type(array, self._dtype, self.preprocessing, self.name)
        try:
            return self._fixed(given, self._count, lambda part: run_torch(module, part, device))
        except ClassifierError:
            raise
        except Exception as error:  # the file's own code: anything
            cause = in_words(error)
            remedy = "set preprocessing.size, channels or layout"
            if "cuda" in cause.lower() and device == "cpu":
                remedy = "the file names a CUDA device: export it on a CPU, or run it on a machine that has the device"
            raise ClassifierError(
                f"{self.name}: preprocessing: the model was given {given.dtype} of shape {given.shape} and failed "
                f"({cause}); {remedy}"
            ) from error

    @property
    def _count(self) -> int | None:
        return None

    @property
    def _dtype(self) -> Any:
        """The number type that the file says its input has; None where it says nothing."""
        return None


class ExportedClassifier(TorchFileClassifier):
    """A program of `torch.export`, which may have been exported for a fixed number of pictures.

    The format keeps pickles and the names of Python functions: a file with more than tensors and torch's own operators
    in it is loaded only with `trusted`.
    """

    @functools.cached_property
    def _program(self) -> Any:
        import torch

        source: Any = str(self.file) if self.trusted else io.BytesIO(untrusted.checked_export(self.file))
        return torch.export.load(source)

    def _read(self, torch: Any, device: str) -> Any:
        from torch.export.passes import move_to_device_pass

        program = self._program
        self._agrees(_last_of(program))
        return (program if device == "cpu" else move_to_device_pass(program, device)).module()

    @functools.cached_property
    def _input(self) -> Any:
        """The fake tensor that stands for the picture."""
        self._model  # noqa: B018 (an error that names the file, where it cannot be read)
        (name,) = self._program.graph_signature.user_inputs[:1]
        node = next(node for node in self._program.graph.nodes if node.name == name)
        return node.meta["val"]

    def _facts(self) -> dict[str, Any]:
        return facts_of_shape(list(self._input.shape), self.name, self._stated)

    @property
    def _count(self) -> int | None:
        count = self._input.shape[0]
        return count if isinstance(count, int) else None

    @property
    def _dtype(self) -> Any:
        name = str(self._input.dtype).removeprefix("torch.")
        return "float32" if name == "bfloat16" else name  # numpy has no bfloat16: run_torch casts


def _last_of(program: Any) -> Outputs | None:
    """What the last operator of an exported program makes of its outputs."""
    output = next(node for node in reversed(program.graph.nodes) if node.op == "output")
    nodes = output.all_input_nodes
    node = nodes[-1] if nodes else None
    for _ in range(8):
        name = str(getattr(node, "target", ""))
        if found := _operator(name.removeprefix("aten.").split(".")[0]):
            return found
        if node is None or not node.all_input_nodes or not name.startswith(("aten.view", "aten.squeeze", "aten._to")):
            return None
        node = node.all_input_nodes[0]
    return None


def _ending(module: Any) -> Outputs | None:
    """What the last operator of a TorchScript module makes of its outputs; None where it cannot be told."""
    try:
        outputs = list(module.inlined_graph.outputs())
        node = outputs[0].node() if len(outputs) == 1 else None
        return _operator(node.kind().removeprefix("aten::")) if node is not None else None
    except (RuntimeError, AttributeError):
        return None


def _operator(name: str) -> Outputs | None:
    if name in ("softmax", "_softmax", "_safe_softmax"):
        return "probabilities"
    return "sigmoid" if name in ("sigmoid", "sigmoid_", "hardsigmoid") else None


def run_torch(module: Any, array: np.ndarray, device: str) -> Any:
    """An array through a torch callable, in the number type of its parameters where those are of half precision."""
    import torch

    inputs = torch.from_numpy(array).to(device)
    if inputs.is_floating_point():
        own = {each.dtype for each in getattr(module, "parameters", tuple)() if each.is_floating_point()}
        if len(own) == 1 and inputs.dtype == torch.float32:
            inputs = inputs.to(own.pop())
    with torch.inference_mode():
        return module(inputs)


def module_for_gradients(
    module: Any, options: Preprocessing, device: str, outputs: Outputs, classes: int
) -> Differentiable | None:
    """A torch module that takes prepared pictures, for gradients; None for a callable of another kind."""
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return None

    def logits(pixels: Any) -> Any:
        found = _tensor(module(pixels), len(pixels), classes)
        if outputs == "sigmoid":
            return found.clamp(SMALLEST, 1 - SMALLEST).logit()
        return found.clamp(min=SMALLEST).log() if outputs == "probabilities" else found

    return Differentiable(
        module,
        lambda pictures: torch.from_numpy(as_array(pictures, options)).to(device),
        logits,
        options.crop_pct if options.resize == "crop" and options.size is not None else 1.0,
    )


def _tensor(returned: Any, count: int, classes: int) -> Any:
    """The scores (N, C) in what a module returned, with their gradients."""
    from diffex_dagster.classifying.outputs import entry

    found = entry(returned, count, classes, "Grad-CAM")
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    return found
