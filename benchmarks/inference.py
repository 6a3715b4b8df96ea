"""Compare the speed of classifying with the alternatives, on real texts.

    pip install -c constraints.txt ".[mini,dev,benchmarks]"
    python benchmarks/inference.py --data FOLDER --compare uni-encoder
    python benchmarks/inference.py --data FOLDER --compare bi-encoder
    python benchmarks/inference.py --data FOLDER --compare cross-encoder --texts 24
    python benchmarks/inference.py --data FOLDER --backbone modernbert-base --labels 10 --texts 24

All methods score the same texts against the same K labels in turns (A B A B ...), in one process
and on the same threads, in float32 (ours in ``--dtype``). The texts are a mixture of the sets of
FOLDER/eval, short and long, as they are; the labels are intents of real length. ``--labels`` lists
the K.

- ``uni-encoder``: a new uni-encoder around MiniLM whose texts and labels are pooled by their first
  tokens, as in most published checkpoints; the pipeline of the ``gliclass`` package.
- ``bi-encoder``: MiniLM as a bi-encoder; the pipeline of ``gliclass``, and sentence-transformers
  (encode the texts and the labels, cosine).
- ``cross-encoder``: the same uni-encoder; the zero-shot pipeline of transformers on a MiniLM with a
  new entailment head, which reads every pair of text and label.

``--backbone`` puts another encoder in the place of MiniLM, of random weights and the shape of a
published one, with MiniLM's tokenizer. Ours is then timed a second time with the forward pass of
transformers in the place of its own.

``--reusable`` times nothing: it counts how much of a uni-encoder's work is the same for every text,
by backbone.

Prints, for each K, texts a second and how many times faster ours is than each alternative at each
of its batch sizes; then the share of the arithmetic that these cores can do: the multiplications of
our model over what one large matrix product reaches in the same run.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

SETS = ["ag_news", "banking77", "financial_phrasebank", "imdb", "sst2", "yahoo_answers"]
LABELS = {
    "uni-encoder": [2, 4, 10, 25, 77, 150],
    "bi-encoder": [2, 4, 10, 25, 77, 150],
    "cross-encoder": [2, 4, 10, 25],
}
Method = Callable[[list[str], list[str]], Any]

DEBERTA_V3 = {
    # The configuration's own defaults are those of DeBERTa-v2-xlarge.
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "ettin-32m": (
        "modernbert",
        {
            "hidden_size": 384,
            "num_hidden_layers": 10,
            "num_attention_heads": 6,
            "intermediate_size": 576,
        },
    ),
    "modernbert-base": ("modernbert", {}),
    "deberta-v3-small": ("deberta-v2", {**DEBERTA_V3, "num_hidden_layers": 6}),
    "deberta-v3-base": ("deberta-v2", {**DEBERTA_V3, "num_hidden_layers": 12}),
}
"""The shapes of published encoders, by the type and the fields of their configurations."""


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


def make_backbone(folder: Path, name: str) -> Path:
    """Write an encoder of random weights with MiniLM's tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from skgliclass.loading.sources import find_source

    tokenizer = AutoTokenizer.from_pretrained(find_source("mini").folder)
    kind, fields = BACKBONES[name]
    marks = ("pad_token_id", "cls_token_id", "sep_token_id")
    special = {mark: getattr(tokenizer, mark) for mark in marks}
    special |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    config = AutoConfig.for_model(kind, **fields, **special, vocab_size=len(tokenizer))
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_checkpoint(
    folder: Path, architecture: str = "uni-encoder", backbone: str = "minilm"
) -> None:
    """Write a GLiClass around MiniLM; a uni-encoder's heads are random, which costs the same."""
    from skgliclass.loading.checkpoints import save_checkpoint
    from skgliclass.loading.loader import load_model
    from skgliclass.loading.sources import find_source

    encoder = find_source("mini").folder
    if backbone != "minilm":
        encoder = make_backbone(folder / "backbone", backbone)
    loaded = load_model(str(encoder), architecture=architecture)
    if architecture == "uni-encoder":
        loaded.network.config.pooling_strategy = "first"
        loaded.network.config.class_token_pooling = "first"
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.network.named_parameters():
            if "projector" in name and parameter.ndim > 1 and architecture == "uni-encoder":
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    save_checkpoint(folder, loaded)


def make_engine(folder: Path, dtype: str = "float32") -> Any:
    from skgliclass.engine.engine import Engine
    from skgliclass.loading.loader import load_model

    return Engine(load_model(str(folder), dtype=dtype))


