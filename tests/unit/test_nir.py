# SPDX-License-Identifier: Apache-2.0
"""NIR networks: the module of the front end against the independent evaluation, and both against NumPy that
is written out here from the equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from bnncc import reference
from bnncc.dialect.network import INPUTS, OUTPUTS, decisions_of, main_function, names_of, states_of
from bnncc.dialect.sources import location_text
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import shape_of
from bnncc.frontend.nir.discretization import PRESETS, TimeOptions
from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.importer import load_nir
from bnncc.frontend.nir.rounding import NirTies
from tests.cases import case_names, load_case
from tests.nir_files import affine, chain, conv2d, cuba_lif, dyadic, full, lif, port, spikes, vector, write

F = np.float32
DT = 1e-3
STEPS = 30
CASES = case_names("nir_*")


def compare(path: Path, sequences: dict[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
    """The outputs by name, [T, 1, ...], the same from the module and from the evaluation; something must
    have fired."""
    time = TimeOptions(**{"dt": DT, **options})
    module = load_nir(path, time)
    expected = NirEvaluator(path, time).run(sequences)
    results = reference.evaluate_steps(module, sequences)
    main = main_function(module)
    outputs = [name for name in names_of(main, OUTPUTS) if name not in states_of(main).values()]
    for name in outputs:
        np.testing.assert_array_equal(results[name], expected[name], err_msg=name)
        assert np.any(results[name]), "a test of zeros shows nothing"
    return {name: results[name] for name in outputs}


def one(path: Path, x: np.ndarray, **options: Any) -> np.ndarray:
    """The same for a network of one input and one output: [T, ...]."""
    return compare(path, {"input": x}, **options)["output"][:, 0]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_network_fires_as_its_framework_did(name: str, tmp_path: Path):
    case = load_case(name)
    path = case.write_model(tmp_path)
    for sample in range(case.inputs["input"].shape[1]):
        x = case.inputs["input"][:, sample : sample + 1].astype(F)
        got = one(path, x, dt=case.meta["dt"])
        np.testing.assert_array_equal(got, case.outputs["output"][:, sample])


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("cnn_sinabs")])
def test_the_preset_of_sinabs_fires_as_sinabs_does(name: str, tmp_path: Path):
    """Up to 17 spikes of a neuron in one step."""
    case = load_case(name)
    path = case.write_model(tmp_path)
    expected = case.extras["alt_sinabs_from_nir"]
    assert expected.max() > 10
    for sample in range(expected.shape[1]):
        got = one(path, case.inputs["input"][:, sample : sample + 1].astype(F), dt=None, preset="sinabs")
        np.testing.assert_array_equal(got, expected[:, sample])


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("paper_lif")])
@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, [460, 510, 710, 760]),
        ({"preset": "snntorch"}, [460, 510, 710, 760]),
        ({"preset": "sinabs"}, [450, 500, 710, 760]),
        ({"preset": "rockpool"}, [450, 500, 710, 760]),
        ({"integrator": "exp", "reset": "subtract"}, [450, 500, 710, 760]),
    ],
)
def test_the_first_task_of_the_paper(name: str, options: dict[str, Any], times: list[int], tmp_path: Path):
    case = load_case(name)
    got = one(case.write_model(tmp_path), case.inputs["input"].astype(F), **{"dt": 1e-4, **options})
    assert np.flatnonzero(got).tolist() == times


RESETS = {
    "zero": lambda v, s: np.where(s > 0, F(0), v),
    "value": lambda v, s: np.where(s > 0, F(-0.1), v),
    "subtract": lambda v, s: v - s * F(0.3),
    "multi": lambda v, s: v - s * F(0.3),
    None: lambda v, s: np.where(s > 0, F(-0.1), v),
}


def fired(v: np.ndarray, reset: str | None) -> np.ndarray:
    return np.maximum(np.floor(v / F(0.3)), F(0)) if reset == "multi" else (v > F(0.3)).astype(F)


@pytest.mark.parametrize("integrator", ["euler", "exp"])
@pytest.mark.parametrize("reset", RESETS)
def test_lif(reset: str | None, integrator: str, tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(0.3, 0.8, (STEPS, 1, 5)).astype(F)
    got = one(chain(tmp_path, [5], lif([5])), x, reset=reset, integrator=integrator)
    tau = np.float64(F(2e-3))
    leak = 1 - DT / tau if integrator == "euler" else np.exp(-DT / tau)
    rest = F((1 - np.exp(-DT / tau)) * F(0.05)) if integrator == "exp" else F(DT / tau * np.float64(F(0.05)))
    v, most = np.zeros(5, F), 0.0
    for t in range(STEPS):
        v = F(leak) * v + F(DT / tau * 2) * x[t, 0] + rest
        s = fired(v, reset)
        v = RESETS[reset](v, s)
        np.testing.assert_array_equal(got[t], s)
        most = max(most, s.max())
    assert most > 1 if reset == "multi" else most == 1


@pytest.mark.parametrize("current", ["new", "old", None])
@pytest.mark.parametrize("reset", RESETS)
def test_cuba_lif(reset: str | None, current: str | None, tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(0.4, 0.8, (STEPS, 1, 4)).astype(F)
    got = one(chain(tmp_path, [4], cuba_lif([4])), x, reset=reset, current=current)
    syn, mem = (DT / np.float64(F(tau)) for tau in (3e-3, 2e-3))
    i = v = np.zeros(4, F)
    for t in range(STEPS):
        new = F(1 - syn) * i + F(syn * 1.5) * x[t, 0]
        seen = i if current == "old" else new
        v = F(1 - mem) * v + F(mem * 2) * seen + F(mem * np.float64(F(0.02)))
        i, s = new, fired(v, reset)
        v = RESETS[reset](v, s)
        np.testing.assert_array_equal(got[t], s)


def test_if_and_the_integrators(tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(20, 200, (STEPS, 1, 3)).astype(F)
    r = vector(1.0, 2.0, 3.0)
    gain = (DT * r.astype(np.float64)).astype(F)
    got = one(chain(tmp_path, [3], nir.IF(r=r, v_threshold=full([3], 0.4))), x)
    v = np.zeros(3, F)
    for t in range(STEPS):
        v = v + gain * x[t, 0]
        np.testing.assert_array_equal(got[t], v > F(0.4))
        v = np.where(v > F(0.4), F(0), v)
    got = one(chain(tmp_path, [3], nir.I(r=r)), x)
    v = np.zeros(3, F)
    for t in range(STEPS):
        v = v + gain * x[t, 0]
        np.testing.assert_array_equal(got[t], v)
    tau, leak = full([3], 4e-3), full([3], 0.25)
    got = one(chain(tmp_path, [3], nir.LI(tau=tau, r=r, v_leak=leak)), x)
    ratio = DT / np.float64(F(4e-3))
    v = np.zeros(3, F)
    for t in range(STEPS):
        v = F(1 - ratio) * v + (ratio * r).astype(F) * x[t, 0] + F(ratio * 0.25)
        np.testing.assert_array_equal(got[t], v)


@pytest.mark.parametrize("current", ["new", "old"])
def test_cuba_li(current: str, tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(0, 1, (STEPS, 1, 2)).astype(F)
    node = nir.CubaLI(full([2], 3e-3), full([2], 2e-3), full([2], 1.0), full([2], 0.0), full([2], 2.0))
    got = one(chain(tmp_path, [2], node), x, current=current)
    syn, mem = (DT / np.float64(F(tau)) for tau in (3e-3, 2e-3))
    i = v = np.zeros(2, F)
    for t in range(STEPS):
        new = F(1 - syn) * i + F(syn * 2) * x[t, 0]
        v = F(1 - mem) * v + F(mem) * (new if current == "new" else i)
        i = new
        np.testing.assert_array_equal(got[t], v)


@pytest.mark.parametrize(("v_min", "bound"), [(-0.05, -0.05), ("threshold", -0.3)])
def test_a_lower_bound_of_the_membrane(v_min: float | str, bound: float, tmp_path: Path, rng):
    x = rng.normal(0, 3, (STEPS, 1, 6)).astype(F)
    path = chain(tmp_path, [6], lif([6], v_reset=0.0, v_leak=0.0))
    got = one(path, x, v_min=v_min)
    v = np.zeros(6, F)
    ratio = DT / np.float64(F(2e-3))
    for t in range(STEPS):
        v = F(1 - ratio) * v + F(ratio * 2) * x[t, 0]
        s = v > F(0.3)
        v = np.maximum(np.where(s, F(0), v), F(bound))
        np.testing.assert_array_equal(got[t], s)
    assert (got != one(path, x)).any(), "the bound must matter"


def test_greater_and_at_least_differ_by_preset(tmp_path: Path):
    """A membrane that meets the threshold exactly: Norse does not fire, SpikingJelly does."""
    path = chain(tmp_path, [1], nir.IF(r=full([1], 1.0), v_threshold=full([1], 0.5)))
    x = np.full((2, 1, 1), 0.25, F)
    quiet = NirEvaluator(path, TimeOptions(dt=1.0, preset="norse")).run({"input": x})["output"]
    assert not quiet.any()
    assert one(path, x, dt=1.0, preset="spikingjelly").reshape(-1).tolist() == [0, 1]


def test_scale_threshold_and_linear(tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(0, 1, (4, 1, 3)).astype(F)
    scale, level = vector(1, -2, 0.5), vector(0.1, 0.2, 0.3)
    weight = dyadic(rng, 1, (5, 3))
    path = chain(tmp_path, [3], nir.Scale(scale), nir.Threshold(level), nir.Linear(weight), result=[5])
    got = one(path, x)
    above = (x[:, 0] * scale > level).astype(F)
    np.testing.assert_array_equal(got, above @ weight.T)


def test_a_matrix_for_each_row(tmp_path: Path, rng: np.random.Generator):
    """NIR's Affine with weights of rank 3, and one matrix for all rows of a sequence."""
    x = dyadic(rng, 1, (3, 1, 4, 6))
    weight, bias = dyadic(rng, 1, (4, 5, 6)), dyadic(rng, 1, (5,))
    got = one(chain(tmp_path, [4, 6], nir.Affine(weight, bias), result=[4, 5]), x)
    np.testing.assert_array_equal(got, np.einsum("bok,tbk->tbo", weight, x[:, 0]) + bias)
    got = one(chain(tmp_path, [4, 6], nir.Linear(weight[0]), result=[4, 5]), x)
    np.testing.assert_array_equal(got, x[:, 0] @ weight[0].T)


