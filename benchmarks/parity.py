"""Compare logits with the ``gliclass`` package, for every architecture and option.

    python benchmarks/parity.py

Writes tiny random checkpoints with the reference, loads them with this package, and prints Markdown
tables of the largest differences between the logits for the same token ids: in float32, and divided
by the largest logit where that is above one. Both score each row alone and unpadded, because much
of what the reference computes depends on padding; how far each depends on it stands in the second
list. Needs no data and no network, and ends with an error where a difference is too large.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gliclass import GLiClassModel as ReferenceModel
from rows import (
    Row,
    batch,
    largest_difference,
    random_rows,
    reference_scores,
    scores,
)
from tiny import backbone_config, encoder_checkpoint, reference_checkpoint

from skgliclass import GLiClassConfig, GLiClassModel
from skgliclass.loading.loader import load_model

TOLERANCE = 1e-5
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield")
POOLINGS = ("first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg")
UNI, BI, FUSED, ED, CLS, KV = (
    "uni-encoder",
    "bi-encoder",
    "bi-encoder-fused",
    "encoder-decoder",
    "encoder-decoder-cls",
    "decoder-kv",
)
TOKENS = {"scorer_type": "cross-attn", "pooling_strategy": "pass"}

# Architecture -> backbones and options of the second table.
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, dict[str, Any]]]] = {
    UNI: (
        ("bert", "roberta", "deberta-v2", "modernbert", "t5"),
        {
            "labels first": {"prompt_first": True},
            "text first": {},
            "cross-attn": {**TOKENS, "prompt_first": True, "extract_text_features": True},
            "averaged labels": {"class_token_pooling": "average", "prompt_first": True},
            "token after the marker": {"embed_class_token": False},
            "segments": {"use_segment_embeddings": True, "prompt_first": True},
            "text part only": {"extract_text_features": True, "pooling_strategy": "avg"},
            "unit length": {"normalize_features": True, "pooling_strategy": "avg"},
            "LSTM": {"use_lstm": True, "pooling_strategy": "avg"},
            "layer 1": {"encoder_layer_id": 1},
            "layer_wise": {"layer_wise": True},
        },
    ),
    BI: (
        ("bert", "roberta", "deberta-v2", "modernbert"),
        {
            "average": {"pooling_strategy": "avg"},
            "unit length": {"normalize_features": True},
            "wider label encoder": {"label_width": 48},
            "narrower label encoder": {"label_width": 16},
        },
    ),
    FUSED: (
        ("bert", "roberta", "deberta-v2", "modernbert"),
        {
            "labels first": {"prompt_first": True},
            "text first": {},
            "unit length": {"normalize_features": True},
            "wider label encoder": {"label_width": 48},
        },
    ),
    ED: (
        ("t5", "bart"),
        {
            "cross-attn": TOKENS,
            "averaged labels": {"class_token_pooling": "average"},
            "token after the marker": {"embed_class_token": False},
            "unit length": {"normalize_features": True},
            "LSTM": {"use_lstm": True, "pooling_strategy": "avg"},
        },
    ),
    CLS: (
        ("t5", "bart"),
        {
            **{scorer: {"scorer_type": scorer} for scorer in SCORERS},
            "averaged labels": {"class_token_pooling": "average"},
            "unit length": {"normalize_features": True},
        },
    ),
    KV: (
        ("qwen3", "qwen3_5_text"),
        {
            "default": {},
            "unit length": {"normalize_features": True},
            "three scorer layers": {"scorer_encoder_num_layers": 3},
        },
    ),
}


def main() -> int:
    """Print the tables; give the number of cells that differ too much."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    cells: list[float] = []
    lines = [
        f"Parity with gliclass {version('gliclass')}: the largest difference between logits.\n",
        *scorers_by_poolings(cells),
        *options_by_backbones(cells),
    ]
    n_wrong = sum(not cell < TOLERANCE for cell in cells)
    lines.append(f"{len(cells)} cells, {n_wrong} of them at or above {TOLERANCE:g}.\n")
    lines.append("What the reference cannot run or gets wrong, and this package does:\n")
    lines.append("| what | reference | this package |\n|---|---|---|")
    lines += [f"| {name} | {theirs()} | {ours()} |" for name, theirs, ours in DEFECTS]
    print("\n".join(lines))
    return n_wrong


