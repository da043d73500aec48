"""Model files: ONNX through onnxruntime, TorchScript and exported programs through torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from diffex_dagster.classifying.base import SMALLEST, BatchedClassifier
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.classifying.preprocessing import as_array, read_labels, read_manifest
from diffex_dagster.errors import ClassifierError, first_line
from diffex_dagster.utils.hashing import file_fingerprint


class FileClassifier(BatchedClassifier):
    """A model in a file, with labels and preprocessing from the study or from a manifest; the study's win.

    Args:
        file: the model.
        labels: class names in order, or a file with one a line.
        preprocessing: from a picture to the model's input; pixels in [0, 1] where neither names it.
        manifest: see `read_manifest`; the model's own folder where it holds a preprocessor_config.json.
        batch_size: pictures at a time; a model that was exported for a fixed number gets that number.
        device: "auto", "cpu", "cuda" or "mps".
        outputs: "logits" or "probabilities".
    """

    def __init__(
        self,
        file: Path,
        labels: Sequence[str] | Path = (),
        preprocessing: Preprocessing | None = None,
        manifest: Path | None = None,
        batch_size: int = 32,
        device: str = "auto",
        outputs: Literal["logits", "probabilities"] = "logits",
    ) -> None:
        super().__init__(str(file), batch_size, outputs)
        self.file, self.device, self.given_labels = file, device, labels
        self.given_preprocessing, self.given_manifest = preprocessing, manifest

    @functools.cached_property
    def _manifest(self) -> tuple[tuple[str, ...], Preprocessing | None]:
        if self.given_manifest is not None:
            return read_manifest(self.given_manifest)
        beside = self.file.parent
        return read_manifest(beside) if (beside / "preprocessor_config.json").exists() else ((), None)

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the model's input."""
        return self.given_preprocessing or self._manifest[1] or Preprocessing()

    def _labels(self) -> tuple[str, ...]:
        labels = read_labels(self.given_labels) or self._manifest[0]
        if not labels:
            raise ClassifierError(
                f"{self.name}: labels: a model file does not say what its outputs are; name the classes in their order"
            )
        return labels

    def _identity(self) -> Any:
        return version("torch"), self._content()

    def _content(self) -> Any:
        self._exists()
        return file_fingerprint(self.file), self.labels, self.preprocessing.model_dump()

    def _exists(self) -> None:
        if not self.file.is_file():
            raise ClassifierError(f"{self.name}: file: there is no such model file; export the model there")

    def _fixed(self, array: np.ndarray, count: int | None, run: Any) -> np.ndarray:
        """Run a model whose batch size is fixed at `count`: the last batch is filled up and cut again."""
        if count is None:
            return np.asarray(run(array))
        parts = []
        for start in range(0, len(array), count):
            part = array[start : start + count]
            filled = np.concatenate([part, np.repeat(part[-1:], count - len(part), axis=0)])
            parts.append(np.asarray(run(filled))[: len(part)])
        return np.concatenate(parts)


