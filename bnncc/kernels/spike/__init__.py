# SPDX-License-Identifier: Apache-2.0
"""Spikes: what is done for every bit that is set."""
