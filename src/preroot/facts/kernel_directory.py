# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel in a directory: which of its files are the kernel's, in whichever of the usual arrangements. Pure.

Known are a staged root (boot/vmlinuz-VERSION with lib/modules/VERSION), modules directories with all in them
(lib/modules/VERSION/vmlinuz, as Fedora and Arch have it), and what `make install` and `make modules_install` leave:
vmlinuz or vmlinuz-VERSION (arch/x86/boot/install.sh, scripts/install.sh, Debian's installkernel(8)), beside or below
lib/modules/VERSION (scripts/Makefile.modinst). Of the indexes that depmod made nothing is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from preroot.errors import BuildError, nearest
from preroot.facts.kernel import MODULE_SUFFIXES

#: what `make` and distributions call a kernel image, the best first
IMAGES = ("vmlinuz", "bzImage", "vmlinuz.efi", "Image.gz", "Image", "zImage", "vmlinux")
_CONFIGS = ("config", ".config")
_TREES = ("lib/modules", "usr/lib/modules")
#: lists that kbuild writes and that can't be made from the modules (Documentation/kbuild/kbuild.rst)
_LISTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_LOOKED_FOR = f"{', '.join(IMAGES)}, each also with -VERSION, in it, in boot/ and in lib/modules/VERSION"


class KernelDirectory(Struct, frozen=True):
    """The kernel that was chosen, and path in a package → path below the directory."""

    release: str
    files: dict[str, str]


def enter(path: str) -> bool:
    """Return whether a kernel's files may be in this directory (a path below the one that the recipe names)."""
    if path == "boot" or any(tree == path or tree.startswith(f"{path}/") for tree in _TREES):
        return True
    release, below = _in_tree(path)
    # links to the sources in most kernels, and directories of thousands of headers in some
    return bool(release) and below not in ("build", "source")


def wanted(path: str) -> bool:
    """Return whether a path is of a file that a kernel may need here."""
    if _in_boot(path):
        return bool(_role(path))
    release, below = _in_tree(path)
    return bool(release) and (_of_modules(below) or ("/" not in below and bool(_role(below))))


def _of_modules(below: str) -> bool:
    """Return whether a path below a modules directory is of a module, or a list that kbuild writes."""
    return below in _LISTS or below.endswith(MODULE_SUFFIXES)


def _in_boot(path: str) -> bool:
    return "/" not in path.removeprefix("boot/")


def _in_tree(path: str) -> tuple[str, str]:
    """Return the kernel's release that a path below lib/modules is of, and the path below that; '' for others."""
    for tree in _TREES:
        if path.startswith(f"{tree}/"):
            release, _, below = path[len(tree) + 1 :].partition("/")
            return release, below
    return "", ""


def _role(path: str) -> str:
    """Return what a file is by its name: image, config, or '' for neither."""
    name = path.rpartition("/")[2]
    for role, names in (("image", IMAGES), ("config", _CONFIGS)):
        if any(name == each or name.startswith(f"{each}-") for each in names):
            return role
    return ""


def named_release(path: str) -> str:
    """Return the release in the name of an image or configuration, '' where there is none."""
    release, _ = _in_tree(path)
    return release or path.rpartition("/")[2].partition("-")[2]


def images(paths: Iterable[str]) -> list[str]:
    """Return the paths of kernel images, those first that boot loaders would take: by place, then by name."""

    def rank(path: str) -> tuple[bool, int, str]:
        name = path.rpartition("/")[2]
        kind = next(number for number, each in enumerate(IMAGES) if name == each or name.startswith(f"{each}-"))
        return bool(_in_tree(path)[0]), kind, path

    return sorted((path for path in paths if _role(path) == "image"), key=rank)


def choose(
    paths: Iterable[str], releases: Mapping[str, str], version: str, *, monolithic: bool, where: str
) -> KernelDirectory:
    """Choose a kernel among the files of a directory.

    Arguments: paths below it (`wanted`); image → release by its content, '' where that does not say it; the release
    asked for ('': the only one); whether it is one without modules; the directory's name for errors.
    Raises BuildError naming what is missing and where it was looked for, and the releases where there are several.
    """
    listed = sorted(paths)
    trees = _module_trees(listed)
    found: dict[str, str] = {}
    for path in images(releases):
        release = releases[path] or named_release(path) or version or (next(iter(trees)) if len(trees) == 1 else "")
        if not release:
            raise BuildError(f"{where}: of which release {path} is can't be told by its name or content",
                             "call it vmlinuz-VERSION, or set kernel.version")  # fmt: skip
        # of several images of one release, the one that is named so is meant (vmlinuz-6.1.old has that release too)
        if release not in found or (named_release(path) == release != named_release(found[release])):
            found[release] = path
    if not found:
        raise BuildError(f"no kernel in {where}", f"looked for {_LOOKED_FOR}")
    release = _one_of(found, trees, version, monolithic=monolithic, where=where)
    files = {f"boot/vmlinuz-{release}": found[release]}
    config = _config_of(listed, release, alone=len(found) == 1)
    if config:
        files[f"boot/config-{release}"] = config
    for path in listed:
        tree, below = _in_tree(path)
        taken = below in _LISTS if monolithic else _of_modules(below)
        if tree == release and taken and path.startswith(trees.get(release, "?")):
            files[f"lib/modules/{release}/{below}"] = path
    return KernelDirectory(release, files)


def _module_trees(paths: Iterable[str]) -> dict[str, str]:
    """Return release → its modules directory, for those that have any module or list in them, ended by a slash."""
    found: dict[str, str] = {}
    for path in paths:
        release, below = _in_tree(path)
        if release and _of_modules(below):
            found.setdefault(release, path[: len(path) - len(below)])
    return found


def _one_of(
    found: Mapping[str, str], trees: Mapping[str, str], version: str, *, monolithic: bool, where: str
) -> str:  # fmt: skip
    names = ", ".join(sorted(found))
    if version:
        if version not in found:
            raise BuildError(f"no kernel {version} in {where}; there is {names}", nearest(version, found))
        release = version
    else:
        whole = [each for each in found if monolithic or each in trees]
        if len(whole or found) > 1:
            raise BuildError(f"several kernels in {where}: {', '.join(sorted(whole or found))}",
                             "choose one with [kernel] version, or --kernel")  # fmt: skip
        release = (whole or list(found))[0]
    if not monolithic and release not in trees:
        others = f"; there are modules of {', '.join(sorted(trees))}" if trees else ""
        looked = " and ".join(f"{tree}/{release}" for tree in _TREES)
        raise BuildError(
            f"the kernel {release} in {where} ({found[release]}) has no modules: looked for {looked}{others}",
            "make modules_install INSTALL_MOD_PATH=…; or kernel.monolithic = true for a kernel without modules",
        )
    return release


def _config_of(paths: Iterable[str], release: str, *, alone: bool) -> str:
    """Return the configuration of a release: one that is named so, or the only one; '' where there is none."""
    configs = [path for path in paths if _role(path) == "config"]
    named = [path for path in configs if named_release(path) == release]
    unnamed = [path for path in configs if not named_release(path)]
    # in /boot it is the one that boot loaders use
    best = sorted(named, key=lambda path: not _in_boot(path)) or (unnamed if alone else [])
    return best[0] if best else ""
