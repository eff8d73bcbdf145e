# SPDX-License-Identifier: Apache-2.0
"""From a Program and its kernels to a C library: entry point, weights, header, archive, manifest."""

from bnncc.codegen.ecosystems import PACKAGES
from bnncc.codegen.manifest import Manifest
from bnncc.codegen.output import check_output
from bnncc.codegen.package import (
    EMITTABLE,
    Backend,
    EmitOptions,
    check_emit,
    check_package,
    emit,
    make_kernels,
    with_scratch,
)
from bnncc.codegen.threads import check_threads

__all__ = [
    "EMITTABLE",
    "PACKAGES",
    "Backend",
    "EmitOptions",
    "Manifest",
    "check_emit",
    "check_output",
    "check_package",
    "check_threads",
    "emit",
    "make_kernels",
    "with_scratch",
]
