# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the figures' machine is: read from /proc, and from the programs themselves."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from bench.results import Environment
from preroot import __version__
from preroot.boot.host import parse_version
from preroot.run import run


def environment() -> Environment:
    """Return where and when figures are taken now."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    qemu = run(["qemu-system-x86_64", "--version"], purpose="to tell its version").decode()
    return Environment(
        date=time.strftime("%Y-%m-%d"),
        cpu=model[1] if model else os.uname().machine,
        cores=len(os.sched_getaffinity(0)),
        memory_mib=int(total[1]) // 1024 if total else 0,
        host_kernel=os.uname().release,
        qemu=".".join(map(str, parse_version(qemu))),
        preroot=__version__,
    )
