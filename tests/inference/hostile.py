"""The hostile corpus: small models that try what a stranger's model might, each by one way in. Returned as bytes."""

import itertools

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, TensorProto, helper

from marketplace.proving.hostile import (
    FLOAT,
    INT64,
    asks_for_186_gb_when_run,
    constant,
    crashes,
    loops_for_ever,
    model,
    outside,
    outside_in_initializer,
)

__all__ = ["asks_for_186_gb_when_run", "constant", "crashes", "loops_for_ever", "model", "outside", "outside_in_initializer"]


def relu() -> onnx.ModelProto:
    """An honest model."""
    return model([helper.make_node("Relu", ["x"], ["y"])])


def outside_in_memory() -> onnx.ModelProto:
    """A weight at an address of our memory, as ONNX Runtime marks its own."""
    return model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[outside(location="*/_ORT_MEM_ADDR_/*")])


def outside_in_attribute() -> onnx.ModelProto:
    """The same in a Constant node."""
    return model([helper.make_node("Constant", [], ["w"], value=outside()), helper.make_node("Add", ["x", "w"], ["y"])])


def outside_marked_default() -> onnx.ModelProto:
    """The same, with a location but marked as if the weights were inside."""
    tensor = outside()
    tensor.data_location = TensorProto.DEFAULT
    return model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[tensor])


def outside_in_subgraph() -> onnx.ModelProto:
    """The same in a branch of an If."""
    return model(
        [helper.make_node("If", ["c"], ["y"], then_branch=_branch(outside()), else_branch=_branch(outside()))],
        constants=[constant("c", True)],
    )


def outside_in_function() -> onnx.ModelProto:
    """The same in a function of the model's own that nothing calls."""
    function = helper.make_function(
        "own", "hidden", ["a"], ["b"], [helper.make_node("Constant", [], ["b"], value=outside())], [helper.make_opsetid("", 17)]
    )
    return model([helper.make_node("Relu", ["x"], ["y"])], functions=[function], domains=["own"])


def outside_in_function_default() -> onnx.ModelProto:
    """The same in the default value of a function's attribute."""
    function = helper.make_function("own", "hidden", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("w", outside()))
    return model([helper.make_node("Relu", ["x"], ["y"])], functions=[function], domains=["own"])


def outside_in_unused_field() -> onnx.ModelProto:
    """The same in an attribute that says it is a number."""
    attribute = AttributeProto(name="alpha", type=AttributeProto.FLOAT, f=1.0)
    attribute.t.CopyFrom(outside())
    node = helper.make_node("LeakyRelu", ["x"], ["y"])
    node.attribute.append(attribute)
    return model([node])


def outside_in_sparse() -> onnx.ModelProto:
    """The same in a sparse tensor's indices."""
    sparse = onnx.SparseTensorProto(values=constant("w", np.ones(1, np.float32)), indices=outside("i"), dims=[1, 2])
    return model([helper.make_node("Add", ["x", "w"], ["y"])], sparse=[sparse])


def _branch(tensor: TensorProto) -> GraphProto:
    out = helper.make_tensor_value_info("out", FLOAT, None)
    return helper.make_graph([helper.make_node("Add", ["x", tensor.name], ["out"])], "branch", [], [out], [tensor])


def asks_for_186_gb() -> onnx.ModelProto:
    """91 bytes that ask for 186 GB."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    return model(
        nodes,
        constants=[constant("s", np.array([50_000, 1_000_000]))],
        inputs=[],
        outputs=[helper.make_tensor_value_info("y", FLOAT, None)],
    )


def multiplies_for_long() -> onnx.ModelProto:
    """One MatMul of 8,192 x 8,192 after another: no run option ends one that has begun."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "shape"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{number}", f"m{number}"], [f"m{number + 1}"]) for number in range(8)),
        helper.make_node("ReduceSum", ["m8"], ["y"], keepdims=0),
    ]
    return model(nodes, constants=[constant("shape", np.array([8_192, 8_192]))], outputs=[helper.make_tensor_value_info("y", FLOAT, [])])


def nests(depth: int) -> onnx.ModelProto:
    """Ifs inside Ifs."""
    out = helper.make_tensor_value_info("out", FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["out"])], "innermost", [], [out])
    for level in range(depth - 1):
        node = helper.make_node("If", ["c"], ["out"], then_branch=graph, else_branch=graph if level == 0 else _leaf())
        graph = helper.make_graph([node], f"level{level}", [], [out])
    return model([helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=_leaf())], constants=[constant("c", True)])


