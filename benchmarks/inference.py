"""Compare the speed of classifying with the pipeline of the ``gliclass`` package.

    pip install -c constraints.txt ".[mini,dev]"
    python benchmarks/inference.py --data FOLDER

Both score the same texts against the same K labels with the same new uni-encoder around MiniLM, in
float32 and in turns (A B A B ...), in one process and on the same threads. The texts are a mixture
of the sets of FOLDER/eval, short and long, as they are; the labels are intents of real length.
``--labels`` lists the K. Prints, for each K, texts a second and how many times faster ours is than
the pipeline at each of its batch sizes; then the share of the arithmetic that these cores can do:
the model's multiplications over what one large matrix product reaches in the same run.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SETS = ["ag_news", "banking77", "financial_phrasebank", "imdb", "sst2", "yahoo_answers"]
Method = Callable[[list[str], list[str]], np.ndarray]


def read_texts(data: Path, sets: list[str], n: int, seed: int) -> list[str]:
    """Draw the same number of different texts from every set."""
    rng = random.Random(seed)
    texts: list[str] = []
    for name in sets:
        with gzip.open(data / "eval" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            own = {json.loads(line)["text"] for line in itertools.islice(file, 4000)}
        texts += rng.sample(sorted(own), n // len(sets))
    rng.shuffle(texts)
    return texts


def read_labels(data: Path, name: str) -> list[str]:
    with gzip.open(data / "eval" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return sorted(json.loads(file.readline())["all_labels"])


def make_checkpoint(folder: Path) -> None:
    """Write a uni-encoder around MiniLM; its heads have random weights, which cost the same."""
    from skgliclass.modeling.checkpoints import load_model, save_checkpoint
    from skgliclass.modeling.sources import find_source

    loaded = load_model(str(find_source("mini").folder), architecture="uni-encoder")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "projector" in name and parameter.ndim > 1:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    save_checkpoint(folder, loaded)


def make_ours(folder: Path) -> Method:
    from skgliclass.inference import Engine
    from skgliclass.modeling.checkpoints import load_model

    engine = Engine(load_model(str(folder), dtype="float32"))
    return engine.logits


def make_reference(folder: Path, batch_size: int) -> Method:
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        classification_type="multi-label",
        device="cpu",
        progress_bar=False,
        max_length=512,
    )

    def scores(texts: list[str], labels: list[str]) -> np.ndarray:
        results = pipeline(texts, labels, threshold=0.0, batch_size=batch_size)
        found = [{r["label"]: r["score"] for r in own} for own in results]
        return np.asarray([[own[label] for label in labels] for own in found])

    return scores


def measured_peak(threads: int) -> float:
    """Give the floating-point operations a second of a matrix product that fits the caches."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 1024**3 / float(np.percentile(seconds, 10))


def count_operations(folder: Path, texts: list[str], labels: list[str]) -> float:
    """Count the floating-point operations that the prompts need without padding.

    Matrix products and attention of every layer for every token; nothing is saved on the last.
    """
    from skgliclass.inference import Engine
    from skgliclass.modeling.checkpoints import load_model

    engine = Engine(load_model(str(folder)))
    config = engine.loaded.model.config.encoder_config
    beside = sum(map(len, engine.label_ids(labels))) + 3
    own = np.asarray([len(ids) for ids in engine.text_ids(texts)])
    lengths = np.minimum(own + beside, engine.max_length).astype(float)
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * (4 * width**2 + 2 * width * inner)
    layers = lengths * per_token + 4 * lengths**2 * width
    return float(config.num_hidden_layers * layers.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--labels", nargs="*", type=int, default=[2, 4, 10, 25, 77, 150])
    parser.add_argument("--label-set", default="clinc150")
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    texts = read_texts(args.data, args.sets, args.texts, args.seed)
    all_labels = read_labels(args.data, args.label_set)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder)
        methods: dict[str, Method] = {"ours": make_ours(folder)}
        for size in args.batch_sizes:
            methods[f"pipeline, batch {size}"] = make_reference(folder, size)
        results = {k: measure(methods, texts, all_labels[:k], args) for k in args.labels}
        work = {k: count_operations(folder, texts, all_labels[:k]) for k in args.labels}
    print_table(results, work, methods, len(texts), args)


def measure(
    methods: dict[str, Method], texts: list[str], labels: list[str], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Time each method in turns; the first of each, which warms it up, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in (*methods, "peak")}
    for method in methods.values():
        method(texts[:16], labels)
    for _ in range(args.turns):
        for name, method in methods.items():
            start = time.perf_counter()
            method(texts, labels)
            seconds[name].append(time.perf_counter() - start)
        seconds["peak"].append(measured_peak(args.threads))
    print(len(labels), {name: np.round(own, 3).tolist() for name, own in seconds.items()})
    return seconds


def print_table(
    results: dict[int, dict[str, list[float]]],
    work: dict[int, float],
    methods: dict[str, Method],
    n_texts: int,
    args: argparse.Namespace,
) -> None:
    import transformers

    others = [name for name in methods if name != "ours"]
    titles = ["labels", "ours, texts/s", *(f"x {name}" for name in others), "share of the peak"]
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(f"{args.threads} threads, {n_texts} texts, float32\n")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for k, seconds in results.items():
        ours = np.asarray(seconds["ours"])
        cells = [f"{k}", f"{n_texts / np.median(ours):.0f}"]
        for name in others:
            ratios = np.asarray(seconds[name]) / ours
            cells.append(f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
        share = work[k] / ours / np.asarray(seconds["peak"])
        cells.append(f"{np.median(share):.2f} ({share.min():.2f} to {share.max():.2f})")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
