# SPDX-License-Identifier: Apache-2.0
"""Loading and running artifacts in this process."""

import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from bnncc import bench, targets
from bnncc.diagnostics import BnnccError
from bnncc.execution import artifact
from bnncc.execution.inputs import batches, checked
from tests import tiny


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.emit(tmp_path_factory.mktemp("artifact") / "tiny", emit=("so",))


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def samples(count: int) -> np.ndarray:
    """Rows of normal numbers; every third has an exact zero in it."""
    x = np.random.default_rng(count).standard_normal((count, tiny.CHANNELS)).astype(np.float32)
    x[::3, 33] = 0
    return x


def edit(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_samples(built: Path, count: int):
    x = samples(count)
    outputs = artifact.load(built).run({"input.1": x})
    assert list(outputs) == ["3.logits"]
    np.testing.assert_array_equal(outputs["3.logits"], tiny.expected(x))


def test_batches_are_filled_up_with_zeros(built: Path):
    x, manifest = samples(3), artifact.load(built).manifest
    given = checked(manifest, {"input.1": x}, steps=False, samples=True)
    (first,), (second,) = batches(manifest, given, steps=False)
    assert np.array_equal(first, x[:2])
    assert np.array_equal(second, [x[2], np.zeros_like(x[2])])


def test_timing_takes_the_first_batch(built: Path):
    network = artifact.load(built)
    assert bench.bench_artifact(network, repeat=1, inputs={"input.1": samples(1)}).median > 0
    with pytest.raises(BnnccError, match="there is no input 'x'"):
        bench.bench_artifact(network, repeat=1, inputs={"x": samples(1)})


def test_names(built: Path):
    loaded = artifact.load(str(built))
    assert loaded.input_names == ("input.1",)
    assert loaded.output_names == ("3.logits",)
    assert (loaded.name, loaded.batch, loaded.directory) == ("tiny", tiny.BATCH, built)


def test_inputs_need_not_be_contiguous(built: Path):
    x = samples(tiny.CHANNELS)
    np.testing.assert_array_equal(artifact.load(built).run({"input.1": x.T})["3.logits"], tiny.expected(x.T))


def test_layers_by_themselves(built: Path):
    loaded = artifact.load(built)
    arena, x, out = loaded.arena(), samples(2), np.zeros((2, 3), np.float32)
    assert arena.ctypes.data % 64 == 0
    loaded.run_layer(0, arena, [x], [out])
    words = arena[:16].view(np.uint32).reshape(2, 2)
    np.testing.assert_array_equal(words, tiny.pack_bits(x > 0))
    assert not out.any()
    loaded.run_layer(1, arena, [x], [out])
    np.testing.assert_array_equal(out, tiny.expected(x))
    out[:] = 0
    loaded.bind(arena, [x], [out])()
    np.testing.assert_array_equal(out, tiny.expected(x))
    with pytest.raises(IndexError, match="2 steps"):
        loaded.run_layer(2, arena, [x], [out])


def test_the_library_reports_a_crooked_arena(built: Path):
    loaded = artifact.load(built)
    crooked = np.zeros(1024, np.uint8)[-loaded.arena().ctypes.data % 64 + 4 :]
    crooked = crooked[(-crooked.ctypes.data % 64) + 4 :]
    with pytest.raises(BnnccError, match="the arena is not aligned"):
        loaded.bind(crooked, [samples(2)], [np.zeros((2, 3), np.float32)])()


def test_threads(built: Path):
    loaded = artifact.load(built)
    x, wrong = samples(64), []

    def work(rows: np.ndarray) -> None:
        for _ in range(20):
            if not np.array_equal(loaded.run({"input.1": rows})["3.logits"], tiny.expected(rows)):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(x[start : start + 8],)) for start in range(0, 64, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_compiled_anew_in_the_same_process(tmp_path: Path):
    """The loader of the system would hand out the old library for a path that it knows."""
    x = samples(2)
    for seed in (0, 1, 0, 2):
        directory = tiny.emit(tmp_path / "out", network=tiny.program(seed=seed), emit=("so",))
        got = artifact.load(directory).run({"input.1": x})["3.logits"]
        np.testing.assert_array_equal(got, tiny.expected(x, seed))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input 'input.1' is missing"),
        (
            {"input_1": samples(2)},
            "there is no input 'input_1'[\\s\\S]*the inputs are 'input.1' \\(float32 \\[N, 40\\]\\)",
        ),
        ({"input.1": samples(2), "y": samples(2)}, "there is no input 'y'"),
        (
            {"input.1": samples(2).astype(np.float64)},
            "expected float32, got float64[\\s\\S]*astype\\(numpy.float32\\)",
        ),
        ({"input.1": samples(2)[:, 1:]}, re.escape("expected the shape [N, 40], got [2, 39]")),
        ({"input.1": samples(2)[0]}, re.escape("expected the shape [N, 40], got [40]")),
        ({"input.1": samples(2)[:0]}, "there is nothing to run: its shape is \\[0, 40\\]"),
        ({"input.1": samples(2).tolist()}, "expected a NumPy array, got list"),
        (samples(2), "arrays by name, found ndarray"),
    ],
)
def test_wrong_inputs(built: Path, inputs, message: str):
    with pytest.raises(BnnccError, match=message):
        artifact.load(built).run(inputs)


