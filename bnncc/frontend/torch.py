# SPDX-License-Identifier: Apache-2.0
"""PyTorch module -> ONNX file.

A module is exported as it answers in evaluation mode, without the exporter's own optimisations: those drop
arithmetic (`sign(x + 1e-20)` becomes `sign(x)`), and what may be dropped is this compiler's to prove.
"""

from __future__ import annotations

import inspect
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnncc.diagnostics import BnnccError, ExitCode

if TYPE_CHECKING:
    import torch

BATCH = "batch"
"""The name of the symbolic leading dimension."""

INSTALL = "pip install 'bnncc[torch]'"

FROM_NUMPY = "torch.from_numpy makes a tensor of an array"

NO_VALUES = (
    "a network is a fixed graph: choose by torch.where, compute with tensors, or do this outside the module"
)


class Impure(BnnccError):
    """A call changes what the next starts from."""


@dataclass(frozen=True)
class Export:
    """How a module is exported.

    example_inputs: what the module is called with: a tensor, a sequence of positional arguments, or keyword
    arguments by name. input_names, output_names: of the tensors, in order; by default those of the
    parameters of `forward`, and "output" or the keys of what it returns. dynamic_batch: axis 0 of every input
    is a symbol (its name: "batch"), so `dims` says how many samples a call takes, 1 by default.
    """

    example_inputs: Any = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    dynamic_batch: bool = False


@dataclass(frozen=True)
class Call:
    """A module, and the arguments that it is exported with.

    arguments: by the names of forward's parameters, nested as the caller gives them. outputs: names of the
    tensors that it returns."""

    module: torch.nn.Module
    name: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...]
    keyword: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic_batch: bool


def export_module(module: Any, export: Export, folder: Path) -> Path:
    """Write a torch.nn.Module or a torch.export.ExportedProgram into `folder` as an ONNX file, which is named
    after the class; the module is left as it was. Raises BnnccError where torch is missing or fails.

    Where PyTorch's default exporter fails, the older one is tried, and a warning says why."""
    torch = import_torch()
    if isinstance(module, torch.export.ExportedProgram):
        return export_program(module, export, folder)
    if not isinstance(module, torch.nn.Module):
        kind = type(module).__name__
        hint = "write it with onnx.save and give the path" if kind == "ModelProto" else ""
        if isinstance(module, type):
            kind, hint = f"the class {module.__name__}", "give an instance of it"
        raise BnnccError("", f"expected the path of an ONNX file or a torch.nn.Module, got {kind}", hint)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if isinstance(module, torch.jit.ScriptModule):
        raise BnnccError("", "TorchScript is not supported", "give the module that the script was made from")
    check_values(module)
    with untouched(module), torch.no_grad(), quiet():
        call = make_call(module, export)
        path = folder / f"{call.name}.onnx"
        try:
            export_captured(call, path)
            return path
        except BnnccError:
            raise
        except Exception as error:
            reason = root_cause(error)
        check_traceable(call)
        try:
            export_traced(call, path)
        except BnnccError:
            raise
        except Exception as error:
            raise BnnccError(
                call.name,
                f"torch.onnx.export fails: {reason}; with dynamo=False: {root_cause(error)}",
                "export it yourself, and compile the .onnx file",
            ) from error
    warnings.warn(
        f"{call.name}: exported with dynamo=False, because dynamo=True fails: {reason}", stacklevel=2
    )
    return path


def import_torch() -> Any:
    """The module torch, or a diagnostic that says how to get it."""
    try:
        import torch
    except ImportError as error:
        raise BnnccError(
            "", f"a PyTorch module needs PyTorch, which is not there: {error}", INSTALL, ExitCode.FAILURE
        ) from error
    return torch


# Calling a module.


