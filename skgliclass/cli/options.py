"""The options that the commands share, made of the table of the classifiers' parameters.

A command that runs a classifier adds them to its parser, and builds it of what was chosen::

    add_label_options(parser)       # --labels, --labels-file
    add_scoring_options(parser)     # --model and every parameter with option="scoring"
    ...
    classifier = make_classifier(args, multi_label=..., labels=chosen_labels(args))
    classifier.set_params(verbose=wants_bar(len(texts)))

What is left out keeps what a saved classifier has, or the parameter's default. An option that the
classifier would not use is refused, rather than accepted without effect.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.utils._param_validation import Interval, StrOptions

from ..estimators.callbacks import BAR_FROM_TEXTS
from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.parameters import PARAMETERS, Parameter
from ..estimators.persistence import read_content
from ..estimators.single_label import GLiClassClassifier
from ..exceptions import warn
from ..loading.sources import without_repeats
from .errors import CommandError
from .sources import Source, lines_of, text_of
from .tables import table_kind

Classifier = GLiClassClassifier | GLiClassMultiLabelClassifier

# What people put between names in one string.
_BETWEEN = (",", ";", "|")
_SEPARATORS = re.compile(r"\s*[,;|]\s*")


class _Need(NamedTuple):
    """What an option needs to have an effect."""

    parameter: str
    holds: Callable[[Any], bool]
    hint: str


_CHUNKS = _Need("long_texts", lambda value: value == "chunk", "--long-texts chunk")
_EPOCHS = _Need("trainable", lambda value: value != "labels", "another --trainable than labels")
_NEEDS = {
    "chunk_overlap": _CHUNKS,
    "chunk_pooling": _CHUNKS,
    "retrieval_backend": _Need("n_retrieved", bool, "--n-retrieved"),
    "shortlist_model": _Need("shortlist", bool, "--shortlist"),
    "min_probability": _Need("other", lambda value: value is not None, "--other"),
    "lora_rank": _Need("trainable", lambda value: value == "lora", "--trainable lora"),
    "gradient_checkpointing": _Need(
        "trainable",
        lambda value: value not in ("head", "labels"),
        "another --trainable than head or labels",
    ),
    "label_penalty": _Need(
        "trainable", lambda value: value in ("labels", "auto"), "--trainable labels"
    ),
    "batch_size": _EPOCHS,
    "learning_rate": _EPOCHS,
    "head_learning_rate": _EPOCHS,
    "weight_decay": _EPOCHS,
    "warmup_fraction": _EPOCHS,
    "max_grad_norm": _EPOCHS,
    "n_iter_no_change": _EPOCHS,
    "checkpoint_folder": _EPOCHS,
    "tol": _Need("early_stopping", bool, "--n-iter-no-change"),
}


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which labels there are, and in which words the model reads them."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--labels",
        nargs="+",
        # Given several times it would be the last ones alone.
        action="extend",
        metavar="LABEL",
        help="what to choose from, each label an argument of its own",
    )
    group.add_argument(
        "--labels-file",
        metavar="FILE",
        help='one label a line, or JSON: a list, {"label": "what the model reads"}, or nested '
        "lists and objects for a hierarchy; in UTF-8, or in --encoding",
    )


def add_scoring_options(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    """Add what says which model scores texts, and how; `without` parameters that do not matter."""
    options = parser.add_argument_group(
        "model",
        "Parameters of the classifiers. Where an option is left out, what a saved classifier\n"
        "has holds, and otherwise the parameter's default.",
    )
    options.add_argument(
        "--model",
        default="mini",
        metavar="NAME",
        help="mini, a folder or a hub id (default: mini); the folder of a saved classifier has "
        "its labels and parameters",
    )
    _add_parameters(options, "scoring", without)


def add_training_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what says how a classifier is trained; the group that is returned takes more."""
    options = parser.add_argument_group(
        "training",
        "Parameters of the classifiers, as above. --n-iter-no-change turns early_stopping on,\n"
        "and needs held-out data.",
    )
    _add_parameters(options, "training")
    return options


def chosen_labels(args: argparse.Namespace) -> Any:
    """Give the labels that were asked for, as the `labels` parameter takes them; None for none.

    Raises
    ------
    CommandError
        If the file of labels cannot be read.
    """
    labels = args.labels
    if args.labels_file is not None:
        labels = read_labels(args.labels_file, args.encoding)
    names = _names_between(labels) if isinstance(labels, list) else []
    if names:
        what = "one label" if len(labels) == 1 else "a label, with what stands at its end"
        form = f"--labels {shlex.join(names)}" if args.labels else "one on each line"
        warn(f"{labels[0]!r} is {what}; for {len(names)} write {form}")
    return labels


