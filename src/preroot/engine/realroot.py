# SPDX-License-Identifier: LGPL-2.1-or-later
"""A distribution's root for boot tests, built from packages by the engine itself, with a lock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preroot.boot.realroot import proof_entries
from preroot.boot.stage import DiskEntry
from preroot.engine.keptlock import kept_packages
from preroot.engine.workspace import Workspace
from preroot.facts.arch import arch
from preroot.image.content import ContentReader
from preroot.packages.source import Source
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.distributions import load_distribution
from preroot.recipe.schema import Distribution
from preroot.tree.declare import Declaration
from preroot.tree.model import Reason
from preroot.tree.plan import GROUP_MASTER, PASSWD_MASTER, SYSUSERS
from preroot.tree.pool import Pool
from preroot.tree.system import system_tree
from preroot.tree.users import KnownNames, merge_known, parse_group, parse_passwd, parse_sysusers

#: A small Debian that a person would recognise: systemd with its bus and login manager, a shell, the usual tools.
DEBIAN_ROOT = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "dbus", "e2fsprogs", "findutils", "grep", "hostname",
    "init-system-helpers", "kmod", "libc-bin", "login", "mount", "passwd", "procps", "sed", "systemd", "systemd-sysv",
    "tar", "udev", "util-linux",
)  # fmt: skip


def distribution_root(
    distribution: Distribution, packages: Sequence[str], *, identity: str, root_device: str, workspace: Workspace,
    store: Store, source: Source, reporter: Reporter,
) -> list[DiskEntry]:  # fmt: skip
    """Return the entries of a root with `packages` of a distribution and all that they depend on.

    `identity` and `root_device`: see boot.realroot. The packages are resolved once; the lock lies in the cache.
    Raises BuildError where they can't be had.
    """
    info = load_distribution(
        distribution.name, distribution.release, arch(distribution.arch).name, workspace.search
    )  # fmt: skip
    lock, indexes = kept_packages(
        distribution, packages, workspace=workspace, store=store, source=source, reporter=reporter
    )
    pool = Pool(list(zip(lock.packages, indexes, strict=True)), info.merged)
    reader = ContentReader(store)

    def text(path: str) -> str:
        found = pool.get(path)
        return store.read(found.package.sha256, found.info).decode("utf-8", "replace") if found else ""

    master = KnownNames(parse_passwd(text(PASSWD_MASTER)), parse_group(text(GROUP_MASTER)))
    known = merge_known([master, *(parse_sysusers(text(path)) for path in pool.glob(SYSUSERS))])
    presets = sorted(path for directory in info.preset_directories for path in pool.glob(f"{directory}/*.preset"))
    own = list(_as_declarations(proof_entries(identity, root_device)))
    tree = system_tree(pool, info.merged, known, [text(path) for path in presets], own)
    return [
        DiskEntry(
            entry.path, entry.type, entry.mode, entry.uid, entry.gid,
            data=reader.read(entry) if entry.type == "file" else b"", target=entry.target, device=entry.device,
        )
        for entry in tree.entries.values()
    ]  # fmt: skip


def _as_declarations(entries: Iterable[DiskEntry]) -> Iterable[Declaration]:
    reason = Reason("recipe", "root", "proves that it was reached")
    for entry in entries:
        data = entry.data if entry.type == "file" else None
        yield Declaration(entry.path, "recipe", reason, entry.mode, target=entry.target, data=data)