def scorers_by_poolings(found: list[float]) -> Iterator[str]:
    """Give a line for each architecture and scorer, with a column for each pooling."""
    yield f"| architecture | backbone | scorer | {' | '.join(POOLINGS)} |"
    yield f"|---|---|---|{'---|' * len(POOLINGS)}"
    for architecture, backbone in ((UNI, "bert"), (BI, "bert"), (FUSED, "bert"), (ED, "t5")):
        for scorer in SCORERS:
            cells = [
                difference(
                    backbone,
                    architecture_type=architecture,
                    scorer_type=scorer,
                    pooling_strategy=pooling,
                )
                for pooling in POOLINGS
            ]
            found += cells
            yield f"| {architecture} | {backbone} | {scorer} | {' | '.join(map(shown, cells))} |"
    yield ""


def options_by_backbones(found: list[float]) -> Iterator[str]:
    """Give a line for each architecture and option, with a column for each backbone."""
    for architecture, (backbones, options) in OPTIONS.items():
        yield f"| {architecture} | {' | '.join(backbones)} |"
        yield f"|---|{'---|' * len(backbones)}"
        for name, fields in options.items():
            cells = [difference(b, architecture_type=architecture, **fields) for b in backbones]
            found += cells
            yield f"| {name} | {' | '.join(map(shown, cells))} |"
        yield ""


def difference(backbone: str, **fields: Any) -> float:
    """Give the largest difference between the logits of the two packages."""
    reference, ours = pair(backbone, **fields)
    rows = some_rows(ours)
    # On its own the reference does not ask the backbone for the layer that it needs.
    asked = {"output_hidden_states": True} if "encoder_layer_id" in fields else {}
    alone = [scores(ours, [row])[0] for row in rows]
    return largest_difference(alone, reference_scores(reference, rows, **asked))


def pair(backbone: str, **fields: Any) -> tuple[Any, Any]:
    """Write a checkpoint with the reference; give its model, and ours as it was read back."""
    width = fields.pop("label_width", None)
    if width is not None:
        config = backbone_config("bert", 400)
        config.hidden_size = width
        fields |= {"label_model_config": config.to_dict(), "label_model_name": "labels"}
    with tempfile.TemporaryDirectory() as folder:
        reference, _ = reference_checkpoint(Path(folder), backbone, **fields)
        return reference, GLiClassModel.from_pretrained(folder)


def some_rows(model: Any, **kwargs: Any) -> list[Row]:
    """Make rows; a bi-encoder's labels are of one length, for the reference pools over padding."""
    same_length = model.config.architecture_type in (BI, FUSED)
    rows: list[Row] = random_rows(model.config, same_length=same_length, **kwargs)
    return rows


def shown(cell: float) -> str:
    return f"{cell:.0e}" if cell < TOLERANCE else f"**{cell:.0e}**"


# What the reference gets wrong: a model, and what to do with it.


def failure(backbone: str, **fields: Any) -> Callable[[], str]:
    """Name the error that the reference ends with."""

    def run() -> str:
        try:
            with tempfile.TemporaryDirectory() as folder:
                reference, _ = reference_checkpoint(Path(folder), backbone, **fields)
            reference_scores(reference, some_rows(reference))
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        return "no error"

    return run


def works(backbone: str, **fields: Any) -> Callable[[], str]:
    """Tell that this package gives logits, and how much a row depends on its batch."""

    def run() -> str:
        _, ours = pair(backbone, **fields)
        return f"{neighbours(ours):.0e} between a row alone and in a batch"

    return run


def new(backbone: str, **fields: Any) -> Callable[[], str]:
    """Tell the same of a model that the reference can build, but not run."""

    def run() -> str:
        _, other = pair(backbone)
        ours = GLiClassModel(GLiClassConfig(**{**other.config.to_dict(), **fields})).eval()
        return f"{neighbours(ours):.0e} between a row alone and in a batch"

    return run


