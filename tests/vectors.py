"""Texts around label vectors, as the fit of labels alone sees them."""

import numpy as np

N_LABELS, WIDTH = 4, 6
SCALE = 10.0


def unit(vectors):
    """Give vectors of length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def texts_around_labels():
    """Give the vectors of 40 texts around four label vectors, their logits and 0/1 targets."""
    rng = np.random.default_rng(0)
    labels = unit(rng.normal(size=(N_LABELS, WIDTH)))
    classes = np.arange(40) % N_LABELS
    x = unit(labels[classes] + 0.6 * rng.normal(size=(40, WIDTH)))
    return x, SCALE * x @ labels.T, np.eye(N_LABELS)[classes]
