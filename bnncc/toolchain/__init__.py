# SPDX-License-Identifier: Apache-2.0
"""Programs of this machine that bnncc calls (C compilers, LLVM's tools), and the object files they make."""
