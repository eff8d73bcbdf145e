# SPDX-License-Identifier: Apache-2.0
"""Spiking transformers (Spikformer, Zhou et al., 2023): attention of spikes without softmax, over time, as
torch exports it: its answers, its spikes, and which layers see spikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bnncc

torch = pytest.importorskip("torch")
nn = torch.nn

STEPS, DEPTH, HEADS, SIZE = 4, 32, 4, 8
SCALE = 0.25


class Lif(nn.Module):
    """v += (x - v) / 2; a spike where v >= 1, which sets v to 0; over the first dimension."""

    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for now in x:
            v = v + (now - v) / 2.0
            spikes.append((v >= 1.0).to(x.dtype))
            v = v * (1.0 - spikes[-1])
        return torch.stack(spikes)


class SpikingAttention(nn.Module):
    """Spikes of queries, keys and values; (q k') v, scaled; spikes; a layer more."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(DEPTH, DEPTH, bias=False) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(DEPTH) for _ in range(4))
        self.lif = Lif()

    def layer(self, number, x):
        y = self.layers[number](x.flatten(0, 1))
        return self.lif(self.norms[number](y.transpose(-1, -2)).transpose(-1, -2).reshape(x.shape))

    def heads(self, number, x):
        steps, batch, pixels, _ = x.shape
        y = self.layer(number, x).reshape(steps, batch, pixels, HEADS, DEPTH // HEADS)
        return y.permute(0, 1, 3, 2, 4)

    def forward(self, x):
        q, k, v = (self.heads(number, x) for number in range(3))
        y = (q @ k.transpose(-2, -1)) @ v * SCALE
        return self.layer(3, self.lif(y.transpose(2, 3).reshape(x.shape)))


class Spikformer(nn.Module):
    """Two convolutions make pixels of an image, a block of attention and a network of two layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, DEPTH, 3, 1, 1), nn.Conv2d(DEPTH, DEPTH, 3, 2, 1)
        self.lif, self.attention = Lif(), SpikingAttention()
        self.wide, self.narrow = nn.Linear(DEPTH, 2 * DEPTH), nn.Linear(2 * DEPTH, DEPTH)
        self.head = nn.Linear(DEPTH, 10)

    def forward(self, x):
        x = self.lif(self.conv(x).unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        y = self.second(x.flatten(0, 1))
        y = self.lif(y.reshape(STEPS, -1, *y.shape[1:])).flatten(-2).transpose(-1, -2)
        attended = self.attention(y)
        y = y + attended
        y = y + self.lif(self.narrow(self.lif(self.wide(y))))
        return self.head(y.mean(2).mean(0)), attended


def trained_like() -> Spikformer:
    """A network some of whose neurons spike, some of the time, in every layer."""
    torch.manual_seed(1)
    network = Spikformer().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.005, 0.05)
            module.bias.data.uniform_(0.0, 1.2)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.mul_(4.0)
    return network


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
def test_spiking_attention(dynamo: bool, tmp_path: Path) -> None:
    network, image = trained_like(), torch.randn(1, 3, SIZE, SIZE)
    model, names = tmp_path / "spikformer.onnx", ["y", "spikes"]
    torch.onnx.export(
        network, (image,), model, dynamo=dynamo, opset_version=18, input_names=["x"], output_names=names
    )
    artifact = bnncc.compile(model, output=tmp_path / "library")
    with torch.no_grad():
        expected, spikes = (value.numpy() for value in network(image))
    assert 0.02 < spikes.mean() < 0.9 and len(np.unique(spikes.sum(axis=0))) > 2, "spikes that tell nothing"
    got = artifact.run({"x": image.numpy()})
    np.testing.assert_array_equal(got["spikes"], spikes)
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=1e-6)
    report = (tmp_path / "library" / "report.txt").read_text()
    assert sum("spike x f32" in line for line in report.splitlines()) >= 6
    assert sum("lif, zero" in line for line in report.splitlines()) >= 8
