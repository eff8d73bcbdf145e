# SPDX-License-Identifier: Apache-2.0
"""Autotuning: which tile parameters are fastest for each layer, measured on the device itself.

`candidates` come from the kernels' templates (`bnncc.kernels.space`); `program` makes a measuring program of
some of them; a device of `devices` runs it; `measure` compares the answers with the reference and takes
times; `search` decides what to measure next; `database` keeps what was found; `tuner` does it for a network.
"""