class OnnxClassifier(FileClassifier):
    """An ONNX file; `output` names the output to read, the first one when None."""

    def __init__(self, *arguments: Any, output: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.output = output

    @functools.cached_property
    def _session(self) -> Any:
        self._exists()
        onnxruntime = self._installed()
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
                f"{self.name}: file: onnxruntime cannot load the model ({first_line(error)}); export it again"
            ) from error

    def _installed(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise ClassifierError(
                f"{self.name}: onnxruntime is not installed; run `pip install diffex-dagster[onnx]`, or install "
                "onnxruntime-gpu"
            ) from error
        return onnxruntime

    def _identity(self) -> Any:
        onnxruntime = self._installed()
        external = sorted(self.file.parent.glob(f"{self.file.name}*data"))  # weights beside the graph, where it is big
        return onnxruntime.__version__, self._content(), self.output, [file_fingerprint(path) for path in external]

    def _outputs(self, pictures: list[Image.Image]) -> np.ndarray:
        session = self._session
        (first, *others), known = session.get_inputs(), [output.name for output in session.get_outputs()]
        if others:
            names = ", ".join(each.name for each in (first, *others))
            raise ClassifierError(
                f"{self.name}: file: the model has {len(others) + 1} inputs ({names}); export it with the picture as "
                "its only one"
            )
        if self.output is not None and self.output not in known:
            raise ClassifierError(f"{self.name}: output: the model has no {self.output!r}; it has {', '.join(known)}")
        array = as_array(pictures, self.preprocessing)
        if first.type == "tensor(float16)":
            array = array.astype(np.float16)
        count = first.shape[0] if first.shape and isinstance(first.shape[0], int) else None
        try:
            return self._fixed(array, count, lambda part: session.run([self.output or known[0]], {first.name: part})[0])
        except Exception as error:  # as above
            raise ClassifierError(
                f"{self.name}: preprocessing: the model takes {first.type} of shape {first.shape} and was given "
                f"{array.shape} ({first_line(error)}); set preprocessing.size, channels or layout"
            ) from error


class TorchFileClassifier(FileClassifier):
    """A TorchScript file or an exported program, run by torch."""

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        """The module on its device, and the device's name."""
        import torch

        from diffex_dagster.utils.devices import pick_device

        self._exists()
        device = pick_device(self.device)
        try:
            module = self._read(torch, device)
        except Exception as error:  # torch raises RuntimeError, pickle and zip errors, and its own
            raise ClassifierError(
                f"{self.name}: file: torch {torch.__version__} cannot load it ({first_line(error)}); kind torchscript "
                "reads what torch.jit.save wrote, torch_export what torch.export.save wrote"
            ) from error
        return module, device

    def _read(self, torch: Any, device: str) -> Any:
        return torch.jit.load(str(self.file), map_location=device).eval()

    def _outputs(self, pictures: list[Image.Image]) -> np.ndarray:
        module, device = self._model
        array = as_array(pictures, self.preprocessing)
        try:
            return self._fixed(array, self._count, lambda part: run_torch(module, part, device))
        except (RuntimeError, AssertionError, TypeError, IndexError) as error:
            raise ClassifierError(
                f"{self.name}: preprocessing: the model was given float32 of shape {array.shape} and failed "
                f"({first_line(error)}); set preprocessing.size, channels or layout"
            ) from error

    @property
    def _count(self) -> int | None:
        return None


class ExportedClassifier(TorchFileClassifier):
    """A program of `torch.export`, which may have been exported for a fixed number of pictures."""

    @functools.cached_property
    def _program(self) -> Any:
        import torch

        return torch.export.load(str(self.file))

    def _read(self, torch: Any, device: str) -> Any:
        from torch.export.passes import move_to_device_pass

        program = self._program
        return (program if device == "cpu" else move_to_device_pass(program, device)).module()

    @functools.cached_property
    def _count(self) -> int | None:
        (name,) = self._program.graph_signature.user_inputs[:1]
        node = next(node for node in self._program.graph.nodes if node.name == name)
        count = node.meta["val"].shape[0]
        return count if isinstance(count, int) else None


def run_torch(module: Any, array: np.ndarray, device: str) -> np.ndarray:
    """A float array through a torch callable; the outputs, or the `logits` of what it returns, as float64."""
    import torch

    with torch.inference_mode():
        returned = module(torch.from_numpy(array).to(device))
    return to_numpy(returned)


def logits_of(returned: Any) -> Any:
    """The outputs in what models return: itself, its `logits` (attribute or key), or the first of a tuple."""
    if isinstance(returned, dict) and "logits" in returned:
        returned = returned["logits"]
    returned = getattr(returned, "logits", returned)
    return returned[0] if isinstance(returned, tuple) and returned else returned


def module_for_gradients(module: Any, options: Preprocessing, device: str, outputs: str) -> Differentiable | None:
    """A torch module that takes prepared pictures, for gradients; None for a callable of another kind."""
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return None

    def logits(pixels: Any) -> Any:
        found = logits_of(module(pixels))
        return found.clamp(min=SMALLEST).log() if outputs == "probabilities" else found

    return Differentiable(
        module,
        lambda pictures: torch.from_numpy(as_array(pictures, options)).to(device),
        logits,
        options.crop_pct if options.resize == "crop" and options.size is not None else 1.0,
    )


def to_numpy(returned: Any) -> np.ndarray:
    """What models return (a tensor, an array, lists, an object or dict with `logits`, a tuple of these) as float64."""
    returned = logits_of(returned)
    if hasattr(returned, "detach"):
        returned = returned.detach().double().cpu().numpy()
    return np.asarray(returned, dtype=np.float64)
