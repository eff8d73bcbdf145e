# SPDX-License-Identifier: Apache-2.0
"""Numbers that go into networks and come out: files, samples, packed spikes, drawings."""
