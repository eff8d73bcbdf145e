# SPDX-License-Identifier: Apache-2.0
"""Compiled networks, opened and called: in this process, under an emulator, layer by layer."""
