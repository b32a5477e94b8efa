"""Small models that try what a stranger's might: read a file of ours, take all memory, never end, end the process."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT: Final = TensorProto.FLOAT
INT64: Final = TensorProto.INT64
BOOL: Final = TensorProto.BOOL


def model(
    nodes: Sequence[NodeProto],
    *,
    constants: Iterable[TensorProto] = (),
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> onnx.ModelProto:
    """Return a model of these nodes, by default from `x` to `y`, both float32 of `(rows, 2)`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["rows", 2])] if inputs is None else inputs,
        [helper.make_tensor_value_info("y", FLOAT, ["rows", 2])] if outputs is None else outputs,
        list(constants),
    )
    graph.sparse_initializer.extend(sparse)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def constant(name: str, value: Any) -> TensorProto:
    """A tensor of a value."""
    return numpy_helper.from_array(np.asarray(value), name)


def outside(name: str = "w", *, location: str = "../../../etc/passwd") -> TensorProto:
    """A tensor whose bytes are said to lie in a file."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[1, 2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def outside_in_initializer() -> onnx.ModelProto:
    """A weight in a file of ours: ONNX Runtime would return its content as an output."""
    return model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[outside()])


def asks_for_186_gb_when_run() -> onnx.ModelProto:
    """The same, but the shape is computed, so that nothing shows beforehand."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], to=INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "many"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
    ]
    constants = [constant("zero", np.array([0])), constant("many", np.array([50_000, 1_000_000]))]
    return model(nodes, constants=constants, outputs=[helper.make_tensor_value_info("y", FLOAT, None)])


def loops_for_ever() -> onnx.ModelProto:
    """A Loop without an end, in some 200 bytes."""
    step = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", INT64), ("c", BOOL), ("v", FLOAT))]
    out = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("d", BOOL), ("w", FLOAT))]
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])], "b", step, out)
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), helper.make_node("Loop", ["", "t", "s"], ["y"], body=body)]
    return model(nodes, constants=[constant("t", True)], outputs=[helper.make_tensor_value_info("y", FLOAT, [])])


def crashes() -> onnx.ModelProto:
    """The smallest integer divided by -1, which ONNX Runtime 1.31 leaves to the processor: SIGFPE ends the process."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "smallest"], ["dividend"]),
        helper.make_node("Sub", ["nothing", "one"], ["divisor"]),
        helper.make_node("Div", ["dividend", "divisor"], ["y"]),
    ]
    constants = [constant("zero", np.array([0])), constant("one", np.array([1])), constant("smallest", np.array([-(2**63)]))]
    return model(nodes, constants=constants, outputs=[helper.make_tensor_value_info("y", INT64, None)])
