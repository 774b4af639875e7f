# SPDX-License-Identifier: LGPL-2.1-or-later
"""A planted secret is looked for in everything that preroot writes and says: it is in the image and nowhere else."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator
from hashlib import sha1, sha256, sha512
from pathlib import Path

import pytest
from fixture_types import Command

from preroot.cli import _COMMANDS
from preroot.engine import Engine, Workspace, read_manifest
from preroot.errors import RecipeError
from preroot.inspect.archive import read_file
from preroot.recipe.search import BUILT_IN, SearchPath

RECIPE = """
name = "image"
[kernel]
modules = "virtual"
[access]
policy = "password"
password-hash = "{hash}"
[[secret]]
path = "etc/key"
source = "key"
"""

#: every command that there is, and failing ones; `{…}` are filled in
COMMANDS = (
    "build {recipe} --output {out}", "build {recipe} --output {out} --sbom spdx --sbom cyclonedx",
    "build {recipe} --output {out} --json", "build {recipe} --output {out} --locked", "plan {recipe}",
    "plan {recipe} --json", "plan {recipe} --explain", "plan {recipe} --left-out",
    "plan {recipe} --unexplained", "plan {recipe} --size",
    "plan {recipe} --unexplained",
    "lock {recipe}", "why {recipe} etc/key", "why --json {recipe} etc/shadow", "why --json --image {image} etc/key",
    "ls -l {image}", "ls --json {image}",
    "build {recipe} --output {other} --set failure.delay=3 --set access.password-hash={other_hash}",
    "diff {image} {other}/image.initrd", "diff --json {image} {other}/image.initrd", "sbom {image} --lock {lock}",
    "size {image} --by directory", "size {image} --json --html {out}/size.html",
    "sbom --format cyclonedx {image} --lock {lock}", "verify {image}", "verify --json {image} {recipe}",
    "verify {image} {recipe} --set compression.level=1", "boot {image} --timeout 0.5",
    "test --list", "store verify", "doctor",
    "features emergency-shell --json", "schema", "completion bash",
)  # fmt: skip
FAILING = (
    "build {recipe} --output {out} --set access.password-hash:{hash}",
    "build {recipe} --output {out} --set access.policy={hash}",
    "build {recipe} --output {out} --set access.password-hash=[\"{hash}\"]",
    "build {recipe} --output {out} --set layout=partition", "build {recipe} --output {out} --set signing.intended=true",
    "build {recipe} --output {out} --set packages=[\"no-such-package\"]", "plan {recipe} --feature nowhere",
    "build {recipe} --output {recipe}/below", "why {recipe} etc/keys",
)  # fmt: skip


def test_no_command_is_forgotten() -> None:
    assert {line.split()[0] for line in COMMANDS} == set(_COMMANDS)


class Planted:
    """A secret, and the forms in which it could be found."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(30)
        self.hash = f"$6$salt${secrets.token_hex(30)}"
        self.other_hash = f"$6$salt${secrets.token_hex(30)}"

    def forms(self, *whole: bytes) -> dict[str, bytes]:
        """Return what to look for; `whole` are contents of files that have a secret inside."""
        found: dict[str, bytes] = {}
        for name, value in (("key", self.key), ("hash", self.hash), ("other hash", self.other_hash)):
            data = value.encode()
            found |= {name: data, f"{name} hex": data.hex().encode(), f"{name} HEX": data.hex().upper().encode()}
            # of the three ways in which base64 can be cut, the middle that does not depend on what is around
            for shift in range(3):
                coded = base64.b64encode(bytes(shift) + data)
                found[f"{name} base64+{shift}"] = coded[4 + 4 * bool(shift) : -4]
        for number, content in enumerate((self.key.encode(), self.hash.encode(), self.other_hash.encode(), *whole)):
            for algorithm in (sha1, sha256, sha512):
                digest = algorithm(content)
                found[f"{algorithm.__name__} of {number}"] = digest.digest()
                found[f"{algorithm.__name__} of {number} in hex"] = digest.hexdigest().encode()
                found[f"{algorithm.__name__} of {number} in base64"] = base64.b64encode(digest.digest()).rstrip(b"=")
        return found


def files_below(top: Path, *but: Path) -> Iterator[tuple[Path, bytes]]:
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            if path not in but and path.is_file():
                yield path, path.read_bytes()


