"""The constructor parameters of all estimators: what each means and which values it takes.

scikit-learn reads an estimator's parameters from the signature of its ``__init__``, so every class
spells its own out. Everything else about a parameter stands here once.
"""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Hashable, ItemsView, KeysView, Mapping, ValuesView
from dataclasses import dataclass, fields
from enum import EnumMeta
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
)

from ..prompts.architectures import SUPPORTED_ARCHITECTURES
from ..prompts.checks import in_short, listed

_Class = TypeVar("_Class", bound=type)
_Options = TypeVar("_Options")
_PLACEHOLDER = "{parameters}"
_WIDTH = 100


@dataclass(frozen=True)
class Parameter:
    """One constructor parameter.

    Attributes
    ----------
    kind : str
        Its type, as numpydoc writes it, without the default.
    text : str
        What it does.
    constraints : list
        The values it takes, in the terms of scikit-learn's parameter validation.
    option : {"", "scoring", "training"}
        Whether it is an option of the commands that classify, judge and train, of ``skgliclass
        train`` alone, or of none.
    """

    kind: str
    text: str
    constraints: list[Any]
    option: str = ""


class _Numbers(Interval):
    """Numbers alone: True is 1 to Python, but a mistake where a number is asked for."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool | np.bool_) and bool(super().is_satisfied_by(val))


def _at_least(kind: type, lowest: float) -> _Numbers:
    return _Numbers(kind, lowest, None, closed="left")


# Values of these types stay as they are.
_UNCHANGING = (str, int, float, type(None), PurePath, np.number, np.bool_)
_POSITIVE = _Numbers(Real, 0, None, closed="neither")

PARAMETERS: dict[str, Parameter] = {
    # What is classified, by which model, and how it runs.
    "model": Parameter(
        "str or path",
        '``"mini"`` is the embedded model, which works offline. Otherwise the name of a hub '
        "repository or of a folder: a GLiClass checkpoint is used as it is, a "
        "sentence-transformers model becomes a zero-shot bi-encoder, and a plain encoder becomes "
        "a new GLiClass that has to be fitted before it predicts. A path is always a folder.",
        [str, os.PathLike],
    ),
    "labels": Parameter(
        "list of classes, dict of class to label text, or nested dict",
        "What to choose from. A list shows each class to the model as ``str(class)``; a dict gives "
        "the text that the model reads for each class; a dict with lists or dicts in it is a "
        "hierarchy whose leaves are the classes, under dotted names, which the model reads unless "
        "a leaf stands for a text of its own. Arrays, Series, columns, views of dicts and "
        "enumerations whose members are strings or numbers are as good as lists. With None the "
        "classes come from ``fit``.",
        # Read by `LabelSet.from_labels`, which says more about what is wrong.
        [object],
    ),
    "architecture": Parameter(
        '{"auto", ' + ", ".join(f'"{name}"' for name in SUPPORTED_ARCHITECTURES) + "}",
        "How a new GLiClass is built around a plain encoder, an encoder-decoder, a decoder or a "
        "sentence-transformers model. A checkpoint has its own.",
        [StrOptions({"auto", *SUPPORTED_ARCHITECTURES})],
        option="training",
    ),
    "revision": Parameter(
        "str", "The branch, tag or commit of a hub repository.", [str, None], option="scoring"
    ),
    "task_description": Parameter(
        "str",
        "A sentence put in the prompt before the text, such as "
        '``"Classify the sentiment of this review: "``.',
        [str, None],
        option="scoring",
    ),
    "label_template": Parameter(
        "str",
        "What the model reads around every label text, with ``{}`` exactly once where the text "
        'goes: ``"This text is about {}"``. Classes and predictions stay as they are. None means '
        "the label text alone.",
        [str, None],
        option="scoring",
    ),
    "examples": Parameter(
        "list of (text, class), (text, list of classes) or dict, or frame",
        "Labelled texts that every prompt shows, the most important first. A dict has the keys "
        '``"text"`` and ``"labels"`` or, as in the training format, ``"true_labels"``; so are the '
        "columns of a frame. Where a text leaves no room for all, the last are not shown, with a "
        "warning.",
        # Read by `read_examples`, which says more about what is wrong.
        [object],
    ),
    "example_format": Parameter(
        '{"marker", "tags"}',
        "How labelled texts are written in the prompt, as the model was trained: with the "
        "``<<EXAMPLE>>`` token, as the embedded model was, or in the older format with "
        "``<<TRUE_LABEL>>``. The latter is a part of the text, so it alone works with a bi-encoder "
        "that knows no markers.",
        [StrOptions({"marker", "tags"})],
        option="scoring",
    ),
    "n_retrieved": Parameter(
        "int",
        "How many labelled texts, of those that ``fit`` was given, help with each text: the "
        "nearest by the model's own text vectors. Where its logits are cosines of these, as those "
        "of the embedded model are, their labels vote: the probability of a label is a mean of "
        "the model's and of the votes. How much these count is told by how well they and the "
        "model explain the kept texts without themselves, and is less with few texts a label. "
        "Votes go by label text, and a label that none of the kept texts has keeps its "
        "probability; where fewer than wanted have a vote, all of them vote. Other models show "
        "the texts in the prompt, before `examples`; in training none is shown with a text that "
        "is the same, so that one more is needed, and where ``partial_fit`` has seen fewer, all "
        "of them are shown. ``fit`` keeps the texts.",
        [_at_least(Integral, 0)],
        option="scoring",
    ),
    "retrieval_backend": Parameter(
        '{"numpy", "faiss"}',
        "What finds the nearest texts. ``faiss`` is faster where there are many (needs the extra "
        "``faiss``); both compare with every text.",
        [StrOptions({"numpy", "faiss"})],
        option="scoring",
    ),
    "long_texts": Parameter(
        '{"truncate", "chunk"}',
        "Whether the beginning of a text that does not fit is read, or all of it in chunks whose "
        "logits are pooled. Training reads the beginning.",
        [StrOptions({"truncate", "chunk"})],
        option="scoring",
    ),
    "chunk_overlap": Parameter(
        "int",
        "The tokens that neighbouring chunks share, but never more than half of a chunk.",
        [_at_least(Integral, 0)],
        option="scoring",
    ),
    "chunk_pooling": Parameter(
        '{"max", "mean"}',
        "Whether a label's logit is the largest of the chunks', or their mean, weighted by the "
        "tokens that each adds to those before it.",
        [StrOptions({"max", "mean"})],
        option="scoring",
    ),
    "n_permutations": Parameter(
        "int",
        "Over how many orders of the labels logits are averaged: that of ``classes_``, and others "
        "that are the same in every call. Without effect on a bi-encoder, whose scores do not "
        "depend on the order.",
        [_at_least(Integral, 1)],
        option="scoring",
    ),
    "shortlist": Parameter(
        "int",
        "How many labels the model reads for each text: those nearest to it by the cosine of "
        "vectors. The others get a logit far below. None means all.",
        [_at_least(Integral, 1), None],
        option="scoring",
    ),
    "shortlist_model": Parameter(
        "str",
        "What embeds texts and labels for the shortlist, named as `model` is, such as "
        '``"mini"``. None means the model itself.',
        [str, os.PathLike, None],
        option="scoring",
    ),
    "hierarchy": Parameter(
        '{"leaves", "path"}',
        '``"leaves"`` scores the classes alone. ``"path"``, for nested `labels`, scores branches '
        "too: a class's probability is the product of those of the nodes on the way to it, each "
        "the softmax over the children of its parent, or the sigmoid where a text may have any "
        "number of classes. ``fit`` trains the classes' scores.",
        [StrOptions({"leaves", "path"})],
        option="scoring",
    ),
    "max_length": Parameter(
        "int",
        "The longest prompt in tokens; None means what the model was made for. Labels are never "
        "cut: those that do not fit beside the text are scored in several passes. A longer text "
        "is treated as `long_texts` says.",
        [_at_least(Integral, 8), None],
        option="scoring",
    ),
    "device": Parameter(
        "str, int or torch.device",
        '``"cpu"``, ``"cuda"``, ``"cuda:1"`` and so on; a number is that of a GPU. ``"auto"`` '
        "takes a GPU where there is one.",
        # Checked by `check_device`: scikit-learn knows no type that is not imported.
        [object],
        option="scoring",
    ),
    "dtype": Parameter(
        '{"auto", "float32", "bfloat16", "float16"}',
        'The precision that texts are read in; ``"auto"`` is float32 on a CPU, and bfloat16 on a '
        'GPU that has it. With ``"bfloat16"`` a CPU that computes in it takes half the time or '
        "less, and reads again in float32 what rounding might decide. There `fit` uses float32.",
        [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        option="scoring",
    ),
    "n_jobs": Parameter(
        "int",
        "How many micro-batches are scored at a time, sharing torch's threads. None means as many "
        "as there are threads, up to 8, which is fastest, but one on a GPU; -1 means one for each "
        "processor, -2 all but one, and so on.",
        [_at_least(Integral, 1), _Numbers(Integral, None, -1, closed="right"), None],
        option="scoring",
    ),
    "verbose": Parameter(
        "int",
        "Whether to show a progress bar: 0 never, 1 always. None shows one in a terminal or a "
        "notebook, but not inside a search, a cross-validation or a worker of joblib.",
        ["verbose", None],
    ),
    # What becomes of the scores.
    "threshold": Parameter(
        'float, list of float, dict of class to float, or "auto"',
        "The probability from which on a class is chosen: one for all, or one for each class. "
        '``"auto"`` tunes one for each class in ``fit``, for the highest F1, on the rows that '
        "`calibrate` takes; without fitting it is one half.",
        [_Numbers(Real, 0, 1, closed="both"), StrOptions({"auto"}), "array-like", dict],
        option="scoring",
    ),
    "min_probability": Parameter(
        'float or "auto"',
        "With `other`, the probability that the most probable class needs to be predicted, after "
        '`calibrate`. ``"auto"`` tunes it in ``fit``, where `y` has texts of no class: for the '
        "largest mean of two shares, of the held-out texts (``X_val``, or `validation_fraction`) "
        "those that are predicted and right, and of the texts of no class those that are not "
        "predicted. Without such texts it is one half.",
        [_Numbers(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        option="scoring",
    ),
    "other": Parameter(
        "str, int or other single value",
        "What ``predict`` returns where no class reaches `min_probability`; it is none of the "
        "classes, and has no column in any score. Texts whose `y` it is are not learnt from: they "
        "tune `min_probability`. None turns it off, so that every text gets a class.",
        [object],
        option="scoring",
    ),
    "output": Parameter(
        '{"probabilities", "logits", "embeddings"}',
        "What the features are: the probability or the logit of each label, or the vector by "
        "which the model represents the text, which needs no labels.",
        [StrOptions({"probabilities", "logits", "embeddings"})],
    ),
    "multi_label": Parameter(
        "bool",
        "Whether each label is judged on its own (sigmoid) or all share a probability of one "
        "(softmax).",
        ["boolean"],
    ),
    # How training goes.
    "trainable": Parameter(
        '{"auto", "all", "head", "lora", "labels"}',
        "What ``fit`` changes: all weights; the heads alone, on representations that are computed "
        "once; the heads and low-rank updates of the backbone (needs the extra ``lora``); or "
        "nothing of the model: ``labels`` finds what to add to the label vectors and a bias for "
        "each class, in moments, also from few labels or from texts without any. That is convex: "
        "there are no epochs, so that of the parameters of training `label_penalty`, "
        "`class_weight`, those of the loss, `early_stopping` and ``max_epochs=0`` alone have an "
        'influence. ``"auto"`` is ``"labels"`` where that is as good, up to 64 labelled rows a '
        "class on average, or where training would take more than about an hour; otherwise all "
        "weights are trained, beside a part of what ``labels`` learnt, the less the more rows "
        "there are. Without trained heads, and where rows have labels of their own, it is ``all``. "
        "``trainable_`` tells what it was.",
        [StrOptions({"auto", "all", "head", "lora", "labels"})],
        option="training",
    ),
    "label_penalty": Parameter(
        'float or "auto"',
        'What a large change of the label vectors costs with ``trainable="labels"``: half of it '
        "times the sum of squares is added to the loss, which is summed over the rows, so that it "
        "matters less the more there are. That of the biases is in proportion. The larger, the "
        "nearer the result is to zero-shot, or to what texts without labels made of it. "
        '``"auto"`` is 0.03 and more of few rows, and takes back what rows that were held out tell '
        "against (of up to 2,000); or 0.1 where a text may have any number of classes.",
        [_at_least(Real, 0), StrOptions({"auto"})],
        option="training",
    ),
    "max_epochs": Parameter(
        'int or "auto"',
        "How often training goes through the texts; 0 records the classes and trains nothing, "
        "in ``partial_fit`` as well. "
        '``"auto"`` takes enough epochs for about 200 optimizer steps, between 3 and 10.',
        [_at_least(Integral, 0), StrOptions({"auto"})],
        option="training",
    ),
    "batch_size": Parameter(
        "int", "Texts in an optimizer step.", [_at_least(Integral, 1)], option="training"
    ),
    "learning_rate": Parameter(
        "float", "The highest learning rate of the backbone.", [_POSITIVE], option="training"
    ),
    "head_learning_rate": Parameter(
        "float",
        "The highest learning rate of the heads; None means `learning_rate`.",
        [_POSITIVE, None],
        option="training",
    ),
    "weight_decay": Parameter(
        "float",
        "How much AdamW shrinks matrices other than embedding tables.",
        [_at_least(Real, 0)],
        option="training",
    ),
    "warmup_fraction": Parameter(
        "float",
        "The share of steps in which the learning rate rises; it falls in the rest.",
        [_Numbers(Real, 0, 1, closed="both")],
        option="training",
    ),
    "max_grad_norm": Parameter(
        "float", "The norm to which larger gradients are clipped.", [_POSITIVE], option="training"
    ),
    "focal_gamma": Parameter(
        "float",
        "How much less examples count in the focal loss that are already right; 0 is "
        "cross-entropy.",
        [_at_least(Real, 0)],
        option="training",
    ),
    "focal_alpha": Parameter(
        "float",
        "The weight of true text-label pairs, against one minus it of false ones, where a text "
        "may have any number of classes; unused where it has one.",
        [_Numbers(Real, 0, 1, closed="both"), None],
        option="training",
    ),
    "label_smoothing": Parameter(
        "float",
        "The share of a target that is spread over the other outcomes.",
        [_Numbers(Real, 0, 1, closed="left")],
        option="training",
    ),
    "class_weight": Parameter(
        'dict of class to float, "balanced" or None',
        'How much each class counts. ``"balanced"`` makes up for their frequencies, as '
        "`sample_weight` counts them.",
        [dict, StrOptions({"balanced"}), None],
    ),
    "lora_rank": Parameter(
        "int",
        'The rank of the updates with ``trainable="lora"``.',
        [_at_least(Integral, 1)],
        option="training",
    ),
    "early_stopping": Parameter(
        "bool",
        "Whether to set a part of the texts aside and stop when the score on it no longer gets "
        "better. The best weights win, those before training included. Where label vectors alone "
        "are learnt, what was learnt is kept only if that part says that it is none the worse.",
        ["boolean"],
    ),
    "validation_fraction": Parameter(
        "float",
        "The part set aside where there is no ``X_val``.",
        [_Numbers(Real, 0, 1, closed="neither")],
    ),
    "n_iter_no_change": Parameter(
        "int",
        "How many epochs without a better score end the training with `early_stopping`.",
        [_at_least(Integral, 1)],
        option="training",
    ),
    "tol": Parameter(
        "float",
        "By how much a score has to be better to count for `n_iter_no_change`.",
        [_at_least(Real, 0)],
        option="training",
    ),
    "calibrate": Parameter(
        'bool or "auto"',
        "Whether to fit a temperature, so that probabilities fit frequencies: on validation data "
        "or, where what is added to label vectors is all that is learnt, on each row without "
        'which that was learnt again, so that nothing is held out. ``"auto"`` does the latter '
        "alone.",
        ["boolean", StrOptions({"auto"})],
        option="training",
    ),
    "gradient_checkpointing": Parameter(
        "bool", "Trade time for memory in training.", ["boolean"], option="training"
    ),
    "warm_start": Parameter(
        "bool",
        "Whether ``fit`` goes on from the weights of the last one.",
        ["boolean"],
    ),
    "checkpoint_folder": Parameter(
        "str or path",
        "Where ``fit`` writes a checkpoint, after every epoch and every ten minutes, so that a fit "
        "with the same data and parameters goes on from it in a new process, to the same weights. "
        "It is removed when ``fit`` ends, but not when it is interrupted. One fit at a time may "
        "use a folder, and `random_state` has to be an int. None writes nothing.",
        [str, os.PathLike, None],
        option="training",
    ),
    "random_state": Parameter(
        "int, RandomState or None",
        "Determines the order of texts and labels, dropout and the validation split. An int makes "
        "results repeat exactly on the same machine.",
        ["random_state"],
    ),
}
"""Every parameter by name, in no particular order; a signature has an order and the defaults."""


def with_parameters(cls: _Class) -> _Class:
    """Give a class what the table says about the parameters in the signature of its ``__init__``.

    Parameters
    ----------
    cls : type
        An estimator whose docstring has ``{parameters}`` on a line of its own, where the
        parameters are to be described.

    Returns
    -------
    type
        The same class, with its docstring completed and its parameter constraints set.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    accepted = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    constraints = {parameter.name: PARAMETERS[parameter.name].constraints for parameter in accepted}
    cls._parameter_constraints = constraints  # type: ignore[attr-defined]
    if cls.__doc__ is not None:  # python -OO strips docstrings
        before, _, after = cls.__doc__.partition(_PLACEHOLDER)
        indent = before[before.rfind("\n") + 1 :]
        described = "\n".join(_described(parameter, indent) for parameter in accepted)
        cls.__doc__ = before.removesuffix(indent) + described + after
    return cls


