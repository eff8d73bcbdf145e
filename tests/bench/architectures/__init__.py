# SPDX-License-Identifier: Apache-2.0
"""Published binary networks, built anew with random weights and exported to ONNX when they are asked for."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

HERE = Path(__file__).parent
CACHE = "BNNCC_NETWORKS"
"""The environment variable that names the folder in which exported networks are kept."""


@dataclass(frozen=True)
class Architecture:
    """build makes the published network, for images [1, 3, extent, extent]; small a narrower one with the
    same structure, for images of `small_extent`: for tests."""

    build: Callable[[], nn.Module]
    small: Callable[[], nn.Module]
    extent: int = 224
    small_extent: int = 32


def architectures() -> Mapping[str, Architecture]:
    """By name. Imports PyTorch."""
    from tests.bench.architectures import dense, plain, residual

    narrow = (32, 64, 96)
    return {
        "quicknet_small": Architecture(
            partial(residual.quicknet, (32, 64, 256, 512)),
            partial(residual.quicknet, (32, 64), (2, 1), classes=10),
        ),
        "quicknet": Architecture(residual.quicknet, partial(residual.quicknet, (64, 96), (1, 2), classes=10)),
        "quicknet_large": Architecture(
            partial(residual.quicknet, layers=(6, 8, 12, 6)),
            partial(residual.quicknet, narrow, (1, 1, 2), classes=10),
        ),
        "bi_realnet18": Architecture(
            residual.bi_realnet18, partial(residual.bi_realnet18, narrow, 10, layers=2)
        ),
        "reactnet_a": Architecture(residual.reactnet_a, partial(residual.reactnet_a, 8, 1, 10)),
        "real_to_binary": Architecture(
            residual.real_to_binary, partial(residual.real_to_binary, (32, 64), 2, 10)
        ),
        "binary_densenet28": Architecture(
            dense.binary_densenet28, partial(dense.binary_densenet28, 32, (2, 2), (2.7,), 10)
        ),
        "meliusnet22": Architecture(dense.meliusnet22, partial(dense.meliusnet22, 32, (2, 1), (0.5,), 10)),
        "binarynet": Architecture(plain.binarynet, partial(plain.binarynet, (32, 48, 64), 64), 32),
        "xnornet": Architecture(
            plain.xnornet, partial(plain.xnornet, (32, 64, 64, 96, 64), 128, 1, 10), 224, 67
        ),
        "cnv": Architecture(plain.cnv, partial(plain.cnv, (32, 48, 64), 64), 32),
    }


def exported(name: str, *, small: bool = False) -> Path:
    """The ONNX file of a network: exported now, unless a file of these sources is there already."""
    folder = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "bnncc-networks")
    path = folder / f"{name}{'_narrow' if small else ''}_{_sources_digest()}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _export(architectures()[name], small, path)
    return path


def _sources_digest() -> str:
    text = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
    return hashlib.sha256(text).hexdigest()[:12]


def _export(architecture: Architecture, small: bool, path: Path) -> None:
    import torch

    from tests.bench.architectures.layers import settle

    extent = architecture.small_extent if small else architecture.extent
    torch.manual_seed(1)
    image = torch.randn(1, 3, extent, extent)
    network = settle((architecture.small if small else architecture.build)(), image)
    unfinished = path.with_suffix(f".{os.getpid()}")
    with warnings.catch_warnings():
        # The exporter that needs no minutes for a network warns that there is a newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            str(unfinished),
            dynamo=False,
            input_names=["image"],
            output_names=["scores"],
            opset_version=17,
        )
    unfinished.replace(path)
