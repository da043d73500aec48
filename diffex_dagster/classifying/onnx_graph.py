"""What an ONNX file says of itself: its input, its outputs, its last operator, and where its weights are."""

from __future__ import annotations

import ast
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffex_dagster.classifying.labels import names_of
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.errors import ClassifierError, in_words

_PASSING = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout", "DequantizeLinear",
            "QuantizeLinear", "CastLike"}  # fmt: skip
_PREPARING = {"Sub", "Add", "Mul", "Div", "BatchNormalization", "InstanceNormalization"}  # make a normalisation
_BEFORE = _PASSING | {"Transpose", "Resize", "Upsample", "Pad", "Slice", "Crop", "Clip"}  # may come before it
_NUMBERS = {"ArgMax": "the number of the class", "TopK": "the best few", "NonMaxSuppression": "boxes"}


@dataclass(frozen=True)
class OnnxGraph:
    """An ONNX model without its weights.

    Attributes:
        inputs: (name, numpy type, shape) of each input that is no weight; a length that is not fixed is None.
        results: the same of each output.
        makers: value -> (operator, the values that it takes).
        elsewhere: names of the files that hold weights.
        metadata: what the exporting tool wrote into the file.
    """

    inputs: tuple[tuple[str, str, tuple[int | None, ...]], ...]
    results: tuple[tuple[str, str, tuple[int | None, ...]], ...]
    makers: dict[str, tuple[str, tuple[str, ...]]]
    elsewhere: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """The number type of the picture."""
        return self.inputs[0][1] if self.inputs else "float32"

    @property
    def count(self) -> int | None:
        """How many pictures the model takes at a time, where that is fixed."""
        shape = self.inputs[0][2] if self.inputs else ()
        return shape[0] if shape else None

    def class_names(self, name: str) -> tuple[str, ...]:
        """What the file's metadata calls its classes, as Ultralytics writes them; nothing where it has no such entry.

        Raises:
            ClassifierError: numbers are missing or used twice.
        """
        for key in ("names", "labels", "class_names", "classes", "id2label"):
            found: Any = None
            for read in (json.loads, ast.literal_eval):  # a literal of Python holds numbers and texts, and runs nothing
                with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                    found = found or read(self.metadata.get(key, ""))
            if isinstance(found, dict | list):
                return names_of(found, f"{name}: metadata: {key}")
        return ()

    @property
    def normalises(self) -> bool:
        """Whether the first operator that computes with the picture is part of a normalisation."""
        values = {name for name, _, _ in self.inputs[:1]}
        for value, (operator, takes) in self.makers.items():  # in the order that they are computed in
            if not values & set(takes):
                continue
            if operator not in _BEFORE:
                return operator in _PREPARING
            values = {value}
        return False

    def external(self, file: Path) -> list[Path]:
        """The files with weights, in order of their names.

        Raises:
            ClassifierError: one is missing, or would be outside the model's folder.
        """
        folder = file.parent.resolve()
        found = set(file.parent.glob(f"{file.name}*data"))
        for name in self.elsewhere:
            path = file.parent / name
            if Path(name).is_absolute() or not path.resolve().is_relative_to(folder):
                raise ClassifierError(
                    f"{file}: file: its weights are said to be in {name!r}, outside its own folder, where they are not "
                    "read; save them beside the model"
                )
            if not path.is_file():
                raise ClassifierError(
                    f"{file}: file: its weights are in {name!r}, which is missing; copy it beside the model"
                )
            found.add(path)
        return sorted(found)

    def facts(self, name: str, stated: Preprocessing) -> dict[str, Any]:
        """Size, layout and channels of the picture that the model takes, where its file says them.

        Raises:
            ClassifierError: the model takes more than one input.
        """
        if len(self.inputs) != 1:
            names = ", ".join(each for each, _, _ in self.inputs)
            raise ClassifierError(
                f"{name}: file: the model has {len(self.inputs)} inputs ({names}); export it with the picture as its "
                "only one"
            )
        fields = facts_of_shape(list(self.inputs[0][2]), name, stated)
        return fields | ({"scale": 1.0} if self.dtype == "uint8" else {})

    def chosen_output(self, name: str, output: str | None, classes: int) -> str:
        """The output that holds the scores: the named one, else the only one that can hold them.

        Raises:
            ClassifierError: there is no such output, none is of numbers, or several could be the scores.
        """
        known = [each for each, _, _ in self.results]
        if output is not None:
            if output not in known:
                raise ClassifierError(f"{name}: output: the model has no {output!r}; it has {', '.join(known)}")
            return output
        floats = [(each, shape) for each, dtype, shape in self.results if dtype.startswith("float")]
        fitting = [each for each, shape in floats if _could_be(shape, classes)]
        for choice in ([each for each, _ in floats], [each for each in fitting if each == "logits"], fitting):
            if len(choice) == 1:
                return choice[0]
        if not floats:
            raise ClassifierError(
                f"{name}: file: none of its outputs holds floating-point scores ({', '.join(known)}); export it so"
            )
        shown = ", ".join(f"{each} {shape}" for each, _, shape in self.results)
        which = ", ".join(fitting) if fitting else "none"
        raise ClassifierError(
            f"{name}: output: the model has {len(known)} outputs ({shown}), of which {which} can be the scores of "
            f"{classes} classes; name one as output"
        )

    def ends_in(self, name: str, output: str | None, classes: int) -> tuple[Outputs, str] | None:
        """What the graph's last operator makes of its output, and how it is said; None where that tells nothing.

        Raises:
            ClassifierError: the output is no score, but the number of a class.
        """
        value = self.chosen_output(name, output, classes)
        for _ in range(64):
            operator, takes = self.makers.get(value, ("", ()))
            if operator in _NUMBERS:
                raise ClassifierError(
                    f"{name}: output: the model returns {_NUMBERS[operator]} ({operator}), not a score for each class; "
                    "export it without that operator"
                )
            if operator == "Softmax" or (operator == "Div" and self._is_softmax(takes)):
                return "probabilities", "the model's last operator is a softmax"
            if operator in ("Sigmoid", "HardSigmoid"):
                return "sigmoid", "the model's last operator is a sigmoid"
            if operator not in _PASSING or not takes:
                return None
            value = takes[0]
        return None

    def _is_softmax(self, takes: tuple[str, ...]) -> bool:
        """Whether a division is that of a softmax written out: exponentials by their sum."""
        if len(takes) != 2:
            return False
        above, below = (self.makers.get(value, ("", ())) for value in takes)
        return above[0] == "Exp" and below[0] == "ReduceSum" and below[1][:1] == (takes[0],)


