# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures initrd generators and prints tables: `python -m bench.run --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bench import guest, host, images, peers, report, scope
from bench.chroots import Chroot, KernelFiles, kernel_in, make
from bench.ours import GENERIC, MINIMAL, Ours, measure, measure_warm, prepare, with_modules
from bench.results import Case, Kernel, Results, Row
from bench.roots import ROOTS, MadeRoot, make_roots
from preroot import __version__
from preroot.errors import BuildError, PrerootError

PROJECT = Path(__file__).resolve().parents[1]
KERNELS = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
SUITE = "trixie"


class Bench:
    """One run: its options, directories, and the root file system that all images boot into."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cache = Path(options.cache)
        self.logs = Path(options.logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.scope = scope.load()
        self.roots = make_roots(ROOTS, SUITE, self.cache, self.logs)

    def all_kernels(self) -> tuple[Kernel, ...]:
        """Measure everything for all kernels asked for."""
        packages = tuple(KERNELS[name] for name in self.options.kernels.split(","))
        chroots = {} if self.options.quick else peers.chroots(self.cache, packages)
        for name, chroot in chroots.items():
            tell(f"chroot for {name}")
            make(chroot, SUITE, self.logs / f"chroot-{name}.log", refresh=not self.options.no_refresh)
            peers.prepare(chroot)
        return tuple(self.one_kernel(package, chroots) for package in packages)

    def one_kernel(self, package: str, chroots: dict[str, Chroot]) -> Kernel:
        """Measure everything for one kernel: all images first, then their scope, then the timed runs."""
        tell(f"{package}: making every image once")
        theirs = self.peers_once(package, chroots)
        own = self.ours_once(package, theirs)
        kernel = own[0].kernel if own else kernel_in(chroots["dracut"], package)
        for peer in self.chosen_peers():
            self.same_kernel(kernel, kernel_in(chroots[peer.chroot], package), peer.title)
        paths = {ours.variant.key: ours.image for ours in own} | {
            key: path for key, path in theirs.items() if isinstance(path, Path)
        }
        contents = {key: images.read(path, self.cache) for key, path in paths.items()}
        scope.demand(self.scope, contents, kernel)
        cases: tuple[Case, ...] = ()
        rows: list[Row] = []
        for ours in own:
            tell(f"{package}: {ours.variant.title}")
            if ours.variant is GENERIC:
                cases = measure(ours, self.options.runs, self.logs)
                costs = next(case.cost for case in cases if case.key == "warm")
            else:
                costs = measure_warm(ours, self.options.runs, self.logs)
            row = Row(key=ours.variant.key, title=ours.variant.title, version=__version__, build=costs)
            rows.append(self.described(row, contents[ours.variant.key], kernel))
        for peer in self.chosen_peers():
            tell(f"{package}: {peer.title}")
            chroot, made = chroots[peer.chroot], theirs[peer.key]
            row = Row(key=peer.key, title=peer.title, version=chroot.version(peer.package))
            if isinstance(made, str):
                rows.append(replace(row, failure=made))
                continue
            costs, _ = peers.build(peer, chroot, kernel, self.options.runs, self.logs)
            rows.append(self.described(replace(row, build=costs), contents[peer.key], kernel))
        for root in self.roots:
            rows = self.booted(rows, paths, kernel, root)
        waived = tuple(f"{waiver.capability} ({waiver.reason})" for pair in self.scope.equal for waiver in pair.waived)
        return Kernel(package, kernel.release, kernel.version, tuple(rows), cases, waived)

    def ours_once(self, package: str, theirs: dict[str, Path | str]) -> list[Ours]:
        """Build preroot's variants once; the one with a peer's modules only where that peer is measured."""
        if self.options.peers_only:
            return []
        variants = [GENERIC, MINIMAL]
        if isinstance(equal := theirs.get("dracut"), Path):
            variants.insert(1, with_modules(images.read(equal, self.cache).modules))
        return [prepare(variant, package, SUITE, self.cache, self.logs) for variant in variants]

    def peers_once(self, package: str, chroots: dict[str, Chroot]) -> dict[str, Path | str]:
        """Make the peers' images once; return the image of each, or why there is none."""
        made: dict[str, Path | str] = {}
        for peer in self.chosen_peers():
            chroot = chroots[peer.chroot]
            try:
                made[peer.key] = peers.build(peer, chroot, kernel_in(chroot, package), 1, self.logs, memory=False)[1]
            except BuildError as error:
                if not peer.may_fail:
                    raise
                made[peer.key] = f"it {peer.may_fail} ({error.message})"
        return made

    def chosen_peers(self) -> list[peers.Peer]:
        """Return the peers that were asked for. Raises BuildError for one that is not known."""
        if self.options.quick:
            return []
        known = {peer.key: peer for peer in peers.PEERS}
        wanted = self.options.peers.split(",") if self.options.peers else list(known)
        if unknown := [key for key in wanted if key not in known]:
            raise BuildError(f"unknown peer {unknown[0]!r}", f"known: {', '.join(known)}")
        return [known[key] for key in wanted]

    def same_kernel(self, kernel: KernelFiles, other: KernelFiles, title: str) -> None:
        """Raise BuildError unless both have the same kernel package."""
        if (kernel.release, kernel.version) != (other.release, other.version):
            raise BuildError(f"{title} has kernel {other.version}, and the others have {kernel.version}",
                             "run it again without --no-refresh")  # fmt: skip

    def described(self, row: Row, contents: images.Contents, kernel: KernelFiles) -> Row:
        """Return a row with what its image has in it."""
        able = tuple(each.name for each in self.scope.capability if not scope.lacks(each, contents, kernel))
        return replace(row, size=contents.size, uncompressed=contents.uncompressed, recompressed=contents.recompressed,
                      modules=len(contents.modules), capabilities=able, kinds=contents.kinds)  # fmt: skip

    def booted(
        self, rows: list[Row], paths: dict[str, Path], kernel: KernelFiles, root: MadeRoot
    ) -> list[Row]:  # fmt: skip
        """Return the rows with how their images boot into one root: those that can, of roots beyond a plain disk only
        ours and dracut's.

        The images take turns, so that what else the machine does falls on all of them. One that fails is out.
        """
        bed = guest.Bed(kernel.vmlinuz, root, self.logs)
        plain = not root.root.needs
        able = {row.key for row in rows if set(root.root.needs) <= set(row.capabilities)
                and (plain or row.key in ("preroot", "preroot-modules", "dracut"))}  # fmt: skip
        paths = {key: path for key, path in paths.items() if key in able}
        seen: dict[str, list[tuple[float, int]]] = {key: [] for key in paths}
        failed: dict[str, str] = {}
        least: dict[str, int] = {}
        for number in range(self.options.boot_runs):
            for key in [key for key in paths if key not in failed]:
                tell(f"boot {number + 1} of {key} ({root.root.title})")
                try:
                    seen[key].append(
                        guest.boot_once(bed, paths[key], f"{key}-{kernel.release}-{root.root.key}-{number}")
                    )
                except BuildError as error:
                    tell(str(error))
                    failed[key] = error.message
        for key in [key for key in paths if self.options.least_memory and plain and seen[key] and key not in failed]:
            tell(f"smallest guest of {key}")
            least[key] = guest.smallest_memory(bed, paths[key], f"{key}-{kernel.release}")
        return [
            replace(row, failure=failed[row.key]) if row.key in failed
            else replace(row, boots=row.boots | {root.root.key: guest.summary(seen[row.key], least.get(row.key, 0))})
            if seen.get(row.key)
            else row
            for row in rows
        ]  # fmt: skip


