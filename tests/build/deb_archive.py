# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small signed archive in Debian's format, made on the spot: what the tests of the apt source resolve against."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from preroot.run import run


class Key:
    """A signing key in a GnuPG home of its own; `close` ends the agent that gpg starts."""

    def __init__(self, name: str) -> None:
        # not below pytest's directory: the agent's socket path may have 107 characters only (unix(7))
        self.home = Path(tempfile.mkdtemp(prefix="gpg-"))
        self._gpg(
            "--quick-generate-key", "--passphrase", "", f"{name} <{name}@example.org>", "ed25519", "sign", "never"
        )
        self.public = self.home / "public.gpg"
        self._gpg("--output", str(self.public), "--export")
        listing = self._gpg("--with-colons", "--list-keys")
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def _gpg(self, *arguments: str) -> str:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", *arguments]
        return run(argv, purpose="to sign the test archive").decode()

    def clearsign(self, source: Path, target: Path) -> None:
        self._gpg("--pinentry-mode", "loopback", "--passphrase", "", "--digest-algo", "SHA512", "--output", str(target),
                  "--clearsign", str(source))  # fmt: skip

    def detach(self, source: Path, target: Path) -> None:
        self._gpg("--pinentry-mode", "loopback", "--passphrase", "", "--armor", "--output", str(target),
                  "--detach-sign", str(source))  # fmt: skip

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)
        shutil.rmtree(self.home, ignore_errors=True)


class DebArchive:
    """An archive below `root`: `add` packages, then `publish` suites."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stanzas: list[dict[str, str]] = []

    @property
    def mirror(self) -> str:
        return f"file:{self.root}"

    def add(
        self, name: str, version: str = "1.0", arch: str = "amd64", *, content: Path | None = None, **fields: str
    ) -> Path:  # fmt: skip
        """Build a package (fields: Depends="…", Pre_Depends="…") of the files below `content`; return its path."""
        control = {
            "Package": name, "Version": version, "Architecture": arch, "Maintainer": "Nobody <nobody@example.org>",
            **{key.replace("_", "-"): value for key, value in fields.items()}, "Description": "test",
        }  # fmt: skip
        path = self.root / "pool/main" / name[0] / name / f"{name}_{version.rpartition(':')[2]}_{arch}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as tree:
            (Path(tree) / "DEBIAN").mkdir(mode=0o755)
            text = "".join(f"{key}: {value}\n" for key, value in control.items())
            (Path(tree) / "DEBIAN/control").write_text(text)
            if content is not None:
                shutil.copytree(content, tree, symlinks=True, dirs_exist_ok=True)
            document = Path(tree) / "usr/share/doc" / name / "README"
            document.parent.mkdir(parents=True)
            document.write_text(f"{name} {version} {arch}\n" * 100)
            run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", tree, path], purpose="to build a test package")
        data = path.read_bytes()
        control["Filename"] = str(path.relative_to(self.root))
        control["Size"] = str(len(data))
        control["SHA256"] = hashlib.sha256(data).hexdigest()
        self.stanzas.append(control)
        return path

    def publish(
        self,
        key: Key | None,
        suite: str = "trixie",
        *,
        arches: Sequence[str] = ("amd64", "arm64"),
        inline: bool = True,
        expired: bool = False,
        origin: str = "Debian",
    ) -> Path:
        """Write the indexes of `suite`, signed with `key` (or not at all); return the directory of the suite."""
        dists = self.root / "dists" / suite
        shutil.rmtree(dists, ignore_errors=True)
        sums = []
        for arch in arches:
            stanzas = [stanza for stanza in self.stanzas if stanza["Architecture"] in {arch, "all"}]
            text = "\n".join("".join(f"{name}: {value}\n" for name, value in each.items()) for each in stanzas)
            index = dists / f"main/binary-{arch}/Packages"
            index.parent.mkdir(parents=True)
            for path, data in ((index, text.encode()), (index.with_suffix(".gz"), gzip.compress(text.encode()))):
                path.write_bytes(data)
                sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path.relative_to(dists)}\n")
        now = datetime.now(UTC) - timedelta(minutes=5)
        until = now + timedelta(days=-3 if expired else 7)
        release = dists / "Release"
        release.write_text(
            f"Origin: {origin}\nLabel: {origin}\nSuite: {suite}\nCodename: {suite}\n"
            f"Date: {format_datetime(now - timedelta(days=10 if expired else 0), usegmt=True)}\n"
            f"Valid-Until: {format_datetime(until, usegmt=True)}\n"
            f"Architectures: {' '.join(arches)}\nComponents: main\nSHA256:\n" + "".join(sums)
        )
        if key and inline:
            key.clearsign(release, dists / "InRelease")
        elif key:
            key.detach(release, dists / "Release.gpg")
        return dists
