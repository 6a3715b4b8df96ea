"""Votes: what labelled texts that are near a text tell of its labels, beside the model.

How much votes count is told by labelled texts (`VoteCount.told_share`). On the embedded model,
without training, ten data sets with one label a text, macro-F1 less that without votes, mean and
worst set, by the number of texts and of votes; `counts` is a share of one half, `likelihood` the
one that explains best, `told` the same beside votes of random texts:

============== ============ ============ ============
texts, votes         counts   likelihood         told
============== ============ ============ ============
30, 10         .012 (-.006) .017 (-.006) .018 (.000)
200, 10        .048 (-.023) .064 (-.006) .064 (-.004)
2,000, 1       .058 (-.010) .078 (-.017) .080 (.002)
2,000, 10      .119 (-.022) .132 (.000)  .132 (.000)
============== ============ ============ ============

Beside what label vectors learnt from 4, 8 and 32 texts a label (five sets, 3 votes) the worst sets
lose .014, .014 and .012 with `counts`, and .002, .001 and .003 as told. In place of the likelihood,
accuracy loses .040 on the worst set of 2,000 texts, the likelihood at the best temperature .045.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp, softmax

from ..prompts.examples import PromptExample
from .neighbours import nearest_with_cosines, same_vectors, unit_vectors, windows
from .retrieval import ExampleStore, make_index

Array: TypeAlias = NDArray[np.float64]

_SHARPNESS = 20.0
# Texts that the model reads alike, which differ in their capitals alone for instance, are all
# voters or none: the last digit, by which a batch may change a cosine, does not choose.
_ALIKE, _SPARE = 1e-6, 4
# 64 MiB of targets at a time, however many texts are voted on.
_WINDOW_TARGETS = 1 << 24

UNTOLD_SHARE = 0.5
"""What votes count at most where no rows tell how much they deserve."""
_LARGEST_SHARE, _DOUBT = 0.75, 1.0
# A text that the model is all wrong about tells no more than some of which it is unsure.
_LEAST_PROBABILITY, _NO_SHARE = 1e-6, 1e-6


@dataclass(frozen=True, eq=False)
class KeptTexts:
    """Labelled texts, each of them once, with what is known of its labels.

    Attributes
    ----------
    texts : tuple of str of length n_texts
        They differ.
    label_texts : tuple of str of length n_labels
        What the labels are called, without a template.
    targets : ndarray of shape (n_texts, n_labels), float32
        How far each label holds, 0 where nobody knows: the mean of what was said of the text.
    weights : ndarray of shape (n_texts, n_labels), float32
        How much was said, 0 where nobody knows.
    """

    texts: tuple[str, ...]
    label_texts: tuple[str, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        label_texts: Sequence[str],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32] | None = None,
    ) -> KeptTexts:
        """Keep labelled texts, but for blank ones and those of which nothing is known.

        Parameters
        ----------
        texts : sequence of str of length n_rows
            A text that comes again is kept once.
        label_texts : sequence of str of length n_labels
        targets : ndarray of shape (n_rows, n_labels)
            NaN where nobody knows.
        weights : ndarray of shape (n_rows,), optional
            How much each row counts among those of the same text; with 0 it is left out.
        """
        each = np.ones(len(texts), np.float32) if weights is None else weights
        known = ~np.isnan(targets) * each[:, None].astype(np.float32)
        has_words = np.asarray([bool(text.strip()) for text in texts], dtype=np.bool_)
        kept = np.flatnonzero(known.any(axis=1) & has_words)
        return cls(
            tuple(texts[i] for i in kept.tolist()),
            tuple(label_texts),
            np.nan_to_num(targets[kept]).astype(np.float32),
            known[kept],
        )._each_once()

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def position(self) -> dict[str, int]:
        """Where each text stands."""
        return {text: i for i, text in enumerate(self.texts)}

    @classmethod
    def joined(cls, parts: Iterable[KeptTexts], label_texts: Sequence[str]) -> KeptTexts:
        """Give the texts of all parts, one after the other, with what is known of some labels."""
        none = np.zeros((0, len(label_texts)), np.float32)
        given = [part.among(label_texts) for part in parts]
        return cls(
            tuple(text for part in given for text in part.texts),
            tuple(label_texts),
            np.concatenate([none, *(part.targets for part in given)]),
            np.concatenate([none, *(part.weights for part in given)]),
        )._each_once()

    def among(self, label_texts: Sequence[str]) -> KeptTexts:
        """Give what is known of other labels: of those that are not among these, nothing."""
        wanted = tuple(label_texts)
        if wanted == self.label_texts:
            return self
        columns = _positions(self.label_texts, wanted)
        has = columns >= 0
        targets, weights = (np.zeros((len(self), len(wanted)), np.float32) for _ in range(2))
        targets[:, has] = self.targets[:, columns[has]]
        weights[:, has] = self.weights[:, columns[has]]
        return KeptTexts(self.texts, wanted, targets, weights)

    def _each_once(self) -> KeptTexts:
        """Put what is said of the same text together."""
        position: dict[str, int] = {}
        row = np.asarray([position.setdefault(text, len(position)) for text in self.texts], int)
        return self if len(position) == len(self.texts) else self.together(row)

    def together(self, row: NDArray[np.intp]) -> KeptTexts:
        """Put what is said of several texts together, under the first of them.

        Parameters
        ----------
        row : ndarray of shape (n_texts,)
            Where each of them goes, from 0 on.
        """
        _, first = np.unique(row, return_index=True)
        shape = len(first), len(self.label_texts)
        weights, totals = np.zeros(shape), np.zeros(shape)
        np.add.at(weights, row, self.weights)
        np.add.at(totals, row, self.weights.astype(np.float64) * self.targets)
        targets = totals / np.where(weights > 0, weights, 1.0)
        texts = tuple(self.texts[i] for i in first.tolist())
        return KeptTexts(texts, self.label_texts, targets.astype(np.float32), weights.astype("f4"))


@dataclass(frozen=True, eq=False)
class VoteStore:
    """Labelled texts with their vectors, to find those that are near a text.

    Attributes
    ----------
    kept : KeptTexts
        The texts.
    vectors : ndarray of shape (n_texts, width), float32
        Theirs, of length one.
    backend : {"numpy", "faiss"}
        What searches. Both compare with every text; faiss is faster where there are many.
    share : float
        How much their votes count beside the scores of labels where there are many of them, from 0
        to 1: see :func:`count_share`.
    """

    kept: KeptTexts
    vectors: NDArray[np.float32]
    backend: str = "numpy"
    share: float = UNTOLD_SHARE

    def __post_init__(self) -> None:
        # A backend that is not installed is refused here.
        _ = self._index

    @classmethod
    def of_arrays(
        cls,
        texts: Sequence[str],
        label_texts: Sequence[str],
        *,
        vectors: NDArray[np.float32],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
        backend: str = "numpy",
        share: float = UNTOLD_SHARE,
    ) -> VoteStore:
        """Make one of arrays that were saved.

        Raises
        ------
        ValueError
            If they do not go together.
        """
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a text is no string")
        if len(set(texts)) != len(texts) or len(texts) != len(vectors):
            raise ValueError(
                f"there are {len(set(texts))} distinct texts, but {len(vectors)} vectors"
            )
        known = KeptTexts(tuple(texts), tuple(label_texts), targets, weights)
        return cls(known, unit_vectors(vectors), backend, share)

    @property
    def targets(self) -> NDArray[np.float32]:
        """How far each label holds for each text."""
        return self.kept.targets

    @property
    def weights(self) -> NDArray[np.float32]:
        """How much was said of it."""
        return self.kept.weights

    @property
    def examples(self) -> list[PromptExample]:
        """The texts with the labels that are likelier than not."""
        texts, labels = self.kept.texts, self.kept.label_texts
        chosen = [np.flatnonzero(row > 0.5).tolist() for row in self.kept.targets]
        return [
            PromptExample(text, [labels[k] for k in columns])
            for text, columns in zip(texts, chosen, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.kept)

    def __getstate__(self) -> dict[str, Any]:
        # An index is made of the vectors again; that of faiss cannot be pickled.
        names = "kept", "vectors", "backend", "share"
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def among(self, label_texts: Sequence[str]) -> VoteStore:
        """Give the same with what is known of other labels."""
        return replace(self, kept=self.kept.among(label_texts))

    def each_vector_once(self) -> VoteStore:
        """Give the same with texts that the model reads alike as one."""
        number = same_vectors(self.vectors)
        _, first = np.unique(number, return_index=True)
        if len(first) == len(self):
            return self
        return replace(self, kept=self.kept.together(number), vectors=self.vectors[first])

    def electorate(self, label_texts: Sequence[str], *, multi_label: bool) -> Electorate:
        """Give the texts that have a vote on some labels."""
        found: Electorate
        if tuple(label_texts) != self.kept.label_texts:
            return Electorate.of(self, label_texts, multi_label=multi_label)
        # Of its own labels, which nearly all texts are asked for, made once.
        known = self.__dict__.setdefault("_known", {})
        if multi_label not in known:
            known[multi_label] = Electorate.of(self, label_texts, multi_label=multi_label)
        found = known[multi_label]
        return found

    @cached_property
    def _index(self) -> Any:
        return make_index(self.vectors, self.backend) if len(self) else None

    def nearest(
        self, x: NDArray[np.float32], k: int, among: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Find the texts nearest to vectors, among all or some: positions, and cosines."""
        if among is not None:
            positions, cosines = nearest_with_cosines(x, self.vectors[among], k)
            return among[positions], cosines
        if self._index is None:
            return nearest_with_cosines(x, self.vectors, k)
        cosines, positions = self._index.search(np.ascontiguousarray(x), k)
        return positions, cosines


