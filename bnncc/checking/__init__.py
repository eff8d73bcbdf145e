# SPDX-License-Identifier: Apache-2.0
"""What compiled networks are held against: the graph, the reference, and what rounding decides."""
