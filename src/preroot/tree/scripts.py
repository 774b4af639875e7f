# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which packages of an image have scripts that would have mattered, and are not known. Pure.

Scripts are never run. What debhelper writes into them (triggers, ldconfig, deb-systemd-helper, sysusers) is done
declaratively or has no meaning in an image; of the rest, distributions/NAME.toml and features say why it need not
run. Sources: deb-postinst(5), debhelper(7) "Automatically added by".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from preroot.packages.model import Package, PackageIndex

#: Scripts that run when a package is installed; those of its removal say nothing about an image.
_INSTALLING = ("preinst", "postinst")
_GENERATED = re.compile(r"# Automatically added by .*?# End automatically added section", re.DOTALL)
#: Lines that do nothing by themselves.
_IDLE = re.compile(
    r"\s*(#.*|set -\w+|exit 0|:|true|\.\s+/usr/share/debconf/confmodule|esac|fi|else|;;|case .* in|[\w|*\"-]+\)"
    r"|[\w|*\"-]+\)\s*;;)?\s*"
)


def does_something(script: str) -> bool:
    """Return whether a maintainer script has a line of its own that is not generated and not idle."""
    return any(not _IDLE.fullmatch(line) for line in _GENERATED.sub("", script).splitlines())


def unknown_scripts(
    packages: Iterable[tuple[Package, PackageIndex]], known: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return (package, script) for each installing script that does something and is not known.

    `packages` are those with files in the image; `known` maps globs of package names to the reason why their
    scripts need not run.
    """
    return tuple(
        (package.name, name)
        for package, index in packages
        if not any(fnmatchcase(package.name, pattern) for pattern in known)
        for name in _INSTALLING
        if does_something(index.scripts.get(name, ""))
    )
