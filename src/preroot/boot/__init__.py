# SPDX-License-Identifier: LGPL-2.1-or-later
"""How an image is proven: machines, disks, consoles, scenarios."""
