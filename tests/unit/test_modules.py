# SPDX-License-Identifier: LGPL-2.1-or-later
"""Selecting kernel modules."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from preroot.errors import BuildError, RecipeError
from preroot.facts.kernel import module_name
from preroot.packages.model import ModuleInfo
from preroot.recipe.schema import Modprobe
from preroot.tree.aliases import AliasIndex, normalise
from preroot.tree.model import Reason
from preroot.tree.modules import (
    ModuleRequest,
    ModuleSelection,
    ModuleWorld,
    check_vermagic,
    make_world,
    missing_error,
    module_options,
    select_modules,
)

BASE = "usr/lib/modules/6.1/"


def info(
    name: str,
    *depends: str,
    pre: tuple[str, ...] = (),
    post: tuple[str, ...] = (),
    weak: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    firmware: tuple[str, ...] = (),
) -> ModuleInfo:
    return ModuleInfo(name, depends, pre, post, weak, aliases, firmware, "6.1 SMP", "0" * 64, 1)


MODULES = {
    "kernel/drivers/md/dm-mod.ko": info("dm_mod"),
    "kernel/drivers/md/dm-crypt.ko": info("dm_crypt", "dm-mod"),
    "kernel/drivers/block/virtio_blk.ko": info("virtio_blk", "virtio_ring", aliases=("virtio:d00000002v*",)),
    "kernel/drivers/virtio/virtio_ring.ko": info("virtio_ring", "virtio"),
    "kernel/drivers/virtio/virtio.ko": info("virtio"),
    "kernel/drivers/net/e1000/e1000.ko": info("e1000", aliases=("pci:v00008086d00001000sv*sd*bc*sc*i*",),
                                              firmware=("e1000/a.bin",)),
    "kernel/fs/btrfs/btrfs.ko": info("btrfs", pre=("blake2b-256", "nowhere"), post=("later",), weak=("weak_one",)),
    "kernel/crypto/blake2b_generic.ko": info("blake2b_generic", aliases=("blake2b-256", "crypto-blake2b-256")),
    "kernel/crypto/later.ko": info("later", pre=("btrfs",)),
    "kernel/crypto/weak_one.ko": info("weak_one"),
}  # fmt: skip
WORLD = make_world(
    "6.1",
    [(BASE + path, facts) for path, facts in MODULES.items()],
    "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\n",
    b"ext4.alias=fs-ext4\0",
)


def ask(
    *specs: str, need: str = "required", leave_out: tuple[str, ...] = (), world: ModuleWorld = WORLD
) -> ModuleSelection:
    return select_modules(world, [ModuleRequest(spec, need, "f", "g") for spec in specs], leave_out)  # type: ignore[arg-type]


def test_depends_are_taken_with_their_reasons() -> None:
    chosen = ask("virtio-blk")
    assert list(chosen.modules) == ["virtio_blk", "virtio", "virtio_ring"], "sorted by path"
    assert chosen.modules["virtio_blk"] == BASE + "kernel/drivers/block/virtio_blk.ko"
    assert chosen.reasons["virtio_blk"] == (Reason("feature", "f", "virtio-blk"),)
    assert chosen.reasons["virtio"] == (Reason("module", chosen.modules["virtio_ring"], "virtio"),)
    assert not chosen.missing


def test_soft_and_weak_dependencies_by_name_and_alias_and_in_a_circle() -> None:
    chosen = ask("btrfs")
    path = BASE + "kernel/fs/btrfs/btrfs.ko"
    assert set(chosen.modules) == {"btrfs", "blake2b_generic", "later", "weak_one"}
    assert chosen.reasons["blake2b_generic"] == (Reason("softdep", path, "pre blake2b-256"),)
    assert chosen.reasons["later"] == (Reason("softdep", path, "post later"),)
    assert chosen.reasons["weak_one"] == (Reason("weakdep", path, "weak_one"),)
    assert chosen.reasons["btrfs"][0].kind == "feature", "features stand before modules"
    assert not chosen.missing, "a softdep that the kernel does not have is no error"


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("drivers/virtio/", {"virtio", "virtio_ring"}),
        ("kernel/drivers/virtio/", {"virtio", "virtio_ring"}),
        ("drivers/virtio", set()),
        ("drivers/m*/dm-*", {"dm_mod", "dm_crypt"}),
        ("drivers/md/dm-crypt.ko", {"dm_mod", "dm_crypt"}),
        ("dm-*", {"dm_mod", "dm_crypt"}),
        ("dm_c[a-z]ypt", {"dm_mod", "dm_crypt"}),
        ("alias:pci:v00008086d00001000sv00001AF4sd00001100bc02sc00i00", {"e1000"}),
        ("alias:pci:v00008086d00001001sv00001AF4sd00001100bc02sc00i00", set()),
        ("alias:crypto_blake2b-256", {"blake2b_generic"}),
    ],
)
def test_specs(spec: str, names: set[str]) -> None:
    chosen = ask(spec)
    assert set(chosen.modules) == names
    assert bool(chosen.missing) == (not names)


@pytest.mark.parametrize("spec", ["ext4", "nvme", "drivers/nvme/", "fs/ext4/*", "alias:fs-ext4", "nv*"])
def test_built_in_meets_a_request(spec: str) -> None:
    chosen = ask(spec)
    assert not chosen.missing
    assert not chosen.modules
    assert len(chosen.builtin) == 1


def test_a_missing_one_names_the_nearest() -> None:
    chosen = ask("virtio_blc", "gone")
    assert [missing.spec for missing in chosen.missing] == ["virtio_blc", "gone"]
    error = missing_error(WORLD, chosen.missing)
    assert error.message == "kernel 6.1: module virtio_blc, wanted by f, exists nowhere (and 1 more: gone)"
    assert error.hint == "did you mean 'virtio_blk'?"


def test_if_present_is_never_missing() -> None:
    assert ask("gone", need="if-present") == ask(need="if-present")


def test_any_of_needs_one_and_takes_all() -> None:
    assert not ask("gone", "virtio", need="any-of").missing
    assert set(ask("e1000", "virtio", need="any-of").modules) == {"e1000", "virtio"}
    assert not ask("gone", "ext4", need="any-of").missing, "built in counts"
    (missing,) = ask("gone", "off", need="any-of").missing
    assert missing.spec == "gone or off"
    two = [ModuleRequest(spec, "any-of", "f", group) for spec, group in (("virtio", "1"), ("gone", "2"))]
    assert [missing.spec for missing in select_modules(WORLD, two).missing] == ["gone"], "each group for itself"


def test_left_out() -> None:
    chosen = ask("drivers/md/", need="if-present", leave_out=("dm-mod",))
    assert not chosen.modules
    assert [(item.what, item.reason) for item in chosen.left_out] == [
        ("module dm_crypt", "it needs dm_mod, which is left out by 'dm-mod'"),
        ("module dm_mod", "dm_mod is left out by 'dm-mod'"),
    ]
    (missing,) = ask("dm-crypt", leave_out=("dm-mod",)).missing
    assert "left out" in missing.why
    chosen = ask("btrfs", leave_out=("crypto/*",))
    assert set(chosen.modules) == {"btrfs"}
    assert {item.what for item in chosen.left_out} == {"module blake2b_generic", "module later", "module weak_one"}


def test_a_dependency_that_exists_nowhere() -> None:
    world = make_world("6.1", [(BASE + "kernel/a.ko", info("a", "b")), (BASE + "kernel/b.ko", info("b", "c"))])
    (missing,) = ask("a", world=world).missing
    assert missing.why == "it needs c, which exists nowhere"


def test_updates_come_before_the_kernels_own() -> None:
    files = [
        (BASE + "kernel/drivers/net/x.ko", info("x", "old")),
        (BASE + "updates/dkms/x.ko", info("x")),
        (BASE + "extra/x.ko", info("x", "older")),
        (BASE + "updates/drivers/net/y.ko", info("y")),
    ]
    for order in (files, files[::-1]):
        world = make_world("6.1", order)
        assert world.paths["x"] == BASE + "updates/dkms/x.ko"
        assert set(ask("x", world=world).modules) == {"x"}
        assert set(ask("drivers/net/", world=world).modules) == {"y"}
        assert set(ask("updates/", world=world).modules) == {"x", "y"}


def test_firmware_is_listed() -> None:
    assert ask("e1000", "virtio").firmware == {"e1000": ("e1000/a.bin",)}


def test_the_order_of_requests_and_modules_does_not_matter() -> None:
    specs = ("btrfs", "dm-*", "drivers/virtio/", "later")
    turned = make_world("6.1", [(BASE + path, facts) for path, facts in reversed(MODULES.items())])
    assert ask(*specs).reasons == ask(*reversed(specs), world=turned).reasons


words = st.text(st.sampled_from("ab-_:0"), min_size=1, max_size=6)
patterns = st.lists(st.sampled_from(["a", "b", "-", "_", ":", "0", "*", "?", "[ab]"]), min_size=1, max_size=6).map(
    "".join
)


@given(st.lists(st.tuples(patterns, st.sampled_from("xyz"))), words)
def test_the_alias_index_finds_what_fnmatch_finds(pairs: list[tuple[str, str]], key: str) -> None:
    wanted = sorted({name for alias, name in pairs if fnmatchcase(normalise(key), normalise(alias))})
    assert list(AliasIndex(pairs).find(key)) == wanted


def test_a_bus_that_is_a_pattern() -> None:
    index = AliasIndex([("p*:x[0-9]*", "a"), ("*", "b"), ("platform:x-1", "c"), ("pci:x1", "d")])
    assert index.find("platform:x_1") == ("b", "c")
    assert index.find("pci:x1") == ("a", "b", "d")


def test_normalise_keeps_brackets() -> None:
    assert normalise("a-b[0-9]-c") == "a_b[0-9]_c"


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)),
       st.lists(st.sampled_from("abcdef"), max_size=2))  # fmt: skip
def test_what_is_selected_is_closed(graph: dict[str, list[str]], wanted: list[str]) -> None:
    """Whatever the graph: all that a selected module depends on is selected too, and each has a reason."""
    world = make_world("6.1", [(f"{BASE}kernel/{name}.ko", info(name, *depends)) for name, depends in graph.items()])
    chosen = ask(*wanted, world=world)
    for name in chosen.modules:
        assert set(graph[name]) <= set(chosen.modules)
        assert chosen.reasons[name]
    assert {missing.spec for missing in chosen.missing} == set(wanted) - set(chosen.modules)


def test_module_options() -> None:
    assert module_options(Modprobe()) == ""
    settings = Modprobe({"nvme": "poll_queues=2", "dm-mod": "a=b"}, ("floppy",), {"x": "pre: a b post: c"})
    assert module_options(settings) == (
        "options dm-mod a=b\noptions nvme poll_queues=2\nblacklist floppy\nsoftdep x pre: a b post: c\n"
    )
    for bad in (
        Modprobe({"a": "b\ninstall x rm"}),
        Modprobe({"a b": "c"}),
        Modprobe(blacklist=("a\nb",)),
        Modprobe({"a": "b\\"}),
    ):
        with pytest.raises(RecipeError):
            module_options(bad)


def built_for(vermagic: str, *paths: str) -> list[tuple[str, ModuleInfo]]:
    """Return modules at these paths below the modules directory, built for that."""
    return [(BASE + path, structs.replace(info(module_name(path)), vermagic=vermagic)) for path in paths]


def test_of_modules_with_one_name_the_shallower_of_updates_is_taken() -> None:
    paths = ["updates/dkms/own.ko", "updates/own.ko", "kernel/own.ko", "extra/own.ko"]
    for order in (paths, paths[::-1]):
        assert make_world("6.1", built_for("6.1 SMP", *order)).paths == {"own": f"{BASE}updates/own.ko"}


def test_a_module_that_the_kernel_would_refuse() -> None:
    own = built_for("6.1 SMP", "kernel/a.ko")
    for path in ("updates/x.ko", "updates/dkms/x.ko", "kernel/x.ko"):
        world = make_world("6.1", [*own, *built_for("6.2 SMP", path)])
        check_vermagic(world, ["a"])
        with pytest.raises(BuildError, match=rf"{path} is built for kernel 6\.2, and the image is for 6\.1 .*--kernel"):
            check_vermagic(world, ["a", "x"])
    other = make_world("6.1", [*own, *built_for("6.1 PREEMPT", "updates/x.ko")])
    with pytest.raises(BuildError, match=r"built for a kernel that is '6\.1 PREEMPT', and 6\.1 is '6\.1 SMP'"):
        check_vermagic(other, ["x"])
    elsewhere = make_world("6.1", [*own, *built_for("6.0 SMP", "weak-updates/x.ko"), *built_for("", "extra/y.ko")])
    check_vermagic(elsewhere, ["a", "x", "y"])
    check_vermagic(make_world("6.1", built_for("6.1 any", "updates/x.ko")), ["x"])
