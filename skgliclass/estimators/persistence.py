"""Write a classifier beside its checkpoint, and read it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .fitting import FitState
from .hierarchy import is_nested
from .labels import LabelSet, as_class_array

if TYPE_CHECKING:
    from ..engine.retrieval import ExampleStore
    from ..loading.loaded import LoadedModel

FILE = "skgliclass.json"
_EXAMPLES_FILE, _VECTORS_FILE = "retrieved_examples.json", "retrieved_examples.safetensors"
_FORMAT = 1
# What belongs to the place where a classifier runs, or is written elsewhere.
_NOT_SAVED = {"model", "labels", "revision", "architecture", "device", "n_jobs", "verbose"}


def save_estimator(
    estimator: Any, loaded: LoadedModel, label_set: LabelSet | None, folder: str | Path
) -> None:
    """Write a classifier's checkpoint and, beside it, one file with all else.

    Parameters
    ----------
    estimator : classifier
        What to save.
    loaded : LoadedModel
        Its model, with tuned weights.
    label_set : LabelSet or None
        Its classes.
    folder : str or path
        Where to; made if missing.

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
    from .._version import __version__
    from ..loading.checkpoints import save_checkpoint

    state = estimator._fit_state
    store = state.store if state is not None and estimator.n_retrieved else None
    content = {
        "format": _FORMAT,
        "skgliclass_version": __version__,
        "estimator": type(estimator).__name__,
        "classes": None if label_set is None else _json_classes(label_set),
        "label_texts": None if label_set is None else list(label_set.texts),
        "temperature": 1.0 if state is None else state.temperature,
        "thresholds": None
        if state is None or state.thresholds is None
        else [float(value) for value in state.thresholds],
        "hierarchy": _json_hierarchy(estimator.labels),
        "keeps_examples": store is not None,
        "parameters": _json_parameters(estimator),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain_value)
    save_checkpoint(folder, loaded)
    if store is None:
        # The texts of a classifier that was saved here before must not go along with this one.
        for name in (_EXAMPLES_FILE, _VECTORS_FILE):
            (Path(folder) / name).unlink(missing_ok=True)
    else:
        _write_store(Path(folder), store)
    (Path(folder) / FILE).write_text(text + "\n", encoding="utf-8")


def load_estimator(
    cls: type[Any], model: str, revision: str | None, parameters: dict[str, Any]
) -> Any:
    """Read a classifier that :func:`save_estimator` wrote, or make one of a bare checkpoint.

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
        return cls(model=model, revision=revision, **parameters)
    if content["format"] > _FORMAT:
        raise ValueError(
            f"{model!r} was written by skgliclass {content['skgliclass_version']}, which uses a "
            "later format. Update skgliclass."
        )
    if content["estimator"] != cls.__name__:
        raise ValueError(
            f"{model!r} holds a {content['estimator']}, not a {cls.__name__}. "
            f"Use {content['estimator']}.from_pretrained."
        )
    label_set = None
    saved = dict(content["parameters"])
    if content["classes"] is not None:
        classes = as_class_array(content["classes"])
        label_set = LabelSet(classes, tuple(content["label_texts"]))
        saved["labels"] = label_set.as_labels()
        if content.get("hierarchy"):
            saved["labels"] = content["hierarchy"]
    estimator = cls(**{**saved, "model": model, "revision": revision, **parameters})
    if label_set is not None:
        given = LabelSet.from_labels(saved["labels"], sort=not estimator._multi_label)
        thresholds = content["thresholds"]
        estimator._fit_state = FitState(
            label_set=label_set,
            given_labels=given,
            weights=None,
            temperature=float(content["temperature"]),
            thresholds=None if thresholds is None else np.asarray(thresholds, dtype=np.float32),
            store=_read_store(source.folder, estimator.retrieval_backend)
            if content.get("keeps_examples") and estimator.n_retrieved
            else None,
        )
    return estimator


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


def _json_hierarchy(labels: Any) -> dict[str, Any] | None:
    return _plain_tree(labels) if is_nested(labels) else None


def _plain_tree(branch: Any) -> Any:
    if isinstance(branch, Mapping):
        return {name: _plain_tree(below) for name, below in branch.items()}
    return list(branch)


def _json_classes(label_set: LabelSet) -> list[Any]:
    classes = label_set.classes.tolist()
    for value in classes:
        if not isinstance(value, str | int | float | bool):
            raise TypeError(
                f"The class {value!r} ({type(value).__name__}) cannot be written to JSON. Use "
                "strings or numbers as classes."
            )
    return classes


def _json_parameters(estimator: Any) -> dict[str, Any]:
    parameters = {}
    for name, value in estimator.get_params(deep=False).items():
        if name in _NOT_SAVED:
            continue
        try:
            json.dumps(value, default=_plain_value)
        except TypeError:
            continue  # a RandomState, for instance, has no meaning elsewhere
        parameters[name] = value
    return parameters


def _plain_value(value: Any) -> Any:
    """Give what JSON can hold for values of numpy, also within lists and dicts."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to JSON")
