# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the pages of docs/ that are made from the program itself; with --check, only says which are not as made."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from preroot.recipe.features import Cmdline, Feature, globs
from preroot.recipe.libraries import Libraries, load_libraries
from preroot.recipe.library import load_features
from preroot.recipe.reference import recipe_reference
from preroot.recipe.search import BUILT_IN, SearchPath

DOCS = Path(__file__).resolve().parents[1] / "docs"

_FEATURES = """# Features

<!-- Generated from src/preroot/features/ by `make docs`; `make lint` compares them. -->

`preroot features NAME` shows all that a feature takes. A part takes features by `features = […]`; what a feature
requires comes with it. In a part of another flavour than it has, a feature is refused by name.
"""

_CMDLINE = """# The kernel's command line

<!-- Generated from src/preroot/features/ by `make docs`; `make lint` compares them. -->

What an image understands follows from its features. *By* says who implements an option: systemd, preroot, the kernel,
or a package that the feature takes; *since* is that program's version; *flavour* is empty where every flavour of the
feature has it.

systemd's own options are used wherever systemd implements something. Options of other spellings, those of
dracut.cmdline(7) above all, are translated (*becomes*) before systemd starts: an image has a table of just the
options that its features know, `/usr/lib/preroot/cmdline-table`, and `/init` goes by it. The result lies over
`/proc/cmdline` until the switch to the real root, so whatever reads the command line in the image understands them;
the real root sees it as it was given. Without such an option on the command line nothing is done. What was translated
away with a word stands in the journal (`journalctl -b -t preroot`).

In *becomes*, `{value}` is the option's value, `{NAME}` a part of it as in the option's column, and a name with a dot
each value of that option. `-` and `_` are one in names, as for the kernel. Of an option that is given more than once,
the last counts, unless it says that it adds up.

A recipe's `cmdline` is compared with all this: an option that no feature of the image understands is named when it is
built, with the feature that does. Options that begin with `rd.` and that nobody knows are named too; others may be
the kernel's, a module's or the real root's, and are not.

Who can write the command line can also name another init (`rdinit=/bin/sh`), and so owns the machine;
[access.md](access.md) says what an image's policy can hold against, and what only a signed command line can.
"""


_LIBRARIES = """# Libraries without NEEDED

<!-- Generated from src/preroot/libraries/ by `make docs`; `make lint` compares them. -->

What is loaded by name leaves no trace that a linker would write. This is what preroot knows of it besides dlopen notes;
[closure.md](closure.md) says how it is used, [feature.md](feature.md) how to add to it.
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)) + "\n"


def flavours(feature: Feature) -> tuple[str, ...]:
    """Return the flavours that a feature has, those of its variants included."""
    more = (variant.when.flavour for variant in feature.variant)
    return tuple(dict.fromkeys((*feature.flavours, *(flavour for flavour in more if flavour))))


def features_page(features: Mapping[str, Feature]) -> str:
    """Return docs/features.md: the matrix of features and flavours, and the features' options."""
    known = sorted({flavour for feature in features.values() for flavour in flavours(feature)}, reverse=True)
    matrix = [
        (f"`{name}`", *("yes" if flavour in flavours(feature) else "" for flavour in known),
         ", ".join(f"`{each}`" for each in feature.requires), feature.summary)
        for name, feature in features.items()
    ]  # fmt: skip
    options = [
        (f"`[features.{name}]` `{key}`", ", ".join(f"`{each}`" for each in option.choices) or option.type,
         "" if option.default is None else f"`{option.default}`", option.help)
        for name, feature in features.items()
        for key, option in feature.options.items()
    ]  # fmt: skip
    text = _FEATURES + "\n" + table(("feature", *known, "requires", "what it is"), matrix)
    return text + ("\n## Options\n\n" + table(("option", "type", "default", "meaning"), options) if options else "")


def cmdline_page(features: Mapping[str, Feature]) -> str:
    """Return docs/cmdline.md: every option of the kernel's command line that a feature declares."""
    found = {
        (each.name, each.value, each.by, str(each.since or ""), f"`{name}`", flavour or "", _becomes(each), each.help)
        for name, feature in features.items()
        for flavour, content in ((None, feature), *((each.when.flavour, each) for each in feature.variant))
        for each in content.cmdline
    }
    rows = [(f"`{option}={value}`" if value else f"`{option}`", *rest) for option, value, *rest in sorted(found)]
    head = ("option", "by", "since", "feature", "flavour", "becomes", "meaning")
    return _CMDLINE + "\n" + table(head, rows)


def _becomes(entry: Cmdline) -> str:
    if entry.ignored:
        return f"nothing: {entry.ignored}"
    if entry.widens_access:
        return "nothing, unless access.policy is `open`"
    return " ".join(f"`{each}`" for each in entry.maps_to)


def libraries_page(libraries: Libraries) -> str:
    """Return docs/libraries.md: the families of plugins, the facts, and what is dismissed."""

    def names(values: Iterable[str]) -> str:
        return ", ".join(f"`{each}`" for each in values)

    families = [
        (f"`{name}`", family.summary, names(family.plugin), names(family.builtin), family.evidence)
        for name, family in libraries.families.items()
    ]
    uses = [
        (f"`{name}`", names(globs(use.asker)), names(globs(use.with_)), names((*use.plugins, *use.paths)), use.evidence)
        for name, family in libraries.families.items()
        for use in family.use
    ]
    facts = [
        (names(globs(fact.asker)), names(fact.imports), names((*fact.sonames, *fact.also)),
         f"`{fact.feature}` ({fact.priority})" if fact.feature else "", fact.version, fact.evidence)
        for fact in libraries.dlopen
    ]  # fmt: skip
    dismissals = [
        (names(globs(each.asker)), names(each.sonames), each.version, each.reason) for each in libraries.dismissals
    ]
    parts = (
        ("Families of plugins", ("family", "what", "where", "built in", "evidence"), families),
        ("Plugins that something can't do without", ("family", "who", "beside", "needs", "evidence"), uses),
        ("Facts", ("who", "importing", "loads", "feature of a note", "versions", "evidence"), facts),
        ("Only mentioned", ("who", "strings", "versions", "why nothing is needed"), dismissals),
    )
    return _LIBRARIES + "".join(f"\n## {title}\n\n{table(head, rows)}" for title, head, rows in parts)


def pages() -> dict[str, str]:
    """Return the generated pages: name → text."""
    # Only what preroot comes with, and nothing of this machine's /etc/preroot.
    library = load_features(SearchPath((BUILT_IN,)))
    features = {name: library[name] for name in sorted(library)}
    made = {
        "recipe.md": recipe_reference(),
        "features.md": features_page(features),
        "cmdline.md": cmdline_page(features),
        "libraries.md": libraries_page(load_libraries(SearchPath((BUILT_IN,)))),
    }
    return {name: text.rstrip("\n") + "\n" for name, text in made.items()}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; return the exit code."""
    stale = {name: text for name, text in pages().items()
             if not (DOCS / name).exists() or (DOCS / name).read_text() != text}  # fmt: skip
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} is not as `make docs` writes it", file=sys.stderr)
        return int(bool(stale))
    for name, text in stale.items():
        (DOCS / name).write_text(text)
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
