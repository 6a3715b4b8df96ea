"""Write a file so that whoever looks sees the old one or the new one, whole."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
