# SPDX-License-Identifier: Apache-2.0
"""NIR files (Neuromorphic Intermediate Representation, HDF5) -> one step of a spiking network.

The format: Pedersen et al., Neuromorphic Intermediate Representation (Nature Communications, 2024). A file
holds differential equations; `discretization` says how they become steps, `file` reads what nobody vouches
for, `nodes` checks each node, `graph` flattens and orders them, `shapes` follows the sizes, `importer` writes
the module, and `evaluate` computes the same in NumPy, independently, to compare with.
"""
