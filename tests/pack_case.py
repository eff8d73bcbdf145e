# SPDX-License-Identifier: Apache-2.0
"""Put recorded cases into `tests/cases` in their compact form.

    python -m tests.pack_case FOLDER... [--samples N]

A folder holds `model.onnx` or `model.nir` (or that with `.xz`), `input_i.npy`, `output_i.npy` and
`meta.json`.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

import numpy as np

from tests.cases import HERE, model_file, read_arrays, read_model

KEPT = (
    "framework",
    "exported_by",
    "expected_from",
    "sign0",
    "padding",
    "note",
    "tolerance",
    "model_batch",
    "stepwise",
    "state_feedback",
    "n_correct",
    "dt",
)


def pack(source: Path, samples: int | None) -> None:
    """Write `tests/cases/<name>` from one recorded folder, with the first samples or all."""
    target = HERE / source.name
    target.mkdir(parents=True, exist_ok=True)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    (target / f"{model_file(source)}.xz").write_bytes(lzma.compress(read_model(source), filters=filters))
    arrays = {name: array[:samples] for name, array in read_arrays(source).items()}
    np.savez_compressed(target / "arrays.npz", allow_pickle=False, **arrays)
    meta = json.loads((source / "meta.json").read_text())
    trimmed = {key: meta[key] for key in KEPT if key in meta}
    for ports in ("inputs", "outputs"):
        trimmed[ports] = [{"name": port["name"], "batch_axis": port["batch_axis"]} for port in meta[ports]]
    (target / "meta.json").write_text(json.dumps(trimmed, indent=1) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--samples", type=int)
    arguments = parser.parse_args()
    for folder in arguments.folders:
        pack(folder, arguments.samples)


if __name__ == "__main__":
    main()
