# SPDX-License-Identifier: Apache-2.0
"""`--state BEFORE=AFTER`: a graph of one time step becomes a network that keeps its states between steps."""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute

from bnncc.diagnostics import BnnccError, did_you_mean, joined
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of, set_states, states_of

OPTION = "--state"


def carry_states(module: ModuleOp, states: Mapping[str, str]) -> None:
    """Make the module one step of a network; states: output name by input name.

    Raises BnnccError where a name is unknown or used twice, or the two are not of one shape and type."""
    if not states:
        return
    main = main_function(module)
    inputs = dict(zip(names_of(main, INPUTS), main.function_type.inputs, strict=True))
    outputs = dict(zip(names_of(main, OUTPUTS), main.function_type.outputs, strict=True))
    problems = [
        problem
        for before, after in states.items()
        for problem in _problems(f"{OPTION} {before}={after}", before, after, inputs, outputs)
    ]
    for after in sorted({after for after in states.values() if list(states.values()).count(after) > 1}):
        problems.append(BnnccError(OPTION, f"the output '{after}' is given as two states"))
    if not problems and len(states) == len(inputs):
        message = "every input of the model is a state, so that there is no sequence to run over"
        problems.append(BnnccError(OPTION, message, "leave out those that are inputs of each step"))
    if problems:
        raise joined(problems)
    set_states(main, states_of(main) | dict(states))


def _problems(
    option: str, before: str, after: str, inputs: Mapping[str, Attribute], outputs: Mapping[str, Attribute]
) -> list[BnnccError]:
    found = []
    for name, what, known in ((before, "input", inputs), (after, "output", outputs)):
        if name not in known:
            hint = f"{did_you_mean(name, known)}its {what}s are {', '.join(known)}"
            found.append(BnnccError(option, f"the model has no {what} '{name}'", hint))
    if not found and inputs[before] != outputs[after]:
        message = f"'{before}' is {_text(inputs[before])}, but '{after}' is {_text(outputs[after])}"
        found.append(BnnccError(option, message, "a state keeps its shape and type from step to step"))
    return found


def _text(type_: Attribute) -> str:
    return str(type_).removeprefix("tensor<").removesuffix(">")