def unchanging_key(values: Mapping[str, Any]) -> Hashable:
    """Give a key for the values of parameters that stay as they are until others are set.

    Parameters
    ----------
    values : mapping of str to Any
        By name; those that could change in place have no influence.

    Returns
    -------
    hashable
        The same for the same values.
    """
    # With their types: True is equal to 1, and either may be wrong.
    return tuple(
        (name, type(value), value) for name, value in values.items() if is_unchanging(value)
    )


def is_unchanging(value: Any) -> bool:
    """Tell whether a parameter's value cannot change in place."""
    return isinstance(value, _UNCHANGING)


def check_count(name: str, value: Any) -> None:
    """Refuse what is no number of things.

    Raises
    ------
    ValueError
        If it is not an integer of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name}={value!r}; it must be an integer of at least 1.")


def check_model(model: Any, kind: str) -> None:
    """Refuse a `model` that is no name, as labels are where they are passed in the first place.

    Raises
    ------
    InvalidParameterError
        It is both a ValueError and a TypeError.
    """
    if isinstance(model, os.PathLike) or (isinstance(model, str) and model.strip()):
        return
    hint = "A model that is loaded cannot be passed: save it, and give its folder."
    if isinstance(model, Mapping):
        hint = f"For labels write {kind}(labels={dict(model)!r:.60})."
    elif isinstance(model, EnumMeta):
        hint = f"For labels write {kind}(labels={model.__name__})."
    elif model is None or isinstance(model, str):
        hint = "Leave it out for the embedded model."
    elif hasattr(model, "__iter__") and not callable(model) and not isinstance(model, bytes):
        labels = [value.item() if isinstance(value, np.generic) else value for value in model]
        hint = f"For labels write {kind}(labels=[{listed(labels, 3)}])."
    raise InvalidParameterError(
        f'model={in_short(model)} is no model: it must be the name of one, such as "mini", or of a '
        f"folder or hub repository. {hint}"
    )


def check_device(device: Any) -> None:
    """Refuse a `device` that is neither a name nor the number of a GPU nor a ``torch.device``.

    Raises
    ------
    InvalidParameterError
        It is both a ValueError and a TypeError.
    """
    is_of_torch = (type(device).__module__, type(device).__name__) == ("torch", "device")
    if is_of_torch or isinstance(device, str) or _at_least(Integral, 0).is_satisfied_by(device):
        return
    raise InvalidParameterError(
        f'device={in_short(device)} is no device: it must be a name such as "cpu" or "cuda:0", the '
        "number of a GPU, or a torch.device."
    )


def without_views(value: Any) -> Any:
    """Give a parameter with a copy in place of each view of a dict, which nobody can pickle."""
    if isinstance(value, KeysView | ValuesView | ItemsView):
        return list(value)
    if isinstance(value, dict | MappingProxyType):
        plain = {key: without_views(v) for key, v in value.items()}
        is_plain = isinstance(value, dict) and all(plain[key] is v for key, v in value.items())
        return value if is_plain else plain
    return value


def default_values(cls: type) -> dict[str, Any]:
    """Give the parameters of an estimator's own ``__init__`` that have defaults, by name."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def store_parameters(estimator: Any, values: dict[str, Any]) -> None:
    """Set an estimator's attributes from the ``locals()`` of its ``__init__``, unchanged."""
    # Not copied or converted: clone insists on the very objects that were passed.
    vars(estimator).update({name: v for name, v in values.items() if name != "self"})