def make_plain(folder: Path, dtype: str) -> Method:
    """Give our engine with the forward pass of transformers."""
    from skgliclass.modeling import passes

    engine = make_engine(folder, dtype)

    def logits(texts: list[str], labels: list[str]) -> Any:
        own = dict(passes.FAST_PASSES)
        passes.FAST_PASSES.clear()
        try:
            return engine.logits(texts, labels)
        finally:
            passes.FAST_PASSES.update(own)

    return logits


def make_gliclass(folder: Path, batch_size: int, device: str = "cpu") -> Method:
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        classification_type="multi-label",
        device=device,
        progress_bar=False,
        max_length=512,
    )
    return lambda texts, labels: pipeline(texts, labels, threshold=0.0, batch_size=batch_size)


def make_sentence_transformers(batch_size: int) -> Method:
    from sentence_transformers import SentenceTransformer

    from skgliclass.loading.sources import find_source

    model = SentenceTransformer(str(find_source("mini").folder), device="cpu")

    def scores(texts: list[str], labels: list[str]) -> np.ndarray:
        own, theirs = (
            model.encode(
                some, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
            )
            for some in (texts, labels)
        )
        return own @ theirs.T

    return scores


def make_cross_encoder(batch_size: int) -> Method:
    from transformers import AutoTokenizer, BertForSequenceClassification, pipeline

    from skgliclass.loading.sources import find_source

    folder = find_source("mini").folder
    label2id = {"contradiction": 0, "neutral": 1, "entailment": 2}
    model = BertForSequenceClassification.from_pretrained(
        folder, num_labels=3, label2id=label2id, id2label={i: n for n, i in label2id.items()}
    )
    classify = pipeline(
        "zero-shot-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder)
    )
    return lambda texts, labels: classify(texts, labels, batch_size=batch_size)


def make_methods(args: argparse.Namespace, folder: Path) -> dict[str, Method]:
    """Give ours and its alternatives."""
    is_bi = args.compare == "bi-encoder"
    make_checkpoint(folder, "bi-encoder" if is_bi else "uni-encoder", args.backbone)
    methods: dict[str, Method] = {"ours": make_engine(folder, args.dtype).logits}
    if args.backbone != "minilm":
        methods["pass of transformers"] = make_plain(folder, args.dtype)
    for size in args.batch_sizes:
        if args.compare == "cross-encoder":
            methods[f"cross-encoder, batch {size}"] = make_cross_encoder(size)
        else:
            methods[f"gliclass, batch {size}"] = make_gliclass(folder, size)
    if is_bi:
        methods["sentence-transformers, batch 32"] = make_sentence_transformers(32)
    return methods


