"""The configuration of a pre-training: a TOML file with a table for each class below.

Pydantic checks it. Only this module imports it, which nothing imports that only classifies.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from ..exceptions import missing_extra

try:
    from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
    from pydantic.dataclasses import dataclass
except ImportError as error:
    raise ImportError(
        missing_extra("The configuration of a pre-training", "pydantic", "pretraining")
    ) from error

from ..loading.sources import EMBEDDED_HUB_ID
from ..modeling.scorers import SCORERS
from ..prompts.architectures import SUPPORTED_ARCHITECTURES

# Strict, since pydantic would otherwise take true for 1 and "3" for 3.
_Count = Annotated[int, Field(ge=1, strict=True)]
_Natural = Annotated[int, Field(ge=0, strict=True)]
_Amount = Annotated[float, Field(ge=0, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]
# Not strict, since TOML and JSON have lists and no tuples.
_Names = tuple[str, ...]

if TYPE_CHECKING:
    # A type checker knows no choices that are read from a registry.
    _Architecture = str
    _Scorer = str
else:
    _Architecture = Literal[("auto", *SUPPORTED_ARCHITECTURES)]
    _Scorer = Literal[tuple(name for name, kind in SCORERS.items() if not kind.attends)]

_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_CHECKED)
class ModelConfig:
    """What to start from.

    Attributes
    ----------
    backbone : str
        A folder or a hub id: a sentence encoder or a plain encoder. all-MiniLM-L6-v2 is found where
        the extra ``mini`` installed it. A GLiClass is trained further as it is; beside it only
        `max_length` and its own `architecture` may be given.
    architecture : str
        How labels and text meet; ``"auto"`` is the uni-encoder, or that of the GLiClass.
    pooling : {"avg", "first"}
        How the text's token vectors become one.
    class_token_pooling : {"average", "first"}
        Take the mean of a label's tokens, or its marker.
    scorer : {"simple", "weighted-dot", "mlp", "hopfield"}
        How a text and a label are compared. With ``"simple"`` the first logits are scaled cosines
        of what the backbone gives; the others start from random weights.
    prompt_first : bool
        Whether the labels come before the text.
    extract_text_features : bool
        Whether a uni-encoder pools the text without the labels before it, and the labels without
        the text after them; otherwise the text's vector is that of the whole prompt, and the last
        label's runs on over the text.
    normalize_features : bool
        Compare vectors of length one, times `logit_scale`.
    logit_scale, logit_bias : float
        What the cosines are multiplied by, which is learnt, and what is added, which is not.
    markers : {"mean", "label", "separator"}
        What the markers' embeddings start from: the mean of all words, the word "label", or the
        token that ends a sequence.
    dropout : float
        In the heads.
    max_length : int
        The longest prompt in tokens while training.
    """

    backbone: str = EMBEDDED_HUB_ID
    architecture: _Architecture = "auto"
    pooling: Literal["avg", "first"] = "avg"
    class_token_pooling: Literal["average", "first"] = "average"
    scorer: _Scorer = "simple"
    prompt_first: StrictBool = True
    extract_text_features: StrictBool = True
    normalize_features: StrictBool = True
    logit_scale: Annotated[float, Field(ge=0.01, strict=True)] = 15.0
    logit_bias: Annotated[float, Field(ge=-100.0, strict=True)] = -3.75
    markers: Literal["mean", "label", "separator"] = "mean"
    dropout: _Share = 0.0
    max_length: Annotated[int, Field(ge=32, strict=True)] = 256

    @property
    def new_architecture(self) -> str:
        """That of a model which is not one already."""
        return "uni-encoder" if self.architecture == "auto" else self.architecture


@dataclass(frozen=True, config=_CHECKED)
class TrainingConfig:
    """How to train.

    Attributes
    ----------
    n_steps, batch_size : int
        The length of the run, over which the learning rate rises and falls, and the rows a step.
    rows_together : int
        How many rows of one set follow each other, with the same texts for their labels. A
        bi-encoder encodes these once for all of them; it should divide `batch_size`.
    learning_rate, head_learning_rate, weight_decay, max_grad_norm : float
        Of AdamW, for the backbone and for the heads.
    warmup_fraction : float
        The share of the steps in which the learning rate rises.
    decay : bool
        Whether it then falls to zero at the last step. Without, and with `averaging`, a run may be
        stopped at any time and its model is as good as one of a run that was planned so long.
    averaging : float, optional
        The model is an average of the weights along the run, those after step t in proportion to
        about ``t ** averaging``; left out, it has the last weights.
    focal_gamma, label_smoothing : float
        Of the loss.
    multi_label_weight : float
        How much a row with any number of labels counts against one with a single label. Its loss
        is a mean over its labels, most of which are easily seen to be false.
    distillation : float
        The weight of the frozen sentence encoder's similarities in the targets. With cross-entropy
        this is the weighted sum of both losses (Hinton et al. 2015, arXiv:1503.02531).
    trainable : {"all", "layers", "head", "lora"}
        Which weights change; ``"layers"`` leaves the embeddings of words and positions alone.
    frozen_layers : int
        How many of the backbone's first layers never change. With ``trainable="layers"`` no
        gradient is computed for them, which is two thirds of their arithmetic.
    lora_rank : int
        As for the classifiers.
    max_batch_tokens : int
        As for the classifiers; 0 stands for what suits the device: on a GPU few large passes, as
        each launches its kernels anew, on a processor what its caches hold.
    backbone_dropout : float, optional
        In the backbone, in place of its own. On a processor the random numbers take a tenth to a
        fifth of the time, and with dropout attention has no fast kernel.
    precision : {"auto", "float32", "bfloat16"}
        Of the forward pass; ``"auto"`` is bfloat16 where the processor or the card computes in it
        natively.
    gradient_checkpointing : bool
        Whether to save memory for time.
    chunk_steps : int
        How many steps' rows are drawn and tokenised at a time.
    seed : int
        Of all randomness.
    """

    n_steps: _Count = 10_000
    batch_size: _Count = 32
    rows_together: _Count = 1
    learning_rate: _Amount = 3e-5
    head_learning_rate: _Amount = 1e-4
    weight_decay: _Amount = 0.01
    max_grad_norm: Annotated[float, Field(ge=1e-6, strict=True)] = 1.0
    warmup_fraction: _Share = 0.05
    decay: StrictBool = True
    averaging: _Amount | None = None
    focal_gamma: _Amount = 0.0
    label_smoothing: _Share = 0.0
    multi_label_weight: _Amount = 3.0
    distillation: _Share = 0.0
    trainable: Literal["all", "layers", "head", "lora"] = "all"
    frozen_layers: _Natural = 0
    lora_rank: _Count = 16
    max_batch_tokens: _Natural = 0
    backbone_dropout: _Share | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: StrictBool = False
    chunk_steps: _Count = 64
    seed: _Natural = 0


@dataclass(frozen=True, config=_CHECKED)
class KindConfig:
    """Sets that pose one kind of task, in a table ``[mixture.kinds.NAME]``.

    Attributes
    ----------
    share : float
        How often one of them is drawn, against the shares of the other kinds; 0 leaves them out.
    sets : list of str
        Names, or patterns such as ``"luis_*"`` in which ``*`` stands for any characters. A set
        belongs to the first kind that names it.
    """

    share: _Amount
    sets: _Names


@dataclass(frozen=True, config=_CHECKED)
class MixtureConfig:
    """Which rows are drawn.

    Attributes
    ----------
    temperature : float
        A set of n rows is drawn with a probability proportional to ``min(n, cap) ** temperature``.
    cap : int
        Beyond so many rows a set is drawn no more often.
    kinds : table of tables
        Sets by the kind of their task, each with a share of all rows that does not depend on how
        many sets there are of it. Where there is any kind every set must belong to one.
    weights : table of float
        What the probability of a set is multiplied by, within its kind; 0 leaves it out.
    hypotheses : list of str
        Sets of ``Premise: .. Hypothesis: ..`` rows that give a further set, of premises whose
        labels are hypotheses.
    generated : list of str
        Sets of rows written by rules to add: ``"opinions"``, ``"ratings"``, ``"market"`` and the
        files of the folder ``grammars``. They are named ``generated.opinions`` and so on in
        `kinds` and `weights`.
    generated_rows : int
        How many rows each of them has.
    held_out_rows : int
        How many rows of each set are never trained on, but scored; at most a tenth of it.
    """

    temperature: _Share = 0.5
    cap: _Count = 20_000
    kinds: Mapping[str, KindConfig] = field(default_factory=dict)
    weights: Mapping[str, _Amount] = field(default_factory=dict)
    hypotheses: _Names = ()
    generated: _Names = ()
    generated_rows: Annotated[int, Field(ge=20, strict=True)] = 10_000
    held_out_rows: _Natural = 100


@dataclass(frozen=True, config=_CHECKED)
class AugmentationConfig:
    """How a drawn row is changed; what ends in ``probability`` is that of a row.

    Attributes
    ----------
    max_labels : int
        How many labels a row has at most.
    full_set_probability : float
        Of keeping as many labels of the row's own as `max_labels` allows; otherwise their number
        is random, small ones more often.
    hard_negative_probability : float
        Of taking as negatives the labels nearest to the true ones by the backbone's embeddings.
    foreign_negative_probability : float
        Of adding up to three labels from sets of other families.
    wording_probability : float
        Of other words for the labels.
    template_probability : float
        Of a sentence around each label, the same for all labels of the row.
    merge_probability : float
        Of making one label, such as "film/music", of two.
    task_probability : float
        Of a task description.
    example_probability : float
        Of in-context examples: rows of the same set near to the text.
    max_examples : int
        How many of them at most.
    vary_examples : bool
        Whether their number is random, from one to `max_examples`.
    sigmoid_probability : float
        Of judging the labels of a row with one true label independently.
    no_true_probability : float
        Of leaving out the true labels where labels are judged independently.
    pool_size : int
        Among how many rows of a set examples are searched.
    wordings : str
        A file in place of the package's own wordings.
    """

    max_labels: Annotated[int, Field(ge=2, strict=True)] = 24
    full_set_probability: _Share = 0.3
    hard_negative_probability: _Share = 0.3
    foreign_negative_probability: _Share = 0.1
    wording_probability: _Share = 0.5
    template_probability: _Share = 0.15
    merge_probability: _Share = 0.0
    task_probability: _Share = 0.2
    example_probability: _Share = 0.1
    max_examples: _Count = 3
    vary_examples: StrictBool = False
    sigmoid_probability: _Share = 0.2
    no_true_probability: _Share = 0.1
    pool_size: Annotated[int, Field(ge=2, strict=True)] = 500
    wordings: str = ""


@dataclass(frozen=True, config=_CHECKED)
class RecordConfig:
    """What is written while training.

    Attributes
    ----------
    log_steps, score_steps, checkpoint_steps : int
        After how many steps the loss is logged, the held-out rows are scored, and a checkpoint is
        written.
    checkpoint_minutes : float
        After how many minutes a checkpoint is written, whatever the steps.
    eval_rows : int
        How many rows of each set of the evaluation folder are scored.
    kept_steps : sequence of int
        After which steps the model is kept, in a folder such as ``step-300``, for averages along
        the run.
    """

    log_steps: _Count = 50
    score_steps: _Count = 1000
    checkpoint_steps: _Count = 1000
    checkpoint_minutes: _Amount = 10.0
    eval_rows: _Count = 300
    kept_steps: tuple[_Count, ...] = ()


@dataclass(frozen=True, config=_CHECKED)
class PretrainingConfig:
    """All of it; the attributes are the tables of the file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        if self.model.extract_text_features and not self.model.prompt_first:
            raise ValueError(
                "model.extract_text_features must be false with model.prompt_first = false: it "
                "takes what follows the labels for the text."
            )


