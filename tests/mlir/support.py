# SPDX-License-Identifier: Apache-2.0
"""Reads modules of upstream MLIR, and runs them on this machine."""

from __future__ import annotations

import ctypes
import platform
import resource
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.parser import Parser
from xdsl.universe import Universe

from bnncc.codegen.mlir import ObjectOptions, find_tools
from bnncc.dialect.operations import Constant
from bnncc.dialect.parsing import module_text
from bnncc.dialect.types import (
    Bipolar,
    Level,
    Ternary,
    domain_values,
    element_of,
    is_number,
    numpy_type,
    shape_of,
    tensor,
)
from bnncc.linalg.bits import bits_of, plane_count
from bnncc.linalg.convert import convert_module
from bnncc.linalg.schedule import parts_of
from bnncc.plan.bits import pack_words
from bnncc.plan.tiling import Machine, schedule_text
from tests.host import CC

VECTORS = Machine(lanes=8, registers=16)
"""What schedules are made for."""

STACK_BYTES = 512 << 20
"""Buffers lie on the stack."""


class Compiled:
    """The functions of a module of `bnn`, converted and compiled by LLVM's tools."""

    def __init__(self, module: ModuleOp, folder: Path, form: str = "direct", scheduled: bool = False):
        self.functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
        converted = convert_module(module, form)
        self.text = module_text(converted)
        schedule = schedule_text(parts_of(converted), VECTORS) if scheduled else ""
        options = ObjectOptions(f"{platform.machine()}-unknown-linux-gnu", level="1")
        code = find_tools().compile(self.text, options, schedule)
        # A file that is loaded must not be written again.
        folder = Path(tempfile.mkdtemp(dir=folder))
        (folder / "module.o").write_bytes(code)
        command = [
            *CC,
            "-shared",
            "-o",
            folder / "module.so",
            folder / "module.o",
            "-lm",
        ]
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(folder / "module.so"))

    def run(self, name: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a function gives: numbers, or the values of domains."""
        function = self.functions[name]
        arguments, returned = function.body.block.args, function.body.block.last_op
        assert isinstance(returned, ReturnOp)
        given = [part for value, x in zip(arguments, inputs, strict=True) for part in stored(value, x)]
        outputs = [empty(value) for value in returned.operands]
        call(self.library[name], [*given, *(part for parts in outputs for part in parts)])
        return [loaded(value, parts) for value, parts in zip(returned.operands, outputs, strict=True)]


def piped(command: Sequence[str | Path], text: str = "") -> str:
    """What a program makes of a text."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return done.stdout


def parse(text: str) -> ModuleOp:
    """Text of any dialect that xDSL has."""
    context = Context()
    for name, dialect in Universe.get_multiverse().all_dialects.items():
        context.register_dialect(name, dialect)
    return Parser(context, text).parse_module()


def function(name: str, arguments: Sequence[TensorType], body: Callable[..., Operation]) -> FuncOp:
    """A function whose results are those of the operation that `body` makes of the arguments."""
    block = Block(arg_types=list(arguments))
    last = body(*block.args)
    append(block, last)
    block.add_op(ReturnOp(*last.results))
    return FuncOp(name, (list(arguments), [value.type for value in last.results]), Region(block))


def append(block: Block, op: Operation) -> None:
    """Put an operation into the block, after what it reads."""
    for operand in op.operands:
        if isinstance(operand.owner, Operation) and operand.owner.parent is None:
            append(block, operand.owner)
    block.add_op(op)


def known(random: np.random.Generator, shape: Sequence[int], element: Attribute) -> SSAValue:
    """A constant of random values."""
    return Constant(values(random, shape, element), None if is_number(element) else element).result


def values(random: np.random.Generator, shape: Sequence[int], element: Attribute) -> np.ndarray:
    """Random values of an element type; numbers are small, and some are 0."""
    allowed = domain_values(element)
    if allowed is not None:
        return random.choice(np.array(sorted(allowed), np.int8), shape)
    return random.integers(-4, 5, shape).astype(numpy_type(element))


def argument(shape: Sequence[int], element: Attribute) -> TensorType:
    """The type of an argument."""
    return tensor(shape, element)


def stored(value: SSAValue, array: np.ndarray) -> list[np.ndarray]:
    """An argument as the converted function takes it."""
    element = element_of(value)
    assert array.shape == shape_of(value), "it would read other memory"
    if is_number(element):
        return [np.ascontiguousarray(array, numpy_type(element))]
    return [pack_words(bits) for bits in bits_of(array, element)]


def empty(value: SSAValue) -> list[np.ndarray]:
    """Memory for each tensor that a result has become, full of something else."""
    element, shape = element_of(value), shape_of(value)
    if is_number(element):
        return [np.full(shape, 77, numpy_type(element))]
    words = (*shape[:-1], -(-shape[-1] // 32))
    return [np.full(words, 77, np.uint32) for _ in range(plane_count(element))]


def loaded(value: SSAValue, parts: Sequence[np.ndarray]) -> np.ndarray:
    """A result as the reference gives it."""
    element, channels = element_of(value), shape_of(value)[-1:]
    if is_number(element):
        return parts[0]
    planes = [np.unpackbits(part.view(np.uint8), axis=-1, bitorder="little") for part in parts]
    assert not any(plane[..., channels[0] :].any() for plane in planes), "bits beyond the channels are 0"
    bits = [plane[..., : channels[0]].astype(np.int8) for plane in planes]
    match element:
        case Bipolar():
            return 2 * bits[0] - 1
        case Ternary():
            return (2 * bits[0] - 1) * bits[1]
        case Level():
            return np.sum([plane << p for p, plane in enumerate(bits)], axis=0) + element.lowest
    return bits[0]


def call(compiled: Any, arrays: Sequence[np.ndarray]) -> None:
    """Call a function of pointers on a thread with a large stack."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=compiled, args=[ctypes.c_void_p(a.ctypes.data) for a in arrays])
    thread.start()
    threading.stack_size(0)
    thread.join()
