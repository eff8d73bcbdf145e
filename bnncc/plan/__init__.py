# SPDX-License-Identifier: Apache-2.0
"""The plan: what the two halves of bnncc say to each other.

`lowering` writes it from the dialect; `kernels`, `codegen` and `report` read it. Plain frozen
dataclasses; this package imports neither xDSL nor TVM.
"""
