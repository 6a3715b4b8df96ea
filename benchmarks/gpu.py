"""Measure classifying and training on a GPU, beside the alternatives on the same card.

    pip install -c constraints.txt ".[mini,dev,benchmarks]"
    make gpu                              # the tests, then this
    python benchmarks/gpu.py --device cuda
    python benchmarks/gpu.py --device cpu --texts 24 --rows 16    # whether the command works

Needs no data: the texts are words drawn at random, 5 to 200 of them, against ten labels. For
encoders of the shapes of published ones, with random weights, prints texts a second of

- this package with micro-batches of 1,024 tokens (as on a CPU), and as it chooses them, in float32
  and bfloat16, the largest difference from the CPU's logits, and how much of the time the card
  computed;
- the pipeline of ``gliclass`` at batches of 8 and 64 texts;
- sentence-transformers with the same encoder, which reads the texts alone.

Then rows a second of fine-tuning with micro-batches as on a CPU and as the package chooses them,
and whether a prediction for which memory does not suffice is finished in smaller micro-batches.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import BACKBONES, make_checkpoint, make_gliclass

LABELS = [f"topic number {number}" for number in range(10)]
ON_CPU = 1024
TRAINED_ON_CPU = 4096


def make_texts(n: int, seed: int) -> list[str]:
    """Draw words; half of the texts have fewer than 30."""
    rng = random.Random(seed)
    words = ["the", "train", "left", "late", "and", "nobody", "told", "us", "why", "it", "rained"]
    lengths = [min(200, 5 + int(rng.expovariate(1 / 35))) for _ in range(n)]
    return [" ".join(rng.choices(words, k=k)) + f" {number}" for number, k in enumerate(lengths)]


def seconds_of(run: Callable[[], Any], turns: int) -> float:
    """Give the median time, after one turn that warms up."""
    taken = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


def busy_share(run: Callable[[], Any], device: str) -> str:
    """Tell for how much of a run the card computed."""
    if device == "cpu":
        return "-"
    from torch.profiler import ProfilerActivity, profile

    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
    wall = time.perf_counter() - start
    events = profiler.key_averages()
    return f"{sum(event.self_device_time_total for event in events) / 1e6 / wall:.2f}"


def engine_of(folder: Path, device: str, dtype: str, batch_tokens: int | None = None) -> Any:
    from skgliclass.engine.engine import Engine
    from skgliclass.loading.loader import load_model

    return Engine(load_model(str(folder), dtype=dtype, device=device), batch_tokens=batch_tokens)


def classify(name: str, folder: Path, texts: list[str], args: argparse.Namespace) -> None:
    """Print the speeds of one encoder."""
    few = texts[:64]
    expected = engine_of(folder, "cpu", "float32").logits(few, LABELS)

    def report(method: str, run: Callable[[list[str]], Any], note: str = "") -> None:
        speed = len(texts) / seconds_of(lambda: run(texts), args.turns)
        print(f"| {name} | {method} | {speed:.0f} | {note} |", flush=True)

    for dtype in ("float32", "bfloat16"):
        for tokens in (ON_CPU, None):
            engine = engine_of(folder, args.device, dtype, tokens)
            found = engine.logits(few, LABELS)
            apart = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
            same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()

            score = partial(engine.logits, label_texts=LABELS)
            busy = busy_share(partial(score, texts), args.device)
            note = f"differs by {apart:.0e}, same label {same:.3f}, busy {busy}"
            report(f"ours, {dtype}, {engine.batch_tokens} tokens", score, note)
    for size in (8, 64):
        pipeline = make_gliclass(folder, size, args.device)
        report(f"gliclass, batch {size}", partial(_with_labels, pipeline))
    encoder = make_encoder(folder, args.device)
    report("sentence-transformers, batch 64", partial(encoder.encode, batch_size=64))


def _with_labels(classify: Callable[..., Any], texts: list[str]) -> Any:
    return classify(texts, LABELS)


def make_encoder(folder: Path, device: str) -> Any:
    """Give the backbone alone as sentence-transformers runs it."""
    from sentence_transformers import SentenceTransformer

    from skgliclass.loading.sources import find_source

    backbone = folder / "backbone"
    path = backbone if backbone.exists() else find_source("mini").folder
    # Of an encoder alone it takes the mean of the tokens' vectors.
    return SentenceTransformer(str(path), device=device)


def fine_tune(name: str, folder: Path, texts: list[str], args: argparse.Namespace) -> None:
    """Print rows a second of a training step, in passes as on a CPU and as chosen."""
    from skgliclass.training.data import LabelledRows, make_training_set
    from skgliclass.training.loop import train
    from skgliclass.training.options import TrainingOptions

    texts = texts[: args.rows]
    matrix = np.eye(len(LABELS), dtype=np.float32)[np.arange(len(texts)) % len(LABELS)]
    for tokens in (TRAINED_ON_CPU, None):
        engine = engine_of(folder, args.device, "float32")
        data = make_training_set(engine, texts, LABELS, LabelledRows.shared(matrix))
        options = TrainingOptions(
            multi_label=False, max_epochs=1, batch_size=512, max_batch_tokens=tokens
        )

        speed = len(texts) / seconds_of(partial(train, engine, data, options), args.turns)
        print(
            f"| {name} | training, {tokens or 'chosen'} tokens a pass | {speed:.0f} | |", flush=True
        )


def survive(name: str, folder: Path, texts: list[str], args: argparse.Namespace) -> None:
    """Predict with so little memory that the first micro-batches fail."""
    if args.device == "cpu":
        return
    engine = engine_of(folder, args.device, "float32")
    expected = engine.logits(texts, LABELS)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(args.device).total_memory
    allowed = torch.cuda.memory_allocated(args.device) + (400 << 20)
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        apart = float(np.abs(engine.logits(texts, LABELS) - expected).max())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    print(f"| {name} | 400 MiB for activations | finished | differs by {apart:.0e} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu tries whether it works")
    parser.add_argument("--backbones", nargs="*", default=["minilm", *BACKBONES])
    parser.add_argument("--texts", type=int, default=2000, help="how many are classified")
    parser.add_argument("--rows", type=int, default=2048, help="how many are trained on")
    parser.add_argument("--turns", type=int, default=3, help="how often each is timed")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    card = args.device if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    print(f"{card}, torch {torch.__version__}, {args.texts} texts, {len(LABELS)} labels\n")
    print("| encoder | method | texts/s | |\n|---|---|---|---|")
    texts = make_texts(args.texts, args.seed)
    for name in args.backbones:
        with tempfile.TemporaryDirectory() as folder:
            make_checkpoint(Path(folder), "uni-encoder", name)
            for measure in (classify, fine_tune, survive):
                try:
                    measure(name, Path(folder), texts, args)
                except Exception as error:
                    # One that fails leaves the others.
                    print(f"| {name} | {measure.__name__} | {type(error).__name__}: {error} | |")


if __name__ == "__main__":
    main()
