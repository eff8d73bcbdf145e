# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions and dense layers: mismatches of bits are counted."""
