# SPDX-License-Identifier: Apache-2.0
"""Networks in upstream MLIR, compiled by LLVM's own tools and compared with the reference."""
