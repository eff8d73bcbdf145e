# SPDX-License-Identifier: Apache-2.0
"""What the passes that roll time share: loops that are written out are found, matched and written."""
