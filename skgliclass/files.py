"""Folders of files, and single files, that are replaced whole or not at all.

What is new is written to a folder of its own and synchronised. One renaming of that folder then
decides: before it, the old files are what is read; after it, the new ones are, and these are moved
to their places. The folder itself stays, so that it may be a mount point, a link's target or the
working directory, and files in it that are not replaced are not touched.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Where there are no such locks, two saves at a time are not kept apart.
_locks: Any = import_module("fcntl") if find_spec("fcntl") else None

# How a disk refuses more, without a word about the file.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_UNFINISHED = ".skgliclass-unfinished-"
_FINISHED = ".skgliclass-finished"
_PROBE = ".skgliclass-probe-"
# In either of these: what is read, the same files again to be moved away, and what they replace.
_FILES, _MOVES, _REPLACED = "files", "moves", "replaced.txt"


def readable_folder(folder: Path) -> Path:
    """Give where the files of a folder are read.

    Parameters
    ----------
    folder : Path
        A folder that :func:`replaced_folder` may have written.

    Returns
    -------
    Path
        The same, unless writing it was ended by force after everything new was there, but before
        all of it was in its place.
    """
    files = folder / _FINISHED / _FILES
    return files if files.is_dir() and _is_of_a_save(folder / _FINISHED) else folder


def is_of_a_save(name: str) -> bool:
    """Tell whether this is what a save keeps beside the files that it replaces."""
    return name.startswith((_UNFINISHED, _FINISHED, _PROBE))


def _is_of_a_save(finished: Path) -> bool:
    """Tell whether a folder is what a save leaves, which makes no links that lead anywhere."""
    parts = (finished, *(finished / name for name in (_FILES, _MOVES, _REPLACED)))
    return finished.is_dir() and not any(part.is_symlink() for part in parts)


def checked_folder(folder: str | os.PathLike[str]) -> Path:
    """Refuse early where no folder of files could be written.

    Parameters
    ----------
    folder : str or path
        What the user named.

    Returns
    -------
    Path
        The same, absolute and without links.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or empty.
    OSError
        If there is a file of this name, or nothing can be written there.
    """
    path = _as_path(folder)
    if os.path.lexists(path) and not path.is_dir():
        what = "a link to nothing" if path.is_symlink() else "a file"
        raise FileExistsError(
            f"{str(folder)!r} is {what}, but what is saved is a folder of files. Give the name of "
            "a folder, which is made if missing, or remove the file."
        )
    with errors_of_the_disk(path):
        # The working directory may be gone.
        path = Path(os.path.realpath(path))
    place = path
    while not place.exists():
        place = place.parent
    with errors_of_the_disk(path):
        # By doing it: permissions and read-only disks show in no other way for certain.
        _remove_probes(place)
        probe = place / f"{_PROBE}{uuid.uuid4().hex}"
        probe.mkdir()
        with suppress(FileNotFoundError):
            # Whoever tidies up took it for one that was left.
            probe.rmdir()
        # Nor can what could not be read again be put in its place.
        _synchronise(place)
    return path


@contextmanager
def replaced_folder(folder: str | os.PathLike[str], replaces: Sequence[str] = ()) -> Iterator[Path]:
    """Write the files of a folder so that all of them are replaced, or none.

    Ended at any moment, by force or for want of power, :func:`readable_folder` gives the old files
    or the new ones. Other files in the folder stay.

    Parameters
    ----------
    folder : str or path
        Made if missing.
    replaces : sequence of str
        Patterns of the files that belong to what is replaced, and go if they do not come anew.

    Yields
    ------
    Path
        A folder to write to; it takes the place of `folder` if nothing is raised.

    Raises
    ------
    OSError
        If the files cannot be written, for instance because the disk is full.
    """
    target = checked_folder(folder)
    with errors_of_the_disk(target), _made_parents(target), _unfinished_for(target) as unfinished:
        yield unfinished / _FILES
        _finish_writing(unfinished, replaces)
        _decide(unfinished, target)
    with _locked(target):
        _move_into_place(target)


def _as_path(folder: str | os.PathLike[str]) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"The folder to save to is {folder!r}; give its name or path.")
    name = os.fspath(folder)
    if not name.strip() or "\0" in name:
        raise ValueError(f"The folder to save to is {name!r}; give the name of a folder.")
    return Path(name).expanduser()


# Writing.


@contextmanager
def errors_of_the_disk(target: Path) -> Iterator[None]:
    """Say of what the disk refuses which folder or file it was for, and what is there now.

    Parameters
    ----------
    target : Path
        What was to be replaced whole, and was not.

    Raises
    ------
    OSError
        In place of any error of a library that writes.
    """
    try:
        yield
    except Exception as error:
        # The libraries that write weights and tokenizers have exceptions of their own.
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        kind = type(error) if isinstance(error, OSError) else OSError
        reason = getattr(error, "strerror", None) or error
        message = f"{str(target)!r} could not be written: {reason}. Nothing in it was changed."
        try:
            described = kind(message)
        except TypeError:  # a class that cannot be made of a message
            described = OSError(message)
        described.errno = getattr(error, "errno", None)
        raise described from error


@contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Make the folders above a folder, and remove them again where it comes to nothing."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _unfinished_for(target: Path) -> Iterator[Path]:
    """Give a new folder on the disk of another one; what is left of it is removed."""
    place = target if target.is_dir() else target.parent
    unfinished = place / f"{_UNFINISHED}{uuid.uuid4().hex}"
    with ExitStack() as stack:
        if place != target.parent:
            with _locked(target.parent):
                _remove_what_was_left(target.parent)
        with _locked(place):
            _remove_what_was_left(place)
            (unfinished / _FILES).mkdir(parents=True)
            stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
            stack.enter_context(_locked(unfinished))
        yield unfinished


def _remove_probes(place: Path) -> None:
    for probe in place.glob(f"{_PROBE}*"):
        with suppress(OSError):
            probe.rmdir()


def _remove_what_was_left(place: Path) -> None:
    _remove_probes(place)
    # What is locked has somebody who writes it; the rest is what killed processes left.
    for left in place.glob(f"{_UNFINISHED}*"):
        if left.is_symlink() or not left.is_dir():
            left.unlink(missing_ok=True)
            continue
        with _locked(left, wait=False) as is_mine:
            if is_mine:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep others from a folder; tell whether that was possible."""
    if _locks is None:
        yield wait
        return
    try:
        opened = _Opened(folder)
    except OSError:
        # Removed by its owner just now.
        yield False
        return
    # Twice: an interruption may come just before it is closed, and whoever goes on after it must
    # not wait for a lock that is its own.
    with opened, opened as descriptor:
        try:
            _locks.flock(descriptor, _locks.LOCK_EX | (0 if wait else _locks.LOCK_NB))
            locked = True
        except OSError:
            # Somebody has it, or the file system knows no locks.
            locked = False
        yield locked