def _leaf() -> GraphProto:
    return helper.make_graph([helper.make_node("Relu", ["x"], ["out"])], "leaf", [], [helper.make_tensor_value_info("out", FLOAT, None)])


def nests_beyond_protobuf(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, deeper than protobuf's own tools would write them."""

    def field(number: int, content: bytes) -> bytes:
        size, encoded = len(content), b""
        while size > 127:
            encoded, size = encoded + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + encoded + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))  # GraphProto.node, NodeProto.attribute, AttributeProto.g
    return bytes([8, 10]) + field(7, graph) + field(8, bytes([16, 17]))  # ir_version, graph, opset_import


def has_nodes(count: int) -> onnx.ModelProto:
    """One Relu after another."""
    names = ["x", *(f"n{number}" for number in range(count - 1)), "y"]
    return model([helper.make_node("Relu", [one], [other]) for one, other in itertools.pairwise(names)])


def laughs(levels: int, *, each: int = 10) -> onnx.ModelProto:
    """Functions that call functions: `each ** levels` nodes once inlined, from a few thousand bytes."""
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])]
    for level in range(1, levels + 1):
        names = ["a", *(f"n{number}" for number in range(each - 1)), "b"]
        calls = [helper.make_node(f"f{level - 1}", [one], [other], domain="own") for one, other in itertools.pairwise(names)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], calls, [helper.make_opsetid("own", 1)]))
    return model([helper.make_node(f"f{levels}", ["x"], ["y"], domain="own")], functions=functions, domains=["own"])


def calls_itself() -> onnx.ModelProto:
    """A function that is its own body."""
    body = [helper.make_node("f", ["a"], ["b"], domain="own")]
    function = helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    return model([helper.make_node("f", ["x"], ["y"], domain="own")], functions=[function], domains=["own"])


def wraps_around() -> onnx.ModelProto:
    """A weight of 2^32 x 2^32 elements, which in 64 bits are none."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2**32, 2**32], raw_data=b"")
    return model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[tensor])


def negative_dimension() -> onnx.ModelProto:
    """A weight of -1 x -1 elements."""
    return model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        constants=[TensorProto(name="w", data_type=FLOAT, dims=[-1, -1], raw_data=b"\0\0\0\0")],
    )


def lies_about_its_size() -> onnx.ModelProto:
    """A weight of 2^20 elements in four bytes."""
    return model(
        [helper.make_node("Add", ["x", "w"], ["y"])], constants=[TensorProto(name="w", data_type=FLOAT, dims=[2**20], raw_data=b"\0\0\0\0")]
    )


def has_rank(rank: int) -> onnx.ModelProto:
    """A weight with many axes."""
    return model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[constant("w", np.ones((1,) * rank, np.float32))])


def custom_operator() -> onnx.ModelProto:
    """An operator that would have to be loaded from a library."""
    return model([helper.make_node("Shell", ["x"], ["y"], domain="com.example")], domains=["com.example"])


def contrib_operator() -> onnx.ModelProto:
    """A com.microsoft operator that quantization does not make."""
    return model([helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"])


def unknown_operator() -> onnx.ModelProto:
    """An operator that no version of the standard has."""
    return model([helper.make_node("Teleport", ["x"], ["y"])])


def replaces_operator() -> onnx.ModelProto:
    """A function that takes a standard operator's place."""
    function = helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    return model([helper.make_node("Relu", ["x"], ["y"])], functions=[function])


def trains() -> onnx.ModelProto:
    """A model with a training graph."""
    made = relu()
    made.training_info.add()
    return made


def named(name: str) -> onnx.ModelProto:
    """A model whose input has such a name."""
    return model([helper.make_node("Relu", [name], ["y"])], inputs=[helper.make_tensor_value_info(name, FLOAT, ["rows", 2])])


def mixes_rows() -> onnx.ModelProto:
    """A model whose answer to a row depends on the others of its batch: strangers' calls."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "most"], ["y"]),
    ]
    return model(nodes)


def guesses() -> onnx.ModelProto:
    """A model that answers differently each time."""
    nodes = [helper.make_node("RandomUniformLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    return model(nodes)


def picky() -> onnx.ModelProto:
    """An honest model that takes no made input: a Gather out of range for anything but 700 to 703."""
    nodes = [helper.make_node("Sub", ["x", "base"], ["index"]), helper.make_node("Gather", ["table", "index"], ["y"])]
    constants = [constant("base", np.array(700)), constant("table", np.arange(4, dtype=np.float32))]
    info = [helper.make_tensor_value_info("x", INT64, ["rows", 2])]
    return model(nodes, constants=constants, inputs=info)
