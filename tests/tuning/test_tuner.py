# SPDX-License-Identifier: Apache-2.0
"""Tuning layers: that it finds what is there, stops when told, and loses nothing."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bnncc import cli, targets
from bnncc import tune as tune_module
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.kernels import space
from bnncc.kernels.kernel import TileParameters
from bnncc.plan.kernel import KernelSpec
from bnncc.tuning import confirm, report, tuner
from bnncc.tuning.database import Database
from bnncc.tuning.devices import Emulated, Local
from bnncc.tuning.measure import Outcome, Subject
from bnncc.tuning.tuner import Limits, Tuning, tune
from bnncc.tuning.units import Unit
from tests.cases import load_case
from tests.conditions import wait_until
from tests.kernels.contractions import Shape
from tests.tuning.layers import ARM, NATIVE, layer, steps

SMALL = Shape((1, 4, 4, 32), 32)


def quiet(_message: str) -> None:
    pass


Score = Callable[[KernelSpec, int], float | None]


def by_index(_: KernelSpec, index: int) -> float:
    """Every candidate is a little better than those before it in the list."""
    return 1000.0 - index


def told(answer: Score, monkeypatch: pytest.MonkeyPatch, gone: range = range(0)) -> None:
    """Scores by layer and the position of a candidate in its list, instead of measuring; None: it fails.
    gone: numbers of the programs during which the device is not there."""
    programs = itertools.count(1)

    def outcomes(subject: Subject, chosen: Sequence[TileParameters], *_: object) -> list[Outcome]:
        if next(programs) in gone:
            raise BnnccError("--device", "the board is gone", exit_code=ExitCode.FAILURE)
        everything = space.candidates(subject.spec, ARM)
        found = [(tile, answer(subject.spec, everything.index(dict(tile)))) for tile in chosen]
        return [Outcome(tile, score, "" if score else "no room") for tile, score in found]

    monkeypatch.setattr(tuner, "measure", outcomes)
    monkeypatch.setattr(confirm, "measure", outcomes)
    monkeypatch.setattr(tuner, "PAUSES", (0, 0, 0))


def counted(database: Path, trials: int) -> Tuning:
    return tune(steps(layer()), ARM, Emulated(ARM), Database(database), Limits(trials), quiet)


def test_from_a_bad_default_it_finds_the_best_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Instructions, which are exact; the best is known from trying all."""
    everything = counted(tmp_path / "all.json", 10_000).layers[0]
    count = len(space.candidates(layer(), ARM))
    assert len(everything.scores) == count > 20
    worst_first = sorted(range(count), key=lambda i: -(everything.scores[i] or 0))
    order = Database(tmp_path / "all.json").trials(space.layer_key(layer(), ARM))
    choices = [order[i].parameters for i in worst_first]
    monkeypatch.setattr(tuner, "candidates", lambda spec, target: choices)
    listed = space.candidates(layer(), ARM)
    known = {listed.index(dict(trial.parameters)): trial.score for trial in order}
    told(lambda spec, index: known[index], monkeypatch)
    found = counted(tmp_path / "bad.json", 64).layers[0]
    assert found.default == max(score for score in everything.scores if score)
    assert found.best is not None and found.best <= 1.03 * min(score for score in everything.scores if score)
    assert found.gain > 1.5


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told(by_index, monkeypatch)
    first = counted(tmp_path / "db.json", 6)
    again = counted(tmp_path / "db.json", 6)
    assert (first.trials, again.trials) == (6, 0) and first.layers == again.layers
    assert counted(tmp_path / "db.json", 9).trials == 3


def test_layers_of_the_same_kind_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told(by_index, monkeypatch)
    network = steps(layer(), layer(SMALL), layer())
    found = tune(network, ARM, Emulated(ARM), Database(tmp_path / "db.json"), Limits(2), quiet)
    assert [len(result.nodes) for result in found.layers] == [2, 1]


class Clock:
    """A clock that goes on only while candidates are measured, each of which takes so many seconds."""

    def __init__(self, pace: float):
        self.pace, self.now = pace, 1000.0

    def monotonic(self) -> float:
        return self.now

    def measure(self, subject, chosen, device, target, limit) -> list[Outcome]:
        self.now += self.pace * len(chosen)
        return [Outcome(parameters, 1e-6) for parameters in chosen]


@pytest.mark.parametrize(
    ("pace", "seconds", "layers"),
    [(0.02, 2, 3), (0.1, 5, 3), (0.4, 30, 3), (0.4, 3, 1), (3, 60, 2), (0.05, 0, 0), (0.05, -3, 0)],
)
def test_time_is_kept_and_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: float, seconds: float, layers: int
):
    """Every layer gets its share; where there is not enough for all, those with the most work do."""
    clock = Clock(pace)
    monkeypatch.setattr(tuner, "measure", clock.measure)
    monkeypatch.setattr(tuner, "time", clock)
    network = steps(layer(), layer(SMALL), layer(Shape((1, 5, 5, 64), 32)))
    database = Database(tmp_path / "db.json")
    found = tune(network, NATIVE, Local(NATIVE), database, Limits(10_000, seconds=seconds), quiet)
    tried = [len(result.scores) for result in found.layers]
    assert sum(bool(count) for count in tried) == layers and (tried[0] or not layers)
    assert ("not measured" in report.render(found)) == (layers < 3)
    # Only the first few candidates are measured without knowing how long they take.
    assert found.seconds <= max(0, seconds, (tuner.LEAST + tuner.BESIDE) * pace)


