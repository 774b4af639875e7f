# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of secrets once a plan is made: that they must not be signed along, and where they are open to all."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import structs

from preroot.errors import RecipeError
from preroot.image.digest import is_secret
from preroot.recipe.load import LoadedRecipe
from preroot.recipe.schema import Secret
from preroot.recipe.secrets import is_secret_key
from preroot.tree.model import Plan


def with_checked_secrets(plan: Plan, loaded: LoadedRecipe) -> Plan:
    """Return the plan with warnings about secrets that are none.

    Raises RecipeError where the image is meant to be signed, has secrets inside, and the recipe does not force that.
    """
    recipe, signing = loaded.recipe, loaded.recipe.signing
    if plan.secret and signing.intended and not signing.allow_secrets:
        raise RecipeError(
            f"{loaded.where(('signing', 'intended'))}: the image is meant to be signed, and has secrets inside: "
            + ", ".join(secret_paths(plan)),
            "pass them beside the image, as systemd credentials; --allow-secrets forces it",
        )
    modes = {each.source: _mode(Path(each.source)) for each in recipe.secret}
    found = (*open_sources(recipe.secret, modes), *open_options(recipe.cmdline))
    return structs.replace(plan, warnings=(*plan.warnings, *found)) if found else plan


def open_options(cmdline: Iterable[str]) -> tuple[str, ...]:
    """Return a warning for each option of the kernel's command line that has a secret in it."""
    names = dict.fromkeys(word.partition("=")[0] for word in cmdline if "=" in word)
    return tuple(
        f"{name} on the kernel's command line is no secret: it is in the manifest, and everybody on the booted system "
        "can read /proc/cmdline"
        for name in names
        if is_secret_key(name)
    )


def secret_paths(plan: Plan) -> tuple[str, ...]:
    """Return the paths of the plan's secrets, sorted."""
    return tuple(sorted(path for part in plan.parts for path, entry in part.tree.entries.items() if is_secret(entry)))


def open_sources(secrets: Iterable[Secret], modes: Mapping[str, int]) -> tuple[str, ...]:
    """Return a warning for each secret whose source everybody can read. `modes`: source → its permission bits."""
    return tuple(
        f"the secret {each.path} is no secret on this machine: everybody can read {each.source} "
        f"(mode {modes[each.source]:04o}, chmod go= makes it private)"
        for each in secrets
        if modes[each.source] & stat.S_IROTH
    )


def _mode(path: Path) -> int:
    """Return the permission bits of a file, 0 where it is not there (any more): writing the image says so."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
