# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each feature's drivers cost."""

from __future__ import annotations

from preroot.tree.bill import Bill, bills
from preroot.tree.model import Entry, Reason, Tree

KO = "usr/lib/modules/6.12/kernel/"
FW = "usr/lib/firmware/"


def entry(path: str, size: int, *reasons: Reason, kind: str = "file") -> Entry:
    return Entry(path, kind, 0o644, 0, 0, "kernel=1", reasons, size)  # type: ignore[arg-type]


def feature(name: str) -> Reason:
    return Reason("feature", name, "spec")


def tree(*entries: Entry) -> Tree:
    return Tree({each.path: each for each in entries})


def test_only_what_nobody_else_brings_is_on_the_bill() -> None:
    found = bills(tree(
        entry(KO + "gpu.ko", 100, feature("console")),
        entry(KO + "drm.ko", 50, Reason("module", KO + "gpu.ko", "drm")),
        entry(KO + "usbcore.ko", 7, Reason("module", KO + "gpu.ko"), Reason("module", KO + "hid.ko")),
        entry(KO + "hid.ko", 30, feature("input")),
        entry(KO + "both.ko", 1000, feature("input"), feature("console")),
        entry(KO + "drivers/firmware/fw_cfg.ko", 5, feature("input")),
        entry(FW + "gpu.bin", 900, Reason("symlink", FW + "link.bin", FW + "gpu.bin")),
        entry(FW + "link.bin", 0, Reason("firmware", KO + "gpu.ko", "link.bin"), kind="symlink"),
        entry(KO + "modules.dep.bin", 3, Reason("generated", "preroot", "by depmod")),
        entry("usr/lib/firmware", 0, Reason("parent", FW + "gpu.bin"), kind="directory"),
    ))  # fmt: skip
    assert found == (Bill("console", 2, 150, 1, 900), Bill("input", 2, 35, 0, 0))


def test_circles_end_and_who_brings_nothing_alone_has_no_bill() -> None:
    found = bills(tree(
        entry(KO + "a.ko", 1, feature("one"), feature("two"), Reason("softdep", KO + "b.ko", "a")),
        entry(KO + "b.ko", 2, Reason("softdep", KO + "a.ko", "b")),
    ))  # fmt: skip
    assert found == ()
    assert bills(Tree({})) == ()