@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
def test_conv1d(padding: int | str, tmp_path: Path, rng: np.random.Generator):
    x = spikes(rng, 5, [4, 9])
    weight, bias = dyadic(rng, 1, (6, 2, 3)), dyadic(rng, 1, (6,))
    node = nir.Conv1d(9, weight, 1, padding, 2, 2, bias)
    pads = {0: 0, 2: 2, "same": 2, "valid": 0}[padding]
    padded = np.pad(x[:, 0], ((0, 0), (0, 0), (pads, pads)))
    length = padded.shape[-1] - 4
    got = one(chain(tmp_path, [4, 9], node, lif([6, length]), result=[6, length]), x)
    assert got.shape == (5, 6, length)
    got = one(chain(tmp_path, [4, 9], node, result=[6, length]), x)
    for o in range(6):
        for p in range(length):
            window = padded[:, 2 * (o // 3) : 2 * (o // 3) + 2, p : p + 5 : 2]
            expected = np.einsum("tck,ck->t", window, weight[o]) + bias[o]
            np.testing.assert_array_equal(got[:, o, p], expected)


@pytest.mark.parametrize(
    "geometry",
    [
        {"stride": 2},
        {"padding": 0, "dilation": 2},
        {"groups": 2, "padding": "same"},
        {"groups": 4, "padding": "valid", "size": 2},
        {"size": 4, "padding": 2},
    ],
)
def test_conv2d(geometry: dict[str, Any], tmp_path: Path, rng: np.random.Generator):
    import torch

    node = conv2d(rng, 8, 4, (7, 6), **geometry)
    x = spikes(rng, 4, [4, 7, 6])
    sizes = geometry.get("padding", 1)
    options: Any = (geometry.get("stride", 1), sizes, geometry.get("dilation", 1), geometry.get("groups", 1))
    arrays: Any = (torch.from_numpy(array) for array in (x[:, 0], node.weight, node.bias))
    expected = torch.nn.functional.conv2d(*arrays, *options).numpy()
    got = one(chain(tmp_path, [4, 7, 6], node, result=expected.shape[1:]), x)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 0)])