def test_no_artifact(tmp_path: Path):
    with pytest.raises(BnnccError, match="no such directory"):
        artifact.load(tmp_path / "absent")
    with pytest.raises(BnnccError, match=r"holds no manifest\.json"):
        artifact.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not the manifest of a bnncc artifact"),
        ('{"generator": "another"}', "not the manifest of a bnncc artifact"),
        ('{"generator": "bnncc", "format": 99}', "has format 99, this bnncc reads format 1"),
        ('{"generator": "bnncc", "format": 1}', "'name' is missing or of a wrong type"),
    ],
)
def test_damaged_manifest(copy: Path, text: str, message: str):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BnnccError, match=message):
        artifact.load(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [("shape", [2, "40"]), ("shape", None), ("dtype", "float33"), ("dtype", None), ("name", 3)],
    ids=str,
)
def test_a_damaged_port(copy: Path, key: str, value: object):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"][0][key] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(BnnccError, match="lacks its name, type or shape"):
        artifact.load(copy)


def test_missing_library(copy: Path):
    (copy / "libtiny.so").unlink()
    with pytest.raises(BnnccError, match="the shared library is missing"):
        artifact.load(copy).run({"input.1": samples(2)})


def test_library_that_is_not_the_listed_one(copy: Path):
    with (copy / "libtiny.so").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BnnccError, match=r"not the one that manifest\.json describes"):
        artifact.load(copy).run({"input.1": samples(2)})


def test_library_that_the_system_refuses(copy: Path):
    import hashlib

    (copy / "libtiny.so").write_bytes(b"not ELF")
    digest = hashlib.sha256(b"not ELF").hexdigest()
    edit(copy, files={"libtiny.so": {"bytes": 7, "sha256": digest}})
    with pytest.raises(BnnccError, match="cannot be loaded"):
        artifact.load(copy).run({"input.1": samples(2)})


def test_nothing_to_run(tmp_path: Path):
    directory = tiny.emit(tmp_path / "out", emit=("lib",))
    with pytest.raises(BnnccError, match=r"no libtiny\.so to run[\s\S]*--emit"):
        artifact.load(directory).run({"input.1": samples(2)})


def test_another_machine(copy: Path):
    foreign = {**targets.native().facts(), "name": "cortex-x", "architecture": "pdp11"}
    edit(copy, target=foreign)
    with pytest.raises(BnnccError, match="target cortex-x: this machine cannot run what is compiled for it"):
        artifact.load(copy).run({"input.1": samples(2)})


def test_axis_0_that_counts_no_samples(copy: Path):
    edit(copy, batch=None)
    loaded = artifact.load(copy)
    np.testing.assert_array_equal(loaded.run({"input.1": samples(2)})["3.logits"], tiny.expected(samples(2)))
    with pytest.raises(BnnccError, match=re.escape("expected the shape [2, 40], got [4, 40]")):
        loaded.run({"input.1": samples(4)})
