# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel as a role: found by its files, wherever packages put them. Pure.

Debian up to 13 has everything in one package; later ones, Fedora and others split image and modules over several, so
files of all packages are looked at together and grouped by kernel release.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from preroot.errors import BuildError, nearest
from preroot.facts.kernel import MODULE_SUFFIXES, kernel_version_from_path


class KernelFiles(Struct, frozen=True):
    """Where the files of one kernel release are; paths as they were given, '' for what was not found."""

    version: str
    #: bzImage, Image.gz … : vmlinuz-VERSION in boot/, or vmlinuz in the modules directory
    image: str = ""
    config: str = ""
    #: without a slash at the end
    modules_directory: str = ""
    builtin: str = ""
    builtin_modinfo: str = ""
    order: str = ""
    system_map: str = ""
    #: paths of its module files, sorted
    modules: tuple[str, ...] = ()


_BOOT_ROLES = {"vmlinuz": "image", "vmlinux": "image", "config": "config", "System.map": "system_map"}
_MODULES_ROLES = {
    "vmlinuz": "image",
    "Image": "image",
    "config": "config",
    "System.map": "system_map",
    "modules.builtin": "builtin",
    "modules.builtin.modinfo": "builtin_modinfo",
    "modules.order": "order",
}


def find_kernels(files: Iterable[str]) -> tuple[KernelFiles, ...]:
    """Find the kernels among the paths of package files, sorted by version.

    A modules directory counts only if something of a kernel is in it (modules or their lists): header packages put
    links to the sources there, and packages of single modules have no other directories than updates/, extra/ and such.
    """
    found: dict[str, dict[str, str]] = {}
    modules: dict[str, list[str]] = {}
    for path in files:
        version = kernel_version_from_path(path)
        if version is None:
            continue
        if path.endswith(MODULE_SUFFIXES):
            modules.setdefault(version, []).append(path)
        elif path.startswith("boot/"):
            role = _BOOT_ROLES.get(path[5:].partition("-")[0])
            if role:
                # in /boot it is the one that boot loaders use
                found.setdefault(version, {})[role] = path
        else:
            base, _, name = path.rpartition("/")
            role = _MODULES_ROLES.get(name)
            if role and base.endswith(f"modules/{version}"):
                found.setdefault(version, {}).setdefault(role, path)
    kernels = []
    for version in sorted({*found, *modules}):
        roles, own = found.get(version, {}), sorted(modules.get(version, ()))
        inside = own[:1] or [roles[role] for role in ("builtin", "order", "builtin_modinfo") if role in roles]
        directory = inside[0][: inside[0].index(f"modules/{version}/")] + f"modules/{version}" if inside else ""
        of_kernel = any(path.startswith(f"{directory}/kernel/") for path in own)
        if "image" in roles or (own and (of_kernel or "builtin" in roles or "order" in roles)):
            kernels.append(KernelFiles(version, modules_directory=directory, modules=tuple(own), **roles))
    return tuple(kernels)


def choose_kernel(kernels: Sequence[KernelFiles], version: str, where: str, hint: str = "") -> KernelFiles:
    """Return the kernel of that version (''= the only one). `where` says what was looked through, for errors, and
    `hint` what else can be done about a version that is not there.

    Raises BuildError when there is none, when there are several and no version is given, or when the version is not
    among them.
    """
    names = [kernel.version for kernel in kernels]
    if not kernels:
        raise BuildError(f"no kernel in {where}", "set [kernel] package to a package with vmlinuz and modules")
    if not version:
        if len(kernels) > 1:
            raise BuildError(f"several kernels in {where}: {', '.join(names)}", "choose one with [kernel] version")
        return kernels[0]
    for kernel in kernels:
        if kernel.version == version:
            return kernel
    raise BuildError(
        f"no kernel {version} in {where}; there is {', '.join(names)}",
        "; ".join(filter(None, (nearest(version, names), hint))),
    )