@pytest.mark.usefixtures("workspace")
def test_a_planted_secret_is_in_the_image_and_nowhere_else(
    preroot: Command, workspace: Workspace, tmp_path: Path
) -> None:
    planted = Planted()
    top = tmp_path / "all"
    recipe, out, other, cache = top / "recipe" / "my.toml", top / "out", top / "other", top / "cache"
    for each in (recipe.parent, cache, top / "tmp", top / "home"):
        each.mkdir(parents=True)
    for shared in ("archives", "apt"):  # packages and indexes, which nothing of a recipe goes into
        (workspace.cache / shared).mkdir(parents=True, exist_ok=True)
        (cache / shared).symlink_to(workspace.cache / shared)
    recipe.write_text(RECIPE.replace("{hash}", planted.hash))
    key = recipe.parent / "key"
    key.write_text(planted.key)
    key.chmod(0o600)
    env = {"PREROOT_CACHE": str(cache), "TMPDIR": str(top / "tmp"), "HOME": str(top / "home")}
    image = out / "image.initrd"
    fill = {"recipe": recipe, "out": out, "other": other, "image": image, "lock": recipe.with_suffix(".lock"),
            "hash": planted.hash, "other_hash": planted.other_hash}  # fmt: skip
    said: dict[str, str] = {}

    def run(line: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = preroot(*(word.format_map(fill) for word in line.split()), env={**env, **more}, cwd=top)
        said[f"{line} #{len(said)}"] = done.stdout + done.stderr
        return done

    for line in COMMANDS:
        done = run(line)
        fails = line.startswith("boot") or "compression" in line
        assert done.returncode == int(fails), (line, done.stderr)
    for line in FAILING:
        assert run(line, PYTHONDEVMODE="1").returncode in (1, 2), line

    images = [image, other / "image.initrd"]
    archive = read_file(images[0])
    contents = archive.effective()
    assert archive.read(contents["etc/key"]) == planted.key.encode()
    shadow = archive.read(contents["etc/shadow"])
    assert planted.hash.encode() in shadow
    forms = planted.forms(shadow)
    # a part that is kept compressed would be found by its bytes, whatever is written before them
    for part in read_manifest(out / "image.manifest.json").parts:
        if any(entry.secret for entry in part.entries):
            middle = part.offset + part.size // 2
            forms[f"part {part.name}"] = images[0].read_bytes()[middle : middle + 64]
    for line, text in said.items():
        assert not {name for name, form in forms.items() if form in text.encode()}, line
    for path, data in files_below(top, *images, recipe, key):
        assert not {name for name, form in forms.items() if form in data}, path
    for path in (*images, out / "image.manifest.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not list((top / "tmp").iterdir())


def test_an_image_that_is_meant_to_be_signed_has_none(preroot: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "my.toml"
    (tmp_path / "key").write_text("x")
    text = '[kernel]\nmodules = "virtual"\n[signing]\nintended = true\n'
    recipe.write_text(text)
    assert preroot("plan", recipe).returncode == 0
    recipe.write_text(text + '[[secret]]\npath = "etc/key"\nsource = "key"\n')
    done = preroot("build", recipe, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"{recipe}:4: the image is meant to be signed, and has secrets inside: etc/key" in done.stderr
    assert "systemd credentials" in done.stderr and not list((tmp_path / "out").iterdir())
    (tmp_path / "key").chmod(0o644)
    done = preroot("build", recipe, "--output", tmp_path / "out", "--allow-secrets")
    assert done.returncode == 0, done.stderr
    assert "warning: the secret etc/key is no secret on this machine" in done.stderr


def test_an_option_of_a_feature_can_be_one(workspace: Workspace, tmp_path: Path) -> None:
    """CHAP is the case in point: the password is an option, and the file that has it is a secret of the image."""
    features = tmp_path / "etc" / "features"
    features.mkdir(parents=True)
    (features / "chap.toml").write_text(
        'summary = "x"\n[options.chap-password]\nsecret = true\n[[generate]]\npath = "etc/iscsi/chap"\nmode = "0600"\n'
        'content = "password={{option.chap-password}}\\n"\n'
    )
    recipe = tmp_path / "my.toml"
    recipe.write_text(
        '[kernel]\nmodules = "virtual"\n[part.base]\nfeatures = ["...", "chap"]\n'
        '[features.chap]\nchap-password = "planted4711"\n'
    )
    with Engine(Workspace(workspace.cache, SearchPath((BUILT_IN, tmp_path / "etc")))) as engine:
        result = engine.build(engine.load(recipe), tmp_path / "out")
        assert result.secret and result.image.stat().st_mode & 0o777 == 0o600
        archive = read_file(result.image)
        assert archive.read(archive.effective()["etc/iscsi/chap"]) == b"password=planted4711\n"
        for path, data in files_below(tmp_path, result.image, recipe):
            assert b"planted" not in data and sha256(b"password=planted4711\n").hexdigest().encode() not in data, path
        recipe.write_text(recipe.read_text().replace('"planted4711"', '["planted4711"]'))
        with pytest.raises(RecipeError, match="chap-password is not valid") as caught:
            engine.build(engine.load(recipe), tmp_path / "out")
        assert "planted" not in str(caught.value)