@contextmanager
def untouched(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards modes, parameters and buffers are what they were."""
    torch = import_torch()
    modules = list(module.modules())
    modes = [part.training for part in modules]
    buffers = [dict(part._buffers) for part in modules]
    tensors = [*module.parameters(), *module.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    module.eval()
    try:
        yield
    finally:
        for part, mode, own in zip(modules, modes, buffers, strict=True):
            part.training = mode
            part._buffers.update(own)
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                if not same_bits(tensor, value):
                    tensor.copy_(value)


def check_values(module: torch.nn.Module) -> None:
    """Raise a BnnccError where parameters are yet to be made."""
    torch = import_torch()
    name = type(module).__name__
    for part, tensor in (*module.named_parameters(), *module.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise BnnccError(name, f"'{part}' has no shape yet", "call the module once")
        if tensor.is_meta:
            raise BnnccError(name, f"'{part}' has no values, as it is on the device 'meta'")


def make_call(module: torch.nn.Module, export: Export) -> Call:
    """Bind the example inputs to the parameters of `forward`, call it once, and name what goes in and out."""
    name = type(module).__name__
    positional, keyword = split_inputs(name, export.example_inputs)
    try:
        bound = inspect.signature(module.forward).bind(*positional, **keyword)
        positional, keyword = (
            bound.args,
            bound.kwargs,
        )  # in the order of the signature, as the exporters want it
    except TypeError as error:
        raise BnnccError(name, f"example_inputs do not suit forward{_signature(module)}: {error}") from None
    inputs = leaf_names(dict(bound.arguments), "input")
    check_leaves(name, "example_inputs", inputs)
    positional, keyword = own_inputs((bound.args, bound.kwargs), export.dynamic_batch)
    arguments = dict(inspect.signature(module.forward).bind(*positional, **keyword).arguments)
    try:
        results = module(*positional, **keyword)
    except Exception as error:
        raise BnnccError(
            name, f"the module cannot be called with example_inputs: {root_cause(error)}"
        ) from error
    outputs = {path: leaf for path, leaf in leaf_names(results, "output").items() if leaf is not None}
    check_leaves(name, "what forward returns", outputs)
    return Call(
        module,
        name,
        arguments,
        positional,
        keyword,
        chosen_names(name, "input_names", export.input_names, tuple(inputs)),
        chosen_names(name, "output_names", export.output_names, tuple(outputs)),
        export.dynamic_batch,
    )


def split_inputs(name: str, example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    torch = import_torch()
    if example_inputs is None:
        hint = "bnncc.compile(module, torch.zeros(1, 3, 32, 32)), or a tuple of such"
        raise BnnccError(name, "a module needs example_inputs, from which its shapes are taken", hint)
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence):
        return tuple(example_inputs), {}
    kind = type(example_inputs).__name__
    hint = FROM_NUMPY if isinstance(example_inputs, np.ndarray) else ""
    raise BnnccError(name, f"example_inputs must be a tensor, a tuple or a dict of tensors, not {kind}", hint)


def leaf_names(tree: Any, alone: str) -> dict[str, Any]:
    """The leaves of nested containers by the keys that lead to them, as in "state_0"; a number gets `alone`
    before it, and a tensor that stands alone is called so."""
    torch = import_torch()
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(tree)
    named = {}
    for path, leaf in leaves:
        keys = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        if not keys or keys[0].isdigit():
            keys.insert(0, alone)
        named["_".join(keys)] = leaf
    return named


def check_leaves(name: str, what: str, leaves: Mapping[str, Any]) -> None:
    """Raise a BnnccError unless all leaves are tensors, and there are some."""
    torch = import_torch()
    for key, leaf in leaves.items():
        if not isinstance(leaf, torch.Tensor):
            raise BnnccError(
                name,
                f"{what} must be tensors, but '{key}' is of type {type(leaf).__name__}",
                FROM_NUMPY
                if isinstance(leaf, np.ndarray)
                else "wrap the module in one whose forward takes and returns nothing but tensors",
            )
    if not leaves:
        raise BnnccError(name, f"there are no tensors in {what}")


def chosen_names(
    name: str, option: str, chosen: Sequence[str] | None, default: tuple[str, ...]
) -> tuple[str, ...]:
    """The user's names, if they are as many as there are tensors, else the default."""
    if chosen is None:
        return default
    names = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    if len(names) != len(default) or len(set(names)) != len(names):
        wanted = f"{len(default)} different names ({', '.join(default)} by default)"
        raise BnnccError(name, f"{option} must be {wanted}, not {', '.join(names) or 'none'}")
    return names


def own_inputs(tree: Any, double: bool) -> Any:
    """Copies of the tensors: exporters take one tensor that is given twice for one input, and a module may
    write to its inputs. double: one sample becomes two, as exporters take a size of 1 for fixed."""
    torch = import_torch()

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        single = double and tensor.ndim and tensor.shape[0] == 1
        return torch.cat([tensor, tensor]) if single else tensor.detach().clone()

    return torch.utils._pytree.tree_map_only(torch.Tensor, copy, tree)


def _signature(module: torch.nn.Module) -> str:
    """The parameters of `forward` without their annotations: "(x, state)"."""
    return f"({', '.join(inspect.signature(module.forward).parameters)})"


# The exporters.


def export_captured(call: Call, path: Path) -> None:
    """PyTorch's default exporter, which captures the graph by torch.export."""
    torch = import_torch()
    shapes = None
    if call.dynamic_batch:
        shapes = torch.utils._pytree.tree_map_only(torch.Tensor, lambda _: {0: BATCH}, dict(call.arguments))
    program = torch.onnx.export(
        call.module,
        call.positional,
        kwargs=dict(call.keyword),
        input_names=list(call.inputs),
        output_names=list(call.outputs),
        dynamic_shapes=shapes,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    check_pure(call.name, program.exported_program)
    save(program, call.inputs, call.outputs, path)


def export_traced(call: Call, path: Path) -> None:
    """PyTorch's older exporter, which records one run."""
    torch = import_torch()
    axes = {name: {0: BATCH} for name in (*call.inputs, *call.outputs)} if call.dynamic_batch else None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        torch.onnx.export(
            call.module,
            call.positional,
            path,
            kwargs=dict(call.keyword),
            input_names=list(call.inputs),
            output_names=list(call.outputs),
            dynamic_axes=axes,
            dynamo=False,
        )
    for warning in said:
        if "NumPy array" in str(warning.message) or "Python list" in str(warning.message):
            where = f"{Path(warning.filename).name}:{warning.lineno}"
            raise BnnccError(call.name, f"{where} makes constants of tensors", NO_VALUES)


def check_traceable(call: Call) -> None:
    """Raise a BnnccError where a record of one run is not the module, because Python looks at values of the
    inputs (`if x.max() > 1`, `float(x.mean())`)."""
    torch = import_torch()
    from torch.utils._python_dispatch import TorchDispatchMode

    def tensors(tree: Any) -> list[torch.Tensor]:
        return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    def memory(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.kept = tensors((call.positional, call.keyword))
            """All that comes from the inputs, kept so that its memory is not another's later."""
            self.of_inputs = set(map(memory, self.kept))

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            results = func(*args, **(kwargs or {}))
            read = tensors((args, kwargs))
            if not self.of_inputs.isdisjoint(map(memory, read)):
                if func is torch.ops.aten._local_scalar_dense.default:
                    raise BnnccError(call.name, f"{user_line()} looks at values of the inputs", NO_VALUES)
                # What is written in place is both read and returned.
                self.kept += tensors(results)
                self.of_inputs.update(map(memory, tensors(results)))
            return results

    with Watch():
        call.module(*call.positional, **call.keyword)


def user_line() -> str:
    """Where the module's own code is: "net.py:12"."""
    ours = (str(Path(import_torch().__file__).parent), __file__)
    stack = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(ours)]
    return f"{Path(stack[-1].filename).name}:{stack[-1].lineno}"


def export_program(program: torch.export.ExportedProgram, export: Export, folder: Path) -> Path:
    """What the user exported by torch.export, with the shapes that it was exported with."""
    torch = import_torch()
    name = type(program).__name__
    for option in ("example_inputs", "dynamic_batch"):
        if getattr(export, option):
            raise BnnccError(name, f"{option} cannot be given with an ExportedProgram, which has its own")
    check_pure(name, program)
    signature = program.graph_signature
    inputs = chosen_names(name, "input_names", export.input_names, tuple(map(str, signature.user_inputs)))
    count = len(signature.user_outputs)
    default = ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))
    outputs = chosen_names(name, "output_names", export.output_names, default)
    path = folder / f"{name}.onnx"
    names = {"input_names": list(inputs), "output_names": list(outputs)}
    try:
        with torch.no_grad(), quiet():
            made = torch.onnx.export(program, (), dynamo=True, optimize=False, verbose=False, **names)
            save(made, inputs, outputs, path)
    except Exception as error:
        raise BnnccError(name, f"torch.onnx.export fails: {root_cause(error)}") from error
    return path