class _Opened:
    """A folder that is open until it is closed, as often as that is."""

    def __init__(self, folder: Path) -> None:
        self.descriptors: list[int] = []
        self.descriptors.append(os.open(folder, os.O_RDONLY))

    def __enter__(self) -> int:
        return self.descriptors[0]

    def __exit__(self, *_: object) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


def _finish_writing(unfinished: Path, replaces: Sequence[str]) -> None:
    """Put everything on the disk that is needed after the one renaming, but for renamings."""
    note = unfinished / _REPLACED
    note.write_text("\n".join(replaces), encoding="utf-8")
    # What a library wrote may be for its owner alone; a new file is as the umask says.
    mode = note.stat().st_mode
    for path in _files_in(unfinished / _FILES):
        path.chmod(mode)
        _synchronise(path)
        again = unfinished / _MOVES / path.relative_to(unfinished / _FILES)
        again.parent.mkdir(parents=True, exist_ok=True)
        _link(path, again)
    _synchronise(note)
    for place, _, _ in os.walk(unfinished):
        _synchronise(Path(place))


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _link(path: Path, again: Path) -> None:
    try:
        again.hardlink_to(path)
    except (OSError, NotImplementedError):
        # A file system without them.
        shutil.copy(path, again)
        _synchronise(again)


