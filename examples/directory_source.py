#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes packages from a directory of .deb files instead of an archive: a source of a program's own.

usage: directory_source.py DIRECTORY RECIPE OUTPUT

The directory has one version of each package. Dependencies are followed by name; their version limits are not looked
at, for there is nothing to choose from. One that is not here is passed over: whether the image lacks anything without
it, preroot's own check says, by file.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from preroot.engine import BuildError, Engine, Package, PrerootError, Reporter, Resolution, read_package


class DirectorySource:
    """Packages of a directory, for one architecture (preroot.engine.Source)."""

    def __init__(self, directory: Path, arch: str) -> None:
        self.directory = directory
        self.arch = arch
        self._read: dict[str, tuple[Package, dict[str, str]]] | None = None

    def candidates(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return package → version, for those of `names` that are here."""
        return {name: self._packages()[name][0].version for name in names if name in self._packages()}

    def names(self, prefix: str) -> Sequence[str]:
        """Return the names of all packages that begin with `prefix`."""
        return [name for name in self._packages() if name.startswith(prefix)]

    def resolve(self, requests: Sequence[str], reporter: Reporter) -> Resolution:
        """Return the packages for `requests` (`name`, `name=version` or `name/arch`) with all that they depend on."""
        found: dict[str, Package] = {}
        with reporter.step("resolving"):
            wanted = [self._requested(request) for request in requests]
            while wanted:
                package, fields = self._packages()[wanted.pop()]
                if package.name not in found:
                    found[package.name] = package
                    wanted += self._dependencies(fields)
        return Resolution(tuple(found[name] for name in sorted(found)), trust={"directory": str(self.directory)})

    def fetch(self, packages: Sequence[Package], reporter: Reporter) -> Mapping[str, Path]:
        """Return SHA-256 → file. Whoever unpacks one checks its digest."""
        files = {package.sha256: self.directory / package.filename for package in packages}
        for package in packages:
            if not files[package.sha256].is_file():
                raise BuildError(f"{package.owner}: there is no file {files[package.sha256]}", "put it back")
        return files

    def _packages(self) -> dict[str, tuple[Package, dict[str, str]]]:
        """Return name → package and its control fields; nothing is read before it is needed."""
        if self._read is None:
            packages: dict[str, tuple[Package, dict[str, str]]] = {}
            for path in sorted(self.directory.glob("*.deb")):
                package, fields = read_package(path)
                if package.arch not in (self.arch, "all"):
                    continue
                if package.name in packages:
                    raise BuildError(f"{self.directory} has {package.name} twice", f"remove {path.name} or the other")
                packages[package.name] = package, fields
            self._read = packages
        return self._read

    def _requested(self, request: str) -> str:
        name, _, version = request.partition("/")[0].partition("=")
        found = self._packages().get(name)
        if found is None or version not in ("", found[0].version):
            near = difflib.get_close_matches(name, self._packages(), n=1)
            hint = f"did you mean {near[0]}?" if near else "add it, or name another directory"
            raise BuildError(f"{self.directory} has no package {request} for {self.arch}", hint)
        return name

    def _dependencies(self, fields: Mapping[str, str]) -> Iterator[str]:
        """Yield the packages that one depends on: of alternatives the first that is here, or that one here provides."""
        provided = {name: package.name for package, others in self._packages().values()
                    for name in _names(others.get("Provides", ""), ",")}  # fmt: skip
        for field in ("Pre-Depends", "Depends"):
            for alternatives in filter(None, fields.get(field, "").split(",")):
                names = _names(alternatives, "|")
                here = [name for name in names if name in self._packages()]
                yield from [*here, *(provided[name] for name in names if name in provided)][:1]


def _names(text: str, separator: str) -> list[str]:
    """Return the package names of a relationship field (deb-control(5)), without versions and architectures."""
    return [re.split(r"[\s:(\[]", each.strip())[0] for each in text.split(separator) if each.strip()]


def main(directory: Path, recipe_file: Path, output: Path) -> int:
    """Build a recipe from the packages of a directory; return the exit status."""
    try:
        with Engine() as engine:
            recipe = engine.load(recipe_file)
        with Engine(source=DirectorySource(directory, recipe.recipe.distribution.arch)) as engine:
            result = engine.build(recipe, output, lock=output / "directory.lock")
    except PrerootError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{result.image}: {result.size} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*map(Path, sys.argv[1:])))
