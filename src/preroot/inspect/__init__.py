# SPDX-License-Identifier: LGPL-2.1-or-later
"""How any image is read, ours or not."""