def _synchronise(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not every file system can do it for folders.
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


# The one renaming, and what follows from it.


def _decide(unfinished: Path, target: Path) -> None:
    if not target.exists():
        # Where it came into being in the meantime, its files are replaced as any others.
        with suppress(OSError):
            (unfinished / _FILES).rename(target)
            _synchronise(target.parent)
            return
    _check_kinds(unfinished / _FILES, target)
    with _locked(target):
        # Left by a process that was killed.
        _move_into_place(target)
        unfinished.rename(target / _FINISHED)
        _synchronise(target)


def _check_kinds(files: Path, target: Path) -> None:
    """Refuse a folder that has folders where files are to be, or what is none in their place."""
    for path in files.rglob("*"):
        place = target / path.relative_to(files)
        # Nothing is written through a link that leads elsewhere.
        is_folder = place.is_dir() and not (path.is_dir() and place.is_symlink())
        if os.path.lexists(place) and is_folder != path.is_dir():
            what = "file" if path.is_file() else "folder"
            raise FileExistsError(f"{place} is in the way of a {what} of this name")


def _move_into_place(target: Path) -> None:
    """Complete what the renaming decided; whoever comes next goes on where this one ended."""
    finished = target / _FINISHED
    if not _is_of_a_save(finished):
        if os.path.lexists(finished):
            _remove(finished)
        return
    moves = finished / _MOVES
    # What a folder from elsewhere brings along must not reach out of it.
    _check_kinds(moves, target)
    for path in _files_in(moves):
        place = target / path.relative_to(moves)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    for path in _replaced(finished, target):
        if not (finished / _FILES / path.relative_to(target)).exists():
            path.unlink()
            with suppress(OSError):
                # A folder that has nothing left.
                path.parent.rmdir()
    _synchronise(target)
    _remove(finished)


def _remove(finished: Path) -> None:
    # Under a name that nobody reads, as removing a folder takes several steps.
    gone = finished.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
    finished.rename(gone)
    if gone.is_symlink() or not gone.is_dir():
        gone.unlink()
    shutil.rmtree(gone, ignore_errors=True)


def _replaced(finished: Path, target: Path) -> Iterator[Path]:
    """Give the files of a folder that the note of a save says to replace."""
    note = finished / _REPLACED
    patterns = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    for pattern in map(Path, patterns):
        if pattern.is_absolute() or not pattern.parts or {"..", "**"} & set(pattern.parts):
            continue
        for path in target.glob(str(pattern)):
            real = path.parent.resolve()
            if not path.is_dir() and real == target / path.parent.relative_to(target):
                yield path


# Single files.


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Give the path of an empty file that takes a name once it is written.

    It lies in the same folder, under a hidden name that ends in ``.partial``. If the block fails
    or is interrupted it is removed, and what had the name stays as it was. A link goes on pointing
    where it did, and the mode is that of the file that is replaced, or what the umask leaves. What
    cannot be replaced, such as a pipe or a device, is written to as it is.

    Parameters
    ----------
    target : str or path
        The name.

    Yields
    ------
    path
        What to write to. It has to be closed at the end of the block.

    Raises
    ------
    OSError
        If the file cannot be written; that no file can be made in the folder shows at once.
    """
    # Replacing a link would leave the file that it points to as it was.
    real = Path(os.path.realpath(target))
    if real.exists() and not real.is_file():
        yield real
        return
    if real.exists() and not os.access(real, os.W_OK):
        raise PermissionError(f"{target}: the file is protected against writing")
    # A name may have 255 bytes, of which a character takes up to four.
    partial = real.with_name(f".{real.name[:40]}.{uuid.uuid4().hex[:8]}.partial")
    # Unlike tempfile's, such a file has the mode that the umask leaves.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if real.exists():
            partial.chmod(stat.S_IMODE(real.stat().st_mode))
        yield partial
        with partial.open("rb+") as file:
            # Or after a power cut the name may lead to nothing.
            os.fsync(file.fileno())
        os.replace(partial, real)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