def _could_be(shape: tuple[int | None, ...], classes: int) -> bool:
    """Whether scores of so many classes can have a shape; a length that is not fixed can be anything."""
    rest = [length for length in shape[1:] if length != 1]
    if not shape:
        return True
    if not rest:
        return classes <= 2
    return len(rest) == 1 and rest[0] in (None, classes)


def facts_of_shape(shape: list[Any], name: str, stated: Preprocessing) -> dict[str, Any]:
    """Size, layout and channels from the shape of an input, (N, C, H, W) or (N, H, W, C).

    Raises:
        ClassifierError: it is no picture's shape, or which axis holds the channels cannot be told.
    """
    lengths = [each if isinstance(each, int) else None for each in shape]
    if not lengths:
        return {}
    if len(lengths) != 4:
        raise ClassifierError(
            f"{name}: file: the model takes an input of shape {_shown(shape)}, which is no batch of pictures, "
            "(N, C, H, W) or (N, H, W, C); export it with one"
        )
    first, last = lengths[1] in (1, 3), lengths[3] in (1, 3)
    if "layout" in stated.model_fields_set:
        layout = stated.layout
    elif first and last:
        raise ClassifierError(
            f"{name}: preprocessing.layout: the model takes {_shown(shape)}, and which axis holds the colours cannot "
            "be told; write layout: nchw or layout: nhwc"
        )
    elif not first and not last and (lengths[1] is not None or lengths[3] is not None):
        raise ClassifierError(
            f"{name}: file: the model takes {_shown(shape)}, and pictures have 3 channels (or 1); export it for those"
        )
    else:
        layout = "nhwc" if last else "nchw"
    channels = lengths[1] if layout == "nchw" else lengths[3]
    height, width = lengths[2:] if layout == "nchw" else lengths[1:3]
    fields: dict[str, Any] = {"layout": layout}
    if channels == 1:
        fields["channels"] = "grey"
    if height is not None and width is not None:
        fields["size"] = (height, width)
        asked = stated.size if not isinstance(stated.size, int) else (stated.size, stated.size)
        if asked is not None and tuple(asked) != (height, width) and "layout" not in stated.model_fields_set:
            raise ClassifierError(
                f"{name}: preprocessing.size: the model takes pictures of {height} × {width} pixels, and size says "
                f"{asked[0]} × {asked[1]}; leave size out, or write {height}"
            )
    return fields


def _shown(shape: list[Any]) -> str:
    return "(" + ", ".join(str(each) if isinstance(each, int) else "N" for each in shape) + ")"


def read_graph(file: Path) -> OnnxGraph:
    """Read an ONNX file's graph; weights in other files are not opened.

    Raises:
        ClassifierError: it is no ONNX file.
    """
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load(str(file), load_external_data=False)
        if not model.graph.output:
            raise ValueError("it has no graph with outputs")
        weights = {each.name for each in model.graph.initializer}
        makers = {
            value: (node.op_type, tuple(node.input)) for node in model.graph.node for value in node.output if value
        }
        names = {
            entry.value
            for tensor in _get_all_tensors(model)
            if uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
        inputs = tuple(_described(each) for each in model.graph.input if each.name not in weights)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        return OnnxGraph(inputs, tuple(map(_described, model.graph.output)), makers, tuple(sorted(names)), metadata)
    except Exception as error:  # protobuf's own errors share no base but Exception
        raise ClassifierError(
            f"{file}: file: onnxruntime cannot load the model ({in_words(error)}); export it again"
        ) from error


def _described(value: Any) -> tuple[str, str, tuple[int | None, ...]]:
    """Name, numpy type and shape of a graph's input or output."""
    import onnx

    if not value.type.HasField("tensor_type"):
        return value.name, value.type.WhichOneof("value") or "unknown", ()
    tensor = value.type.tensor_type
    lengths = [
        each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None for each in tensor.shape.dim
    ]
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError):
        dtype = "unknown"
    return value.name, dtype, tuple(lengths)
