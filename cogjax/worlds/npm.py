"""Archives of npm packages: fetched by the program npm, read in memory.

Nothing of an archive is unpacked or run.
"""

import json
import subprocess
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from cogjax.errors import UserError

_MAX_BYTES = 256 << 20


def fetch(folder: Path, packages: Sequence[str]) -> None:
    """Puts the archives of packages, named "name@version", into `folder`.

    Archives that are there already are not fetched again.
    """
    missing = [p for p in packages if not archive_path(folder, p).is_file()]
    if not missing:
        return
    command = ["npm", "pack", "--silent", *missing]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"npm pack failed: {lines[0]}; use --tier pip or --npm-dir")


def archive_path(folder: Path, package: str) -> Path:
    """Where npm puts the archive of "name@version"."""
    name, _, version = package.removeprefix("@").replace("/", "-").rpartition("@")
    return Path(folder) / f"{name}-{version}.tgz"


def members(folder: Path, package: str, suffixes: Sequence[str]) -> dict[str, bytes]:
    """Members of an archive whose names end in one of `suffixes`, by name.

    Raises:
      UserError: the archive is missing, damaged, or unpacks to more than 256 MiB.
    """
    path = archive_path(folder, package)
    found, total = {}, 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                total += member.size
                if total > _MAX_BYTES:
                    raise UserError(f"{path} unpacks to more than {_MAX_BYTES} bytes")
                if member.isfile() and member.name.endswith(tuple(suffixes)):
                    found[member.name] = archive.extractfile(member).read()
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return found


def json_members(folder: Path, package: str, names: Sequence[str]) -> list:
    """Parsed members of an archive, named without its leading "package"."""
    found = members(folder, package, names)
    try:
        return [json.loads(found[f"package{name}"]) for name in names]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the archive of {package} is not as expected ({error}): fetch it again"
        ) from error
