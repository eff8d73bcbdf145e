# SPDX-License-Identifier: Apache-2.0
"""The conversions of `convert-onnx`, by family of operators."""
