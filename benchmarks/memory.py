"""Measure the memory that fitting and predicting take, with a tiny random model.

    python benchmarks/memory.py

Every figure is the peak of resident memory of a fresh process above what it held before: for
fitting above model and optimizer, which a fit on a handful of texts has brought in, for predicting
above a prediction of a handful of texts. Fitting stops after a few steps, since it is the number of
texts that is looked at: nothing but their tokens and one batch should be held. The texts themselves
are the caller's and are there before. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skgliclass import GLiClassClassifier

WORDS = ("one", "two", "red", "blue", "cat", "dog", "house", "tree", "day", "night", "sun", "rain")
STEPS = 5
MIB = 2**20
SIZES = {"fit": (5_000, 50_000), "predict": (1_000, 100_000)}


def make_texts(n: int) -> list[str]:
    draw = random.Random(0)
    return [f"{' '.join(draw.choices(WORDS, k=12))} {i}" for i in range(n)]


def write_model(folder: str) -> None:
    """Write a small random BERT with a word-level tokenizer, to be fitted as a bi-encoder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*special, *WORDS, *"0123456789", *(f"##{i}" for i in range(10)), "a", "b", "c"]
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def make_classifier(folder: str) -> GLiClassClassifier:
    from skgliclass import GLiClassClassifier

    return GLiClassClassifier(folder, ["a", "b", "c"], max_epochs=1, random_state=0)


def fit(folder: str, texts: list[str]) -> int:
    """Fit for a few steps, and count the bytes above model and optimizer."""
    from skgliclass.training import loop as training

    original = training.Run.step

    def step(run: Any, rows: Any) -> Any:
        run.steps_made = getattr(run, "steps_made", 0) + 1
        if run.steps_made > STEPS:
            raise KeyboardInterrupt
        return original(run, rows)

    setattr(training.Run, "step", step)  # noqa: B010
    classes = ["a", "b", "c"] * (len(texts) // 3 + 1)
    # Kept, so that the memory of its model and optimizer is not used again by the next.
    small = make_classifier(folder).fit(texts[:100], classes[:100])
    gc.collect()
    forget_peak()
    before = resident()
    make_classifier(folder).fit(texts, classes[: len(texts)])
    assert small.n_iter_ == 0
    return peak() - before


def predict(folder: str, texts: list[str]) -> int:
    """Predict with fitted heads, and count the bytes above a small prediction."""
    classifier = make_classifier(folder).fit(texts[:60], ["a", "b", "c"] * 20)
    classifier.predict(texts[:100])
    gc.collect()
    forget_peak()
    before = resident()
    classifier.predict_proba(texts)
    return peak() - before


def measure(what: str, n_texts: int, folder: str) -> int:
    command = [sys.executable, __file__, "--child", what, str(n_texts), folder]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return int(json.loads(result.stdout)["bytes"])


def run_child(what: str, n_texts: int, folder: str) -> None:
    import warnings

    warnings.simplefilter("ignore")
    texts = make_texts(n_texts)
    used = {"fit": fit, "predict": predict}[what](folder, texts)
    print(json.dumps({"bytes": used}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        run_child(args.child[0], int(args.child[1]), args.child[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder)
        print("| what | texts | MiB above model and optimizer | bytes a text |")
        print("| --- | ---: | ---: | ---: |")
        for what, sizes in SIZES.items():
            for n_texts in sizes:
                used = measure(what, n_texts, folder)
                print(f"| {what} | {n_texts:,} | {used / MIB:.1f} | {used / n_texts:,.0f} |")


if __name__ == "__main__":
    main()
