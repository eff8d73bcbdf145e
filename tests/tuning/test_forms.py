# SPDX-License-Identifier: Apache-2.0
"""Events or products: measured on a device, and compiled with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from bnncc import driver, targets, tune
from bnncc.options import Options
from bnncc.plan.density import CLASSES, Crossover
from bnncc.plan.kernel import SpikeConv
from bnncc.tuning import confirm, forms, report, tuner
from bnncc.tuning.database import Database
from bnncc.tuning.devices import Local
from bnncc.tuning.measure import Candidate, Outcome
from bnncc.tuning.tuner import Tuning
from tests.bench import defaults
from tests.tuning.layers import NATIVE

CROSSING = Crossover(((0.01, 0.2), (0.1, 0.8), (0.3, 1.6)), 0.02)
Tell = Callable[[Callable[[float], float | None]], None]
NODE = "spiking.onnx:/second"


@pytest.mark.parametrize(
    ("measured", "bits", "events"),
    [
        (CROSSING, 0.001, True),
        (CROSSING, 0.1, True),
        (CROSSING, 0.14, True),
        (CROSSING, 0.15, None),
        (CROSSING, 0.16, False),
        (CROSSING, 0.9, False),
        (Crossover(((0.01, 1.5), (0.1, 2.0)), 0.02), 0.005, None),
        (Crossover(((0.01, 0.1), (0.1, 0.2)), 0.02), 0.5, None),
        (Crossover(((0.1, 0.999),), 0.02), 0.1, None),
        (Crossover(((0.1, 0.999),), 0.0), 0.1, True),
    ],
)
def test_what_was_measured_decides_where_it_can_tell(measured: Crossover, bits: float, events: bool | None):
    assert measured.prefers_events(bits) is events


def test_where_both_cost_the_same():
    assert CROSSING.bits == pytest.approx(0.15)
    assert Crossover(((0.01, 0.1), (0.1, 0.2)), 0.02).bits is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution of an image, whose positive sums are spikes for a second one."""
    rng, weights = np.random.default_rng(0), {"first": (8, 3, 3, 3), "second": (32, 8, 3, 3)}
    constants = {name: rng.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["sum"], name="/first", pads=[1] * 4),
        helper.make_node("Greater", ["sum", "zero"], ["fires"], name="/fires"),
        helper.make_node("Cast", ["fires"], ["spikes"], name="/cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["spikes", "second"], ["y"], name="/second", pads=[1] * 4),
    ]
    floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    floats[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 10, 10))
    constants["zero"] = np.zeros((), np.float32)
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "spiking", floats[:1], floats[1:], tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "spiking.onnx")
    return tmp_path / "spiking.onnx"


def pairs_of(model: Path, options: Options) -> list[forms.Pair]:
    module = driver.read(model, options)
    return forms.pairs(*(driver.lower_form(module, options, form) for form in ("events", "products")))


def is_events(model: Path, options: Options) -> bool:
    steps = driver.lower_model(model, options).program.steps
    return any(isinstance(step.kernel.root, SpikeConv) for step in steps)


def test_both_forms_are_measured_on_the_same_spikes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On this machine: answers are checked, and scores are in the file, once."""
    monkeypatch.setattr(forms, "CLASSES", CLASSES[-2:])
    (pair,) = pairs_of(model, Options())
    device, database = Local(NATIVE), Database(tmp_path / "db.json")
    forms.measure_forms([pair], NATIVE, device, database, math.inf, lambda message: None)
    key = forms.forms_key(pair.events.kernel, NATIVE)
    trials = Database(tmp_path / "db.json").trials(key)
    assert [one.parameters for one in trials] == [
        {"events": events, "density": share} for share in (100, 300) for events in (0, 1)
    ]
    assert all(one.score and not one.problem for one in trials)
    found = forms.crossover(database, key)
    assert found and [share for share, _ in found.ratios] == [0.1, 0.3]
    assert found.ratios[0][1] == pytest.approx((trials[1].score or 0) / (trials[0].score or 1))
    assert not list(defaults.beaten(database))
    monkeypatch.setattr(forms, "measure_together", None)
    forms.measure_forms([pair], NATIVE, device, database, math.inf, lambda message: None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Gives what events cost, of products, by density, instead of measuring; None: they fail. There is
    nothing else to tune, and no whole network is compared."""
    monkeypatch.setattr(forms, "CLASSES", (0.01, 0.1, 0.3))
    monkeypatch.setattr(tuner, "layers_of", lambda network, target: iter(()))
    monkeypatch.setattr(confirm, "keep_what_holds", lambda *_: "")
    monkeypatch.setattr(tune, "_runs_whole", lambda *_: False)

    def tell(ratio: Callable[[float], float | None]) -> None:
        def outcomes(candidates: Sequence[Candidate], *_: object) -> list[Outcome]:
            (_dense, products), (layer, events) = candidates
            root = layer.spec.root
            assert isinstance(root, SpikeConv)
            cost = ratio(root.density)
            score = None if cost is None else cost * 1e-6
            return [Outcome(products, 1e-6), Outcome(events, score, "" if cost else "it failed")]

        monkeypatch.setattr(forms, "measure_together", outcomes)

    return tell


