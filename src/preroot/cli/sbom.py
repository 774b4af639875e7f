# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot sbom`."""

from __future__ import annotations

from pathlib import Path

import click

from preroot.cli.options import quiet_option
from preroot.cli.report import reporter_for, say
from preroot.engine import Engine


@click.command("sbom")
@click.argument("image", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "form", type=click.Choice(["spdx", "cyclonedx"]), default="spdx", show_default=True,
              help="SPDX 2.3 or CycloneDX 1.6, as JSON.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write; without one, standard output.")  # fmt: skip
@click.option("--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The image's lock; without one, it is looked for beside the image and here.")  # fmt: skip
@click.option("--location", "locations", multiple=True, metavar="URL",
              help="Public address of the packages, such as a snapshot's, for their download locations; again for each "
              "further repository of the lock.")  # fmt: skip
@quiet_option
def sbom_command(
    *, image: Path, form: str, output: Path | None, lock: Path | None, locations: tuple[str, ...], quiet: bool
) -> None:
    """Write what is in an image as an SBOM: packages, licences, sources, files with digests, build tools.

    The image is compared with the manifest beside it first. Equal images give equal SBOMs. Secrets are not in it, nor
    is the digest of an image that has some, so it can be given to anybody.

    \b
    Examples:
      preroot sbom out/preroot.initrd --output out/preroot.spdx.json
      preroot sbom out/server.initrd --lock server.lock --format cyclonedx | less
    """
    from preroot.engine.building import write_file

    with Engine(reporter=reporter_for(quiet=quiet, json=output is None)) as engine:
        data = engine.sbom(image, form, lock=lock, locations=locations)  # type: ignore[arg-type]
    if output is None:
        say(data.decode(), nl=False)
        return
    write_file(output, data)
    if not quiet:
        say(f"{output}: {form}, {len(data) / 1e3:.1f} kB")
