# SPDX-License-Identifier: Apache-2.0
"""What tests of spiking networks share: options of a recorded case, and what must be exact in its answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnncc.execution.artifact import Artifact
from tests.cases import Case


def states_of_case(case: Case) -> dict[str, str]:
    """Output name by input name of the states of a network recorded step by step."""
    return {before: after for after, before in case.meta.get("state_feedback", {}).items()}


def state_options(case: Case) -> list[str]:
    """The same on the command line."""
    return [part for pair in states_of_case(case).items() for part in ("--state", "=".join(pair))]


def wrong_spikes(case: Case, outputs: Mapping[str, np.ndarray]) -> list[str]:
    """Outputs of integers that are not equal to the recorded ones, bit for bit."""
    spikes = [name for name, array in case.outputs.items() if (array == np.rint(array)).all()]
    return [name for name in spikes if not np.array_equal(outputs[name], case.outputs[name])]


def run_samples(artifact: Artifact, case: Case) -> dict[str, np.ndarray]:
    """The outputs of a network with time inside: one call for each sample, wherever these are counted."""
    axes = {port["name"]: port["batch_axis"] for port in case.meta["inputs"]}
    samples = max(array.shape[axes[name]] for name, array in case.inputs.items() if axes[name] is not None)
    results = []
    for sample in range(samples):
        inputs = {
            name: array if axes[name] is None else array.take([sample], axes[name])
            for name, array in case.inputs.items()
        }
        results.append(artifact.run(inputs))
    return {
        port["name"]: np.concatenate([result[port["name"]] for result in results], axis=port["batch_axis"])
        for port in case.meta["outputs"]
    }
