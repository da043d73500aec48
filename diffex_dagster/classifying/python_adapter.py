"""Any Python callable as a classifier."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from PIL import Image
from pydantic import Field, model_validator

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.classifying.parts import Preprocessing, TensorPart, Where
from diffex_dagster.classifying.preprocessing import as_array, read_labels
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.torch_modules import module_for_gradients, run_torch
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.config import Reference
from diffex_dagster.utils.devices import is_out_of_memory
from diffex_dagster.utils.hashing import file_fingerprint
from diffex_dagster.utils.imports import imported_sources, load_object, make
from diffex_dagster.utils.own_code import code_digest, own
from diffex_dagster.utils.paths import located


class PythonPart(TensorPart):
    """Code of the user's own.

    `callable` names a function (or module, or any callable object) that takes a list of RGB pictures or a float tensor
    N×3×H×W in [0, 1] and returns N×C; `factory` names something that is called with `folder` and `options` and makes a
    `Classifier`.
    """

    short: ClassVar[str] = "callable"

    kind: Literal["python"] = "python"
    callable: Reference | None = None
    takes: Literal["pictures", "tensor"] = Field("pictures", description="what the callable takes")
    files: tuple[Path, ...] = Field((), description="weights that it reads: their content is part of the fingerprint")
    version: str = Field("", description="say here when something changed that neither its module nor files show")
    factory: Reference | None = None
    options: dict[str, Any] = Field(default_factory=dict, description="for the factory")

    @model_validator(mode="after")
    def _one_of(self) -> PythonPart:
        if (self.callable is None) == (self.factory is None):
            raise ValueError("name either 'callable' (pictures -> outputs) or 'factory' (makes a Classifier)")
        return self

    def build(self, where: Where) -> Classifier:
        """A `CallableClassifier`, or what the factory makes."""
        if self.factory is not None:
            needs = ("labels", "fingerprint", "__call__")
            made: Classifier = make(self.factory, where.folder, f"{where.field}.factory", needs, self.options)
            return own(made, where.field, ClassifierError, code_digest(self.factory, where.folder, self.options))
        assert self.callable is not None
        function = load_object(self.callable, where.folder, f"{where.field}.callable")
        files = [located(file, where.folder, f"{where.field}.files") for file in self.files]
        return CallableClassifier(
            function, takes=self.takes, files=files, version=self.version, name=self.callable, **self.common(where)
        )


class CallableClassifier(BatchedClassifier):
    """A function, a torch module, or any other callable.

    Its fingerprint is its own `fingerprint` where it has one; else it covers a torch module's parameters, the source
    file it was written in, the weights files it is said to read, and `version`.

    Args:
        function: takes a list of RGB pictures, or a float tensor (N, 3, H, W) in [0, 1]; returns outputs (N, C).
        labels: class names in the order of the outputs, or a file; the callable's own `labels` when empty.
        takes: "pictures" or "tensor".
        preprocessing: for a tensor: resizing and normalising before the call.
        files: weights that it reads.
        version: of what is in none of these.
        name: how messages call it.
        batch_size: pictures at a time.
        device: where the tensor is: "auto", "cpu", "cuda" or "mps".
        outputs: "logits", "probabilities" or "sigmoid"; the callable's own `outputs`, else logits, when None.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        labels: Sequence[str] | Path = (),
        takes: Literal["pictures", "tensor"] = "pictures",
        preprocessing: Preprocessing | None = None,
        *,
        files: Sequence[Path] = (),
        version: str = "",
        name: str = "",
        batch_size: int = 32,
        device: str = "auto",
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(name or getattr(function, "__name__", type(function).__name__), batch_size, outputs)
        if not callable(function):
            raise ClassifierError(f"{self.name}: callable: it cannot be called; name a function or a callable object")
        if inspect.isclass(function):
            raise ClassifierError(
                f"{self.name}: callable: it is a class; name one made of it (`model = {function.__name__}()` in its "
                "module), or something that makes a Classifier under 'factory'"
            )
        self.function, self.given_labels, self.takes, self.files = function, labels, takes, tuple(files)
        self.preprocessing, self.version, self.device = preprocessing or Preprocessing(), version, device

    def _labels(self) -> tuple[str, ...]:
        labels = read_labels(self.given_labels) or tuple(getattr(self.function, "labels", ()))
        if not labels:
            raise ClassifierError(
                f"{self.name}: labels: the callable has no attribute `labels`; name the classes in the order of its "
                "outputs"
            )
        return labels

    def _identity(self) -> Any:
        missing = [file for file in self.files if not file.is_file()]
        if missing:
            raise ClassifierError(f"{missing[0]}: files: there is no such file; name the weights that are read")
        identity = [self.name, self.labels, self.takes, self.preprocessing.model_dump(), self.version]
        identity.append([file_fingerprint(file) for file in self.files])
        own = getattr(self.function, "fingerprint", None)
        if isinstance(own, str):
            return [*identity, own]
        if hasattr(self.function, "state_dict"):
            identity += [version("torch"), parameters_hash(self.function.state_dict())]
        return [*identity, _source(self.function), *_imported(self.function)]

    def differentiable(self) -> Differentiable | None:
        """The callable for gradients, where it is a torch module that takes a tensor."""
        if self.takes != "tensor":
            return None
        return module_for_gradients(self._ready, self.preprocessing, self._device, self.outputs, len(self.labels))

    def _says(self) -> tuple[Outputs, str] | None:
        own = getattr(self.function, "outputs", None)
        said: Outputs | None = own if isinstance(own, str) and own in get_args(Outputs) else None  # type: ignore[assignment]
        return (said, f"the callable says outputs: {said}") if said else None

    def _outputs(self, pictures: list[Image.Image]) -> Any:
        try:
            if self.takes == "pictures":
                return self.function(pictures)
            return run_torch(self._ready, as_array(pictures, self.preprocessing), self._device)
        except (ClassifierError, MemoryError):
            raise
        except Exception as error:  # somebody else's code: anything
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
            raise ClassifierError(
                f"{self.name}: the callable failed on {len(pictures)} pictures ({type(error).__name__}: {error}); "
                f"check what it takes (takes: {self.takes})"
            ) from error

    @functools.cached_property
    def _device(self) -> str:
        from diffex_dagster.utils.devices import pick_device

        return pick_device(self.device)

    @functools.cached_property
    def _ready(self) -> Callable[..., Any]:
        """A torch module in evaluation mode on the device; any other callable as it is."""
        if hasattr(self.function, "eval") and hasattr(self.function, "to"):
            ready: Callable[..., Any] = self.function.eval().to(self._device)
            return ready
        return self.function


