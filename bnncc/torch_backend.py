# SPDX-License-Identifier: Apache-2.0
"""The backend of `torch.compile`: networks inside a Python program that PyTorch runs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bnncc
from bnncc.diagnostics import BnnccError
from bnncc.execution.artifact import Artifact
from bnncc.frontend.torch import Impure, import_torch, same_bits
from bnncc.options import Options

if TYPE_CHECKING:
    import torch

NOT_OF_A_COMPILATION = ("strict", "frozen", *inspect.signature(bnncc.compile).parameters)
"""Options of this backend alone, and what is a parameter of `bnncc.compile` itself."""

LARGEST_NUMBER_OF_SHAPES = 8
"""A graph of `torch.compile` is compiled for so many shapes of its inputs; others are left to PyTorch."""


def backend(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """What `torch.compile(model, backend="bnncc")` calls for each graph that it captures.

    options: `strict` raises where the graph would be left to PyTorch; `frozen` promises that parameters never
    change, else each call compares them with those that were compiled; the others are those of
    `bnncc.compile`, such as `target` and `assume_sign_zero`. Raises BnnccError for one that there is not."""
    chosen = dict(options or {})
    Options.of({name: value for name, value in chosen.items() if name not in NOT_OF_A_COMPILATION})
    return CompiledGraph(graph, **chosen)


class CompiledGraph:
    """A captured graph, compiled at the first call of every shape; where that cannot be, PyTorch computes it,
    and a warning says why."""

    def __init__(
        self, graph: torch.fx.GraphModule, strict: bool = False, frozen: bool = False, **options: Any
    ):
        self.graph = graph
        self.strict = strict
        self.frozen = frozen
        self.options = options
        self.compiled: dict[tuple[Any, ...], Artifact | BnnccError] = {}
        """By `shapes_of` the arguments."""
        self.constants: list[torch.Tensor] = []
        """Copies of the parameters and buffers that were compiled."""
        self.never = memory_problem(graph)
        """Why it is left to PyTorch whatever its inputs and parameters are."""
        self.said: set[str] = set()

    def __call__(self, *arguments: Any) -> Any:
        """The graph's outputs, a list of tensors, for its inputs; parameters and sizes are among these."""
        try:
            self.check_inference(arguments)
            return self.run(self.artifact(arguments), arguments)
        except BnnccError as error:
            if self.strict:
                raise
            self.warn(error)
        return self.graph(*arguments)

    def warn(self, error: BnnccError) -> None:
        """Say once why the graph is left to PyTorch."""
        if str(error) not in self.said:
            self.said.add(str(error))
            warnings.warn(f"PyTorch computes this graph, not bnncc: {error}", stacklevel=3)

    def check_inference(self, arguments: Sequence[Any]) -> None:
        """Raise a BnnccError where gradients are wanted, or tensors are elsewhere than in this memory."""
        torch = import_torch()
        tensors = [*filter(torch.is_tensor, arguments), *self.graph.parameters()]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            hint = "call the model inside torch.no_grad()"
            raise BnnccError("", "gradients are recorded, and compiled networks have none", hint)
        for tensor in tensors:
            if tensor.device.type != "cpu":
                raise BnnccError("", f"a tensor lies on {tensor.device}, but bnncc computes on the CPU")

    def artifact(self, arguments: Sequence[Any]) -> Artifact:
        """The library for arguments of these shapes and for today's parameters."""
        if self.never is not None:
            raise self.never
        if not self.frozen or not self.compiled:
            self.forget_if_changed(arguments)
        key = tuple(map(shape_of, arguments))
        if key not in self.compiled:
            if len(self.compiled) == LARGEST_NUMBER_OF_SHAPES:
                limit = f"it has been compiled for {LARGEST_NUMBER_OF_SHAPES} shapes already"
                raise BnnccError("", limit, "give all batches the same size")
            self.compiled[key] = self.compile(arguments)
        found = self.compiled[key]
        if isinstance(found, BnnccError):
            raise found
        return found

    def forget_if_changed(self, arguments: Sequence[Any]) -> None:
        """Drop what was compiled for other values of the parameters and buffers. Values are compared, since
        PyTorch's own count of changes misses those made through `.data`."""
        now = [*filter(is_constant, arguments), *self.graph.parameters(), *self.graph.buffers()]
        if len(now) == len(self.constants) and all(map(same_bits, now, self.constants)):
            return
        self.compiled.clear()
        self.constants = [tensor.detach().clone() for tensor in now]

    def compile(self, arguments: Sequence[Any]) -> Artifact | BnnccError:
        """Compile for these arguments; what is wrong where that fails."""
        outputs = self.graph.graph.output_node().args[0]
        count = len(outputs) if isinstance(outputs, (tuple, list)) else 1
        try:
            inputs = tuple(argument for argument in arguments if is_input(argument))
            options = {"name": "graph", "input_names": input_names(arguments), **self.options}
            artifact = bnncc.compile(freeze(self.graph, arguments), inputs, **options)
        except Impure as error:
            # It changes its buffers at every call: what was compiled for their values would never be called.
            hint = "call eval() on the network, or make the state an input and an output of it"
            self.never = BnnccError("", error.message, hint)
            return self.never
        except BnnccError as error:
            return error
        if len(artifact.output_names) != count:
            return BnnccError("", "not all of its outputs are tensors")
        return artifact

    def run(self, artifact: Artifact, arguments: Sequence[Any]) -> list[torch.Tensor]:
        """Call the library."""
        torch = import_torch()
        # force: not all tensors lie in memory as they read (negated ones).
        inputs = [argument.numpy(force=True) for argument in arguments if is_input(argument)]
        named = dict(zip(input_names(arguments), inputs, strict=True))
        outputs = artifact.run({name: named[name] for name in artifact.input_names})
        return [torch.from_numpy(outputs[name]) for name in artifact.output_names]


