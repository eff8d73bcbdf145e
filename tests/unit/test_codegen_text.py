# SPDX-License-Identifier: Apache-2.0
"""Names of functions in portable C: no longer than compilers have to look at, and still apart."""

from __future__ import annotations

import re

from bnncc.codegen.text import with_short_names
from bnncc.plan.names import MAXIMUM_LENGTH, SIGNIFICANT

SYMBOLS = [
    "conv3x3_bitxbit_getobit__c_lanes32rows1pixels1channelvectors1channelsoutermost1_1c6d6099",
    "conv3x3_bitxbit_getobit__c_lanes32rows1pixels1channelvectors1channelsoutermost1_2c6d6099",
    "onnxstringnormalizer_f32xnone_f32__c_plain_3c6d6099",
]


def test_kernels_are_named_in_few_characters():
    prefix = "n" * MAXIMUM_LENGTH
    text = "\n".join(f"/* {symbol}: what it is */ {prefix}_{symbol}(x);" for symbol in SYMBOLS)
    lines = with_short_names(
        f"{text}\n{prefix}_weights_0 {prefix}_{SYMBOLS[0]}0", prefix, SYMBOLS
    ).splitlines()
    names = [re.findall(rf"{prefix}\w+", line)[0] for line in lines]
    assert names[0] == f"{prefix}_conv3x3_1c6d6099"
    assert len(set(names)) == len(names) and max(map(len, names)) == SIGNIFICANT
    assert all(f"/* {symbol}: " in line for symbol, line in zip(SYMBOLS, lines, strict=False))
    assert lines[-1] == f"{prefix}_weights_0 {prefix}_{SYMBOLS[0]}0", "only whole names of kernels change"