def without_reference(architecture: str, backbone: str) -> Callable[[], str]:
    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            encoder_checkpoint(Path(folder), backbone)
            ours = GLiClassModel.around(load_model(folder, architecture=architecture).network)
        return f"{neighbours(ours):.0e} between a row alone and in a batch"

    return run


def neighbours(model: Any, **kwargs: Any) -> float:
    """Give the largest difference between rows alone and together."""
    rows = random_rows(model.config)
    alone = [scores(model, [row], **kwargs)[0] for row in rows]
    return largest_difference(scores(model, rows, **kwargs), alone)


def batched(backbone: str, **fields: Any) -> tuple[str, Callable[[], str], Callable[[], str]]:
    """Show how much a row's logits depend on the padding that its neighbours bring."""

    def run(which: int) -> Callable[[], str]:
        def measure() -> str:
            model = pair(backbone, max_num_classes=3, **fields)[which]
            difference = neighbours(model, max_num_classes=3)
            return f"{difference:.0e} between a row alone and in a batch"

        return measure

    options = ", ".join(f"{key}={value}" for key, value in fields.items())
    return f"Rows in a padded batch ({backbone}: {options})", run(0), run(1)


def columns(which: int) -> Callable[[], str]:
    def run() -> str:
        model = pair("t5", architecture_type=ED)[which]
        rows = random_rows(model.config, text_lengths=(9,), n_labels=(30,))
        with torch.no_grad():
            return f"{model(**batch(model.config, rows)).logits.shape[1]} columns"

    return run


def reloaded(backbone: str, architecture: str, which: int) -> Callable[[], str]:
    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            reference, _ = reference_checkpoint(
                Path(folder), backbone, architecture_type=architecture
            )
            again = (ReferenceModel, GLiClassModel)[which].from_pretrained(folder).eval()
        rows = some_rows(again)
        theirs = reference_scores(reference, rows)
        found = reference_scores(again, rows) if which == 0 else scores(again, rows)
        return f"logits change by {largest_difference(found, theirs):.0e}"

    return run


def single_label_loss(which: int) -> Callable[[], str]:
    def run() -> str:
        model = pair("bert")[which]
        model.config.problem_type = "single_label_classification"
        inputs = batch(model.config, some_rows(model))
        try:
            loss = model(**inputs, labels=torch.tensor([0, 2, 1]), max_num_classes=3).loss
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        return f"a loss of {loss.item():.3f}"

    return run


SQUEEZED = {"squeeze_layers": True}
OTHER_WIDTH = {"scorer_type": "mlp", "hidden_size": 64}
DEFECTS = [
    ("squeeze_layers", failure("bert", **SQUEEZED), works("bert", **SQUEEZED)),
    (
        "encoder_layer_id",
        failure("bert", encoder_layer_id=1),
        works("bert", encoder_layer_id=1),
    ),
    ("hidden_size of 64, mlp", failure("bert", **OTHER_WIDTH), new("bert", **OTHER_WIDTH)),
    ("An encoder-decoder with 30 labels", columns(0), columns(1)),
    *(
        (
            f"A saved {architecture} is loaded again ({backbone})",
            reloaded(backbone, architecture, 0),
            reloaded(backbone, architecture, 1),
        )
        for architecture in (ED, CLS)
        for backbone in ("t5", "bart")
    ),
    *(
        (
            f"decoder-kv around {backbone}",
            failure(backbone, architecture_type=KV),
            without_reference(KV, backbone),
        )
        for backbone in ("qwen2", "llama", "mistral")
    ),
    ("Training on one class a text", single_label_loss(0), single_label_loss(1)),
    batched("bert", architecture_type=UNI, pooling_strategy="avg"),
    batched("bert", architecture_type=UNI, pooling_strategy="last"),
    batched("bert", architecture_type=UNI, use_lstm=True, pooling_strategy="avg"),
    batched("bert", architecture_type=BI, pooling_strategy="avg"),
    batched("bert", architecture_type=FUSED, pooling_strategy="avg"),
    batched("t5", architecture_type=ED, pooling_strategy="avg"),
    batched("t5", architecture_type=ED, **TOKENS),
]


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
