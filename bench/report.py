# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.results import Case, Environment, Kernel, Results, Row
from bench.roots import ROOTS
from bench.scope import Scope
from preroot.errors import BuildError

BEGIN = "<!-- figures: written by `make bench BENCH=--write` -->"
END = "<!-- end of figures -->"


def report(results: Results, scope: Scope) -> str:
    """Return all tables of a run."""
    parts = [measured(results)]
    for kernel in results.kernels:
        parts += [f"### {kernel.package} ({kernel.release})", images(kernel)]
        if kernel.cases:
            parts.append(cases(kernel.cases))
        parts += [roots(kernel), bars(kernel), kinds(kernel), capabilities(kernel, scope)]
    return "\n\n".join(part for part in parts if part) + "\n"


def measured(results: Results) -> str:
    """Return how the figures were measured, in one paragraph."""
    where: Environment = results.environment
    return (
        f"Measured {where.date} with preroot {where.preroot} on {where.cores} x {where.cpu}, {where.memory_mib} MiB, "
        f"Linux {where.host_kernel}, QEMU {where.qemu} (software emulation, {results.boot_runs} boots each). "
        f"Medians of {results.runs} builds; CPU is user and system time of the whole process tree; memory is the "
        "largest sum of proportional set sizes seen, in a run of its own. zstd -19: all of the image uncompressed and "
        "compressed again as one frame, so that the level each tool picks drops out. Boot is the guest's uptime when "
        "the real root's init runs (ext4 on virtio); RAM is what is in use then. MB are 1,000,000 bytes."
    )


def images(kernel: Kernel) -> str:
    """Return the table of all generators' images for one kernel."""
    head = [
        "",
        "CPU s",
        "wall s",
        "peak MB",
        "as made MB",
        "zstd -19 MB",
        "modules",
        "boot s",
        "RAM MB",
        "least RAM MiB",
    ]
    lines = []
    for row in kernel.rows:
        name = f"{row.title} ({row.version})"
        if row.build is None:
            lines.append([name, f"not measured: {row.failure}", *[""] * (len(head) - 2)])
            continue
        boots = row.boots.get("ext4")
        lines.append([
            name, f"{row.build.cpu:.2f}", f"{row.build.wall:.2f}", megabytes(row.build.memory, 0), megabytes(row.size),
            megabytes(row.recompressed), str(row.modules),
            f"{boots.uptime:.1f}" if boots else f"none: {row.failure}" if row.failure else "",
            megabytes(boots.memory, 0) if boots else "", str(boots.smallest or "") if boots else "",
        ])  # fmt: skip
    return table(head, lines)


def roots(kernel: Kernel) -> str:
    """Return how long images take to roots behind encryption and LVM; empty where none was booted into one."""
    rows = [row for row in kernel.rows if len(row.boots) > 1]
    lines = [[root.title, *(f"{row.boots[root.key].uptime:.1f}" if root.key in row.boots else "" for row in rows)]
             for root in ROOTS]  # fmt: skip
    return table(["boot s", *map(_short, rows)], lines) if rows else ""


def cases(found: tuple[Case, ...]) -> str:
    """Return the table of the ways in which preroot builds."""
    lines = [[case.title, f"{case.cost.cpu:.2f}", f"{case.cost.wall:.2f}", megabytes(case.cost.memory, 0),
              _bound(case.bar, case.unit), _bound(case.aim, case.unit)] for case in found]  # fmt: skip
    return table(["preroot build", "CPU s", "wall s", "peak MB", "bar", "aim"], lines)


def _bound(value: float, unit: str) -> str:
    return f"≤ {value:g} {unit}" if value else ""


def bars(kernel: Kernel) -> str:
    """Return how preroot stands to the peers that it is held against, as far as both were measured."""
    rows = {row.key: row for row in kernel.rows if row.build is not None}
    found = {case.key: case for case in kernel.cases}
    ours = rows.get("preroot")
    lines: list[list[str]] = []
    if ours and (dracut := rows.get("dracut")) and dracut.build and "warm" in found:
        lines.append(
            _ratio("CPU of a warm build, to dracut --no-hostonly", found["warm"].cost.cpu, dracut.build.cpu, 1 / 15)
        )
    if ours and (mkosi := rows.get("mkosi")) and mkosi.build and "cold" in found:
        lines.append(_ratio("CPU of a cold build, to mkosi-initrd", found["cold"].cost.cpu, mkosi.build.cpu, 1 / 6))
    for key in ("preroot", "preroot-modules"):
        if (own := rows.get(key)) and (dracut := rows.get("dracut")):
            lines.append(_ratio(f"{key}: size at zstd -19, to dracut", own.recompressed, dracut.recompressed, 2 / 3))
            for root in ROOTS:
                if (mine := own.boots.get(root.key)) and (theirs := dracut.boots.get(root.key)):
                    lines.append(_ratio(f"{key}: boot, {root.title}, to dracut", mine.uptime, theirs.uptime, root.bar))
                    if root.key == "ext4":
                        lines.append(_ratio(f"{key}: RAM in use, to dracut", mine.memory, theirs.memory, 1))
    for case in found.values():
        if case.bar:
            value = case.cost.wall if "wall" in case.unit else case.cost.cpu
            met = "yes" if value <= case.bar else "**no**"
            lines.append([case.title, f"{value:.2f} {case.unit}", _bound(case.bar, case.unit), met])
    return table(["held against", "today", "bar", "met"], lines) if lines else ""


def _ratio(title: str, ours: float, theirs: float, bar: float) -> list[str]:
    ratio = ours / theirs
    return [title, f"{ratio:.3f}", f"≤ {bar:.3f}", "yes" if ratio <= bar else "**no**"]


#: kinds that take less than this in every image are added up (bytes)
_SMALL = 500_000


def kinds(kernel: Kernel) -> str:
    """Return where the bytes of the images are, by kind of file, uncompressed."""
    rows = [row for row in kernel.rows if row.kinds]
    most: dict[str, int] = {}
    for row in rows:
        for kind, size in row.kinds.items():
            most[kind] = max(size, most.get(kind, 0))
    large = sorted((kind for kind in most if most[kind] >= _SMALL), key=lambda kind: (-most[kind], kind))
    lines = [[kind, *(megabytes(row.kinds.get(kind, 0)) for row in rows)] for kind in large]
    small = [sum(size for kind, size in row.kinds.items() if kind not in large) for row in rows]
    lines.append(["all else", *map(megabytes, small)])
    return table(["MB uncompressed", *map(_short, rows)], lines) if rows else ""


def capabilities(kernel: Kernel, scope: Scope) -> str:
    """Return which image has which capability."""
    rows = [row for row in kernel.rows if row.build is not None]
    lines = [
        [each.name, *("yes" if each.name in row.capabilities else "no" for row in rows)] for each in scope.capability
    ]
    text = table(["what is in it", *(_short(row) for row in rows)], lines)
    notes = "".join(f"\nLeft out of the comparison: {waived}." for waived in kernel.waived)
    return text + notes


def _short(row: Row) -> str:
    return row.key


def megabytes(size: int, digits: int = 1) -> str:
    """Return bytes as MB (10⁶), '' for none."""
    return f"{size / 1e6:.{digits}f}" if size else ""


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def write(text: str, page: Path) -> None:
    """Put the tables between the markers of a page. Raises BuildError when the page does not have them."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BuildError(f"{page} has no place for the figures", f"put the lines {BEGIN} and {END} into it")
    aside = page.with_suffix(".new")
    aside.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    aside.rename(page)
