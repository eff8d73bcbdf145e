# SPDX-License-Identifier: Apache-2.0
"""PyTorch modules without an ONNX file in between: bnncc.compile, and the backend of torch.compile."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

import bnncc
from bnncc import BnnccError, driver, torch_backend
from bnncc.diagnostics import ExitCode
from bnncc.frontend import torch as frontend
from bnncc.report import inspect

Activation = Callable[[torch.Tensor], torch.Tensor]


class Threshold(torch.autograd.Function):
    """-1 or +1, straight through backwards."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0].abs() <= 1)


class WithSymbol(torch.autograd.Function):
    """The same with what the older exporter looks for."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def symbolic(g, x):
        return g.op("Sign", x)


def clipped(x: torch.Tensor) -> torch.Tensor:
    return x.sign().detach() - x.clamp(-1, 1).detach() + x.clamp(-1, 1)


def polynomial(x: torch.Tensor) -> torch.Tensor:
    """Bi-Real net's straight-through estimator."""
    first, second, third = ((x < limit).float() for limit in (-1, 0, 1))
    y = -first + (x * x + 2 * x) * (1 - first)
    y = y * second + (2 * x - x * x) * (1 - second)
    y = y * third + (1 - third)
    return x.sign().detach() - y.detach() + y


def scaled(weight: torch.Tensor) -> torch.Tensor:
    """XNOR-Net's weights."""
    return weight.sign() * weight.abs().mean((1, 2, 3), keepdim=True)


ACTIVATIONS: dict[str, Activation] = {
    "sign": torch.sign,
    "threshold": Threshold.apply,
    "with symbol": WithSymbol.apply,
    "clipped": clipped,
    "polynomial": polynomial,
    "cast": lambda x: (x >= 0).float() * 2 - 1,
    "in place": lambda x: x.clone().sign_(),
    "filled": lambda x: torch.ones_like(x).masked_fill(x < 0, -1.0),
}


class BinaryNet(nn.Module):
    """A real-valued convolution, two binary ones, a real-valued classifier; batch normalisations between."""

    def __init__(self, binarize: Activation = torch.sign, weights: Activation = scaled, seed: int = 0):
        super().__init__()
        self.binarize = binarize
        self.weights = weights
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.hidden = nn.ParameterList(torch.randn(32, 32, 3, 3) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(3))
        for name, values in self.norms.state_dict().items():
            if name.endswith("running_var"):
                nn.init.uniform_(values, 0.5, 2)
            elif values.is_floating_point():
                nn.init.normal_(values)
        self.classifier = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](self.first(image))
        for weight, norm in zip(self.hidden, self.norms[1:], strict=True):
            x = norm(functional.conv2d(self.binarize(x), self.weights(weight), padding=1))
        return self.classifier(x.mean((2, 3)))


def images(samples: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(samples, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def answers(module: nn.Module, *inputs: torch.Tensor) -> np.ndarray:
    """What PyTorch computes, in the module's mode."""
    with torch.no_grad():
        return module(*inputs).numpy()


def close(actual: np.ndarray, expected: np.ndarray) -> bool:
    return actual.shape == expected.shape and np.allclose(actual, expected, rtol=1e-4, atol=1e-4)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


# bnncc.compile(module, example_inputs)


def test_a_fresh_network_answers_like_pytorch():
    module = BinaryNet().eval()
    artifact = bnncc.compile(module, images(1))
    assert (artifact.name, artifact.input_names, artifact.output_names) == (
        "BinaryNet",
        ("image",),
        ("output",),
    )
    for samples in (1, 3, 5):
        x = images(samples, seed=samples)
        assert close(artifact.run({"image": x.numpy()})["output"], answers(module, x))


@pytest.mark.parametrize(
    ("idiom", "weights"),
    [*((idiom, scaled) for idiom in ACTIVATIONS), ("sign", torch.sign), ("clipped", Threshold.apply)],
)
def test_hidden_layers_are_binary(idiom: str, weights: Activation, tmp_path: Path):
    module = BinaryNet(ACTIVATIONS[idiom], weights)
    path = frontend.export_module(module, frontend.Export(images(1)), tmp_path)
    rows = inspect.inspect_rows(driver.lower_model(path, driver.Options()).program)
    assert [row.domains for row in rows if row.macs] == ["f32 x f32", *["bipolar x bipolar"] * 2, "f32 x f32"]


def test_the_module_is_left_as_it_was():
    module = BinaryNet().train()
    module.norms[1].eval()
    before, modes = snapshot(module), [part.training for part in module.modules()]
    x = images(4)
    artifact = bnncc.compile(module, images(1))
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert close(artifact.run({"image": x.numpy()})["output"], answers(module.eval(), x))


@pytest.mark.parametrize("nudge", [0.0, 1e-20], ids=["zero stays zero", "zero is made positive"])
def test_sign_of_zero_is_what_the_module_says(nudge: float):
    class Signs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 64).sign())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(torch.sign(x + nudge), self.weight)

    module = Signs()
    x = torch.randn(6, 64) * (torch.rand(6, 64) < 0.5)
    artifact = bnncc.compile(module, x[:1])
    assert np.array_equal(artifact.run({"x": x.numpy()})["output"], answers(module, x))