def parameters_hash(state: dict[str, Any]) -> str:
    """SHA-256 over the names and values of a torch module's parameters and buffers."""
    import hashlib

    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(name.encode())
        if hasattr(value, "detach"):
            array = value.detach().cpu().contiguous()
            total.update(f"{array.dtype}{tuple(array.shape)}".encode())
            total.update(array.flatten().view(dtype=_bytes()).numpy().tobytes())
    return total.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def _written_in(function: Any) -> tuple[Any, Path | None]:
    """The function or class that was written down, and the file where there is one (not for a notebook's)."""
    written = function if inspect.isfunction(function) or inspect.ismethod(function) else type(function)
    try:
        file = inspect.getsourcefile(written)
    except TypeError:
        file = None
    return written, Path(file) if file and Path(file).is_file() else None


def _imported(function: Any) -> list[tuple[str, str]]:
    """The modules beside it that a callable's file imports, with their hashes."""
    _, file = _written_in(function)
    return sorted(imported_sources(file).items()) if file else []


def _source(function: Any) -> str:
    """Hash of the file a callable was written in; of its name alone where there is no file (a notebook, built-in)."""
    written, file = _written_in(function)
    if file:
        return file_fingerprint(file)
    try:
        return inspect.getsource(written)
    except (OSError, TypeError):
        return f"{written.__module__}.{written.__qualname__}"