def test_pools(kernel: int, stride: int, padding: int, tmp_path: Path, rng: np.random.Generator):
    import torch

    x = spikes(rng, 3, [3, 8, 9])
    mean = torch.nn.functional.avg_pool2d(torch.from_numpy(x[:, 0]), kernel, stride, padding).numpy()
    sizes = [np.array([size, size]) for size in (kernel, stride, padding)]
    got = one(chain(tmp_path, [3, 8, 9], nir.AvgPool2d(*sizes), result=mean.shape[1:]), x)
    np.testing.assert_allclose(got, mean, rtol=1e-6)
    got = one(chain(tmp_path, [3, 8, 9], nir.SumPool2d(*sizes), result=mean.shape[1:]), x)
    np.testing.assert_array_equal(got, np.rint(mean * kernel**2))


@pytest.mark.parametrize(
    ("first", "last", "shape"), [(0, -1, [24]), (1, 2, [2, 12]), (0, 1, [6, 4]), (-2, -1, [2, 12])]
)
def test_flatten(first: int, last: int, shape: list[int], tmp_path: Path):
    x = np.arange(1, 49, dtype=F).reshape(2, 1, 2, 3, 4)
    node = nir.Flatten({"input": np.array([2, 3, 4])}, first, last)
    np.testing.assert_array_equal(
        one(chain(tmp_path, [2, 3, 4], node, result=shape), x), x.reshape(2, *shape)
    )


