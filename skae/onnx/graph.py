"""A graph of ONNX operators, as plain Python, until it is written."""

from typing import Any

import numpy as np

# All operators in use have their current meaning since this version, of December 2021.
OPSET = 17
# The version of the format that belongs to it, which older runtimes read too.
IR_VERSION = 8

# Values of `TensorProto.DataType`, which the format fixes.
FLOAT, BOOL, DOUBLE = 1, 9, 11


class Graph:
    """Nodes and constants of a graph with one input, each node with one output.

    Attributes
    ----------
    nodes : list of (operator, inputs, output, attributes)
        In an order in which they can be computed.
    constants : dict of str to ndarray
        By name.
    """

    input = "X"

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        # Of all nodes, because those that `keep` drops must not have successors of a name.
        self._n_added = 0

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Add a node and return its name; inputs that are arrays become constants."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = f"{operator.lower()}_{self._n_added}"
        self._n_added += 1
        self.nodes.append((operator, names, output, attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = values
        return name

    def cast(self, x: str, dtype: int) -> str:
        """Convert numbers to another type."""
        return self.add("Cast", x, to=dtype)

    def columns(self, x: str, start: int, stop: int) -> str:
        """Return a range of the columns of ``(n, d)``."""
        bounds = [np.array([value]) for value in (start, stop, 1)]
        return self.add("Slice", x, *bounds)

    def join(self, parts: list[str]) -> str:
        """Put arrays ``(n, ...)`` side by side."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)

    def keep(self, output: str) -> None:
        """Drop the nodes and constants that an output does not depend on."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if node[2] in needed:
                kept.append(node)
                needed.update(node[1])
        self.nodes = kept[::-1]
        self.constants = {k: v for k, v in self.constants.items() if k in needed}

    def floored_exp(self, h: str, floor: np.ndarray) -> str:
        """Compute ``floor + exp(h)``, float64, with exp made linear above h = 0."""
        exponential = self.add("Exp", self.add("Min", h, np.zeros(())))
        return self.add("Add", self.add("Add", exponential, self.add("Relu", h)), floor)