def read_config(path: str | Path) -> PretrainingConfig:
    """Read a configuration; what a file leaves out has its default.

    Parameters
    ----------
    path : str or path
        A TOML file.

    Returns
    -------
    PretrainingConfig

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the file is no TOML, or a field is unknown or has a wrong value; the message names both.
    """
    with Path(path).open("rb") as file:
        try:
            table = tomllib.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not valid TOML: {error}.") from error
    try:
        return config_from_table(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def config_from_table(table: Mapping[str, Any]) -> PretrainingConfig:
    """Make a configuration of nested tables, as :func:`dataclasses.asdict` gives them.

    Raises
    ------
    ValueError
        If a field is unknown or has a wrong value; the message begins with its name.
    """
    try:
        return TypeAdapter(PretrainingConfig).validate_python(table)
    except ValidationError as error:
        # One line, of the first field at fault; pydantic's own message has four for each.
        # An unknown name first: what is missing may be what it was meant to be.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] == "missing")
        raise ValueError(_sentence(faults[0])) from error


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list of names",
    "dict_type": "a table",
    "dataclass_type": "a table [{name}]",
    "greater_than_equal": "at least {ge:g}",
    # Nothing but shares has an upper bound.
    "less_than_equal": "between 0 and {le:g}",
}
"""What pydantic's kinds of errors ask for, in the words of TOML."""


def _sentence(fault: Mapping[str, Any]) -> str:
    """Say which field is wrong, what it is and what it must be."""
    kind, place, limits = fault["type"], fault["loc"], fault.get("ctx", {})
    if kind == "value_error":
        # A __post_init__ above has raised it, and names the fields itself.
        return str(limits["error"])
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
    if kind == "unexpected_keyword_argument":
        return f"{name} is unknown; {_nearest_name(place)}"
    if kind == "missing":
        return f"{name} is missing."
    if kind == "literal_error":
        choices = ", ".join(re.findall(r"'([^']+)'", limits["expected"]))
        return f"{name} is {fault['input']!r}; choose from {choices}."
    wanted = _WANTED[kind].format(**limits, name=name)
    return f"{name} is {fault['input']!r}; it must be {wanted}."


def _nearest_name(place: Sequence[str]) -> str:
    table: Any = PretrainingConfig
    for name in place[:-1]:
        # What holds tables of any name gives the class of them.
        mapped = getattr(table, "__args__", None)
        table = mapped[-1] if mapped else get_type_hints(table)[name]
    names = list(get_type_hints(table))
    close = difflib.get_close_matches(place[-1], names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}."