def test_progress_tells_trials_best_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told(by_index, monkeypatch)
    said: list[str] = []
    tune(steps(layer()), ARM, Emulated(ARM), Database(tmp_path / "db.json"), Limits(17), said.append)
    assert said[0] == "layer 1 of 1, net.onnx:/0/Conv: 0 of 17 trials"
    assert any("16 of 17 trials, best " in text and text.endswith("s left") for text in said)


def test_a_device_that_vanishes_for_good_costs_nothing_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told(by_index, monkeypatch, gone=range(3, 100))
    with pytest.raises(BnnccError, match="the board is gone"):
        counted(tmp_path / "db.json", 64)
    kept = Database(tmp_path / "db.json").size
    assert kept == 2 * tuner.BATCH
    told(by_index, monkeypatch)
    assert counted(tmp_path / "db.json", kept + 1).trials == 1


def test_a_device_that_comes_back_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    told(by_index, monkeypatch, gone=range(2, 5))
    database = Database(tmp_path / "db.json")
    found = tune(steps(layer()), ARM, Emulated(ARM), database, Limits(16), said.append)
    told(by_index, monkeypatch)
    assert found.layers == counted(tmp_path / "other.json", 16).layers
    assert sum("the board is gone; once more" in text for text in said) == 3


class Board(Emulated):
    """That would measure time."""

    unit: Unit = "s"


BOARD = Board(ARM)


def test_a_layer_that_does_not_fit_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And is tried again by another run, as nothing is known of it."""
    large, database = layer(), Database(tmp_path / "db.json")
    told(lambda spec, index: None if spec == large else 1e-6, monkeypatch)
    network = steps(large, layer(SMALL))
    found = tune(network, ARM, BOARD, database, Limits(4), quiet)
    assert [len(one.scores) for one in found.layers] == [0, 4]
    assert "/0/Conv was not measured: no room" in report.render(found)
    assert not database.trials(space.layer_key(large, ARM))
    with pytest.raises(BnnccError, match=r"no kernel works on .*: no room") as caught:
        tune(steps(large), ARM, BOARD, database, Limits(4), quiet)
    assert caught.value.hint == "is that a cortex-a72, with memory enough?"


def test_what_was_fast_by_chance_does_not_stay_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every candidate seems faster the first time; the second time only one is, which was the sixth best."""
    seen: list[int] = []

    def score(_: KernelSpec, index: int) -> float:
        if index == 0:
            return 1.0
        if index in seen:
            return 0.9 if index == seen[5] else 1.1
        seen.append(index)
        return 0.5 + len(seen) / 100

    told(score, monkeypatch)
    found = tune(steps(layer()), ARM, BOARD, Database(tmp_path / "db.json"), Limits(8), quiet)
    assert found.layers[0].parameters == space.candidates(layer(), ARM)[seen[5]]
    assert found.layers[0].gain == pytest.approx(1 / 0.9)


@pytest.mark.parametrize(
    ("again", "kept", "said"),
    [(0.7, True, "0.700 of their time."), (1.2, False, "1 of 1 layers"), (None, False, "1 of 1 layers")],
    ids=["faster", "slower", "fails"],
)
def test_where_no_whole_network_runs_its_layers_are_measured_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: float | None, kept: bool, said: str
):
    network, database = steps(layer()), Database(tmp_path / "db.json")
    told(lambda spec, index: 0.5 if index else 1.0, monkeypatch)
    tune(network, ARM, BOARD, database, Limits(2), quiet)
    told(lambda spec, index: again if index else 1.0, monkeypatch)
    assert said in confirm.keep_what_holds(network, ARM, BOARD, database, None, quiet)
    assert (Database(tmp_path / "db.json").best(space.layer_key(layer(), ARM)) is not None) is kept


def test_an_interrupted_run_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*_: object) -> float:
        if path.exists():
            raise KeyboardInterrupt
        return 1e-6

    path = tmp_path / "db.json"
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    told(interrupt, monkeypatch)
    monkeypatch.setattr(tune_module, "_runs_whole", lambda *_: False)
    chosen = ("--target", "cortex-a72", "--device", "qemu", "--db", str(path))
    assert cli.main(["tune", str(model), *chosen]) == cli.INTERRUPTED
    assert f"{path} has what was found" in capsys.readouterr().err
    assert Database(path).size == tuner.BATCH


PROGRAM = """
import os, sys, time
from pathlib import Path
from tests.tuning.test_tuner import counted

path, replace = Path(sys.argv[1]), os.replace

def stay(old, new):
    if path.exists():
        path.with_name(".writing").touch()
        time.sleep(10_000)
    replace(old, new)

os.replace = stay
counted(path, 10_000)
"""
"""It stays in the middle of its second save."""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_it_goes_on_after_kill_9(tmp_path: Path):
    path = tmp_path / "db.json"
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        wait_until(lambda: (tmp_path / ".writing").exists() or process.poll() is not None, "it saves nothing")
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == ["db.json"]
    kept = len(json.loads(path.read_text())["layers"][0]["trials"])
    assert kept == tuner.BATCH
    assert counted(path, kept + 3).trials == 3


@pytest.mark.parametrize("target", ["x86-64-v3", "cortex-m4"])
def test_a_network_is_tuned_and_still_right(target: str, tmp_path: Path):
    """Every kernel that tuning may choose answers as the default does: checked before its time counts."""
    facts = targets.load(target)
    device = Local(facts) if facts.runs_here() else Emulated(facts)
    found = tune(steps(layer()), facts, device, Database(tmp_path / "db.json"), Limits(12), quiet)
    assert all(score is not None for score in found.layers[0].scores)