def measured_peak() -> float:
    """Give the floating-point operations a second of a matrix product that fits the caches."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 1024**3 / float(np.percentile(seconds, 10))


def token_counts(folder: Path, texts: list[str], labels: list[str]) -> tuple[int, np.ndarray]:
    """Give the tokens before the text and those of the whole sequences, without padding."""
    from skgliclass.prompts.tokens import count_tokens

    engine = make_engine(folder)
    composer = engine.composer
    beside = composer.frame_length + int(count_tokens(composer.encode_labels(labels)).sum())
    lengths = np.minimum(count_tokens(composer.encode_texts(texts)) + beside, engine.max_length)
    # The end of a sequence stands behind the text.
    return beside - 1, lengths.astype(float)


def operations_of(folder: Path, texts: list[str], labels: list[str]) -> float:
    """Count the operations that our model needs for these texts and labels."""
    network = make_engine(folder).loaded.network
    n_read = None if network.encodes_labels_apart else 1 + len(labels)
    _, lengths = token_counts(folder, texts, labels)
    return count_operations(network.config.encoder_config, lengths, n_read)


def count_operations(config: Any, lengths: np.ndarray, n_read: int | None) -> float:
    """Count the floating-point operations that sequences need.

    Matrix products and attention of every layer for every token; of the last layer only what the
    tokens that are read need, by default all.
    """
    width = config.hidden_size
    total = np.zeros_like(lengths)
    for number in range(config.num_hidden_layers):
        is_last = number == config.num_hidden_layers - 1
        queries = np.full_like(lengths, n_read) if is_last and n_read else lengths
        total += 4 * width**2 * lengths + queries * _of_query(config, number, lengths)
    return float(total.sum())


def _of_query(config: Any, layer: int, lengths: np.ndarray) -> np.ndarray:
    """Count what a query takes, what becomes of what it reads, and the reading of each."""
    width, inner = config.hidden_size, config.intermediate_size
    # ModernBERT's inner layers have gates.
    n_inner = 3 if config.model_type == "modernbert" else 2
    products = 2 * (2 * width**2 + n_inner * width * inner)
    return products + _of_position(config) * _reached(config, layer, lengths)


def _of_position(config: Any) -> int:
    """Count the reading of a position: its content, and in DeBERTa distances both ways."""
    return int((4 + (4 if config.model_type == "deberta-v2" else 0)) * config.hidden_size)


def _reached(config: Any, layer: int, lengths: np.ndarray) -> np.ndarray:
    """Tell how many positions one looks at: in two of three layers of ModernBERT its neighbours."""
    if config.model_type != "modernbert" or config.layer_types[layer] != "sliding_attention":
        return lengths
    return np.minimum(lengths, 2 * config.sliding_window + 1)


def print_reusable(folder: Path, texts: list[str], labels: list[str], numbers: list[int]) -> None:
    """Print the share of the operations whose results are the same for every text.

    A label prompt before the text has the same embeddings, and the same queries, keys and values
    in the first layer; so have its tokens what they read of each other there, a part of the
    softmax. All that follows depends on the text.
    """
    from transformers import AutoConfig

    shapes = {"minilm": make_engine(folder).loaded.network.config.encoder_config}
    shapes |= {name: AutoConfig.for_model(kind, **own) for name, (kind, own) in BACKBONES.items()}
    print("| backbone | labels | first projections | with the prompt's own attention |")
    print("|---|---|---|---|")
    for (name, config), k in itertools.product(shapes.items(), numbers):
        before, lengths = token_counts(folder, texts, labels[:k])
        total = count_operations(config, lengths, 1 + k)
        prompt = len(texts) * 6 * config.hidden_size**2 * before
        attention = len(texts) * _of_position(config) * before**2
        shares = f"{prompt / total:.3f} | {(prompt + attention) / total:.3f}"
        print(f"| {name} | {k} | {shares} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--compare", choices=list(LABELS), default="uni-encoder")
    parser.add_argument("--backbone", choices=["minilm", *BACKBONES], default="minilm")
    parser.add_argument("--reusable", action="store_true")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--labels", nargs="*", type=int)
    parser.add_argument("--label-set", default="clinc150")
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")

    texts = read_texts(args.data, args.sets, args.texts, args.seed)
    labels = read_labels(args.data, args.label_set)
    numbers = args.labels or LABELS[args.compare]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.reusable:
            make_checkpoint(folder)
            print_reusable(folder, texts, labels, numbers)
            return
        methods = make_methods(args, folder)
        results = {k: measure(methods, texts, labels[:k], args) for k in numbers}
        work = {k: operations_of(folder, texts, labels[:k]) for k in numbers}
    print_table(results, work, methods, len(texts), args)


def measure(
    methods: dict[str, Method], texts: list[str], labels: list[str], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Time each method in turns, after some texts that warm it up."""
    seconds: dict[str, list[float]] = {name: [] for name in (*methods, "peak")}
    for method in methods.values():
        method(texts[:16], labels)
    for _ in range(args.turns):
        for name, method in methods.items():
            start = time.perf_counter()
            method(texts, labels)
            seconds[name].append(time.perf_counter() - start)
        seconds["peak"].append(measured_peak())
    print(len(labels), {name: np.round(own, 3).tolist() for name, own in seconds.items()})
    return seconds


def with_range(ratios: np.ndarray) -> str:
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def print_table(
    results: dict[int, dict[str, list[float]]],
    work: dict[int, float],
    methods: dict[str, Method],
    n_texts: int,
    args: argparse.Namespace,
) -> None:
    others = [name for name in methods if name != "ours"]
    titles = ["labels", "ours, texts/s", *(f"x {name}" for name in others), "share of the peak"]
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(f"{args.threads} threads, {n_texts} texts, ours in {args.dtype}\n")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for k, seconds in results.items():
        ours = np.asarray(seconds["ours"])
        cells = [f"{k}", f"{n_texts / np.median(ours):.0f}"]
        cells += [with_range(np.asarray(seconds[name]) / ours) for name in others]
        cells.append(with_range(work[k] / ours / np.asarray(seconds["peak"])))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