def save(program: torch.onnx.ONNXProgram, inputs: Sequence[str], outputs: Sequence[str], path: Path) -> None:
    """Write the file, its constants folded: those that take their type from an input are not ours to see."""
    import onnx_ir
    from onnxscript import optimizer

    graph = program.model.graph
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    for index, name in enumerate(outputs):
        # A value that goes out twice, or comes in as well, has been given the name of the last output alone.
        if graph.outputs[index] in [*graph.inputs, *graph.outputs[:index]]:
            copy = onnx_ir.node("Identity", [graph.outputs[index]])
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]
        graph.outputs[index].name = name
    optimizer.inline(program.model)
    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    program.save(path)


def check_pure(name: str, program: torch.export.ExportedProgram) -> None:
    """Raise Impure where a call changes what the next starts from: a compiled network has no memory."""
    signature = program.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        raise Impure(
            name,
            f"a call changes {', '.join(changed)}, but a compiled network keeps nothing between calls",
            "make the state an input and an output of forward",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' progress, advice and deprecations; errors still raise."""
    loggers = list(map(logging.getLogger, ("torch.onnx", "torch.fx.experimental.symbolic_shapes")))
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # What cannot be captured, torch.export prints whole to stderr.
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def root_cause(error: BaseException) -> str:
    """The first line of what went wrong first, beneath the exporters' explanations of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits; NaN is like NaN."""
    torch = import_torch()
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(one.element_size())
    return torch.equal(one.detach().view(whole), other.view(whole)) if whole else torch.equal(one, other)
