"""Bytes and lines of a file or of stdin, in the encoding that they have."""

from __future__ import annotations

import codecs
import gzip
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, BinaryIO, cast

from .errors import CommandError

# How files begin that people give a name of another kind.
_OTHER_KINDS = {
    b"\xff\xfe\x00\x00": "it begins as UTF-32 does; give --encoding utf-32",
    b"\xff\xfe": "it begins as UTF-16 does; give --encoding utf-16",
    b"\xfe\xff": "it begins as UTF-16 does; give --encoding utf-16",
    b"PK\x03\x04": "it is a zip archive, as .xlsx files are",
    b"\x1f\x8b": "it is compressed; add .gz to its name",
    b"\xd0\xcf\x11\xe0": "it is an old Excel file; save it as .xlsx or .csv",
    b"PAR1": "it is a Parquet file; call it .parquet",
}


class SameFile:
    """Tells whether a file that is read several times has stayed as it was.

    Parameters
    ----------
    name : str
        Of the file.
    """

    def __init__(self, name: str) -> None:
        self._path = Path(name)
        self._state = self._now()

    @contextmanager
    def read(self) -> Iterator[None]:
        """Refuse what is read in this block, if it is of another file of this name.

        Raises
        ------
        CommandError
            If it was written to or replaced before, or is by the end.
        """
        self._check()
        try:
            yield
        except Exception:
            # A line that was cut off meanwhile is not the user's mistake.
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        if self._now() != self._state:
            raise CommandError(
                f"{self._path}: it was changed while it was being read; begin anew with a file "
                "that nobody writes to"
            )

    def _now(self) -> tuple[int, int, int]:
        status = self._path.stat()
        # Tools that copy keep the time of the last change.
        return status.st_size, status.st_mtime_ns, status.st_ino


class Source:
    """What is read from a file or from stdin, as often as one likes.

    Parameters
    ----------
    name : str
        Of a file, which is decompressed if it ends in ``.gz``; ``-`` is stdin.
    encoding : str, optional
        By default UTF-8. A byte order mark is no part of the text.

    Raises
    ------
    CommandError
        If there is no such encoding.
    """

    def __init__(self, name: str, encoding: str | None = None) -> None:
        self.name = "stdin" if name == "-" else name
        self.encoding = _checked_encoding(encoding)
        self._is_named = encoding is not None
        self._path = None if name == "-" else Path(name)
        self._copy: IO[bytes] | None = None
        self._same: SameFile | None = None
        if self._path is not None and self._path.is_file():
            self._same = SameFile(name)
        else:
            # What comes through a pipe comes once.
            self._copy = self._copied()
            weakref.finalize(self, self._copy.close)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open what is to be read, from its beginning.

        Raises
        ------
        CommandError
            If it cannot be decompressed.
        """
        with ExitStack() as stack:
            if self._same is not None:
                stack.enter_context(self._same.read())
            if self._copy is None:
                assert self._path is not None
                file = cast(BinaryIO, stack.enter_context(self._path.open("rb")))
            else:
                self._copy.seek(0)
                file = cast(BinaryIO, self._copy)
            if self._path is None or self._path.suffix.lower() != ".gz":
                yield file
                return
            try:
                yield cast(BinaryIO, stack.enter_context(gzip.open(file)))
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise CommandError(f"{self.name}: cannot be decompressed: {error}") from error

    @contextmanager
    def lines(self, newline: str | None) -> Iterator[Iterator[str]]:
        """Open the lines, from the first.

        Parameters
        ----------
        newline : str or None
            What ends a line, as :func:`open` has it; nothing else does, such as U+2028.

        Raises
        ------
        CommandError
            If a line is not in the encoding or holds NUL; the message names the line.
        """
        with self.opened() as file:
            text = TextIOWrapper(file, encoding=self.encoding, newline=newline)
            try:
                yield self._checked(text)
            except UnicodeError as error:
                raise self._undecodable(error) from error
            finally:
                # It would close the copy, which is read again.
                text.detach()

    def _checked(self, text: TextIOWrapper) -> Iterator[str]:
        for number, line in enumerate(text, 1):
            if "\0" in line:
                raise self._with_nul(number)
            yield line.removeprefix("\ufeff") if number == 1 else line

    def _copied(self) -> IO[bytes]:
        with ExitStack() as stack:
            # Before there is a copy, as there may be no such file.
            if self._path is not None:
                file: IO[bytes] = stack.enter_context(self._path.open("rb"))
            elif sys.stdin is None:
                raise CommandError("stdin is closed; give a file")
            elif hasattr(sys.stdin, "buffer"):
                file = sys.stdin.buffer
            else:
                # Whoever put another stream in its place has decoded it already.
                file = BytesIO(sys.stdin.read().encode(self.encoding))
            copy = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the source
            shutil.copyfileobj(file, copy)
        return copy

    def _undecodable(self, error: UnicodeError) -> CommandError:
        kind = self._other_kind()
        if kind is not None:
            return CommandError(f"{self.name}: cannot be read: {kind}")
        number, found = self._first_undecodable_line()
        place = f"{self.name}: line {number}" if number else self.name
        what = f" ({found})" if found else f" ({error})"
        hint = (
            "give another --encoding"
            if self._is_named
            else "give its --encoding, for instance cp1252"
        )
        return CommandError(f"{place} is not in {self.encoding.removesuffix('-sig')}{what}; {hint}")

    def _other_kind(self) -> str | None:
        with self.opened() as file:
            start = file.read(1 << 10)
        for magic, hint in _OTHER_KINDS.items():
            if start.startswith(magic):
                return hint
        return _as_utf_16(start)

    def _first_undecodable_line(self) -> tuple[int, str]:
        if self.encoding.startswith(("utf-16", "utf-32")):
            return 0, ""
        with self.opened() as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode(self.encoding)
                except UnicodeDecodeError as error:
                    return number, f"byte 0x{line[error.start]:02x}"
        return 0, ""

    def _with_nul(self, number: int) -> CommandError:
        hint = self._other_kind() or "remove it"
        return CommandError(f"{self.name}: line {number} holds a NUL character; {hint}")


def lines_of(source: Source) -> Iterator[str]:
    """Give the lines without what ends them; a line end is LF, CR LF or CR."""
    with source.lines(newline=None) as lines:
        for line in lines:
            yield line.removesuffix("\n")


def text_of(source: Source) -> str:
    """Read everything.

    Raises
    ------
    CommandError
        As :meth:`Source.lines`.
    """
    with source.lines(newline="") as lines:
        return "".join(lines)


def _as_utf_16(start: bytes) -> str | None:
    """Tell UTF-16 without a byte order mark, which has NUL in every other place."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    if min(even, odd) or 8 * max(even, odd) <= len(start):
        return None
    return f"it looks like UTF-16; give --encoding utf-16-{'le' if odd else 'be'}"


def _checked_encoding(encoding: str | None) -> str:
    try:
        name = codecs.lookup(encoding or "utf-8").name
        # Codecs that turn bytes into bytes are no encodings of text, which shows here alone.
        TextIOWrapper(BytesIO(), encoding=name).read()
    except (LookupError, UnicodeError) as error:
        raise CommandError(
            f"--encoding {encoding}: there is no such encoding; use for instance utf-8, cp1252 or "
            "utf-16"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name