def test_parameters_of_an_image_stay_one_for_each_channel(tmp_path: Path, rng: np.random.Generator):
    """Constant over the image: a vector; one neuron that differs: all of them; all the same: a number."""
    x = spikes(rng, 6, [3, 4, 4])
    shape = (3, 4, 4)
    by_channel = np.broadcast_to(vector(0.2, 0.3, 0.4)[:, None, None], shape).copy()
    by_neuron = by_channel.copy()
    by_neuron[1, 2, 3] = 0.9
    for threshold, expected in ((by_channel, (3,)), (by_neuron, (4, 4, 3)), (full(shape, 0.3), ())):
        node = nir.LIF(full(shape, 2e-3), full(shape, 1.0), full(shape, 0.0), threshold, full(shape, 0.0))
        path = chain(tmp_path, shape, node)
        one(path, x)
        neuron = next(op for op in load_nir(path, TimeOptions(dt=DT)).walk() if isinstance(op, Neuron))
        shapes = [shape_of(op.results[0]) for op in neuron.block.ops if op.name == "bnn.constant"]
        assert shapes[0] == expected  # the threshold comes first


def test_scalars_and_vectors_of_one_serve_all_neurons(tmp_path: Path, rng: np.random.Generator):
    x = spikes(rng, 8, [2, 5, 5])
    numbers: list[Any] = [F(value) for value in (2e-3, 1.0, 0.0, 0.3, 0.0)]
    scalar, single = nir.LIF(*numbers), nir.LIF(*(vector(number) for number in numbers))
    full_size = lif([2, 5, 5], r=1.0, v_leak=0.0, v_reset=0.0)
    runs = [one(chain(tmp_path, [2, 5, 5], node), x) for node in (scalar, single, full_size)]
    np.testing.assert_array_equal(runs[0], runs[2])
    np.testing.assert_array_equal(runs[1], runs[2])


