# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run of the bench found out, as data: written as JSON, and printed as tables."""

from __future__ import annotations

from msgspec import Struct

from bench.guest import Boots
from bench.measure import Costs


class Environment(Struct, frozen=True):
    """Where and when the figures were taken."""

    date: str
    cpu: str
    cores: int
    memory_mib: int
    host_kernel: str
    qemu: str
    preroot: str


class Row(Struct, frozen=True):
    """One image of one generator for one kernel; sizes in bytes, `modules` are kernel modules in it.

    A generator that could not make its image has the reason in `failure`.
    """

    key: str
    title: str
    version: str
    failure: str = ""
    build: Costs | None = None
    size: int = 0
    uncompressed: int = 0
    recompressed: int = 0
    modules: int = 0
    capabilities: tuple[str, ...] = ()
    #: kind of file → bytes, uncompressed
    kinds: dict[str, int] = {}
    #: root (bench/roots.py) → how the image boots into it
    boots: dict[str, Boots] = {}


class Case(Struct, frozen=True):
    """One way in which preroot builds: cold, warm …; `bar` and `aim` are the design's figures, in words."""

    key: str
    title: str
    cost: Costs
    #: what of the cost the bar is about
    unit: str
    bar: float = 0.0
    aim: float = 0.0


class Kernel(Struct, frozen=True):
    """All that was measured with one kernel. `waived` are capabilities left out of a comparison, with the reason."""

    package: str
    release: str
    version: str
    rows: tuple[Row, ...]
    cases: tuple[Case, ...] = ()
    waived: tuple[str, ...] = ()


class Results(Struct, frozen=True):
    """A whole run."""

    environment: Environment
    runs: int
    boot_runs: int
    kernels: tuple[Kernel, ...]
