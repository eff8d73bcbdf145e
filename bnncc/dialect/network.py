# SPDX-License-Identifier: Apache-2.0
"""The network in a module: its function and the ONNX names of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, UnitAttr
from xdsl.dialects.func import FuncOp

from bnncc.dialect.checks import expect

INPUTS = "bnn.inputs"
OUTPUTS = "bnn.outputs"
"""Attributes of func @main that hold the ONNX names, an array of strings each."""

STATES = "bnn.states"
"""Attribute of a func @main that is one step of a network with a state: pairs ["state's input name", "state's
output name"]. The output of one step is the input of the next; before the first it is all zeros."""

PRIVATE = "bnn.private_states"
"""Unit attribute of a func @main whose new states are for the next step alone: no caller is given them."""

GROWING = "bnn.growing"
"""Attribute of func @main: outputs that have as many elements along dimension 0 as an input says (the rest of
them are zeros), the input's ONNX name by the output's."""

DECISIONS = "bnn.decisions"
"""Attribute of func @main: what was decided about the network that its file does not say, text by text."""


def main_function(module: ModuleOp) -> FuncOp:
    """The function of the network."""
    functions = [op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "main"]
    assert len(functions) == 1, "a module has one func @main"
    return functions[0]


def names_of(main: FuncOp, attribute: str) -> list[str]:
    """The ONNX names in attribute INPUTS or OUTPUTS; arg0... or out0... where it is absent."""
    names = main.attributes.get(attribute)
    if isinstance(names, ArrayAttr):
        return [name.data for name in names.data if isinstance(name, StringAttr)]
    count = len(main.function_type.inputs if attribute == INPUTS else main.function_type.outputs)
    prefix = "arg" if attribute == INPUTS else "out"
    return [f"{prefix}{i}" for i in range(count)]


def states_of(main: FuncOp) -> dict[str, str]:
    """The output name of each state, by its input name; empty for a network without states."""
    pairs = main.attributes.get(STATES)
    if not isinstance(pairs, ArrayAttr):
        return {}
    texts = ([name.data for name in pair.data if isinstance(name, StringAttr)] for pair in pairs.data)
    return {before: after for before, after in texts}


def set_states(main: FuncOp, pairs: Mapping[str, str], private: bool = False) -> None:
    """Make the function one step of a network whose states these are: output name by input name.

    private: new states are for the next step alone."""
    names = [ArrayAttr([StringAttr(before), StringAttr(after)]) for before, after in pairs.items()]
    main.attributes[STATES] = ArrayAttr(names)
    if private:
        main.attributes[PRIVATE] = UnitAttr()


def public_outputs(main: FuncOp) -> list[str]:
    """The names of the outputs that the caller is given, in order."""
    hidden = set(states_of(main).values()) if PRIVATE in main.attributes else set()
    return [name for name in names_of(main, OUTPUTS) if name not in hidden]


def verify_states(main: FuncOp) -> None:
    """Check that every state is an input and an output of one type, and none of them two states.

    Raises VerifyException."""
    if STATES not in main.attributes:
        return
    pairs = main.attributes[STATES]
    well_formed = isinstance(pairs, ArrayAttr) and all(
        isinstance(pair, ArrayAttr)
        and len(pair) == 2
        and all(isinstance(name, StringAttr) for name in pair.data)
        for pair in pairs.data
    )
    expect(well_formed, f"pairs of strings as {STATES}", pairs)
    states = states_of(main)
    expect(len(states) == len(pairs.data), "one output for each state", pairs)  # type: ignore[union-attr]
    expect(len(set(states.values())) == len(states), "an output of its own for each state", pairs)
    inputs = dict(zip(names_of(main, INPUTS), main.function_type.inputs, strict=True))
    outputs = dict(zip(names_of(main, OUTPUTS), main.function_type.outputs, strict=True))
    for before, after in states.items():
        expect(before in inputs, f"a state among the inputs {', '.join(inputs)}", before)
        expect(after in outputs, f"a state among the outputs {', '.join(outputs)}", after)
        expect(inputs[before] == outputs[after], f"state {after} of {inputs[before]}", outputs[after])


def verify_network(module: ModuleOp) -> None:
    """Verify a module, and the states of its functions. Raises VerifyException."""
    module.verify()
    for op in module.ops:
        if isinstance(op, FuncOp):
            verify_states(op)


def set_growing(main: FuncOp, counts: Mapping[str, str]) -> None:
    """Say which outputs are only as long as an input says: input name by output name."""
    if counts:
        main.attributes[GROWING] = DictionaryAttr({name: StringAttr(text) for name, text in counts.items()})


def growing_of(main: FuncOp) -> dict[str, str]:
    """The input that says how long an output is, by the output's name."""
    found = main.attributes.get(GROWING)
    entries = found.data.items() if isinstance(found, DictionaryAttr) else ()
    return {name: text.data for name, text in entries if isinstance(text, StringAttr)}


def set_decisions(main: FuncOp, facts: Mapping[str, str]) -> None:
    """Note what was decided, for reports."""
    main.attributes[DECISIONS] = DictionaryAttr({name: StringAttr(text) for name, text in facts.items()})


def decide(main: FuncOp, name: str, text: str) -> None:
    """Note one decision more."""
    facts = decisions_of(main) | {name: text}
    main.attributes[DECISIONS] = DictionaryAttr({key: StringAttr(value) for key, value in facts.items()})


def decisions_of(main: FuncOp) -> dict[str, str]:
    """What was decided; empty where the file says everything."""
    facts = main.attributes.get(DECISIONS)
    entries = facts.data.items() if isinstance(facts, DictionaryAttr) else ()
    return {name: text.data for name, text in entries if isinstance(text, StringAttr)}
