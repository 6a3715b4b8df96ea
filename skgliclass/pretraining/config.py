"""The configuration of a pre-training: a TOML file with a table for each class below."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from ..loading.sources import EMBEDDED_HUB_ID

_Table = TypeVar("_Table")


def _number(default: float, low: float, high: float = float("inf")) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _share(default: float) -> Any:
    return _number(default, 0.0, 1.0)


def _choice(default: str, *others: str) -> Any:
    return field(default=default, metadata={"choices": (default, *others)})


@dataclass(frozen=True)
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
    architecture: str = _choice(
        "auto",
        "uni-encoder",
        "bi-encoder",
        "bi-encoder-fused",
        "encoder-decoder",
        "encoder-decoder-cls",
    )
    pooling: str = _choice("avg", "first")
    class_token_pooling: str = _choice("average", "first")
    scorer: str = _choice("simple", "weighted-dot", "mlp", "hopfield")
    prompt_first: bool = True
    extract_text_features: bool = True
    normalize_features: bool = True
    logit_scale: float = _number(15.0, 0.01)
    logit_bias: float = _number(-3.75, -100.0)
    markers: str = _choice("mean", "label", "separator")
    dropout: float = _share(0.0)
    max_length: int = _number(256, 32)

    @property
    def new_architecture(self) -> str:
        """That of a model which is not one already."""
        return "uni-encoder" if self.architecture == "auto" else self.architecture


@dataclass(frozen=True)
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
    lora_rank, max_batch_tokens : int
        As for the classifiers.
    precision : {"auto", "float32", "bfloat16"}
        Of the forward pass.
    gradient_checkpointing : bool
        Whether to save memory for time.
    chunk_steps : int
        How many steps' rows are drawn and tokenised at a time.
    seed : int
        Of all randomness.
    """

    n_steps: int = _number(10_000, 1)
    batch_size: int = _number(32, 1)
    rows_together: int = _number(1, 1)
    learning_rate: float = _number(3e-5, 0.0)
    head_learning_rate: float = _number(1e-4, 0.0)
    weight_decay: float = _number(0.01, 0.0)
    max_grad_norm: float = _number(1.0, 1e-6)
    warmup_fraction: float = _share(0.05)
    focal_gamma: float = _number(0.0, 0.0)
    label_smoothing: float = _share(0.0)
    multi_label_weight: float = _number(3.0, 0.0)
    distillation: float = _share(0.0)
    trainable: str = _choice("all", "layers", "head", "lora")
    lora_rank: int = _number(16, 1)
    max_batch_tokens: int = _number(4096, 1)
    precision: str = _choice("auto", "float32", "bfloat16")
    gradient_checkpointing: bool = False
    chunk_steps: int = _number(64, 1)
    seed: int = _number(0, 0)


@dataclass(frozen=True)
class MixtureConfig:
    """Which rows are drawn.

    Attributes
    ----------
    temperature : float
        A set of n rows is drawn with a probability proportional to ``min(n, cap) ** temperature``.
    cap : int
        Beyond so many rows a set is drawn no more often.
    weights : table of float
        What the probability of a set is multiplied by; 0 leaves it out.
    hypotheses : list of str
        Sets of ``Premise: .. Hypothesis: ..`` rows that give a further set, of premises whose
        labels are hypotheses.
    generated : list of str
        Sets of rows written by rules to add: ``"opinions"``, ``"ratings"``, ``"market"``. They are
        named ``generated.opinions`` and so on in `weights`.
    generated_rows : int
        How many rows each of them has.
    held_out_rows : int
        How many rows of each set are never trained on, but scored; at most a tenth of it.
    """

    temperature: float = _share(0.5)
    cap: int = _number(20_000, 1)
    weights: Mapping[str, float] = field(default_factory=dict)
    hypotheses: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    generated_rows: int = _number(10_000, 20)
    held_out_rows: int = _number(100, 0)


@dataclass(frozen=True)
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

    max_labels: int = _number(24, 2)
    full_set_probability: float = _share(0.3)
    hard_negative_probability: float = _share(0.3)
    foreign_negative_probability: float = _share(0.1)
    wording_probability: float = _share(0.5)
    template_probability: float = _share(0.15)
    merge_probability: float = _share(0.0)
    task_probability: float = _share(0.2)
    example_probability: float = _share(0.1)
    max_examples: int = _number(3, 1)
    vary_examples: bool = False
    sigmoid_probability: float = _share(0.2)
    no_true_probability: float = _share(0.1)
    pool_size: int = _number(500, 2)
    wordings: str = ""


@dataclass(frozen=True)
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
    """

    log_steps: int = _number(50, 1)
    score_steps: int = _number(1000, 1)
    checkpoint_steps: int = _number(1000, 1)
    checkpoint_minutes: float = _number(10.0, 0.0)
    eval_rows: int = _number(300, 1)


@dataclass(frozen=True)
class PretrainingConfig:
    """All of it; the attributes are the tables of the file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        architecture = self.model.new_architecture
        apart = architecture == "bi-encoder"
        glued = self.model.prompt_first and architecture == "uni-encoder"
        if not apart and not glued and self.augmentation.task_probability:
            raise ValueError(
                "augmentation.task_probability must be 0: where the task description does not "
                "directly precede the text (here model.architecture = "
                f"{architecture!r}, model.prompt_first = {str(self.model.prompt_first).lower()}), "
                "all rows of a batch would have to share it."
            )
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
    return _from_table(PretrainingConfig, table, "")


def _from_table(kind: type[_Table], table: Mapping[str, Any], where: str) -> _Table:
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
            raise ValueError(f"{where}{name} is unknown; {meant}")
        if is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}{name} is {value!r}; it must be a table [{name}].")
            values[name] = _from_table(hints[name], value, f"{where}{name}.")
        else:
            values[name] = _checked(f"{where}{name}", value, hints[name], known[name].metadata)
    return kind(**values)


def _checked(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> Any:
    """Give a value as its field's type, or say what is wrong with it."""
    if kind is int or kind is float:
        return _checked_number(name, value, kind, limits)
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {value!r}; it must be {_KINDS[kind]}.")
        choices = limits.get("choices")
        if choices and value not in choices:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(choices)}.")
        return value
    if isinstance(value, Mapping) and kind == Mapping[str, float]:
        return {
            key: _checked_number(f"{name}.{key}", own, float, {"low": 0.0, "high": float("inf")})
            for key, own in value.items()
        }
    if isinstance(value, list | tuple) and kind == tuple[str, ...]:
        return tuple(_checked(f"{name}[{i}]", own, str, {}) for i, own in enumerate(value))
    wanted = "a list of names" if kind == tuple[str, ...] else "a table of numbers"
    raise ValueError(f"{name} is {value!r}; it must be {wanted}.")


_KINDS = {bool: "true or false", str: "a string"}


def _checked_number(name: str, value: Any, kind: type, limits: Mapping[str, Any]) -> Any:
    allowed: tuple[type, ...] = (int,) if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {value!r}; it must be {wanted}.")
    low, high = limits["low"], limits["high"]
    if not low <= value <= high or value == float("inf"):
        wanted = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ValueError(f"{name} is {value!r}; it must be {wanted}.")
    return kind(value)
