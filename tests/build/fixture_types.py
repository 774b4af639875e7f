# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types of the fixtures in conftest.py (a module of that name is in each directory, so none can be imported)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

LockMaker = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
