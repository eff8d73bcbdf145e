# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes that have no template."""