def _names_between(labels: Sequence[Any]) -> list[str]:
    """Give the names that somebody meant who put commas and the like between labels, or none."""
    if not all(isinstance(label, str) for label in labels):
        return []
    if len(labels) == 1:
        # As a list, too, as Python and JSON write it.
        names = [name.strip("\"'") for name in _SEPARATORS.split(labels[0].strip("[]() \t"))]
        return names if len(names) > 1 and all(names) else []
    if len(labels) < 2 or not all(label.rstrip().endswith(_BETWEEN) for label in labels[:-1]):
        return []
    return [label.strip("".join(_BETWEEN) + " ") for label in labels]


def has_labels(args: argparse.Namespace) -> bool:
    """Tell whether labels were asked for."""
    return args.labels is not None or args.labels_file is not None


def files_of_labels(args: argparse.Namespace) -> list[str]:
    """Give the file that the labels are read from, where there is one."""
    name = getattr(args, "labels_file", None)
    return [] if name is None else [name]


def read_labels(name: str, encoding: str | None = None) -> Any:
    """Read labels from a file: JSON, or one label a line.

    Parameters
    ----------
    name : str
        The file.
    encoding : str, optional
        Of what is read; a file that can only be in UTF-8 is read as that.

    Raises
    ------
    CommandError
        If there is no such file, it is a table, in another encoding or not valid JSON, or holds no
        labels.
    """
    if table_kind(name) not in (None, ".txt", ".json"):
        raise CommandError(
            f"--labels-file {name}: it is a table, whose header and columns are no labels; give a "
            ".txt file with one label a line, or a .json file with a list or an object"
        )
    try:
        source = Source(name, encoding)
        if encoding is not None and _is_utf_8_alone(source):
            # The labels may be in a file of one's own, beside data of somebody else's.
            source = Source(name)
        labels = _labels_in(name, source)
    except CommandError as error:
        where = "--labels-file " if str(error).startswith(name) else ""
        raise CommandError(f"{where}{error}") from error
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise CommandError(f"--labels-file {name}: {reason}") from error
    if not labels:
        raise CommandError(f"--labels-file {name}: there are no labels in it")
    return labels


def _is_utf_8_alone(source: Source) -> bool:
    """Tell what is valid UTF-8 beyond ASCII, which no text in another encoding is but by chance."""
    with source.opened() as file:
        content = file.read()
    try:
        return not content.decode().isascii()
    except UnicodeDecodeError:
        return False


def _labels_in(name: str, source: Source) -> list[Any] | dict[str, Any]:
    text = text_of(source)
    is_json = name.lower().endswith(".json")
    # Also where a name does not say so: '{"T": "travel",' is nobody's label.
    if is_json or text.lstrip().startswith(("[", "{")):
        try:
            labels = json.loads(text, object_pairs_hook=without_repeats)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"{name}: not valid JSON: {error}") from error
        if not isinstance(labels, list | dict):
            raise CommandError(f"{name}: neither a list nor an object of labels")
        return labels
    return [line.strip() for line in lines_of(source) if line.strip()]


def make_classifier(
    args: argparse.Namespace,
    *,
    multi_label: bool,
    labels: Any = None,
    has_examples: bool = False,
    retrains: bool = False,
    **others: Any,
) -> Classifier:
    """Build the classifier that the options describe.

    Parameters
    ----------
    args : Namespace
        With the options of :func:`add_scoring_options`, and maybe :func:`add_training_options`.
    multi_label : bool
        Whether a text may have any number of labels.
    labels : list, dict or None
        The `labels` parameter; None leaves it as a saved classifier has it. With others a saved
        classifier may be of the other kind, and is a model alone then.
    has_examples : bool, default=False
        Whether the data brings examples for the prompts.
    retrains : bool, default=False
        Whether its labels and its kind do not matter, since others will be learnt.
    **others
        More parameters.

    Returns
    -------
    classifier

    Raises
    ------
    CommandError
        If an option is for the other kind of classifier, or would have no effect.
    ValueError
        If a parameter has a wrong value, or the folder holds another kind of classifier.
    """
    kind = GLiClassMultiLabelClassifier if multi_label else GLiClassClassifier
    chosen = _chosen_parameters(args)
    _check_kind(chosen, kind)
    parameters = {**chosen, **others, **({} if labels is None else {"labels": labels})}
    saved = read_content(args.model, args.revision) or {}
    is_other_kind = saved.get("estimator", kind.__name__) != kind.__name__
    classifier: Classifier
    if is_other_kind and (retrains or labels is not None):
        # The other kind's parameters say nothing of this one.
        classifier = kind(args.model, **parameters)
    else:
        classifier = kind.from_pretrained(args.model, **parameters)
    # Before any work, which would find it out at its end.
    classifier._validate_params()
    _check_effects(args, chosen, classifier, has_examples)
    if not (retrains or saved.get("keeps_examples")):
        _check_retrieval(args, chosen)
    return classifier