Store: TypeAlias = ExampleStore | VoteStore
"""The labelled texts that a fit keeps: for prompts to show, or to vote."""


@dataclass(frozen=True, eq=False)
class Electorate:
    """The stored texts that have a vote on the labels of a label set.

    Attributes
    ----------
    store : VoteStore
    columns : ndarray of shape (n_labels,)
        Where each label stands in the store; -1 where it does not.
    multi_label : bool
        Whether each label is voted on by itself. Otherwise a text votes as far as one of its own
        labels is asked for.
    voters : ndarray of shape (n_voters,)
        Which texts have a vote: they have one of the labels, or are known not to.
    support : ndarray of shape (n_labels,)
        How many texts each label holds for. There are no votes on one that holds for none: nothing
        was to be seen of it.
    """

    store: VoteStore
    columns: NDArray[np.intp]
    multi_label: bool
    voters: NDArray[np.intp]
    support: NDArray[np.intp]

    @classmethod
    def of(cls, store: VoteStore, label_texts: Sequence[str], *, multi_label: bool) -> Electorate:
        """Find who has a vote on labels."""
        kept = store.kept
        columns = _positions(kept.label_texts, label_texts)
        is_stored = columns >= 0
        asked = columns[is_stored]
        holds = kept.targets[:, asked] > 0
        has_vote = (kept.weights[:, asked] > 0).any(axis=1) if multi_label else holds.any(axis=1)
        support = np.zeros(len(columns), dtype=np.intp)
        support[is_stored] = holds.sum(axis=0)
        return cls(store, columns, multi_label, np.flatnonzero(has_vote), support)

    def find(self, x: NDArray[np.float32], n: int, own: NDArray[np.intp]) -> Neighbours:
        """Find the nearest texts that have a vote.

        Parameters
        ----------
        x : ndarray of shape (n_texts, width)
            Vectors of texts, of length one.
        n : int
            How many of them vote; those that are as near as the last one do, too.
        own : ndarray of shape (n_texts,)
            Which stored text is the text itself, whose labels would be the answer; -1 where none.
        """
        n_found = min(len(self.voters), n + _SPARE + bool((own >= 0).any()))
        among = None if len(self.voters) == len(self.store) else self.voters
        positions, cosines = self.store.nearest(x, n_found, among)
        cosines = np.where(positions == own[:, None], -np.inf, cosines).astype(np.float32)
        order = np.argsort(-cosines, axis=1, kind="stable")
        positions = np.take_along_axis(positions, order, axis=1)
        cosines = np.take_along_axis(cosines, order, axis=1)
        last = cosines[:, min(n, n_found) - 1 : min(n, n_found)]
        is_voter = np.isfinite(cosines) & (cosines >= last - _ALIKE)
        nearest = cosines[:, :1]
        above = np.where(is_voter, cosines - np.where(np.isfinite(nearest), nearest, 0), -np.inf)
        nearness = np.exp(_SHARPNESS * above).astype(np.float32)
        return Neighbours(positions, nearness, np.minimum(is_voter.sum(axis=1), n), own)

    def add(self, logits: NDArray[np.float32], found: Neighbours) -> NDArray[np.float32]:
        """Combine the logits of texts with the votes of their neighbours.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_labels)
            Their softmax, or sigmoid, is what votes are combined with.
        found : Neighbours
            Of the same texts.

        Returns
        -------
        ndarray of shape (n_texts, n_labels), float32
            As they are where there is no vote.
        """
        voted = logits.copy()
        asked = np.flatnonzero(self.support > 0)
        if not len(asked) or not found.positions.shape[1]:
            return voted
        step = max(1, _WINDOW_TARGETS // (found.positions.shape[1] * len(asked)))
        for start in range(0, len(logits), step):
            part = slice(start, start + step)
            voted[part, asked] = self._added(logits[part, asked], found.take(part), asked)
        return voted

    def _added(
        self, logits: NDArray[np.float32], found: Neighbours, asked: NDArray[np.intp]
    ) -> NDArray[np.floating[Any]]:
        """Do what :meth:`add` does, for the labels that texts hold, and their columns alone."""
        votes, _, shares = self._shares(found, asked)
        combine = _with_sigmoids if self.multi_label else _with_softmax
        return combine(logits.astype(np.float64), votes, self.store.share * shares)

    def _shares(self, found: Neighbours, asked: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Give votes for labels, those of random texts, and which part of the share each has."""
        kept, columns = self.store.kept, self.columns[asked]
        holds = np.zeros((len(found.own), len(asked)), dtype=np.bool_)
        is_stored = found.own >= 0
        holds[is_stored] = kept.targets[np.ix_(found.own[is_stored], columns)] > 0
        votes, voting = self._votes(found, columns)
        # A label of the text itself alone is one that nothing else was to be seen of.
        is_voted_on = voting & (self.support[asked] > holds)
        n_rows = len(self.voters) - np.isin(found.own, self.voters)
        of_chance = (self.support[asked] - holds) / np.maximum(n_rows, 1)[:, None]
        share = count_share(found.n_votes, n_rows, len(asked))[:, None]
        return votes, of_chance, np.where(is_voted_on, share, 0.0)

    def gains(self, logits: NDArray[np.float32], found: Neighbours) -> tuple[Array, Array, Array]:
        """Give probabilities, and what votes, or those of random texts, would add with all share.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_labels)
        found : Neighbours
            Of the same texts.

        Returns
        -------
        probabilities, by_votes, by_chance : ndarray of shape (n_texts, n_labels)
        """
        z = logits.astype(np.float64)
        probabilities = np.asarray(expit(z) if self.multi_label else softmax(z, axis=1))
        by_votes, by_chance = np.zeros(z.shape), np.zeros(z.shape)
        asked = np.flatnonzero(self.support > 0)
        if not len(asked) or not found.positions.shape[1]:
            return probabilities, by_votes, by_chance
        votes, of_chance, shares = self._shares(found, asked)
        p, is_voted_on = probabilities[:, asked], shares > 0
        if not self.multi_label:
            together = np.where(is_voted_on, p, 0.0).sum(axis=1, keepdims=True)
            of_all = np.where(is_voted_on, of_chance, 0.0).sum(axis=1, keepdims=True)
            votes, of_chance = together * votes, together * of_chance / np.where(of_all, of_all, 1)
        by_votes[:, asked], by_chance[:, asked] = shares * (votes - p), shares * (of_chance - p)
        return probabilities, by_votes, by_chance

    def _votes(
        self, found: Neighbours, columns: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Give the share of votes for each label, and whether there are any."""
        kept = self.store.kept
        targets = kept.targets[found.positions[..., None], columns]
        nearness = found.nearness.astype(np.float64)
        for_label = np.einsum("rk,rkl->rl", nearness, targets)
        if self.multi_label:
            is_known = kept.weights[found.positions[..., None], columns] > 0
            total = np.einsum("rk,rkl->rl", nearness, is_known)
        else:
            total = np.repeat(for_label.sum(axis=1, keepdims=True), len(columns), axis=1)
        return for_label / np.where(total > 0, total, 1.0), total > 0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The voters nearest to texts.

    Attributes
    ----------
    positions : ndarray of shape (n_texts, n_found)
        Of stored texts.
    nearness : ndarray of shape (n_texts, n_found), float32
        How much the vote of each counts beside the nearest one's; 0 where it does not vote.
    n_votes : ndarray of shape (n_texts,)
        How many vote.
    own : ndarray of shape (n_texts,)
        Which stored text is the text itself; -1 where none.
    """

    positions: NDArray[np.intp]
    nearness: NDArray[np.float32]
    n_votes: NDArray[np.intp]
    own: NDArray[np.intp]

    def take(self, rows: slice) -> Neighbours:
        """Give those of some texts."""
        return Neighbours(
            self.positions[rows], self.nearness[rows], self.n_votes[rows], self.own[rows]
        )


@dataclass(frozen=True, eq=False)
class Votes:
    """Who votes on texts, and how many of them.

    Attributes
    ----------
    store : VoteStore
    n_votes : int
        How many neighbours vote on each text.
    multi_label : bool
        Whether each label is voted on by itself.
    leaves_out_own : bool
        Whether a stored text has no vote on itself.
    """

    store: VoteStore
    n_votes: int
    multi_label: bool
    leaves_out_own: bool = False

    def count(
        self, texts: Sequence[str], label_sets: Sequence[tuple[str, ...]], set_of_row: Any = None
    ) -> VoteCount:
        """Begin to count the votes on texts, each among the labels of a label set.

        Parameters
        ----------
        texts : sequence of str of length n_texts
        label_sets : sequence of tuple of str
            Label texts without a template.
        set_of_row : ndarray of shape (n_texts,), optional
            Each text's label set; by default all have the first one.
        """
        own = np.full(len(texts), -1, dtype=np.intp)
        if self.leaves_out_own:
            place = self.store.kept.position
            own = np.asarray([place.get(text, -1) for text in texts], dtype=np.intp)
        return self._counting(own, label_sets, set_of_row)

    def count_own(
        self, x: NDArray[np.float32], label_set: tuple[str, ...], is_own: float = 1e-3
    ) -> VoteCount:
        """Count the votes on texts that were stored themselves, by their vectors of length one.

        None of those that the model reads as it reads the text has a vote on it.
        """
        store = self.store.each_vector_once()
        own = np.full(len(x), -1, dtype=np.intp)
        if len(store) and len(x):
            nearest = store.nearest(x, 1, None)[0][:, 0]
            distance = np.linalg.norm(x - store.vectors[nearest], axis=1)
            own = np.where(distance < is_own, nearest, -1)
        count = replace(self, store=store)._counting(own, [label_set], None)
        count.take(slice(0, len(x)), x)
        return count

    def _counting(
        self, own: NDArray[np.intp], label_sets: Sequence[tuple[str, ...]], set_of_row: Any
    ) -> VoteCount:
        of_set = [self.store.electorate(s, multi_label=self.multi_label) for s in label_sets]
        if set_of_row is None:
            set_of_row = np.zeros(len(own), dtype=np.intp)
        return VoteCount(of_set, set_of_row, self.n_votes, own, [])


@dataclass(frozen=True, eq=False)
class VoteCount:
    """The votes on texts whose vectors come in one after the other, as they are scored.

    Attributes
    ----------
    electorates : list of Electorate
        Of each label set.
    set_of_row : ndarray of shape (n_texts,)
        Each text's label set.
    n_votes : int
        How many neighbours vote on each text.
    own : ndarray of shape (n_texts,)
        Which stored text is the text itself; -1 where none, or where it votes, too.
    found : list of (rows, label set, Neighbours)
        What was found so far.
    """

    electorates: list[Electorate]
    set_of_row: NDArray[np.intp]
    n_votes: int
    own: NDArray[np.intp]
    found: list[tuple[NDArray[np.intp], int, Neighbours]]

    @property
    def share(self) -> float:
        """How much votes count where there are many of them."""
        return self.electorates[0].store.share

    def sharing(self, share: float) -> VoteCount:
        """Give the same votes, which count more or less."""
        electorates = [replace(e, store=replace(e.store, share=share)) for e in self.electorates]
        return replace(self, electorates=electorates)

    def take(self, rows: slice, x: NDArray[np.float32]) -> None:
        """Find the neighbours of consecutive texts by their vectors of length one."""
        sets = self.set_of_row[rows]
        for k in np.unique(sets).tolist():
            electorate, chosen = self.electorates[k], np.flatnonzero(sets == k)
            if not len(electorate.voters):
                continue
            of_set = chosen + rows.start
            neighbours = electorate.find(x[chosen], self.n_votes, self.own[of_set])
            self.found.append((of_set, k, neighbours))

    def added(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Combine logits with the votes.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_columns)
            Each row's first columns are its own labels.
        """
        voted = logits.copy()
        for rows, k, neighbours in self.found:
            electorate = self.electorates[k]
            own_columns = slice(0, len(electorate.columns))
            voted[rows, own_columns] = electorate.add(logits[rows, own_columns], neighbours)
        return voted

    def told_share(
        self,
        logits: NDArray[np.float32],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> float:
        """Tell how much votes deserve to count, by labelled texts without a vote on themselves.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_labels)
            Of a model that has not learnt from the text; all texts have the same labels.
        targets : ndarray of shape (n_texts, n_labels)
            How far each label holds; NaN where nobody knows.
        weights : ndarray of shape (n_texts,) or (n_texts, n_labels)
            How much each text or cell counts.

        Returns
        -------
        float
            The share with which the mean of scores and votes explains the targets best, less what
            few texts leave in doubt. What the votes of random texts explain as well does not count:
            they make scores that are too certain less so.
        """
        cells = np.nan_to_num(targets).astype(np.float64)
        if not self.electorates[0].multi_label:
            # A class that came later than the text is none that it could be of.
            logits = np.where(np.isnan(targets), np.float32(-np.inf), logits)
        counts = np.where(np.isnan(targets), 0.0, (np.ones_like(cells).T * weights.T).T)
        terms: list[list[Array]] = []
        for rows, k, neighbours in self.found:
            electorate = self.electorates[k]
            for part in windows(len(rows), neighbours.positions.shape[1] * cells.shape[1]):
                of_part = rows[part]
                p, by_votes, by_chance = electorate.gains(logits[of_part], neighbours.take(part))
                told, count = cells[of_part], counts[of_part]
                terms.append(_telling(p, by_votes, by_chance, count * told))
                if electorate.multi_label:
                    against = _telling(1 - p, -by_votes, -by_chance, count * (1 - told))
                    terms.append(against)
        if not terms:
            return 0.0
        return _explaining_share(*map(np.concatenate, zip(*terms, strict=True)))


def count_share(
    n_votes: NDArray[np.intp], n_rows: NDArray[np.intp], n_labels: int
) -> NDArray[np.float64]:
    """Tell which part of their share votes have: less with few votes, few rows or few rows a label.

    One vote by a half of the share, in place of a third, loses .015 on degrees of opinion (sst5).
    """
    rows_a_label = n_rows / max(1, n_labels)
    share = n_votes / (n_votes + 2) * n_rows / (n_rows + 30)
    return np.asarray(share * rows_a_label / (rows_a_label + 1), dtype=np.float64)


def _telling(p: Array, by_votes: Array, by_chance: Array, counts: Array) -> list[Array]:
    """Give the cells that tell something of a share, as lists."""
    tells = (counts > 0) & ((by_votes != 0) | (by_chance != 0))
    return [
        np.maximum(p, _LEAST_PROBABILITY)[tells],
        by_votes[tells],
        by_chance[tells],
        counts[tells],
    ]


def _explaining_share(p: Array, by_votes: Array, by_chance: Array, counts: Array) -> float:
    """Find the share of votes with which cells are likeliest, random votes having one as well.

    The logarithm of a mean is concave in the shares.
    """
    from scipy.optimize import minimize

    if not len(p):
        return 0.0
    total = counts.sum()
    gains, counts = np.stack([by_votes, by_chance]), counts / total
    cost = np.array([_DOUBT / total, 0.0])

    def objective(shares: Array) -> tuple[float, Array]:
        mixed = np.maximum(p + shares @ gains, _LEAST_PROBABILITY**2)
        return float(cost @ shares - counts @ np.log(mixed)), cost - gains @ (counts / mixed)

    found = minimize(
        objective,
        [0.1, 0.1],
        jac=True,
        method="SLSQP",
        bounds=[(0.0, _LARGEST_SHARE), (0.0, 1.0)],
        constraints={"type": "ineq", "fun": lambda s: 1 - s.sum(), "jac": lambda s: -np.ones(2)},
        options={"ftol": 1e-16, "maxiter": 300},
    )
    share = float(found.x[0])
    return share if share > _NO_SHARE else 0.0


# As logits, whose softmax or sigmoid is the mean of what the model says and of the votes.


def _with_softmax(z: Array, votes: Array, share: Array) -> Array:
    """Divide the probability of the labels that are voted on anew; others keep theirs.

    The sum of the exponentials stays what it was, so that the other logits need not be known.
    """
    is_voted_on = share > 0
    with np.errstate(divide="ignore"):
        together = logsumexp(np.where(is_voted_on, z, -np.inf), axis=1, keepdims=True)
        mixed = np.logaddexp(np.log1p(-share) + z, np.log(share * votes) + together)
    return np.asarray(np.where(is_voted_on, mixed, z))


def _with_sigmoids(z: Array, votes: Array, share: Array) -> Array:
    with np.errstate(divide="ignore"):
        yes = np.logaddexp(np.log1p(-share) + log_expit(z), np.log(share * votes))
        no = np.logaddexp(np.log1p(-share) + log_expit(-z), np.log(share * (1 - votes)))
    return np.asarray(np.where(share > 0, yes - no, z))


def _positions(label_texts: Sequence[str], wanted: Sequence[str]) -> NDArray[np.intp]:
    """Give where label texts stand; -1 for those that are not there."""
    place = {text: i for i, text in enumerate(label_texts)}
    return np.asarray([place.get(text, -1) for text in wanted], dtype=np.intp)
