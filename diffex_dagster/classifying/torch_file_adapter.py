"""TorchScript files and exported programs, run by torch."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from diffex_dagster.classifying import untrusted
from diffex_dagster.classifying.files_adapter import FileClassifier
from diffex_dagster.classifying.onnx_graph import facts_of_shape
from diffex_dagster.classifying.outputs import Outputs, contradiction
from diffex_dagster.classifying.parts import TensorPart, Where
from diffex_dagster.classifying.preprocessing import as_array, as_type
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.torch_modules import run_torch
from diffex_dagster.errors import ClassifierError, in_words
from diffex_dagster.utils.devices import is_out_of_memory


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
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
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
