# SPDX-License-Identifier: Apache-2.0
"""Optimisation passes over the `bnn` dialect, one per file; `pipeline` is their order.

A file, its pass, its class and its test agree: `fold_thresholds.py`, `fold-thresholds`,
`FoldThresholdsPass`, `tests/filecheck/passes/fold-thresholds.mlir`. `matching` holds what patterns share;
the `onnx` modules are the conversions of `convert-onnx`, by family.
"""