def tuned(model: Path, database: Path) -> Tuning:
    return tune.tune_model(model, Options(target="cortex-a72"), "qemu", database, 1)


@pytest.mark.parametrize(
    ("cost", "taken"),
    [(lambda share: 20 * share, "products"), (lambda share: 0.5, "events"), (lambda share: None, "default")],
    ids=["dear", "cheap", "failing"],
)
def test_a_network_is_compiled_with_the_form_that_costs_less(
    model: Path,
    tmp_path: Path,
    told: Tell,
    cost: Callable[[float], float | None],
    taken: str,
):
    """At a density of 0.1, which is assumed; a device that runs no whole networks."""
    plain = Options(target="cortex-a72")
    assert is_events(model, plain)
    told(cost)
    found = tuned(model, tmp_path / "db.json")
    with_database = Options(target="cortex-a72", tuning_db=tmp_path / "db.json")
    assert is_events(model, with_database) is (taken != "products")
    if taken == "default":
        assert not found.forms
        return
    (form,) = found.forms
    assert (form.node, form.default, form.taken) == (NODE, "events", taken)
    assert form.bits == (pytest.approx(0.05) if taken == "products" else None)
    assert "/second" in report.render(found) and f"events   {taken}" in report.render(found)
    # Another processor, and another layer, know nothing of it.
    assert is_events(model, Options(target="cortex-a53", tuning_db=tmp_path / "db.json"))
    program = driver.lower_form(driver.read(model, Options()), Options(dims={}), "events")
    assert not forms.known(tmp_path / "db.json", NATIVE, lambda: program)


def test_samples_decide_with_what_was_measured(model: Path, tmp_path: Path, told: Tell):
    """Events are cheaper below 0.2: the samples' spikes are counted, and one choice or the other follows."""
    told(lambda share: 5 * share)
    tuned(model, tmp_path / "db.json")
    for value, expected in ((1.0, False), (0.0, True)):
        samples = {"x": np.full((1, 3, 10, 10), value, np.float32)}
        options = Options(target="cortex-a72", tuning_db=tmp_path / "db.json", calibrate=samples)
        assert is_events(model, options) is expected


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_the_whole_network_has_the_last_word(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Tell, ratio: float
):
    told(lambda share: 20 * share)
    monkeypatch.setattr(tune, "_runs_whole", lambda *_: True)
    monkeypatch.setattr(driver, "build", lambda *_: SimpleNamespace(emulator=None))
    monkeypatch.setattr(confirm, "ratio", lambda default, other: ratio)
    found = tuned(model, tmp_path / "db.json")
    assert f"{ratio:.3f} of the network's time" in found.check
    assert [form.taken for form in found.forms] == ["products" if ratio < 1 else "events"]
    with_database = Options(target="cortex-a72", tuning_db=tmp_path / "db.json")
    assert is_events(model, with_database) is (ratio > 1)


def test_other_networks_have_none(tmp_path: Path):
    """Nothing is lowered for a database that says nothing of forms."""

    def never() -> None:
        raise AssertionError("it was lowered")

    assert forms.known(tmp_path / "missing.json", NATIVE, never) == {}  # type: ignore[arg-type]
    database = Database(tmp_path / "db.json")
    database.save()
    assert forms.known(tmp_path / "db.json", targets.load("cortex-m4"), never) == {}  # type: ignore[arg-type]
