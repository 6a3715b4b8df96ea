"""A file of a model: it is opened once, and what was opened is checked instead of its name.

Between a look at a name and opening it, somebody could put a link, a pipe or another folder in its
place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# A pipe would be waited for; on Windows, text would be read otherwise.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# Where Linux shows what a process has opened.
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True)
class ModelFile:
    """A file that may be read.

    Attributes
    ----------
    path : Path
        What it is called.
    model : str
        The model's name, for messages.
    roots : tuple of Path or None
        The folders, without links, of which one has to hold it; None where it may be anywhere.
    """

    path: Path
    model: str
    roots: tuple[Path, ...] | None = None

    def __str__(self) -> str:
        return str(self.path)

    def read(self, most: int | None = None) -> bytes:
        """Read it.

        Parameters
        ----------
        most : int, optional
            How many bytes at most.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is no regular file, lies outside the model's folder, or is longer.
        """
        with self._descriptor() as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read() if most is None else file.read(most + 1)
        if most is not None and len(content) > most:
            raise ValueError(f"{self.path} is longer than {most} bytes, which nothing needs.")
        return content

    @contextmanager
    def opened(self) -> Iterator[str]:
        """Give a name under which a library may open it, for as long as the block lasts.

        Raises
        ------
        OSError, ValueError
            As for :meth:`read`.
        """
        with self._descriptor() as descriptor:
            name = _DESCRIPTORS / str(descriptor)
            if name.exists():
                # It stands for the opened file, whatever its old name leads to by now.
                yield str(name)
                return
            yield str(self.path)
            # Here a library opens the name once more, so that it is looked at before and after.
            if not os.path.samestat(os.stat(self.path), os.fstat(descriptor)):
                raise OSError(f"{self.path} was replaced while it was read. Try again.")

    @contextmanager
    def _descriptor(self) -> Iterator[int]:
        descriptor = os.open(self.path, _FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(
                    f"{self.path} is no regular file. Download or save the checkpoint again."
                )
            real = _place_of(descriptor, self.path)
            if self.roots is not None and not any(real.is_relative_to(r) for r in self.roots):
                raise leads_outside(self.path, real, self.model)
            yield descriptor
        finally:
            os.close(descriptor)


def leads_outside(path: Path, real: Path, model: str) -> ValueError:
    """Give the error that says where a name leads."""
    return ValueError(
        f"model={model!r}: {path} is a link to {real}, outside the model's folder, where nothing "
        "is read. Put the file itself in its place."
    )


def _place_of(descriptor: int, path: Path) -> Path:
    """Give where an opened file lies, without links."""
    with suppress(OSError):
        return Path(os.readlink(_DESCRIPTORS / str(descriptor)))
    real = path.resolve(strict=True)
    if not os.path.samestat(os.stat(real), os.fstat(descriptor)):
        raise OSError(f"{path} was replaced while it was read. Try again.")
    return real