def memory_problem(graph: torch.fx.GraphModule) -> BnnccError | None:
    """What is wrong where an output is a view of an input or of another output, as between two graphs of one
    function: outputs of a library have memory of their own, and what is written to one shows in no other."""
    names: dict[int, str] = {}
    outputs = graph.graph.output_node().all_input_nodes
    for node in [*graph.graph.find_nodes(op="placeholder"), *outputs]:
        value = node.meta.get("example_value")
        if not import_torch().is_tensor(value) or value.layout is not import_torch().strided:
            continue
        memory = value.untyped_storage()._cdata
        if names.setdefault(memory, node.name) != node.name and node in outputs:
            message = f"the output '{node.name}' of the graph shares its memory with '{names[memory]}'"
            return BnnccError("", message, "clone one of them, or do without the graph break")
    return None


def freeze(graph: torch.fx.GraphModule, arguments: Sequence[Any]) -> torch.nn.Module:
    """The graph as a module of its true inputs: parameters, buffers and sizes among the arguments stay what
    they are now."""
    torch = import_torch()
    names = [f"{node.name}_{index}" for index, node in enumerate(graph.graph.find_nodes(op="placeholder"))]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph
            for index, argument in enumerate(arguments):
                if is_constant(argument):
                    self.register_buffer(names[index], argument.detach())

        def forward(self, *inputs: torch.Tensor) -> Any:
            rest = iter(inputs)
            return self.graph(*(self.value(index, rest) for index in range(len(arguments))))

        def value(self, index: int, inputs: Iterator[torch.Tensor]) -> Any:
            if is_input(arguments[index]):
                return next(inputs)
            return getattr(self, names[index]) if is_constant(arguments[index]) else arguments[index]

    return Graph()


def is_constant(argument: Any) -> bool:
    """Whether an argument of a captured graph is a parameter or a buffer of the model."""
    torch = import_torch()
    # Dynamo marks the tensors that belong to modules in this way.
    static = getattr(argument, "_dynamo_static_input_type", None) is not None
    return isinstance(argument, torch.nn.Parameter) or static


def is_input(argument: Any) -> bool:
    """Whether an argument of a captured graph is a tensor that differs from call to call."""
    return import_torch().is_tensor(argument) and not is_constant(argument)


def input_names(arguments: Sequence[Any]) -> list[str]:
    """A name for each of the true inputs."""
    return [f"input_{index}" for index, argument in enumerate(arguments) if is_input(argument)]


def shape_of(argument: Any) -> Any:
    """What code is specialised on: shape and type of a tensor, the value of anything else."""
    if import_torch().is_tensor(argument):
        return tuple(argument.shape), argument.dtype
    return argument
