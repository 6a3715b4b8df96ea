"""Scores along a hierarchy of labels: of classes, of branches, and nested like the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax

from .labels import SEPARATOR, plain_labels


class _Node(NamedTuple):
    name: str
    text: str
    parent: int
    is_leaf: bool


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The branches and leaves of a nested `labels` parameter.

    Attributes
    ----------
    names : tuple of str of length n_nodes
        The dotted name of every branch and leaf, depth first.
    texts : tuple of str of length n_nodes
        What the model reads for each: the name, but for a leaf that has a label text.
    parents : ndarray of shape (n_nodes,)
        The position of each node's parent, which comes before it; -1 at the top.
    leaves : ndarray of shape (n_classes,)
        The node of each class.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    parents: NDArray[np.intp]
    leaves: NDArray[np.intp]

    @classmethod
    def of(cls, labels: Any, label_texts: Sequence[str]) -> Hierarchy | None:
        """Read a checked `labels` parameter.

        Parameters
        ----------
        labels : Any
            As the user gave it.
        label_texts : sequence of str of length n_classes
            Those of its leaves, in the order of the classes.

        Returns
        -------
        Hierarchy or None
            None where `labels` is no hierarchy.
        """
        if not is_nested(labels):
            return None
        nodes = list(_walk(plain_labels(labels), "", -1, [0]))
        # By their texts, which differ, too: integers may stand for the classes.
        leaf_at = {node.text: i for i, node in enumerate(nodes) if node.is_leaf}
        return cls(
            tuple(node.name for node in nodes),
            tuple(node.text for node in nodes),
            np.asarray([node.parent for node in nodes], dtype=np.intp),
            np.asarray([leaf_at[text] for text in label_texts], dtype=np.intp),
        )

    @property
    def branches(self) -> NDArray[np.intp]:
        """The nodes that are not classes, depth first."""
        return np.setdiff1d(np.arange(len(self.names)), self.leaves)

    def class_logits(self, logits: NDArray[np.float32], multi_label: bool) -> NDArray[np.float32]:
        r"""Combine the scores of all nodes into one for each class.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_nodes)
            Of every branch and leaf.
        multi_label : bool
            Whether a node's probability is the sigmoid of its logit, or the softmax over the
            children of its parent.

        Returns
        -------
        ndarray of shape (n_texts, n_classes), float32
            With :math:`p_c = \prod_{n} p_n` over the nodes n on the way from the top to the leaf
            c: :math:`\log p_c`, whose softmax is p again, or with `multi_label`
            :math:`\log p_c / (1 - p_c)`, whose sigmoid is.
        """
        # In double precision: 1 - p of a p near one is asked for below.
        log_p = self._log_probabilities(logits.astype(np.float64), multi_label)
        # Parents come before their children, so one pass adds up the whole way from the top.
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                log_p[:, node] += log_p[:, parent]
        joint = log_p[:, self.leaves]
        if multi_label:
            # log(1 - p) from log(p); a p that rounds to one keeps a finite logit.
            joint = joint - np.log(np.maximum(-np.expm1(joint), np.finfo(np.float64).tiny))
        return joint.astype(np.float32)

    def _log_probabilities(
        self, logits: NDArray[np.float64], multi_label: bool
    ) -> NDArray[np.float64]:
        if multi_label:
            return np.asarray(log_expit(logits))
        log_p = np.empty_like(logits)
        for parent in np.unique(self.parents):
            siblings = np.flatnonzero(self.parents == parent)
            log_p[:, siblings] = log_softmax(logits[:, siblings], axis=1)
        return log_p

    def node_probabilities(
        self, probabilities: NDArray[np.float32], multi_label: bool
    ) -> NDArray[np.float32]:
        """Give every branch a probability too: the sum of its classes', or their largest.

        Parameters
        ----------
        probabilities : ndarray of shape (n_texts, n_classes)
            Of the classes.
        multi_label : bool
            Whether a text may have any number of classes. Then a branch's probability is the
            largest of its classes', the least that it can be; otherwise it is their sum.

        Returns
        -------
        ndarray of shape (n_texts, n_nodes), float32
        """
        of_nodes = np.zeros((len(probabilities), len(self.names)))
        of_nodes[:, self.leaves] = probabilities
        # Zero, the start of a branch, changes neither a sum nor the largest of probabilities.
        # From the end on: a branch is complete before it is passed on to its parent.
        combine = np.maximum if multi_label else np.add
        for node in range(len(self.names) - 1, -1, -1):
            parent = self.parents[node]
            if parent >= 0:
                of_nodes[:, parent] = combine(of_nodes[:, parent], of_nodes[:, node])
        return of_nodes.astype(np.float32)


def is_nested(labels: Any) -> bool:
    """Tell whether a checked `labels` parameter is a hierarchy."""
    return isinstance(labels, Mapping) and not all(isinstance(v, str) for v in labels.values())


def nest(
    labels: Mapping[str, Any], scores: Mapping[str, float], prefix: str = ""
) -> dict[str, Any]:
    """Put scores of dotted names where their leaves stand in a hierarchy of plain values."""
    nested: dict[str, Any] = {}
    for name, branch in labels.items():
        path = f"{prefix}{name}"
        if isinstance(branch, str):
            nested[name] = scores[path]
        elif isinstance(branch, Mapping):
            nested[name] = nest(branch, scores, path + SEPARATOR)
        else:
            nested[name] = {leaf: scores[path + SEPARATOR + leaf] for leaf in branch}
    return nested


def _walk(branch: Any, prefix: str, parent: int, count: list[int]) -> Iterator[_Node]:
    """Give the nodes below a branch, depth first."""
    for name in branch:
        # A list of one number, so that all levels of the recursion count on together.
        position = count[0]
        count[0] += 1
        path = f"{prefix}{name}"
        below = branch[name] if isinstance(branch, Mapping) else path
        is_leaf = isinstance(below, str)
        yield _Node(path, below if is_leaf else path, parent, is_leaf)
        if not is_leaf:
            yield from _walk(below, path + SEPARATOR, position, count)
