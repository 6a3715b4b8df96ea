"""Find which roundings of bfloat16 change decisions, on any processor.

    python benchmarks/rounding.py --data FOLDER

Float32 arithmetic stands in for bfloat16: weights, what goes into and comes out of each linear
layer, and the residual stream with its normalisations are rounded to bfloat16, each or not. Prints
the share of texts whose most likely label is the same as in float32, the root of the mean square by
which the difference of the two likeliest logits changes, and how close these were, at most, where
the label changed. The share of texts that change is proportional to that root, which few texts
tell; the share itself takes many.
"""

from __future__ import annotations

import argparse
import copy
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from zero_shot import find_sets, labels_of, print_markdown, read_set

from skgliclass import TruncationWarning
from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model

_LAYER = re.compile(r"\blayers?\.(\d+)\.")


@dataclass(frozen=True)
class Rounding:
    """What is rounded, and in which layers nothing is, counted from the end if negative."""

    weights: bool = True
    linear: bool = True
    stream: bool = True
    exact_layers: tuple[int, ...] = ()


VARIANTS = {
    "everything": Rounding(),
    "weights alone": Rounding(linear=False, stream=False),
    "activations alone": Rounding(weights=False),
    "residual stream and normalisation in float32": Rounding(stream=False),
    "these and the first layer": Rounding(stream=False, exact_layers=(0,)),
    "these and the last layer": Rounding(stream=False, exact_layers=(-1,)),
    "these and the first and the last layer": Rounding(stream=False, exact_layers=(0, -1)),
    "these and the first two layers": Rounding(stream=False, exact_layers=(0, 1)),
}


def rounded(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).to(values.dtype)


def round_network(network: nn.Module, rounding: Rounding) -> None:
    """Round a network's weights, and what its modules read and give, wherever it runs."""
    modules = dict(network.named_modules())
    n_layers = 1 + max(int(found[1]) for found in map(_LAYER.search, modules) if found)
    exact = {i % n_layers for i in rounding.exact_layers}
    for name, module in modules.items():
        layer = _LAYER.search(name)
        if layer and int(layer[1]) in exact:
            continue
        is_linear = isinstance(module, nn.Linear)
        # What takes no product of matrices, such as tables of words, goes with the stream.
        if rounding.weights if is_linear else rounding.stream and rounding.weights:
            for parameter in module.parameters(recurse=False):
                parameter.copy_(rounded(parameter))
        if (is_linear and rounding.linear) or (
            isinstance(module, nn.LayerNorm) and rounding.stream
        ):
            module.register_forward_pre_hook(lambda _, args: (rounded(args[0]),))
            module.register_forward_hook(lambda _module, _args, result: rounded(result))


def all_logits(
    model: str, rounding: Rounding | None, rows: Mapping[str, pd.DataFrame]
) -> list[np.ndarray]:
    loaded = load_model(model, device="cpu", dtype="float32")
    network: Any = copy.deepcopy(loaded.network)
    if rounding is not None:
        with torch.no_grad():
            round_network(network, rounding)
    engine = Engine(replace(loaded, network=network), warns=False)
    return [engine.logits(own["text"].tolist(), labels_of(own)) for own in rows.values()]


def compare(exact: list[np.ndarray], reduced: list[np.ndarray]) -> dict[str, float]:
    same, errors, margins = [], [], [0.0]
    for before, after in zip(exact, reduced, strict=True):
        best = np.argsort(-before, axis=1)[:, :2]
        margin, changed = (np.take_along_axis(own, best, axis=1) for own in (before, after))
        margin, changed = margin[:, 0] - margin[:, 1], changed[:, 0] - changed[:, 1]
        is_same = after.argmax(axis=1) == best[:, 0]
        same.append(is_same.mean())
        errors += list((changed - margin) ** 2)
        margins += list(margin[~is_same])
    return {
        "same label": float(np.mean(same)),
        "change of the difference": float(np.sqrt(np.mean(errors))),
        "largest difference where changed": max(margins),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, default=300, help="so many rows a set")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)

    sets = find_sets(args.data / "eval", args.sets)
    rows = {name: read_set(path, args.limit) for name, path in sets.items()}
    exact = all_logits(args.model, None, rows)
    table = {
        name: compare(exact, all_logits(args.model, VARIANTS[name], rows)) for name in args.variants
    }
    print_markdown(pd.DataFrame(table).T)


if __name__ == "__main__":
    main()
