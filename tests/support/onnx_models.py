"""Small ONNX models written by hand: the mean colour of a picture, times weights, with what comes after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.array([[-4.0, 4.0], [1.0, -1.0], [1.0, -1.0]], np.float32)  # red counts for "warm"


def save(
    file: Path,
    ending: str = "",
    dtype: int = TensorProto.FLOAT,
    shape: tuple[object, ...] = ("N", 3, 16, 16),
    weights: np.ndarray = WEIGHTS,
    external: str | None = None,
    further: bool = False,
    normalises: bool = False,
) -> Path:
    """Save a model.

    Args:
        ending: operators after the logits: "Softmax", "Sigmoid", "LogSoftmax", "written out", "ArgMax", "1x1".
        dtype: of the input.
        shape: of the input; channels last where its last length is 3.
        external: the file beside (or not beside) the model that the weights go into.
        further: whether a second output of another length comes first.
        normalises: whether the model divides pixels by 255 itself.
    """
    axes = [1, 2] if shape[-1] == 3 else [2, 3]
    nodes = [
        helper.make_node("Cast", ["image"], ["raw"], to=TensorProto.FLOAT),
        helper.make_node("Div" if normalises else "Identity", ["raw", "most"] if normalises else ["raw"], ["x"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "W"], ["scores"]),
    ]
    last, of = "scores", TensorProto.FLOAT
    if ending in ("Softmax", "Sigmoid", "LogSoftmax"):
        nodes += [helper.make_node(ending, ["scores"], ["ended"]), helper.make_node("Identity", ["ended"], ["out"])]
        last = "out"
    elif ending == "written out":
        nodes += [helper.make_node("Exp", ["scores"], ["e"]), helper.make_node("ReduceSum", ["e", "one"], ["s"]),
                  helper.make_node("Div", ["e", "s"], ["out"])]  # fmt: skip
        last = "out"
    elif ending == "ArgMax":
        nodes += [
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1),
            helper.make_node("Cast", ["best"], ["out"], to=1),
        ]
        last = "out"
    elif ending == "1x1":
        nodes.append(helper.make_node("Unsqueeze", ["scores", "axes"], ["out"]))
        last = "out"
    tensor = numpy_helper.from_array(weights, "W")
    if external is not None:
        content = weights.astype(np.float32).tobytes()
        place = Path(external) if Path(external).is_absolute() else file.parent / external
        place.write_bytes(content)
        tensor = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=weights.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", "0"), ("length", str(len(content)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    whole = [
        tensor,
        numpy_helper.from_array(np.array(axes, np.int64), "axes"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array(255, np.float32), "most"),
    ]
    results = [
        helper.make_tensor_value_info(last, of, None if ending in ("1x1", "ArgMax") else ["N", weights.shape[1]])
    ]
    if further:
        results.insert(0, helper.make_tensor_value_info("mean", of, ["N", 3]))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("image", dtype, list(shape))], results, whole)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(file))
    return file
