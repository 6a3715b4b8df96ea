"""The files of arrays beside that of a saved classifier: how they are written, checked and read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..loading.sources import Source

# What a file says of the label texts whose arrays it holds.
_TEXTS = "label_texts"


@dataclass(frozen=True)
class ArrayFile:
    """What a file of arrays has to hold.

    Attributes
    ----------
    name : str
        Of the file.
    axes : mapping of str to str
        The names of each array's axes; those of one name have one length.
    hint : str
        What to do where it is damaged and cannot be restored.
    has_gaps : bool
        Whether targets that nobody knows are NaN.
    """

    name: str
    axes: Mapping[str, str]
    hint: str = "save the classifier again"
    has_gaps: bool = True

    def write(
        self, folder: Path, arrays: Mapping[str, NDArray[np.float32]], label_texts: Sequence[str]
    ) -> str:
        """Write the file; give the digest that tells it from others.

        Parameters
        ----------
        folder : Path
            Where to.
        arrays : mapping of str to ndarray
            Those of `axes`.
        label_texts : sequence of str
            To which the arrays belong.
        """
        from safetensors.numpy import save

        whole = {name: np.ascontiguousarray(arrays[name]) for name in self.axes}
        content = save(whole, metadata={_TEXTS: json.dumps(list(label_texts))})
        (folder / self.name).write_bytes(content)
        return _digest(content)

    def read(
        self, source: Source, digest: str | None, label_texts: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Read the file.

        Parameters
        ----------
        source : Source
            The folder of the classifier.
        digest : str or None
            What :meth:`write` gave; None where nobody noted it.
        label_texts : sequence of str
            Of the classifier's classes.

        Raises
        ------
        ValueError
            If it is missing, damaged, or belongs to another classifier.
        """
        with damage_named(source.folder / self.name, self.hint):
            file = source.file(self.name)
            if file is None:
                raise ValueError("it is missing")
            content = file.read()
            if digest is not None and _digest(content) != digest:
                raise ValueError("it is not the file that was saved with this classifier")
            arrays, texts = _arrays_of(content)
            if texts is not None and texts != list(label_texts):
                raise ValueError("it belongs to other classes")
            self._check(arrays, len(label_texts))
            return arrays

    def _check(self, arrays: Mapping[str, NDArray[np.float32]], n_classes: int) -> None:
        for name in sorted(arrays.keys() ^ self.axes.keys()):
            raise ValueError(f"{name!r} {'is missing' if name in self.axes else 'has no place'}")
        sizes = {"classes": n_classes}
        for name, axes in self.axes.items():
            array, wanted = arrays[name], axes.split()
            if array.ndim != len(wanted) or array.dtype != np.float32:
                raise ValueError(f"{name} has the shape {array.shape} and the type {array.dtype}")
            for axis, size in zip(wanted, array.shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise ValueError(f"{name} has {size} {axis}, not {sizes[axis]}")
            if not bool(_is_possible(name, array, self.has_gaps).all()):
                raise ValueError(f"{name} holds numbers that it cannot")


def _is_possible(name: str, array: NDArray[np.float32], has_gaps: bool) -> NDArray[np.bool_]:
    if name == "targets":
        is_gap = np.isnan(array) & has_gaps
        return np.asarray(is_gap | ((array >= 0) & (array <= 1)))
    return np.isfinite(array) & ((array >= 0) if name == "weights" else True)


def _arrays_of(content: bytes) -> tuple[dict[str, NDArray[np.float32]], list[str] | None]:
    """Give the arrays of a file, and the label texts that it names."""
    from safetensors.numpy import load

    arrays = load(content)
    # As safetensors itself has found it to be right by now.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    texts = header.get("__metadata__", {}).get(_TEXTS)
    return arrays, None if texts is None else json.loads(texts)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@contextmanager
def damage_named(path: Path, hint: str) -> Iterator[None]:
    """Say of what cannot be read which file it is.

    Parameters
    ----------
    path : Path
        The file.
    hint : str
        What to do where it cannot be restored.

    Raises
    ------
    ValueError
        In place of what libraries raise.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{path}: what the classifier keeps there cannot be read: {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Restore the file, or {hint}."
        ) from error
