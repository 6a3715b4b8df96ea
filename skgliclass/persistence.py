"""Write a classifier beside its checkpoint, and read it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .fitting import FitState
from .labels import LabelSet, as_class_array

if TYPE_CHECKING:
    from .modeling.checkpoints import LoadedModel

FILE = "skgliclass.json"
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
    TypeError
        If a class is of a type that JSON cannot hold.
    """
    from . import __version__
    from .modeling.checkpoints import save_checkpoint

    state = estimator._fit_state
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
        "parameters": _json_parameters(estimator),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    save_checkpoint(folder, loaded)
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
        If the folder holds another kind of classifier, or was written by a later version.
    """
    from .modeling.sources import find_source

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
    estimator = cls(**{**saved, "model": model, "revision": revision, **parameters})
    if label_set is not None:
        thresholds = content["thresholds"]
        estimator._fit_state = FitState(
            label_set=label_set,
            given_labels=label_set,
            weights=None,
            temperature=float(content["temperature"]),
            thresholds=None if thresholds is None else np.asarray(thresholds, dtype=np.float32),
        )
    return estimator


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
        if isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        try:
            json.dumps(value)
        except TypeError:
            continue  # a RandomState, for instance, has no meaning elsewhere
        parameters[name] = value
    return parameters
