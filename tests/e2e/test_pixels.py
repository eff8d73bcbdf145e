# SPDX-License-Identifier: Apache-2.0
"""First layers of binary weights on a camera's bytes: integers, whatever the pixels' layout and scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bnncc import targets, verify
from bnncc.driver import lower_model
from bnncc.options import CameraInput, Options
from tests.models import make_model, write
from tests.turns import in_turn

node = helper.make_node

CAMERAS = {
    "as they are": CameraInput("u8", "nchw"),
    "channels last": CameraInput("u8", "nhwc"),
    "to 0..1": CameraInput("u8", "nhwc", (0.0,), (255.0,)),
    "to -1..1": CameraInput("u8", "nhwc", (127.5,), (127.5,)),
}


def network(folder: Path, weight: str = "signs") -> Path:
    """A convolution of pixels, a sign, and a convolution of signs."""
    rng = np.random.default_rng(3)
    first = rng.choice([-1.0, 1.0], (40, 3, 3, 3)) * rng.uniform(0.5, 2, (40, 1, 1, 1))
    constants = {
        "w": first if weight == "signs" else rng.standard_normal(first.shape),
        "v": rng.choice([-1.0, 1.0], (24, 40, 3, 3)),
        "t": rng.standard_normal((1, 40, 1, 1)) * 2 + 0.37,
    }
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 1]),
        node("Sub", ["a", "t"], ["d"]),
        node("Sign", ["d"], ["s"]),
        node("Conv", ["s", "v"], ["y"]),
    ]
    numbers = {name: array.astype(np.float32) for name, array in constants.items()}
    return write(folder, make_model(nodes, {"x": [1, 3, 9, 11]}, ["y"], numbers))


def domains(path: Path, camera: CameraInput) -> list[str]:
    """Of the contractions."""
    steps = lower_model(path, Options(camera=camera)).program.steps
    return [step.domains for step in steps if step.domains]


@pytest.mark.parametrize(("name", "target"), in_turn(list(CAMERAS), ["native", "x86-64-v3", "c", "aarch64"]))
def test_pixels_are_summed_as_integers(name: str, target: str, tmp_path: Path) -> None:
    if not targets.load(target).runs_here() and target != "aarch64":
        pytest.skip(f"this machine is no {target}")
    path = network(tmp_path)
    assert domains(path, CAMERAS[name]) == ["u8 x bipolar", "bipolar x bipolar"]
    options = Options(target=target, camera=CAMERAS[name])
    report = verify.verify_model(path, options, samples=1 if target == "aarch64" else 3)
    assert report.passed, report.render()


@pytest.mark.parametrize(
    ("weight", "camera"),
    [
        ("real", CAMERAS["channels last"]),
        ("signs", CameraInput("u8", "nhwc", (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))),
        ("signs", CameraInput(None, "nhwc", (127.5,), (127.5,))),
    ],
    ids=["real weights", "a deviation for each channel", "float pixels"],
)
def test_what_is_no_sum_of_integers_stays_real(weight: str, camera: CameraInput, tmp_path: Path) -> None:
    assert domains(network(tmp_path, weight), camera) == ["f32 x f32", "bipolar x bipolar"]


@pytest.mark.parametrize("target", ["native", "c"])
def test_zeros_around_levels_that_do_not_begin_at_zero(target: str, tmp_path: Path) -> None:
    """Zero is level 15 of -15..15: what lies around the output of the kernel before."""
    rng = np.random.default_rng(4)
    constants = {
        "u": rng.standard_normal((8, 3, 3, 3)),
        "w": rng.choice([-1.0, 1.0], (12, 8, 3, 3)),
        "scale": np.float32(0.25),
        "zero": np.float32(0),
        "bits": np.float32(5),
    }
    quantise = node("Quant", ["a", "scale", "zero", "bits"], ["q"], domain="qonnx.custom_op.general")
    for name, value in {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}.items():
        quantise.attribute.append(helper.make_attribute(name, value))
    nodes = [
        node("Conv", ["x", "u"], ["a"]),
        quantise,
        node("Conv", ["q", "w"], ["y"], pads=[2, 1, 1, 2]),
    ]
    numbers = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    path = write(tmp_path, make_model(nodes, {"x": [1, 3, 7, 6]}, ["y"], numbers))
    assert "s5 x bipolar" in domains(path, CameraInput())
    report = verify.verify_model(path, Options(target=target), samples=2)
    assert report.passed, report.render()
