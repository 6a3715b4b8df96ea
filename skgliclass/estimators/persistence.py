"""Write a classifier beside its checkpoint, and read it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .hierarchy import is_nested
from .labels import LabelSet, as_class_array, plain_labels
from .state import NO_LABELS

if TYPE_CHECKING:
    from ..engine.retrieval import ExampleStore
    from ..loading.loaded import LoadedModel

FILE = "skgliclass.json"
_EXAMPLES_FILE, _VECTORS_FILE = "retrieved_examples.json", "retrieved_examples.safetensors"
_FORMAT = 1
# What belongs to the place where a classifier runs, or is written elsewhere.
_NOT_SAVED = {"model", "labels", "revision", "architecture", "device", "n_jobs", "verbose"}


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
    store : ExampleStore or None
        The labelled texts that it retrieves from.
    min_probability : float or None
        What is tuned for these classes, too.
    """

    kind: str
    parameters: dict[str, Any]
    labels: Any
    label_set: LabelSet
    temperature: float = 1.0
    thresholds: NDArray[np.float32] | None = None
    store: ExampleStore | None = None
    min_probability: float | None = None


def write_classifier(folder: str | Path, loaded: LoadedModel, saved: SavedClassifier) -> None:
    """Write a classifier's checkpoint and, beside it, one file with all else.

    Parameters
    ----------
    folder : str or path
        Where to; made if missing.
    loaded : LoadedModel
        Its model, with tuned weights.
    saved : SavedClassifier
        All else.

    Raises
    ------
    FileExistsError
        If there is a file of this name.
    TypeError
        If a class is of a type that JSON cannot hold.
    """
    if Path(folder).is_file():
        raise FileExistsError(
            f"{str(folder)!r} is a file, but a classifier is saved as a folder of files. Give the "
            "name of a folder, which is made if missing, or remove the file."
        )
    from ..loading.checkpoints import save_checkpoint

    # Before any file is touched: a class that JSON cannot hold leaves the folder as it was.
    text = json.dumps(_content(saved), indent=2, ensure_ascii=False, default=_plain_value)
    save_checkpoint(folder, loaded)
    if saved.store is None:
        # The texts of a classifier that was saved here before must not go along with this one.
        for name in (_EXAMPLES_FILE, _VECTORS_FILE):
            (Path(folder) / name).unlink(missing_ok=True)
    else:
        _write_store(Path(folder), saved.store)
    # The last of all: where it stands, the rest is complete.
    (Path(folder) / FILE).write_text(text + "\n", encoding="utf-8")


def _content(saved: SavedClassifier) -> dict[str, Any]:
    from .._version import __version__

    label_set = saved.label_set
    return {
        "format": _FORMAT,
        "skgliclass_version": __version__,
        "estimator": saved.kind,
        "classes": _json_classes(label_set) if label_set else None,
        "label_texts": list(label_set.texts) if label_set else None,
        "temperature": saved.temperature,
        "thresholds": None if saved.thresholds is None else saved.thresholds.tolist(),
        "min_probability": saved.min_probability,
        # Dotted names do not give the tree back: a name may hold a dot itself.
        "hierarchy": plain_labels(saved.labels) if is_nested(saved.labels) else None,
        "keeps_examples": saved.store is not None,
        "parameters": _json_parameters(saved.parameters),
    }


def read_content(model: str, revision: str | None) -> dict[str, Any] | None:
    """Give what the file of a saved classifier holds; None for another model.

    Raises
    ------
    OSError
        If there is no such model.
    """
    from ..loading.sources import find_source

    content: dict[str, Any] | None = find_source(model, revision).read_json(FILE)
    return content


def read_classifier(
    model: str, revision: str | None, kind: str, parameters: Mapping[str, Any]
) -> SavedClassifier | None:
    """Read a classifier that :func:`write_classifier` wrote; None for another model.

    Parameters
    ----------
    model, revision : str
        A folder or a hub id, and its revision.
    kind : str
        The name of the class that is to hold it.
    parameters : mapping of str to Any
        Those that are set anew.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If the folder holds another kind of classifier, was written by a later version, or lacks
        the labelled texts that it shows.
    """
    from ..loading.sources import find_source

    source = find_source(model, revision)
    content = source.read_json(FILE)
    if content is None:
        return None
    if content["format"] > _FORMAT:
        raise ValueError(
            f"{model!r} was written by skgliclass {content['skgliclass_version']}, which uses a "
            "later format. Update skgliclass."
        )
    if content["estimator"] != kind:
        raise ValueError(
            f"{model!r} holds a {content['estimator']}, not a {kind}. "
            f"Use {content['estimator']}.from_pretrained."
        )
    parameters = {**content["parameters"], **parameters}
    if content["classes"] is None:
        return SavedClassifier(kind, parameters, None, NO_LABELS)
    label_set = LabelSet(as_class_array(content["classes"]), tuple(content["label_texts"]))
    thresholds, store = content["thresholds"], None
    if content.get("keeps_examples") and parameters.get("n_retrieved"):
        store = _read_store(source.folder, parameters.get("retrieval_backend", "numpy"))
    return SavedClassifier(
        kind,
        parameters,
        # Files of earlier versions lack this entry, "keeps_examples" and "min_probability".
        content.get("hierarchy") or label_set.as_labels(),
        label_set,
        float(content["temperature"]),
        None if thresholds is None else np.asarray(thresholds, dtype=np.float32),
        store,
        content.get("min_probability"),
    )


def _write_store(folder: Path, store: ExampleStore) -> None:
    from safetensors.numpy import save_file

    content = [{"text": e.text, "labels": list(e.labels)} for e in store.examples]
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / _EXAMPLES_FILE).write_text(text + "\n", encoding="utf-8")
    save_file({"vectors": store.vectors}, folder / _VECTORS_FILE)


def _read_store(folder: Path, backend: str) -> ExampleStore:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from ..engine.retrieval import ExampleStore

    try:
        content = json.loads((folder / _EXAMPLES_FILE).read_text(encoding="utf-8"))
        texts, labels = [row["text"] for row in content], [row["labels"] for row in content]
        vectors = load_file(folder / _VECTORS_FILE)["vectors"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"The labelled texts that the classifier in {str(folder)!r} shows (n_retrieved) cannot "
            f"be read: {type(error).__name__}: {error}. Restore {_EXAMPLES_FILE} and "
            f"{_VECTORS_FILE}, or pass n_retrieved=0 to do without them."
        ) from error
    return ExampleStore(texts, vectors, labels, backend=backend)


def _json_classes(label_set: LabelSet) -> list[Any]:
    classes = label_set.classes.tolist()
    for value in classes:
        if not isinstance(value, str | int | float | bool):
            raise TypeError(
                f"The class {value!r} ({type(value).__name__}) cannot be written to JSON. Use "
                "strings or numbers as classes."
            )
    return classes


def _json_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in parameters.items()
        # A RandomState, for instance, has no meaning elsewhere.
        if name not in _NOT_SAVED and _fits_json(value)
    }


def _fits_json(value: Any) -> bool:
    try:
        json.dumps(value, default=_plain_value)
    except TypeError:
        return False
    return True


def _plain_value(value: Any) -> Any:
    """Give what JSON can hold for values of numpy, also within lists and dicts."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to JSON")
