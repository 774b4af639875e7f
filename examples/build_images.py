#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds two images in a script, one recipe being a file and the other one data, and says what came of it.

usage: build_images.py OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from preroot.engine import BuildResult, Engine, PrerootError, read_manifest

HERE = Path(__file__).resolve().parent


def rescue(contact: str) -> dict[str, object]:
    """Return a recipe: what a TOML file with the same tables and keys would be read as."""
    return {
        "name": "rescue",
        "kernel": {"modules": "virtual"},
        "part": {"base": {"flavour": "busybox", "features": ["busybox", "ext4", "virtio", "emergency-shell"]}},
        "access": {"policy": "open"},
        "file": [{"path": "etc/motd", "content": f"In trouble? Ask {contact}.\n"}],
    }


def report(result: BuildResult) -> Iterator[str]:
    """Yield lines about an image: its parts' sizes in bytes, its digest, warnings, and what most of its files are."""
    yield f"{result.image}: {result.size} bytes"
    for part in result.parts:
        yield f"  part {part.name}: {part.size} bytes, {part.uncompressed} uncompressed"
    yield f"  tree digest {result.tree_digest}"
    yield from (f"  warning: {warning}" for warning in result.warnings)
    manifest = read_manifest(result.manifest)
    if manifest.kernel is not None:
        yield f"  for kernel {manifest.kernel.version}, with {len(manifest.kernel.modules)} modules"


def main(output: Path) -> int:
    """Build both images into a directory; return the exit status."""
    try:
        with Engine() as engine:
            appliance = engine.load(HERE / "appliance.toml")
            for recipe in (appliance, engine.load(rescue("the operator on duty"))):
                # Without `lock`, that of a file lies beside it; here all that is written lies in one directory.
                result = engine.build(recipe, output, lock=output / f"{recipe.recipe.name}.lock")
                print("\n".join(report(result)))
    except PrerootError as error:  # everything that a user can mend; any other exception is a defect
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