class TwoOfEach(nn.Module):
    """Nested inputs, and outputs by name."""

    def forward(self, x: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sum": x + states[0], "signs": torch.sign(x - states[1])}


def test_names_are_those_of_the_signature_or_the_users():
    one = torch.ones(2, 4)
    artifact = bnncc.compile(TwoOfEach(), {"states": (one, one), "x": one})
    assert artifact.input_names == ("x", "states_0", "states_1")
    outputs = artifact.run({"x": 5 * one.numpy(), "states_0": 2 * one.numpy(), "states_1": 9 * one.numpy()})
    assert np.all(outputs["sum"] == 7) and np.all(outputs["signs"] == -1)
    names = [["a", "b", "c"], ["d", "e"]]
    artifact = bnncc.compile(
        TwoOfEach(), (one, (one, one)), name="net", input_names=names[0], output_names=names[1]
    )
    assert (artifact.name, artifact.input_names, artifact.output_names) == (
        "net",
        ("a", "b", "c"),
        ("d", "e"),
    )


def test_outputs_may_be_inputs_or_one_another():
    class Same(nn.Module):
        def forward(self, x: torch.Tensor, unused: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = torch.sign(x)
            return y, x, y

    x = torch.randn(2, 4)
    artifact = bnncc.compile(Same(), (x, x))
    assert (artifact.input_names, artifact.output_names) == (
        ("x", "unused"),
        ("output_0", "output_1", "output_2"),
    )
    outputs = artifact.run({"x": x.numpy(), "unused": x.numpy()})
    for output, expected in zip(outputs.values(), Same()(x, x), strict=True):
        assert np.array_equal(output, expected.numpy())


def test_the_batch_is_that_of_the_example_or_dynamic():
    module = BinaryNet(Threshold.apply).eval()
    assert bnncc.compile(module, images(3)).batch == 3
    artifact = bnncc.compile(module, images(1), dynamic_batch=True, dims={"batch": 2})
    assert artifact.batch == 2
    x = images(5)
    assert close(artifact.run({"image": x.numpy()})["output"], answers(module, x))


def test_an_exported_program_is_compiled_too():
    module = BinaryNet(Threshold.apply).eval()
    x = images(2)
    artifact = bnncc.compile(torch.export.export(module, (x,)), name="net")
    assert artifact.input_names == ("image",) and artifact.output_names == ("output",)
    assert close(artifact.run({"image": x.numpy()})["output"], answers(module, x))


def test_the_older_exporter_is_the_second_choice_and_said_so(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no capture today\nmore about it")

    monkeypatch.setattr(frontend, "export_captured", fail)
    module = BinaryNet(WithSymbol.apply).eval()
    with pytest.warns(UserWarning, match="dynamo=True fails: RuntimeError: no capture today$"):
        artifact = bnncc.compile(module, images(1), dynamic_batch=True)
    x = images(3)
    assert close(artifact.run({"image": x.numpy()})["output"], answers(module, x))


# What is refused.


def refusal(*arguments: object, **options: object) -> BnnccError:
    with pytest.raises(BnnccError) as caught:
        bnncc.compile(*arguments, **options)  # type: ignore
    return caught.value


def test_without_torch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    module = BinaryNet()
    monkeypatch.setitem(sys.modules, "torch", None)
    error = refusal(module, images(1))
    assert error.exit_code == ExitCode.FAILURE
    assert "needs PyTorch" in error.message and "pip install 'bnncc[torch]'" in error.hint


def test_importing_bnncc_does_not_import_torch():
    code = "import sys, bnncc.driver, bnncc.torch_backend; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_module_and_what_lacks_examples():
    assert "got int" in refusal(3, images(1)).message
    assert "onnx.save" in refusal(onnx.ModelProto()).hint
    assert "needs example_inputs" in refusal(BinaryNet()).message
    assert "modules alone" in refusal("model.onnx", images(1)).message
    assert "do not suit forward(image)" in refusal(BinaryNet(), (images(1), images(1))).message
    assert "cannot be called" in refusal(BinaryNet(), torch.zeros(1, 2, 8, 8)).message
    assert "must be 1 different names" in refusal(BinaryNet(), images(1), input_names=["a", "b"]).message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Identity())
    assert "TorchScript" in refusal(script, images(1)).message
    assert "'input' is of type int" in refusal(nn.Identity(), (3,)).message
    assert "torch.from_numpy" in refusal(nn.Identity(), images(1).numpy()).hint
    assert "torch.from_numpy" in refusal(nn.Identity(), [images(1).numpy()]).hint
    assert "an instance" in refusal(BinaryNet, images(1)).hint
    assert "'first.weight' has no values" in refusal(BinaryNet().to("meta"), images(1)).message
    assert "'weight' has no shape yet" in refusal(nn.LazyLinear(3), images(1)).message


class Decides(nn.Module):
    """What it computes depends on what `look` sees."""

    def __init__(self, look: Callable[[torch.Tensor, torch.Tensor], bool]) -> None:
        super().__init__()
        self.look = look
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if self.look(x, self.weight) else -x


def through_a_buffer(x: torch.Tensor, _: torch.Tensor) -> bool:
    buffer = torch.zeros(2)
    buffer[0].add_(x.sum())
    return bool(buffer.max() > 0)


@pytest.mark.parametrize(
    "look",
    [
        lambda x, _: x.sum() > 0,
        lambda x, _: float(x.mean()) > 0,
        through_a_buffer,
        lambda x, _: bool((x.detach().numpy() > 0).any()),
        lambda x, _: x.flatten().tolist()[0] > 0,
    ],
    ids=["bool", "float", "in place", "numpy", "list"],
)
def test_decisions_by_values_are_not_frozen_into_a_record_of_one_run(look: Callable[..., bool]):
    error = refusal(Decides(look), torch.ones(1, 4))
    assert re.search(r"test_torch\.py:\d+ (looks at values of the inputs|makes constants of)", error.message)
    assert "torch.where" in error.hint


def test_decisions_by_parameters_and_shapes_are_none_of_the_inputs(capfd: pytest.CaptureFixture[str]):
    module = Decides(lambda x, weight: x.shape[1] == 4 and bool(weight.sum() > 3))
    with pytest.warns(UserWarning, match="exported with dynamo=False"):
        artifact = bnncc.compile(module, torch.ones(1, 4))
    x = torch.tensor([[-1.0, 2, -3, 0]])
    assert np.array_equal(artifact.run({"x": x.numpy()})["output"], answers(module, x))
    assert capfd.readouterr().err == ""


class Transforms(nn.Module):
    """Something that no binary network needs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()


def test_an_operator_that_is_not_supported_is_named_with_its_node():
    error = refusal(Transforms(), torch.zeros(2, 8))
    assert error.exit_code == ExitCode.USER
    assert re.search(r"Transforms\.onnx:\S*DFT\S*: ", str(error))


def test_what_no_exporter_knows_is_said_with_both_reasons():
    class Copies(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.copysign(torch.ones_like(x), x)

    message = refusal(Copies(), torch.zeros(2, 8)).message
    assert "signbit" in message and "with dynamo=False: UnsupportedOperatorError" in message


def test_state_between_calls_is_refused_and_not_advanced():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x + self.count

    module = Counts()
    assert "a call changes count" in refusal(module, torch.zeros(1, 4)).message
    assert torch.equal(module.count, torch.zeros(4))


# torch.compile(model, backend="bnncc")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shapes that bnncc.compile was called for."""
    made: list[str] = []
    compile = bnncc.compile

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], **options: object):
        made.append(str([tuple(x.shape) for x in inputs]))
        return compile(module, inputs, **options)  # type: ignore

    monkeypatch.setattr(bnncc, "compile", count)
    return made


