# SPDX-License-Identifier: Apache-2.0
"""Tensors that stand in a file, as nobody vouches for them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from bnncc.diagnostics import BnnccError
from bnncc.frontend.kinds import element_name


def read_tensor(tensor: TensorProto, location: str) -> np.ndarray:
    """The value of an initializer; raises BnnccError where its data do not fit its type and shape."""
    try:
        if any(size < 0 for size in tensor.dims):
            raise ValueError("a dimension is negative")
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise BnnccError(
            location,
            f"the initializer '{tensor.name}' cannot be read as {stated_type(tensor)}: {error}",
            "the file is damaged; export it again",
        ) from error


def stated_type(tensor: TensorProto) -> str:
    """Element type and shape as people write them: "float[64, 3, 3, 3]"."""
    return f"{element_name(tensor.data_type)}{list(tensor.dims)}"
