# SPDX-License-Identifier: LGPL-2.1-or-later
"""preroot builds the early userspace of Linux from distribution packages, and proves it by booting it."""

__version__ = "0.1.0"