def compiled(module: nn.Module, **options: object) -> Callable[..., torch.Tensor]:
    return torch.compile(module, backend=torch_backend.backend, options={"strict": True, **options})  # type: ignore


@pytest.mark.parametrize("idiom", ["threshold", "with symbol"])
def test_torch_compile_answers_like_eager(idiom: str, compilations: list[str]):
    module = BinaryNet(ACTIVATIONS[idiom]).eval()
    fast = compiled(module)
    with torch.no_grad():
        for seed in range(4):
            x = images(2, seed)
            y = fast(x)
            assert close(y.numpy(), module(x).numpy()) and y.dtype == torch.float32
    assert compilations == ["[(2, 3, 8, 8)]"]


def test_every_shape_is_compiled_once(compilations: list[str]):
    module = BinaryNet(Threshold.apply).eval()
    fast = compiled(module)
    with torch.no_grad():
        for samples in (2, 3, 4, 3):
            assert close(fast(images(samples)).numpy(), module(images(samples)).numpy())
    assert len(compilations) == len(set(compilations)) == 3


def test_parameters_that_changed_are_compiled_anew(compilations: list[str]):
    module, other = BinaryNet(Threshold.apply).eval(), BinaryNet(Threshold.apply, seed=7).eval()
    fast, x = compiled(module), images(2)
    with torch.no_grad():
        fast(x)
        module.get_buffer("norms.1.running_mean").add_(3)
        assert close(fast(x).numpy(), module(x).numpy())
        module.hidden[0].data.neg_()
        assert close(fast(x).numpy(), module(x).numpy())
        module.load_state_dict(other.state_dict())
        assert close(fast(x).numpy(), module(x).numpy())
        fast(x)
    assert len(compilations) == 4