def test_a_convolutional_network(tmp_path: Path, rng: np.random.Generator):
    """Images through to a readout, per-neuron parameters in between."""
    middle = nir.LIF(
        rng.uniform(2e-3, 5e-3, (6, 4, 4)).astype(F),
        *(full([6, 4, 4], value) for value in (2.0, 0.0, 0.3, 0.0)),
    )
    path = chain(
        tmp_path,
        [2, 8, 8],
        conv2d(rng, 4, 2, (8, 8)),
        lif([4, 8, 8]),
        nir.AvgPool2d(*(np.array([size, size]) for size in (2, 2, 0))),
        conv2d(rng, 6, 4, (4, 4)),
        middle,
        nir.Flatten({"input": np.array([6, 4, 4])}, 0, -1),
        affine(rng, 10, 96),
        cuba_lif([10]),
        affine(rng, 3, 10, 2.0),
        nir.LI(full([3], 4e-3), full([3], 1.0), full([3], 0.0)),
        result=[3],
    )
    one(path, spikes(rng, 20, [2, 8, 8]))


def test_several_inputs_and_outputs_and_sums(tmp_path: Path, rng: np.random.Generator):
    nodes = {
        "left": port(nir.Input, [3]),
        "right": port(nir.Input, [3]),
        "sum": nir.Scale(full([3], 1.0)),
        "neuron": lif([3]),
        "spikes": port(nir.Output, [3]),
        "total": port(nir.Output, [3]),
    }
    edges = [("right", "sum"), ("left", "sum"), ("sum", "neuron"), ("neuron", "spikes"), ("sum", "total")]
    edges.append(("neuron", "total"))
    x = {name: rng.normal(0.5, 1, (12, 1, 3)).astype(F) for name in ("left", "right")}
    got = compare(write(tmp_path, nodes, edges), x)
    np.testing.assert_array_equal(got["total"], x["right"] + x["left"] + got["spikes"])


def test_names_and_locations_are_those_of_the_file(tmp_path: Path, rng: np.random.Generator):
    path = chain(tmp_path, [4], affine(rng, 4, 4), lif([4]))
    module = load_nir(path, TimeOptions(dt=DT))
    main = main_function(module)
    assert names_of(main, INPUTS) == ["input", "n1.v"]
    assert names_of(main, OUTPUTS) == ["output", "n1.v'"]
    assert states_of(main) == {"n1.v": "n1.v'"}
    found = {location_text(op) for op in module.walk() if isinstance(op, Neuron)}
    assert found == {"model.nir:n1"}


def test_what_was_decided_is_noted(tmp_path: Path):
    path = chain(tmp_path, [1], lif([1]))
    facts = decisions_of(main_function(load_nir(path, TimeOptions(dt=1e-4))))
    assert facts == {
        "dt": "0.0001",
        "integrator": "euler",
        "fire": "v > threshold",
        "reset": "value (v = v_reset of the file)",
        "current": "new",
        "v-min": "none",
    }
    facts = decisions_of(main_function(load_nir(path, TimeOptions(preset="sinabs"))))
    assert facts["dt"] == "1" and facts["v-min"] == "-threshold" and "floor" in facts["fire"]


def test_options_go_before_the_preset(tmp_path: Path, rng: np.random.Generator):
    path = chain(tmp_path, [4], lif([4]))
    x = rng.normal(0.5, 1, (STEPS, 1, 4)).astype(F)
    own = one(path, x, preset="sinabs", dt=DT, reset="zero", integrator="euler", v_min=-100.0)
    np.testing.assert_array_equal(own, one(path, x, reset="zero"))
    assert set(PRESETS) == {"snntorch", "norse", "spikingjelly", "sinabs", "rockpool"}


@pytest.mark.parametrize(
    ("weight", "threshold", "near"),
    [(0.1, 1.0, True), (0.1, 1.1, False), (0.125, 1.25, False)],
)
def test_spikes_that_hang_on_rounding_are_known(weight: float, threshold: float, near: bool, tmp_path: Path):
    """Ten tenths are 1 or a little more, by the order of the sum; ten eighths are exact, also where they meet
    the threshold."""
    neuron = nir.IF(full([1], 1.0), full([1], threshold))
    path = chain(tmp_path, [10], nir.Linear(full([1, 10], weight)), neuron, result=[1])
    evaluator = NirEvaluator(path, TimeOptions(dt=1.0))
    values = evaluator({"input": np.ones((1, 10), F)})
    ties = NirTies(evaluator, values)
    found = ties.behind("n1")
    assert found is not None and found.shape == (1, 1) and found.all() == near
    assert ties.before("output") == near and ties.behind("n0") is None
