# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documentation shows works as it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fixture_types import LockMaker

from preroot.engine import Engine, Workspace
from preroot.image.manifest import decode
from preroot.inspect.archive import read_file
from preroot.inspect.why import index_of_manifest, why
from preroot.recipe.library import Features
from preroot.recipe.search import BUILT_IN, SearchPath

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """Return the TOML blocks of a page."""
    return re.findall(r"^```toml\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)


def test_the_example_of_a_feature_builds(workspace: Workspace, debian_lock: LockMaker, tmp_path: Path) -> None:
    feature, drop_in, recipe, *_ = blocks("docs/feature.md")
    search = tmp_path / "search"
    for name, text in (("features/disk-health.toml", feature),
                       ("distributions/debian.toml.d/disk-health.toml", drop_in)):  # fmt: skip
        (search / name).parent.mkdir(parents=True)
        (search / name).write_text(text)
    own = Workspace(workspace.cache, SearchPath((BUILT_IN, search)))
    (tmp_path / "my.toml").write_text(recipe)
    shutil.copy(debian_lock(), tmp_path / "my.lock")  # the lock gets smartctl's package, and keeps all others
    with Engine(own) as engine:
        loaded = engine.load(tmp_path / "my.toml")
        result = engine.build(loaded, tmp_path / "out")
    archive = read_file(result.image)
    entries = archive.effective()
    unit = archive.read(entries["usr/lib/systemd/system/disk-health.service"]).decode()
    assert "ExecStart=-smartctl --health /dev/vda\n" in unit and "{{" not in unit
    assert "usr/lib/systemd/system/disk-health.service.d/console.conf" in entries
    link = entries["etc/systemd/system/initrd.target.wants/disk-health.service"]
    assert link.target == "/usr/lib/systemd/system/disk-health.service"
    index = index_of_manifest(decode(result.manifest.read_bytes(), "manifest"))
    chains = why(index, "usr/sbin/smartctl").chains
    assert {chain[-1].reason.asker for chain in chains} == {"disk-health"}
    library = next(path for path in entries if path.endswith("/libstdc++.so.6"))
    assert why(index, library).chains[0][0].reason.asker == "usr/sbin/smartctl"


def test_the_page_on_features_knows_every_key() -> None:
    """The page on features knows all keys of `[take]` and `[modules]`."""
    import msgspec

    from preroot.recipe.features import Modules, Take

    page = (ROOT / "docs/feature.md").read_text()
    for table in (Take, Modules):
        for field in msgspec.structs.fields(table):
            assert f"`{field.encode_name}`" in page, field.encode_name


def test_the_recipe_of_the_readme_is_one(workspace: Workspace, tmp_path: Path) -> None:
    (recipe,) = blocks("README.md")
    (tmp_path / "server.toml").write_text(recipe)
    with Engine(workspace) as engine:
        loaded = engine.load(tmp_path / "server.toml")
    assert (loaded.recipe.name, loaded.recipe.failure.timeout) == ("server", 30)
    names = [name.removeprefix("-") for name in loaded.recipe.part["base"].features]
    assert set(names) <= set(Features())


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
