# SPDX-License-Identifier: Apache-2.0
"""Contractions in float32."""