def tell(text: str) -> None:
    """Say on standard error what is done now."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="preroot alone: no chroots, no root needed")
    parser.add_argument("--peers-only", action="store_true", help="the peers without preroot")
    parser.add_argument("--peers", default="", metavar="NAME,…", help="only these peers")
    parser.add_argument("--kernels", default="cloud", metavar="NAME,…", help="cloud, generic or both (default: cloud)")
    parser.add_argument("--runs", type=int, default=5, help="builds of each kind (default: 5)")
    parser.add_argument("--boot-runs", type=int, default=3, help="boots of each image; 0: none (default: 3)")
    parser.add_argument("--least-memory", action="store_true", help="also look for the smallest guest that boots")
    parser.add_argument(
        "--no-refresh", action="store_true", help="leave chroots as they are, without looking for updates"
    )
    parser.add_argument("--cache", default=f"{home}/preroot-bench", help="directory for chroots and what was computed")
    parser.add_argument("--logs", default=str(PROJECT / "build/bench"), help="directory for logs and figures.json")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.kernels.split(",") if name not in KERNELS]:
        parser.error(f"unknown kernel {unknown[0]!r}: cloud or generic")
    return options


def main() -> int:
    """Run the bench; return the exit code."""
    options = parse()
    try:
        bench = Bench(options)
        results = Results(host.environment(), options.runs, options.boot_runs, bench.all_kernels())
    except PrerootError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    (bench.logs / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    text = report.report(results, bench.scope)
    print(text)
    if options.write:
        report.write(text, PROJECT / "docs/performance.md")
    # A peer without an image, or whose image does not boot, is a result. With one of ours the figures mean nothing.
    return int(any(row.failure for kernel in results.kernels for row in kernel.rows if row.key.startswith("preroot")))


if __name__ == "__main__":
    sys.exit(main())
