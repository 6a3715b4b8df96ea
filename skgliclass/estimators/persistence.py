"""Write a classifier beside its checkpoint, and read it back."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files import checked_folder, replaced_folder
from .hierarchy import is_nested
from .labels import LabelSet, plain_labels
from .model_card import CardFacts, is_as_written, may_be_replaced, model_card
from .parameters import without_views
from .saved_arrays import ArrayFile, damage_named
from .saved_file import FORMAT, checked_content, label_set_of, labels_of, parameters_of
from .state import NO_LABELS
from .values import as_json, listed

if TYPE_CHECKING:
    from ..engine.change import LogitChange
    from ..engine.votes import Store
    from ..loading.hub import Commit, HubRepository
    from ..loading.loaded import LoadedModel
    from ..loading.sources import Source
    from .learnt_rows import LearntRows

FILE = "skgliclass.json"
CARD = "README.md"
_EXAMPLES_FILE = "retrieved_examples.json"
_VECTORS = ArrayFile(
    "retrieved_examples.safetensors",
    {"vectors": "texts width"},
    "pass n_retrieved=0 to do without it",
)
_VOTES = replace(
    _VECTORS,
    axes={**_VECTORS.axes, "targets": "texts classes", "weights": "texts classes"},
    has_gaps=False,
)
_CHANGE = ArrayFile("learnt_labels.safetensors", {"vectors": "classes width", "biases": "classes"})
_ROWS = ArrayFile(
    "learnt_rows.safetensors",
    {
        "x": "rows width",
        "logits": "rows classes",
        "targets": "rows classes",
        "weights": "rows",
        "moved": "classes width",
    },
)
_ROWS_OF_TUNED = replace(_ROWS, axes={**_ROWS.axes, "biases": "classes"})
# What belongs to the place where a classifier runs, or is written elsewhere.
_NOT_SAVED = {
    "model",
    "labels",
    "revision",
    "architecture",
    "device",
    "n_jobs",
    "verbose",
    "checkpoint_folder",
}


@dataclass(frozen=True, eq=False)
class SavedClassifier:
    """What a folder holds of a classifier besides its model.

    Attributes
    ----------
    kind : str
        The name of its class.
    parameters : dict of str to Any
        Those that mean the same elsewhere; without `labels`, which follow.
    labels : Any
        The `labels` parameter.
    label_set : LabelSet
        Its classes; empty where it has none.
    temperature : float
        What is tuned for these classes.
    thresholds : ndarray of shape (n_classes,) or None
        The same.
    store : ExampleStore, VoteStore or None
        The labelled texts that it retrieves from.
    min_probability : float or None
        What is tuned for these classes, too.
    path : Path or None
        The file that it was read from.
    change : LogitChange or None
        What was learnt without touching the model, for these classes.
    rows : LearntRows or None
        What that was learnt from.
    is_tuned : bool
        Whether weights of its model were trained.
    """

    kind: str
    parameters: dict[str, Any]
    labels: Any
    label_set: LabelSet
    temperature: float = 1.0
    thresholds: NDArray[np.float32] | None = None
    store: Store | None = None
    min_probability: float | None = None
    path: Path | None = None
    change: LogitChange | None = None
    rows: LearntRows | None = None
    is_tuned: bool = False


# What the folder of a classifier holds; that of another one in it goes.
_SAVED_FILES = (FILE, _EXAMPLES_FILE, _VECTORS.name, _CHANGE.name, _ROWS.name)


def json_of(saved: SavedClassifier, digests: Mapping[str, str] | None = None) -> str:
    """Give the text of the file of a classifier.

    Parameters
    ----------
    saved : SavedClassifier
        The classifier.
    digests : mapping of str to str, optional
        Of the files of arrays beside it, by their names.

    Raises
    ------
    TypeError
        If a class or a parameter cannot be written so that it comes back as it is; it is named.
    """
    from .._version import __version__

    label_set, thresholds, least = saved.label_set, saved.thresholds, saved.min_probability
    parameters = {k: without_views(v) for k, v in saved.parameters.items() if k not in _NOT_SAVED}
    content = {
        "format": FORMAT,
        "skgliclass_version": __version__,
        "estimator": saved.kind,
        "classes": [as_json(value, "class") for value in listed(label_set.classes)] or None,
        "classes_dtype": label_set.classes.dtype.str if label_set else None,
        "label_texts": list(label_set.texts) if label_set else None,
        "labels": _json_labels(saved),
        "temperature": float(saved.temperature),
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "min_probability": None if least is None else float(least),
        "keeps_examples": saved.store is not None,
        "keeps_votes": _is_of_votes(saved.store),
        "vote_share": _share_of_votes(saved.store),
        "keeps_change": saved.change is not None,
        "keeps_rows": saved.rows is not None,
        "digests": dict(digests or {}),
        "is_tuned": saved.is_tuned,
        "parameters": {name: as_json(value, name) for name, value in parameters.items()},
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # Half of a pair of surrogates, which no encoding has, is written by its number.
    is_encodable = not any("\ud800" <= letter <= "\udfff" for letter in text)
    return text if is_encodable else json.dumps(content, indent=2)


def _json_labels(saved: SavedClassifier) -> Any:
    labels = without_views(saved.labels)
    try:
        return as_json(labels, "labels")
    except TypeError:
        # An enumeration or a container that only its own program knows: what it means is saved.
        means = plain_labels(labels) if is_nested(labels) else saved.label_set.as_labels()
        return as_json(means, "labels")


def write_classifier(
    folder: str | Path,
    loaded: LoadedModel,
    saved: SavedClassifier,
    *,
    gliclass_compatible: bool = True,
) -> None:
    """Write a classifier's checkpoint and, beside it, one file with all else.

    Parameters
    ----------
    folder : str or path
        Where to; made if missing. The files of a checkpoint or classifier in it are replaced, all
        of them or none, and others stay.
    loaded : LoadedModel
        Its model, with tuned weights.
    saved : SavedClassifier
        All else.
    gliclass_compatible : bool, default=True
        Whether the ``gliclass`` package loads the checkpoint, too.

    Raises
    ------
    OSError
        If the folder cannot be written.
    TypeError
        If a class or a parameter cannot be written.
    """
    from ..loading.checkpoints import CHECKPOINT_FILES

    place = checked_folder(folder)
    with replaced_folder(place, (*CHECKPOINT_FILES, *_SAVED_FILES)) as written:
        _write_files(written, loaded, saved, place, gliclass_compatible)
        if may_be_replaced(place / CARD):
            _write_card(written, loaded, saved, None)


def push_classifier(
    repository: HubRepository,
    commit: Commit,
    loaded: LoadedModel,
    saved: SavedClassifier,
    *,
    gliclass_compatible: bool = True,
) -> str:
    """Put what :func:`write_classifier` writes into a repository on the hub, in one commit.

    Parameters
    ----------
    repository : HubRepository
        Where to. The files of a checkpoint or classifier in it are replaced, and others stay.
    commit : Commit
        What is said of it, and where it goes.
    loaded, saved, gliclass_compatible
        As in :func:`write_classifier`.

    Returns
    -------
    str
        The address of the commit.

    Raises
    ------
    OSError
        If the hub cannot be reached or refuses; the repository is as it was.
    """
    from ..loading.checkpoints import CHECKPOINT_FILES

    with TemporaryDirectory(prefix="skgliclass-") as name:
        folder = Path(name)
        _write_files(folder, loaded, saved, repository.name, gliclass_compatible)
        page = repository.text(CARD, commit)
        if page is None or is_as_written(page):
            _write_card(folder, loaded, saved, repository.name)
        return repository.commit(folder, (*CHECKPOINT_FILES, *_SAVED_FILES), commit)


def _write_files(
    folder: Path,
    loaded: LoadedModel,
    saved: SavedClassifier,
    place: Path | str,
    gliclass_compatible: bool,
) -> None:
    from ..loading.checkpoints import write_checkpoint

    write_checkpoint(folder, loaded, place=place, gliclass_compatible=gliclass_compatible)
    text = json_of(saved, _write_arrays(folder, saved))
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _write_card(
    folder: Path, loaded: LoadedModel, saved: SavedClassifier, hub_name: str | None
) -> None:
    from ..loading.sources import is_hub_id

    began_as = loaded.name if is_hub_id(loaded.name) and loaded.name != hub_name else None
    facts = CardFacts(
        saved.kind,
        saved.label_set,
        loaded.network.config.architecture_type,
        is_tuned=saved.is_tuned,
        began_as=began_as,
        hub_name=hub_name,
        files=[path.name for path in folder.iterdir()],
    )
    card = model_card(facts)
    (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")


def read_content(model: str | os.PathLike[str], revision: str | None) -> dict[str, Any] | None:
    """Give what the file of a saved classifier holds; None for another model.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If the file is damaged, or was written by a later version.
    """
    from ..loading.sources import find_source

    source = find_source(model, revision)
    content = source.read_json(FILE)
    return None if content is None else checked_content(content, source.folder / FILE)


def read_classifier(
    model: str,
    revision: str | None,
    kind: str,
    known: Collection[str],
    parameters: Mapping[str, Any],
) -> SavedClassifier | None:
    """Read a classifier that :func:`write_classifier` wrote; None for another model.

    Parameters
    ----------
    model, revision : str
        A folder or a hub id, and its revision.
    kind : str
        The name of the class that is to hold it.
    known : collection of str
        The names of its parameters.
    parameters : mapping of str to Any
        Those that are set anew.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If the folder holds another kind of classifier, was written by a later version, or lacks
        the labelled texts that it shows; or if its file holds what it cannot.
    """
    from ..loading.sources import find_source

    content = read_content(model, revision)
    if content is None:
        return None
    source = find_source(model, revision)
    path = source.folder / FILE
    if content["estimator"] != kind:
        raise ValueError(
            f"{model!r} holds a {content['estimator']}, not a {kind}. "
            f"Use {content['estimator']}.from_pretrained."
        )
    own = parameters_of(content, known, path)
    in_use = {**own, **parameters}
    label_set, store = label_set_of(content, path), None
    if content["keeps_examples"] and in_use.get("n_retrieved"):
        store = _read_store(content, source, in_use.get("retrieval_backend", "numpy"))
    thresholds = content["thresholds"]
    return SavedClassifier(
        kind,
        own,
        labels_of(content, path),
        label_set or NO_LABELS,
        float(content["temperature"]),
        None if thresholds is None else np.asarray(thresholds, dtype=np.float32),
        store,
        content["min_probability"],
        path,
        read_change(content, source),
        _read_rows(content, source),
        content["is_tuned"],
    )


def _write_arrays(folder: Path, saved: SavedClassifier) -> dict[str, str]:
    """Write the files of arrays; give their digests by their names."""
    texts, digests = saved.label_set.texts, {}
    rows = _rows_file(saved.is_tuned)
    stored = _VOTES if _is_of_votes(saved.store) else _VECTORS
    for file, holder in ((stored, saved.store), (_CHANGE, saved.change), (rows, saved.rows)):
        if holder is not None:
            arrays = {name: getattr(holder, name) for name in file.axes}
            digests[file.name] = file.write(folder, arrays, texts)
    if saved.store is not None:
        content = [{"text": e.text, "labels": list(e.labels)} for e in saved.store.examples]
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / _EXAMPLES_FILE).write_text(text + "\n", encoding="utf-8")
    return digests


def read_change(content: Mapping[str, Any], source: Source) -> LogitChange | None:
    """Read what was learnt without touching the model, as the file of the classifier says.

    Raises
    ------
    ValueError
        If it is missing or damaged; the message names the file.
    """
    if not content["keeps_change"]:
        return None
    from ..engine.change import LogitChange

    return LogitChange(tuple(content["label_texts"] or ()), **_arrays(_CHANGE, content, source))


def _read_rows(content: Mapping[str, Any], source: Source) -> LearntRows | None:
    if not content["keeps_rows"]:
        return None
    from .learnt_rows import LearntRows

    return LearntRows(**_arrays(_rows_file(content["is_tuned"]), content, source))


def _rows_file(is_tuned: bool) -> ArrayFile:
    return _ROWS_OF_TUNED if is_tuned else _ROWS


def _arrays(
    file: ArrayFile, content: Mapping[str, Any], source: Source
) -> dict[str, NDArray[np.float32]]:
    return file.read(source, content["digests"].get(file.name), content["label_texts"] or ())


def _is_of_votes(store: Store | None) -> bool:
    return _share_of_votes(store) is not None


def _share_of_votes(store: Store | None) -> float | None:
    from ..engine.votes import VoteStore

    return float(store.share) if isinstance(store, VoteStore) else None


def _read_store(content: Mapping[str, Any], source: Source, backend: str) -> Store:
    from ..engine.retrieval import BACKENDS, ExampleStore
    from ..engine.votes import UNTOLD_SHARE, VoteStore

    arrays = _arrays(_VOTES if content["keeps_votes"] else _VECTORS, content, source)
    with damage_named(source.folder / _EXAMPLES_FILE, _VECTORS.hint):
        rows = source.read_json(_EXAMPLES_FILE, list)
        if rows is None:
            raise ValueError("it is missing")
        texts, labels = [row["text"] for row in rows], [row["labels"] for row in rows]
        # An unknown one is refused later, as any parameter is.
        backend = backend if backend in BACKENDS else BACKENDS[0]
        if not content["keeps_votes"]:
            return ExampleStore(texts, arrays["vectors"], labels, backend=backend)
        label_texts = content["label_texts"] or ()
        # Those who wrote none went by the number of rows.
        share = UNTOLD_SHARE if content["vote_share"] is None else float(content["vote_share"])
        return VoteStore.of_arrays(texts, label_texts, **arrays, backend=backend, share=share)


def check_width(saved: SavedClassifier, width: int) -> None:
    """Refuse arrays that were learnt with the vectors of another model.

    Parameters
    ----------
    saved : SavedClassifier
        What was read.
    width : int
        The length of the model's vectors of texts.

    Raises
    ------
    ValueError
        If they are of another width; the message names the file.
    """
    folder = Path() if saved.path is None else saved.path.parent
    for file, array in (
        (_CHANGE, None if saved.change is None else saved.change.vectors),
        (_ROWS, None if saved.rows is None else saved.rows.moved),
        (_VECTORS, None if saved.store is None else saved.store.vectors),
    ):
        if array is not None and array.shape[1] != width:
            with damage_named(folder / file.name, file.hint):
                raise ValueError(
                    f"its vectors have {array.shape[1]} numbers, those of the model {width}"
                )
