# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a tree is written."""
