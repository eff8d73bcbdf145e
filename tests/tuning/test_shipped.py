# SPDX-License-Identifier: Apache-2.0
"""The databases that come with bnncc, and how they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnncc import driver, targets
from bnncc.kernels.isa import Isa
from bnncc.kernels.space import TEMPLATES_VERSION, candidates, layer_key
from bnncc.targets import Target
from bnncc.tuning import tuner, use
from bnncc.tuning.database import NOISE, Database, Trial
from bnncc.tuning.use import Tuned
from tests.bench import defaults
from tests.cases import load_case
from tests.kernels.contractions import Shape
from tests.tuning.layers import ARM, NATIVE, layer, steps

AGAIN = "python -m tests.bench.defaults --check drops what is too old, and with --target measures anew"
FILES = sorted(use.SHIPPED.glob("*.json"))


def test_records_are_of_these_templates_and_worth_it():
    assert FILES
    for path in FILES:
        for key, trials in Database(path).layers():
            assert key["templates"] == TEMPLATES_VERSION, AGAIN
            assert isinstance(key["isa"], dict) and key["isa"]["name"] == path.stem
            default, best = trials
            assert Database(path).best(key) == best.parameters
            assert default.score and best.score and best.score < default.score * (1 - NOISE)


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_a_recorded_network_finds_its_records(target: str, tmp_path: Path):
    """A template that changed its parameters, or what a layer is known by, without a new TEMPLATES_VERSION
    would leave them unused. A machine of another kind than the one they were made on has none of `native`."""
    facts = targets.load(target)
    model = load_case("larq_quicknetsmall_full").write_model(tmp_path)
    program = driver.lower_model(model, driver.Options(target=target)).program
    specs = {step.kernel for step in program.steps}
    # As a file has them: tuples are lists there.
    keys = [json.loads(json.dumps(layer_key(spec, facts))) for spec in specs]
    records = [key for path in FILES for key, _ in Database(path).layers() if key["isa"] == keys[0]["isa"]]
    assert all(key in keys for key in records), AGAIN
    tuned = Tuned(None, facts)
    assert sum(tuned(spec) is not None for spec in specs) == len(records), AGAIN
    assert records or target == "native"


def test_files_are_small():
    assert sum(path.stat().st_size for path in FILES) < 300_000


def filled(folder: Path, target: Target, *trials: Trial) -> Path:
    path = folder / f"{Isa.of(target).name}.json"
    path.unlink(missing_ok=True)
    database = Database(path)
    database.add(layer_key(layer(), target), trials)
    database.save()
    use._read.cache_clear()
    return path


def two(target: Target, share: float) -> tuple[Trial, Trial]:
    """The default's, and that of another candidate, which takes a share of the default's."""
    default, *_, other = candidates(layer(), target)
    return Trial("board", "cycles", default, 1000), Trial("board", "cycles", other, 1000 * share)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tuned"
    folder.mkdir()
    monkeypatch.setattr(use, "SHIPPED", folder)
    return folder


def test_the_shipped_database_is_used_by_default(shipped: Path):
    default, other = two(ARM, 0.8)
    assert Tuned(None, ARM)(layer()) is None
    filled(shipped, ARM, default, other)
    tuned = Tuned(None, ARM)
    assert tuned(layer()) == other.parameters
    assert tuned(layer(Shape((1, 5, 5, 64), 32))) is None
    assert tuned.facts() == {"tuning": "1 layers have kernels from the shipped database"}


def test_the_users_database_goes_first(shipped: Path, tmp_path: Path):
    default, other = two(ARM, 0.8)
    filled(shipped, ARM, default, other)
    own = filled(tmp_path, ARM, default, Trial("mine", "cycles", other.parameters, 2000))
    tuned = Tuned(own, ARM)
    assert tuned(layer()) is None and (tuned.known, tuned.shipped) == (1, 0)
    assert Tuned(filled(tmp_path, NATIVE, *two(NATIVE, 0.8)), ARM)(layer()) == other.parameters


def test_code_that_shall_be_short_is_not_taken_from_it(shipped: Path):
    board = targets.load("cortex-m4")
    default, other = two(board, 0.8)
    filled(shipped, board, default, other)
    assert Tuned(None, board)(layer()) is None and Tuned(None, board, "size")(layer()) is None
    assert Tuned(None, board, "speed")(layer()) == other.parameters
    filled(shipped, ARM, *two(ARM, 0.8))
    assert Tuned(None, ARM, "size")(layer()) is None


def test_tuning_tries_what_is_known_first(shipped: Path):
    _, other = two(ARM, 0.8)
    filled(shipped, ARM, *two(ARM, 0.8))
    ((_, _, choices),) = tuner.layers_of(steps(layer()), ARM)
    assert list(choices[:2]) == [candidates(layer(), ARM)[0], other.parameters]
    assert all(choice in choices for choice in candidates(layer(), ARM))
    assert len(choices) == len(candidates(layer(), ARM))
    assert tuner.Search(choices).propose(2, {}) == [0, 1]


def test_only_what_is_worth_it_is_shipped(shipped: Path, tmp_path: Path):
    path = filled(shipped, ARM, *two(ARM, 0.8))
    assert defaults.merge(path, Database(tmp_path / "nothing")) == 1
    better = Database(filled(tmp_path, ARM, *two(ARM, 0.5), Trial("board", "cycles", {"rows": 9}, 900)))
    assert defaults.merge(path, better) == 1
    ((_, trials),) = Database(path).layers()
    assert [trial.score for trial in trials] == [1000, 500]
    assert defaults.merge(path, Database(filled(tmp_path, ARM, *two(ARM, 0.99)))) == 0
    assert not path.exists()


def test_old_records_are_dropped(shipped: Path, tmp_path: Path):
    path = filled(shipped, ARM, *two(ARM, 0.8))
    database = Database(tmp_path / "old.json")
    database.add({**layer_key(layer(), ARM), "templates": TEMPLATES_VERSION - 1}, two(ARM, 0.8))
    assert defaults.merge(path, database) == 1
    assert defaults.merge(tmp_path / "other.json", database) == 0


def test_the_report_says_so(shipped: Path, tmp_path: Path):
    """A whole network, of which one layer is in the database."""
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    options = driver.Options(target="cortex-a72")
    network = driver.lower_model(model, options).program.steps
    spec = next(step.kernel for step in network if len(candidates(step.kernel, ARM)) > 1)
    default, *_, other = candidates(spec, ARM)
    database = Database(shipped / f"{Isa.of(ARM).name}.json")
    trials = [Trial("board", "cycles", default, 1000), Trial("board", "cycles", other, 500)]
    database.add(layer_key(spec, ARM), trials)
    database.save()
    driver.compile_model(model, tmp_path / "out", options)
    assert "1 layers have kernels from the shipped database" in (tmp_path / "out" / "report.txt").read_text()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "shipped database" in str(manifest["options"])
