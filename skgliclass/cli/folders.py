"""The folders that commands write: refused before any work where they could not be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .errors import CommandError

# A folder holds more than weights; below this no file system is of use.
_SPARE_BYTES = 1 << 20


def check_new_folder(name: str, *, reads: tuple[str | None, ...] = (), n_bytes: int = 0) -> None:
    """Refuse an output that could not or should not be written, before any work is done.

    Parameters
    ----------
    name : str
        The value of ``--output``: a new or empty folder.
    reads : tuple of str or None
        What the command reads: files, folders or names of models.
    n_bytes : int
        How much will be written at least.

    Raises
    ------
    CommandError
        If it is no such folder, there is no folder to make it in, or nothing can be written there.
    """
    if not name.strip():
        raise CommandError("--output is empty; give the name of a folder")
    folder = Path(name)
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a link to nothing" if folder.is_symlink() else "a file"
        raise CommandError(f"--output {name}: this is {what}; give a folder")
    for other in reads:
        if other and Path(other).exists() and folder.exists() and folder.samefile(other):
            raise CommandError(f"--output {name}: this is what is read; give a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise CommandError(f"--output {name}: the folder is not empty; give a new one")
    # Results are made beside the folder and renamed.
    parent = Path(os.path.abspath(folder)).parent
    if not parent.is_dir():
        raise CommandError(f"--output {name}: there is no folder {parent}; make it first")
    check_room(parent, n_bytes, f"--output {name}")


def check_room(folder: Path, n_bytes: int, where: str) -> None:
    """Refuse a folder in which nothing, or not enough, can be written.

    Parameters
    ----------
    folder : Path
        An existing folder.
    n_bytes : int
        How much will be written at least.
    where : str
        How the user calls it, for the error.

    Raises
    ------
    CommandError
        If no file can be made there, or the disk is full.
    """
    try:
        # By doing it: permissions, quotas and read-only disks show in no other way for certain.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CommandError(f"{where}: {folder} cannot be written to: {error.strerror}") from error
    if free < n_bytes + _SPARE_BYTES:
        raise CommandError(
            f"{where}: about {(n_bytes + _SPARE_BYTES) / 1e6:.0f} MB are needed, and "
            f"{free / 1e6:.0f} MB are free in {folder}"
        )
