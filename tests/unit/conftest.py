# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from store_samples import file, full, kernel, top

__all__ = ["file", "full", "kernel", "top"]