def test_training_is_left_to_pytorch_with_a_warning():
    module = BinaryNet(Threshold.apply).train()
    same = BinaryNet(Threshold.apply).train()
    fast = torch.compile(module, backend=torch_backend.backend)
    with pytest.warns(UserWarning, match="gradients are recorded"):
        fast(images(4)).sum().backward()
    same(images(4)).sum().backward()
    for one, other in zip(module.parameters(), same.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-4)  # type: ignore
    with torch.no_grad(), pytest.warns(UserWarning, match="keeps nothing between calls"):
        fast(images(4))
        same(images(4))
    mean = "norms.0.running_mean"
    assert torch.allclose(module.get_buffer(mean), same.get_buffer(mean))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        module.eval()
        assert close(fast(images(4)).numpy(), module(images(4)).numpy())


def test_what_cannot_be_compiled_is_left_to_pytorch_once_said(compilations: list[str]):
    fast = torch.compile(Transforms(), backend=torch_backend.backend)
    x = torch.randn(2, 8)
    with torch.no_grad():
        with pytest.warns(UserWarning, match="PyTorch computes this graph"):
            assert torch.equal(fast(x), Transforms()(x))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert torch.equal(fast(x), Transforms()(x))
        with pytest.raises(BnnccError):
            compiled(Transforms())(x)
    assert len(compilations) == 2


def test_what_changes_its_buffers_is_looked_at_once(compilations: list[str]):
    module, same = BinaryNet(Threshold.apply).train(), BinaryNet(Threshold.apply).train()
    fast = torch.compile(module, backend=torch_backend.backend)
    with torch.no_grad(), pytest.warns(UserWarning, match=r"running_mean(?s:.*)call eval\(\)"):
        for seed in range(3):
            assert torch.equal(fast(images(4, seed)), same(images(4, seed)))
    assert len(compilations) == 1


class Breaks(nn.Module):
    """Two graphs: what the first computes, the second writes to."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.view = view

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        part = y[:, 0] if self.view else y[:, 0] + 1
        torch._dynamo.graph_break()
        part.add_(1)
        return y + part.sum()


@pytest.mark.parametrize("view", [True, False])
def test_outputs_that_share_memory_are_left_to_pytorch(view: bool, compilations: list[str]):
    fast = torch.compile(Breaks(view), backend=torch_backend.backend)
    x = torch.randn(2, 3)
    with torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert torch.allclose(fast(x), Breaks(view)(x), rtol=1e-6)
    assert any("shares its memory" in str(warning.message) for warning in said) == view
    assert ("[(2, 3)]" in compilations) != view


def test_inputs_that_do_not_lie_in_memory_as_they_read():
    module = nn.ReLU()
    negated = torch.randn(2, 3, dtype=torch.complex64).conj().imag
    for x in (negated, torch.randn(1, 3).expand(2, 3)):
        with torch.no_grad():
            assert torch.equal(compiled(module)(x), module(x))


def test_an_option_that_there_is_not_is_an_error_at_once():
    with pytest.raises(Exception, match="did you mean 'target'"):
        torch.compile(BinaryNet(), backend=torch_backend.backend, options={"targt": "c"})(images(1))


def test_pytorch_knows_the_backend_by_its_name():
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    declared = {"bnncc": "bnncc.torch_backend:backend"}
    assert project["entry-points"]["torch_dynamo_backends"] == declared
    installed = metadata.entry_points(group="torch_dynamo_backends", name="bnncc")
    if not installed:
        pytest.skip("bnncc is not installed here, only on the path")
    module = BinaryNet(Threshold.apply).eval()
    with torch.no_grad():
        fast = torch.compile(module, backend="bnncc", options={"strict": True})
        assert close(fast(images(1)).numpy(), module(images(1)).numpy())
