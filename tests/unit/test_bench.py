# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bench: what it measures, when it refuses to compare, and what it prints."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from bench import report, scope
from bench.chroots import KernelFiles, module_name
from bench.guest import Boots
from bench.images import Contents, merged
from bench.measure import Cost, Costs, proportional_size, run_often, run_once, tree_of
from bench.ours import GENERIC, MINIMAL, Variant, with_modules
from bench.peers import PEERS
from bench.results import Case, Environment, Kernel, Results, Row
from bench.roots import ROOTS
from preroot.errors import BuildError
from preroot.recipe.load import load_recipe

KERNEL = KernelFiles("6.1", "6.1-1", Path("vmlinuz"), frozenset({"virtio_blk", "nvme", "xfs"}))
BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def contents(*paths: str, modules: tuple[str, ...] = ()) -> Contents:
    return Contents(frozenset(paths), frozenset(modules), 1, 1, 1)


def test_processor_time_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    cost = run_once([sys.executable, "-c", nested], tmp_path / "log")
    assert cost.cpu >= 0.3
    assert cost.memory == 0


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    hold = "import time; kept = bytearray(b'x' * 50_000_000); time.sleep(1)"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    assert run_once([sys.executable, "-c", nested], tmp_path / "log", memory=True).memory > 50_000_000


def test_a_command_that_fails_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"exit 3.*no such thing"):
        run_once([sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"], tmp_path / "log")


def test_medians_and_the_run_for_memory_are_apart() -> None:
    asked = []

    def once(number: int, memory: bool) -> Cost:
        asked.append((number, memory))
        return Cost(cpu=(5.0, 1.0, 2.0, 99.0)[number], wall=float(number), memory=7 if memory else 0)

    costs = run_often(3, once)
    assert (costs.cpu, costs.wall, costs.memory) == (2.0, 1.0, 7)
    assert asked == [(0, False), (1, False), (2, False), (3, True)]


def test_a_tree_has_its_descendants_and_a_dead_process_no_memory() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        assert child in tree_of(os.getpid())
        assert proportional_size(os.getpid()) > 1_000_000
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert proportional_size(child) == 0


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/drivers/block/virtio-blk.ko.xz", "virtio_blk"),
        ("nvme.ko", "nvme"),
        ("usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko.zst", "ext4"),
    ],
)
def test_modules_are_named_as_lsmod_does(path: str, name: str) -> None:
    assert module_name(path) == name


def test_usr_is_merged() -> None:
    assert merged("bin/sh") == "usr/bin/sh"
    assert merged("usr/bin/sh") == "usr/bin/sh"
    assert merged("library/x") == "library/x"


def test_what_is_built_in_or_unknown_to_the_kernel_is_not_lacking() -> None:
    capability = scope.Capability("x", modules=("ext4", "mmc_block", "nvme"))
    assert scope.lacks(capability, contents(), KERNEL) == ["nvme"]
    assert scope.lacks(capability, contents(modules=("nvme",)), KERNEL) == []


def test_programs_and_files_may_have_alternatives() -> None:
    capability = scope.Capability("x", programs=("sh|bash",), files=("usr/lib/*/libx.so*",))
    assert scope.lacks(capability, contents("usr/bin/bash", "usr/lib/x86_64-linux-gnu/libx.so.1"), KERNEL) == []
    assert scope.lacks(capability, contents("opt/bash"), KERNEL) == ["sh|bash", "usr/lib/*/libx.so*"]


def of_two(waived: tuple[scope.Waiver, ...] = (), *, modules: bool = False) -> scope.Scope:
    pair = scope.Pair("ours", "theirs", modules=modules, waived=waived)
    return scope.Scope(capability=(scope.Capability("keymap", programs=("loadkeys",)),), equal=(pair,))


def test_unequal_images_are_not_compared() -> None:
    images = {"ours": contents(), "theirs": contents("usr/bin/loadkeys")}
    with pytest.raises(BuildError, match="ours lacks keymap, which theirs has: loadkeys"):
        scope.demand(of_two(), images, KERNEL)
    scope.demand(of_two(), {"ours": images["theirs"], "theirs": images["ours"]}, KERNEL)
    scope.demand(of_two((scope.Waiver("keymap", "because"),)), images, KERNEL)
    scope.demand(of_two(), {"ours": contents()}, KERNEL)


def test_a_waiver_that_is_not_needed_is_found() -> None:
    images = {"ours": contents("usr/bin/loadkeys"), "theirs": contents("usr/bin/loadkeys")}
    assert scope.check(of_two((scope.Waiver("keymap", "because"),)), images, KERNEL) == [
        "ours has keymap, which is waived: remove the waiver"
    ]