def fill(options: type[_Options], values: Mapping[str, Any], **others: Any) -> _Options:
    """Make a dataclass of options from the parameters that have the names of its fields.

    Parameters
    ----------
    options : type
        The dataclass.
    values : mapping of str to Any
        The parameters; those without a field of their name are left out, and fields without a
        parameter keep their defaults.
    **others
        Fields whose values are not a parameter's as it stands.

    Returns
    -------
    options
    """
    # By name, so that a new option is a field and a parameter, and nothing in between.
    names = [field.name for field in fields(options)]  # type: ignore[arg-type]
    chosen = {name: plain_number(values[name]) for name in names if name in values}
    return options(**{**chosen, **others})


def plain_number(value: Any) -> Any:
    """Give a number of numpy's as one of Python's, which has no largest value; others as is."""
    return value.item() if isinstance(value, np.generic) else value


def _described(parameter: inspect.Parameter, indent: str) -> str:
    entry = PARAMETERS[parameter.name]
    default = repr(parameter.default)
    # repr has single quotes; the texts and kinds of the table have double ones.
    if isinstance(parameter.default, str):
        default = f'"{parameter.default}"'
    text = textwrap.fill(
        entry.text,
        width=_WIDTH,
        initial_indent=indent + "    ",
        subsequent_indent=indent + "    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"{indent}{parameter.name} : {entry.kind}, default={default}\n{text}"
