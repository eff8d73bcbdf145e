# SPDX-License-Identifier: Apache-2.0
"""Contractions of bytes and small integer weights."""
