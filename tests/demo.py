# SPDX-License-Identifier: Apache-2.0
"""`make demo`: compile a trained network, run it on its test set, count what it gets right."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.cases import load_case

CASE = "digits_bnn_bop_legacy"
FOLDER = Path("build") / "demo"


def main() -> int:
    """Exit code 0 where the compiled network is as accurate as its framework said."""
    case = load_case(CASE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    case.write_model(FOLDER)
    for name, images in case.inputs.items():
        np.save(FOLDER / f"{name}.npy", images)
    print("A network with binary weights and activations, trained on 8x8 images of digits:")
    print(f"{FOLDER}/model.onnx\n")
    bnncc("compile", "model.onnx", "-o", "digits", "--name", "digits")
    bnncc("run", "digits", *(f"--input={name}={name}.npy" for name in case.inputs), "--output", "answers.npz")
    with np.load(FOLDER / "answers.npz") as answers:
        scores = answers[next(iter(case.outputs))]
    labels = case.extras["labels"]
    correct = int((scores.argmax(axis=1) == labels).sum())
    print(f"\naccuracy: {correct} of {len(labels)} test images ({correct / len(labels):.2%});", end=" ")
    print(f"PyTorch: {case.meta['n_correct']} of {len(labels)}")
    print(f"the library: {FOLDER}/digits/libdigits.a and digits.h")
    return 0 if correct == case.meta["n_correct"] else 1


def bnncc(*arguments: str) -> None:
    """Show the command and run it."""
    print(f"$ bnncc {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "bnncc", *arguments], cwd=FOLDER, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