def wants_bar(n_texts: int = BAR_FROM_TEXTS) -> int:
    """Tell whether to show a progress bar: to a person, over what takes a while."""
    return int(sys.stderr.isatty() and n_texts >= BAR_FROM_TEXTS)


def option_of(name: str) -> str:
    """Give the option that is named after a parameter."""
    return f"--{name.replace('_', '-')}"


def _add_parameters(
    group: argparse._ArgumentGroup, option: str, without: Sequence[str] = ()
) -> None:
    for name, parameter in PARAMETERS.items():
        if parameter.option == option and name not in without:
            # argparse reads a percent sign as the beginning of a default's place.
            text = parameter.text.replace("`", "").replace("%", "%%")
            group.add_argument(option_of(name), help=text, **_how_to_read(parameter))


def _how_to_read(parameter: Parameter) -> dict[str, Any]:
    """Give what argparse needs to read a parameter, by the values that the parameter takes."""
    constraints = parameter.constraints
    words = {w for c in constraints if isinstance(c, StrOptions) for w in c.options}
    types = [c.type for c in constraints if isinstance(c, Interval)]
    if "boolean" in constraints:
        return {"action": argparse.BooleanOptionalAction}
    if not types and words:
        return {"choices": sorted(words)}
    if not types:
        return {"metavar": "TEXT"}
    # A whole number is a real one, too, so the wider type says nothing of an int.
    number = int if types[0] is Integral else float

    def read(value: str) -> str | float:
        return value if value in words else number(value)

    # argparse says what a value should have been by this name.
    read.__name__ = number.__name__
    return {"type": read, "metavar": "|".join([number.__name__.upper(), *sorted(words)])}


def _chosen_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Give the parameters whose options were not left out."""
    values: Mapping[str, Any] = vars(args)
    names = [name for name, parameter in PARAMETERS.items() if parameter.option]
    return {name: values[name] for name in names if values.get(name) is not None}


def _check_kind(chosen: Mapping[str, Any], kind: type[Classifier]) -> None:
    """Refuse what only the other kind of classifier has."""
    accepted = inspect.signature(kind).parameters
    other = next((name for name in chosen if name not in accepted), None)
    if other is not None or (chosen.get("focal_alpha") is not None and kind is GLiClassClassifier):
        is_multi_label = kind is GLiClassMultiLabelClassifier
        raise CommandError(
            f"{option_of(other or 'focal_alpha')} is for "
            + ("one label a text" if is_multi_label else "many labels a text (see --multi-label)")
        )


def _check_effects(
    args: argparse.Namespace,
    chosen: Mapping[str, Any],
    classifier: Classifier,
    has_examples: bool,
) -> None:
    """Refuse what would be accepted and do nothing."""
    values = classifier.get_params(deep=False)
    for name, need in _NEEDS.items():
        if chosen.get(name, False) is not False and not need.holds(values[need.parameter]):
            raise CommandError(f"{option_of(name)} has no effect without {need.hint}")
    shows_examples = has_examples or values["n_retrieved"] or values["examples"] is not None
    if "example_format" in chosen and not shows_examples:
        raise CommandError("--example-format has no effect: no examples are shown")
    if {"learning_rate", "head_learning_rate"} <= chosen.keys() and values["trainable"] == "head":
        raise CommandError(
            "--learning-rate has no effect beside --head-learning-rate with --trainable head"
        )
    if values["trainable"] == "labels" and chosen.get("max_epochs", 0) != 0:
        raise CommandError(
            "--max-epochs has no effect with --trainable labels, unless it is 0 to learn nothing"
        )
    if "revision" in chosen and (args.model == "mini" or Path(args.model).is_dir()):
        raise CommandError(f"--revision is for a hub repository, which {args.model} is not")


def _check_retrieval(args: argparse.Namespace, chosen: Mapping[str, Any]) -> None:
    if chosen.get("n_retrieved"):
        raise CommandError(
            f"--n-retrieved retrieves texts of its training, and {args.model} keeps "
            "none; train it with --n-retrieved"
        )
