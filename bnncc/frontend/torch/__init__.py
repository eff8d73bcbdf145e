# SPDX-License-Identifier: Apache-2.0
"""PyTorch modules without an ONNX file in between.

torch is optional: nothing here imports it before it is needed.
"""

from bnncc.frontend.torch.dynamo import backend
from bnncc.frontend.torch.export import Export, export_module

__all__ = ["Export", "backend", "export_module"]