def test_a_pair_can_demand_every_module() -> None:
    images = {"ours": contents(), "theirs": contents(modules=("xfs",))}
    assert scope.check(of_two(), images, KERNEL) == []
    assert "ours lacks 1 modules of theirs: xfs" in scope.check(of_two(modules=True), images, KERNEL)[0]


def test_the_list_of_capabilities_fits_the_peers() -> None:
    listed = scope.load()
    known = {peer.key for peer in PEERS} | {GENERIC.key, MINIMAL.key, with_modules(()).key}
    assert {name for pair in listed.equal for name in (pair.first, pair.second)} <= known
    names = [capability.name for capability in listed.capability]
    assert len(names) == len(set(names))
    assert {waiver.capability for pair in listed.equal for waiver in pair.waived} <= set(names)
    assert all(each.modules or each.programs or each.files for each in listed.capability)


def test_roots_are_compared_by_what_images_can_do() -> None:
    assert {need for root in ROOTS for need in root.needs} <= {each.name for each in scope.load().capability}
    assert [root.key for root in ROOTS if not root.needs] == ["ext4"]


@pytest.mark.parametrize("variant", [GENERIC, MINIMAL, with_modules(["virtio_blk", "xfs"])], ids=lambda each: each.key)
def test_recipes_that_are_measured_are_valid(variant: Variant, tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(variant.recipe("linux-image-cloud-amd64", "trixie"))
    loaded = load_recipe(path)
    assert loaded.recipe.kernel.package == "linux-image-cloud-amd64"
    assert loaded.recipe.distribution.suites == ("trixie",)


def row(key: str, cpu: float, size: int, uptime: float) -> Row:
    costs = Costs(cpu, cpu, 1, (Cost(cpu, cpu),))
    return Row(
        key, key, "1", build=costs, size=size, recompressed=size, boots={"ext4": Boots(uptime, 10_000_000, (uptime,))}
    )


def results(ours: Row) -> Results:
    warm = Case("warm", "warm", Costs(1.2, 1, 1, ()), "CPU s", 1.0, 0.5)
    rows = (ours, row("dracut", 24, 30_000_000, 18),
            Row("mkosi", "mkosi-initrd", "25", failure="it broke"))  # fmt: skip
    where = Environment("2026-01-01", "CPU", 2, 1024, "6.1", "10.0.0", "0.1")
    return Results(where, 5, 3, (Kernel("linux-image", "6.1", "6.1-1", rows, (warm,)),))


def test_the_report_says_which_bars_are_met() -> None:
    text = report.report(results(row("preroot", 1.2, 15_000_000, 9)), scope.load())
    assert "| CPU of a warm build, to dracut --no-hostonly | 0.050 | ≤ 0.067 | yes |" in text
    assert "| preroot: size at zstd -19, to dracut | 0.500 | ≤ 0.667 | yes |" in text
    assert "| warm | 1.20 CPU s | ≤ 1 CPU s | **no** |" in text
    assert "not measured: it broke" in text
    slow = report.report(results(row("preroot", 1.2, 15_000_000, 17)), scope.load())
    assert "| preroot: boot, ext4, to dracut | 0.944 | ≤ 0.667 | **no** |" in slow


def test_all_tables_have_as_many_cells_as_their_heads() -> None:
    for block in report.report(results(row("preroot", 1, 1, 1)), scope.load()).split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block


def test_figures_go_between_the_markers_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write("new", page)
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(BuildError, match="no place"):
        report.write("new", page)
    assert page.read_text() == "no markers"


def test_a_page_of_the_project_takes_the_figures(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((Path(__file__).resolve().parents[2] / "docs/performance.md").read_text())
    report.write("figures", page)
    assert "\nfigures\n" in page.read_text()


def test_where_the_bytes_are_adds_up() -> None:
    rows = (
        Row("one", "one", "1", kinds={"kernel modules": 9_000_000, "locales": 600_000, "scripts": 1000, "units": 2000}),
        Row("two", "two", "1", kinds={"kernel modules": 4_000_000, "scripts": 3000}),
        Row("none", "none", "1"),
    )
    lines = report.kinds(Kernel("p", "6", "1", rows)).splitlines()
    assert lines[0] == "| MB uncompressed | one | two |"
    assert lines[2:] == ["| kernel modules | 9.0 | 4.0 |", "| locales | 0.6 |  |", "| all else | 0.0 | 0.0 |"]
    assert report.kinds(Kernel("p", "6", "1", rows[2:])) == ""
