"""Texts whose words tell their class, and every container that people keep texts in."""

import numpy as np
import pandas as pd
import pytest

LABELS = ["music", "sport", "travel"]
WORDS = [["café", "degrees", "today"], ["fox", "dog", "jumps"], ["world", "day", "see"]]

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object array": lambda texts: np.array(texts, dtype=object),
    "str array": np.array,
    "column array": lambda texts: np.array(texts, dtype=object).reshape(-1, 1),
    "pandas Series": lambda texts: pd.Series(texts, index=range(100, 100 + len(texts))),
    "pandas DataFrame": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": lambda texts: polars().Series("text", texts),
}


def polars():
    """Give the library, or skip the test that asks for it."""
    return pytest.importorskip("polars")


def toy(n=18, seed=0):
    """Give n texts and the classes that their words tell."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 3
    texts = [" ".join(rng.choice(WORDS[k], size=3)) + f" {rng.integers(9)}" for k in classes]
    return texts, np.array(LABELS)[classes]


def toy_indicator(n=18, seed=0):
    """Give n texts and a 0/1 matrix of the classes that their words tell, one or two a text."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((n, 3), dtype=int)
    texts = []
    for i in range(n):
        chosen = [i % 3] if i % 2 else [i % 3, (i + 1) % 3]
        matrix[i, chosen] = 1
        texts.append(" ".join(word for k in chosen for word in rng.choice(WORDS[k], size=2)))
    return texts, matrix
