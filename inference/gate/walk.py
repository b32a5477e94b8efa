"""One pass over a model: every node, tensor and type of the main graph, its subgraphs, functions and attributes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final

import onnx
from onnx import numpy_helper

from inference.gate.limits import GateLimits

# Shapes that operators make of a constant: what such an operator asks for is known before it runs.
_SHAPED_BY_INPUT: Final = {"ConstantOfShape": 0, "Expand": 1}
_SHAPED_BY_ATTRIBUTE: Final = frozenset({"RandomNormal", "RandomUniform"})
# A shape has at most as many numbers as a tensor has axes; a longer constant is no shape.
_MAX_SHAPE_NUMBERS: Final = 64
_BYTES_OF: Final = {
    onnx.TensorProto.FLOAT: 4, onnx.TensorProto.UINT8: 1, onnx.TensorProto.INT8: 1, onnx.TensorProto.UINT16: 2,
    onnx.TensorProto.INT16: 2, onnx.TensorProto.INT32: 4, onnx.TensorProto.INT64: 8, onnx.TensorProto.BOOL: 1,
    onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.DOUBLE: 8, onnx.TensorProto.UINT32: 4, onnx.TensorProto.UINT64: 8,
    onnx.TensorProto.BFLOAT16: 2,
}  # fmt: skip


class WalkLimit(Exception):
    """The graph nests or repeats beyond a limit, so the pass ended early. Its text is for the provider."""


class Walk:
    """What the pass found. Python's integers do not overflow, so no product of dimensions can wrap to a small number."""

    def __init__(self, model: onnx.ModelProto, limits: GateLimits) -> None:
        """Look at everything.

        Raises:
            WalkLimit: graphs nest too deep, or functions call each other in a circle or are too many.
        """
        self.operators: Counter[tuple[str, str]] = Counter()
        self.external: list[str] = []
        self.sparse: list[str] = []
        self.shapes: list[str] = []
        self.largest = 0
        self.depth = 0
        self._limits = limits
        self._functions: dict[tuple[str, str, str], onnx.FunctionProto] = {}
        self._sizes: dict[tuple[str, str, str], int | None] = {}  # None: being counted.
        if len(model.functions) > limits.max_functions:
            msg = f"{len(model.functions)} functions; at most {limits.max_functions} are taken."
            raise WalkLimit(msg)
        for function in model.functions:
            self._functions[function.domain, function.name, function.overload] = function
        for tensor in (*model.graph.input, *model.graph.output):
            self._see_type(tensor.type, tensor.name)
        self.nodes = self._see_graph(model.graph, depth=1, outer={})
        for key in self._functions:  # Those that nothing calls, too: they are read all the same.
            self.nodes = max(self.nodes, self._size_of_function(key, depth=1))

    @property
    def described_nodes(self) -> str:
        """The number of nodes, in words where it is beyond counting."""
        return str(self.nodes) if self.nodes < 10**9 else "More than 1,000,000,000"

    def _see_graph(self, graph: onnx.GraphProto, *, depth: int, outer: dict[str, Sequence[int]]) -> int:
        """Look at a graph; return its nodes with those of its subgraphs and of the functions it calls."""
        self._enter(depth)
        known = dict(outer)
        for tensor in graph.initializer:
            self._see_tensor(tensor)
            self._remember_shape(known, tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._see_sparse(sparse)
        for value in graph.value_info:
            self._see_type(value.type, value.name)
        if depth > 1:
            for value in (*graph.input, *graph.output):
                self._see_type(value.type, value.name)
        return self._see_nodes(graph.node, depth=depth, known=known)

    def _see_nodes(self, nodes: Iterable[onnx.NodeProto], *, depth: int, known: dict[str, Sequence[int]]) -> int:
        total = 0
        for node in nodes:
            self.operators[node.domain, node.op_type] += 1
            total += 1
            total += sum(self._see_attribute(attribute, node, depth=depth, known=known) for attribute in node.attribute)
            self._see_asked(node, known)
            key = (node.domain, node.op_type, node.overload)
            if key in self._functions:
                total += self._size_of_function(key, depth=depth + 1)
        return total

    def _size_of_function(self, key: tuple[str, str, str], *, depth: int) -> int:
        """Return the nodes of a function, with those of all that it calls: what inlining makes of one call."""
        self._enter(depth)
        if key in self._sizes:
            size = self._sizes[key]
            if size is None:
                msg = f"The function {key[1][:80]!r} calls itself."
                raise WalkLimit(msg)
            return size
        self._sizes[key] = None
        function = self._functions[key]
        for value in function.value_info:
            self._see_type(value.type, value.name)
        for attribute in function.attribute_proto:
            self._see_attribute(attribute, None, depth=depth, known={})
        size = self._sizes[key] = self._see_nodes(function.node, depth=depth, known={})
        return size

    def _see_attribute(
        self, attribute: onnx.AttributeProto, node: onnx.NodeProto | None, *, depth: int, known: dict[str, Sequence[int]]
    ) -> int:
        """Look into an attribute, whatever type it claims to be of; return the nodes of its graphs."""
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            self._see_tensor(tensor)
            if node is not None and node.op_type == "Constant" and node.output:
                self._remember_shape(known, node.output[0], tensor)
        for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []), *attribute.sparse_tensors):
            self._see_sparse(sparse)
        for kind in (*([attribute.tp] if attribute.HasField("tp") else []), *attribute.type_protos):
            self._see_type(kind, attribute.name)
        if node is not None and node.op_type in _SHAPED_BY_ATTRIBUTE and attribute.name == "shape":
            self._see_shape(list(attribute.ints), node.op_type)
        if node is not None and node.op_type == "Constant" and attribute.name == "value_ints" and node.output:
            known[node.output[0]] = list(attribute.ints[:_MAX_SHAPE_NUMBERS])
        graphs = (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
        return sum(self._see_graph(graph, depth=depth + 1, outer=known) for graph in graphs)

    def _see_asked(self, node: onnx.NodeProto, known: dict[str, Sequence[int]]) -> None:
        """Look at the shape that a node makes, where a constant gives it: 91 bytes can ask for 186 GB."""
        place = _SHAPED_BY_INPUT.get(node.op_type)
        if place is not None and len(node.input) > place and node.input[place] in known:
            self._see_shape(known[node.input[place]], f"what {node.op_type} makes")

    def _see_tensor(self, tensor: onnx.TensorProto) -> None:
        name = _named(tensor.name)
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            self.external.append(name)
        dims = list(tensor.dims)
        self._see_shape(dims, name)
        width = _BYTES_OF.get(tensor.data_type)
        if width and tensor.HasField("raw_data") and min(dims, default=1) >= 0 and prod(dims) * width != len(tensor.raw_data):
            self.shapes.append(f"{name} says {dims} and holds {len(tensor.raw_data)} bytes")

    def _see_sparse(self, sparse: onnx.SparseTensorProto) -> None:
        self.sparse.append(_named(sparse.values.name))
        self._see_tensor(sparse.values)
        self._see_tensor(sparse.indices)

    def _see_type(self, kind: Any, name: str) -> None:
        """Look at the shapes in a type; sequences, maps and optionals hold others."""
        for _ in range(self._limits.max_depth):
            which = kind.WhichOneof("value")
            if which == "sparse_tensor_type":
                self.sparse.append(_named(name))
                return
            if which == "tensor_type":
                self._see_shape([dim.dim_value for dim in kind.tensor_type.shape.dim if dim.HasField("dim_value")], _named(name))
                self._see_rank(len(kind.tensor_type.shape.dim), _named(name))
                return
            if which is None:
                return
            inner = getattr(kind, which)
            kind = inner.value_type if which == "map_type" else inner.elem_type
        self.shapes.append(f"the type of {_named(name)} nests too deep")

    def _see_shape(self, dims: Sequence[int], name: str) -> None:
        self._see_rank(len(dims), name)
        if any(dim < 0 for dim in dims):
            if not name.startswith("what"):  # Expand and Reshape may ask for "as it is".
                self.shapes.append(f"{name} has a negative dimension")
            return
        elements = prod(dims)
        self.largest = max(self.largest, elements)
        if elements > self._limits.max_elements:
            shown = "x".join(map(str, dims[: self._limits.max_rank]))[:80]
            self.shapes.append(f"{name} has {shown} elements of at most {self._limits.max_elements}")

    def _see_rank(self, rank: int, name: str) -> None:
        if rank > self._limits.max_rank:
            self.shapes.append(f"{name} has rank {rank} of at most {self._limits.max_rank}")

    def _remember_shape(self, known: dict[str, Sequence[int]], name: str, tensor: onnx.TensorProto) -> None:
        """Keep a constant that may be a shape; one whose weights are elsewhere is not read."""
        is_shape = tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) <= 1 and not tensor.external_data
        if is_shape and prod(tensor.dims) <= _MAX_SHAPE_NUMBERS:
            try:
                known[name] = [int(value) for value in numpy_helper.to_array(tensor).ravel()]
            except ValueError:  # Its bytes are not what its shape says: `_see_tensor` notes that.
                return

    def _enter(self, depth: int) -> None:
        self.depth = max(self.depth, depth)
        if depth > self._limits.max_depth:
            msg = f"Graphs nest more than {self._limits.max_depth} deep."
            raise WalkLimit(msg)


def _named(name: str) -> str:
    return repr(name[:80]) if name else "a tensor without a name"
