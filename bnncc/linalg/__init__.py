# SPDX-License-Identifier: Apache-2.0
"""The `bnn` dialect in terms of upstream MLIR: func, linalg, tensor, arith, math and scf."""
