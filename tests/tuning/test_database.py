# SPDX-License-Identifier: Apache-2.0
"""The file of what was measured."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

from bnncc.diagnostics import BnnccError
from bnncc.kernels.space import layer_key
from bnncc.tuning.database import FAILED, Database, Trial
from tests.kernels.contractions import Shape
from tests.tuning.layers import ARM, NATIVE, SHAPE, layer

KEY = layer_key(layer(), NATIVE)
DEFAULT, OTHER, BROKEN = {"rows": 1, "pixels": 4}, {"rows": 2, "pixels": 2}, {"rows": 3, "pixels": 7}


def trial(parameters: dict[str, int], score: float | None, unit: str = "s", device: str = "local") -> Trial:
    return Trial(device, unit, parameters, score, "" if score else "it failed: exit status 1")  # type: ignore[arg-type]


def filled(path: Path, *trials: Trial) -> Database:
    database = Database(path)
    database.add(KEY, trials)
    return database


def test_what_is_saved_is_read(tmp_path: Path):
    trials = [trial(DEFAULT, 2e-6), trial(OTHER, 1e-6), trial(BROKEN, None)]
    filled(tmp_path / "db.json", *trials).save()
    database = Database(tmp_path / "db.json")
    assert database.trials(KEY) == trials and database.size == 3
    assert database.best(KEY) == OTHER


def test_tvm_reads_workloads_and_records(tmp_path: Path):
    filled(tmp_path / "db.json", trial(DEFAULT, 2e-6), trial(BROKEN, None)).save()
    layer_of_file = json.loads((tmp_path / "db.json").read_text())["layers"][0]
    workload = Workload.from_json(layer_of_file["workload"])
    good, failed = (TuningRecord.from_json(t["record"], workload) for t in layer_of_file["trials"])
    assert good.run_secs is not None and failed.run_secs is not None
    assert float(good.run_secs[0]) == 2e-6 and float(failed.run_secs[0]) == FAILED
    assert len(good.trace.insts) == 2


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(DEFAULT, 1.0), trial(OTHER, 0.99)], None),
        ([trial(DEFAULT, 1.0), trial(OTHER, 0.97)], OTHER),
        ([trial(DEFAULT, 100, "instructions"), trial(OTHER, 99, "instructions")], OTHER),
        ([trial(DEFAULT, 100, "instructions"), trial(OTHER, 100, "instructions")], None),
        ([trial(DEFAULT, 1.0), trial(BROKEN, None)], None),
        ([trial(DEFAULT, None), trial(OTHER, 5.0)], OTHER),
        ([trial(DEFAULT, 1.0)], None),
        ([], None),
    ],
    ids=["noise", "faster", "exact", "equal", "failed", "default-failed", "default-only", "nothing"],
)
def test_only_what_is_clearly_faster_replaces_the_default(tmp_path: Path, trials: list[Trial], best: object):
    assert filled(tmp_path / "db.json", *trials).best(KEY) == best


def test_what_was_rejected_is_not_used_and_not_forgotten(tmp_path: Path):
    database = filled(tmp_path / "db.json", trial(DEFAULT, 2e-6), trial(OTHER, 1e-6), trial(BROKEN, 3e-6))
    database.reject(KEY, "local", "in the network it is not faster")
    database.save()
    again = Database(tmp_path / "db.json")
    assert again.best(KEY) is None
    assert [(one.score, bool(one.problem)) for one in again.trials(KEY)] == [
        (2e-6, False),
        (1e-6, True),
        (3e-6, False),
    ]


def test_time_counts_more_than_instructions(tmp_path: Path):
    counted = [trial(DEFAULT, 100, "instructions", "qemu"), trial(OTHER, 50, "instructions", "qemu")]
    timed = [trial(DEFAULT, 1.0), trial(OTHER, 1.5)]
    assert filled(tmp_path / "db.json", *counted, *timed).best(KEY) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda: layer_key(layer(), ARM),
        lambda: layer_key(layer(Shape(SHAPE.image, 40)), NATIVE),
        lambda: layer_key(layer(Shape(SHAPE.image, 32, stride=(2, 2))), NATIVE),
        lambda: {**KEY, "templates": 0},
    ],
    ids=["processor", "channels", "stride", "version"],
)
def test_other_layers_do_not_find_the_record(tmp_path: Path, change):
    database = filled(tmp_path / "db.json", trial(DEFAULT, 2.0), trial(OTHER, 1.0))
    assert database.best(layer_key(layer(), NATIVE)) == OTHER
    assert database.best(change()) is None and not database.trials(change())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "db.json"
    filled(path, trial(DEFAULT, 1.0)).save()
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, fail)
        with pytest.raises(BnnccError, match="No space left"):
            filled(path, trial(OTHER, 1.0)).save()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
        monkeypatch.undo()


def test_two_runs_on_one_file_keep_what_both_found(tmp_path: Path):
    """The second one began before the first one saved, on another board, and with other layers."""
    path, other_key = tmp_path / "db.json", layer_key(layer(), ARM)
    first, second = Database(path), Database(path)
    first.add(KEY, [trial(DEFAULT, 2e-6), trial(OTHER, 1e-6)])
    first.add(other_key, [trial(DEFAULT, 3e-6)])
    first.save()
    second.add(KEY, [trial(DEFAULT, 5e-6, device="board")])
    second.save()
    first.add(KEY, [trial(BROKEN, None)])
    first.save()
    found = Database(path)
    assert [one.score for one in found.trials(KEY, "local")] == [2e-6, 1e-6, None]
    assert [one.score for one in found.trials(KEY, "board")] == [5e-6]
    assert len(found.trials(other_key)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["db.json"]


def test_the_last_of_several_boards_counts(tmp_path: Path):
    old = [trial(DEFAULT, 2.0), trial(OTHER, 1.0)]
    new = [trial(DEFAULT, 2.0, device="new"), trial(OTHER, 3.0, device="new")]
    database = filled(tmp_path / "db.json", *old, *new)
    assert database.best(KEY) is None
    assert database.best(KEY, "local") == OTHER


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(BnnccError, match="No such file or directory"):
        Database(tmp_path / "missing" / "db.json").check_writable()
    path = tmp_path / "db.json"
    Database(path).check_writable()
    assert not list(tmp_path.iterdir())
    filled(path, trial(DEFAULT, 1.0)).save()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BnnccError, match="cannot be written: Permission denied"):
        Database(path).check_writable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1, 2]",
        '{"format": 9, "layers": []}',
        '{"format": 1, "layers": [{"key": [1], "workload": ["1", "AAAA"], "trials": []}]}',
        '{"format": 1, "layers": [{"key": {}, "trials": [{"record": 1}]}]}',
        '{"format": 1, "layers": ' + 100_000 * "[",
    ],
    ids=["empty", "no-format", "list", "format", "key", "record", "deep"],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str):
    (tmp_path / "db.json").write_text(text)
    with pytest.raises(BnnccError, match="is no tuning database"):
        Database(tmp_path / "db.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"device": "local"', '"device": ["local"]'),
        ('"unit": "s"', '"unit": "fortnights"'),
        ('"rows": 1', '"rows": true'),
    ],
    ids=["device", "unit", "parameter"],
)
def test_wrong_types_are_told(tmp_path: Path, old: str, new: str):
    path = tmp_path / "db.json"
    filled(path, trial(DEFAULT, 1.0)).save()
    text = path.read_text()
    assert old in text
    text = text.replace(old, new)
    path.write_text(text.replace("     1\n", "     true\n") if "true" in new else text)
    with pytest.raises(BnnccError, match="is no tuning database"):
        Database(path)


def test_what_only_tvm_would_read_cannot_end_the_process(tmp_path: Path):
    """TVM's parser follows the indices of a workload wherever they lead."""
    path = tmp_path / "db.json"
    filled(path, trial(DEFAULT, 1.0)).save()
    data = json.loads(path.read_text())
    workload = base64.b64decode(data["layers"][0]["workload"][1])
    data["layers"][0]["workload"][1] = base64.b64encode(
        workload.replace(b'"tirx.Evaluate"', b'"tirx.PrimFunc"')
    ).decode()
    path.write_text(json.dumps(data))
    assert Database(path).trials(KEY) == [trial(DEFAULT, 1.0)]


def test_a_time_that_is_no_number_is_a_failure(tmp_path: Path):
    path = tmp_path / "db.json"
    filled(path, trial(DEFAULT, 1.0), trial(OTHER, 0.25)).save()
    path.write_text(path.read_text().replace("0.25", "NaN"))
    assert Database(path).trials(KEY)[1].score is None and Database(path).best(KEY) is None


def test_a_link_stays_a_link_and_a_mode_a_mode(tmp_path: Path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "db.json", tmp_path / "db.json"
    filled(real, trial(DEFAULT, 1.0)).save()
    real.chmod(0o600)
    link.symlink_to(real)
    filled(link, trial(OTHER, 0.5)).save()
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert Database(real).size == 2


def test_parameters_that_were_edited_by_hand_are_told(tmp_path: Path):
    path = tmp_path / "db.json"
    filled(path, trial(DEFAULT, 1.0)).save()
    path.write_text(path.read_text().replace('"pixels": 4', '"pixels": 5'))
    with pytest.raises(BnnccError, match="other parameters"):
        Database(path)
