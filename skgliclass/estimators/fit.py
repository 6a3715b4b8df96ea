"""What ``fit`` does with a problem: train, then tune on held-out texts; it changes no estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..engine.change import LogitChange
from ..exceptions import NonFiniteScoresError
from .calibration import HeldOut
from .callbacks import FitCallbacks, scoring_bar
from .label_fit import (
    LabelOptions,
    LearntLabels,
    encoded,
    encoded_rows,
    encoded_texts,
    learn,
    moved_by_texts,
    that_teach,
    vectors_alone,
)
from .learnt_rows import LearntRows
from .parameters import fill
from .problem import Examples, Problem, SharedExamples, naming_rows
from .scoring import ScoringPlan
from .state import FitState
from .tuning import Evidence, Tunes, tuned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore
    from ..engine.votes import KeptTexts, Store, VoteCount, VoteStore
    from ..training.checkpoint import FitCheckpoint
    from ..training.data import TrainingSet, Windows
    from ..training.loop import TrainingResult, Validation
    from ..training.options import TrainingOptions
    from ..training.tuned_weights import TunedWeights


@dataclass(frozen=True, eq=False)
class FitJob:
    """Everything that a fit needs, so that it need not know the estimator.

    Attributes
    ----------
    engine : Engine
        Of the model to start from, which is not modified.
    problem : Problem
        What to learn.
    plan : ScoringPlan
        How the fitted estimator will score texts.
    options : TrainingOptions
        How to train; without epochs nothing is trained.
    callbacks : FitCallbacks
        Who is told how it goes.
    start : FitState
        What a fit that learns nothing would leave.
    retrieval_backend : str
        What finds the nearest labelled texts.
    tunes : Tunes
        What is tuned after the logits, where there are rows that they were not learnt from.
    has_all_texts : bool
        Whether no later call will bring more labelled texts.
    starts_from_labels : bool
        Whether training of the weights starts from what label vectors and biases alone can learn.
    label_penalty : float or None
        What a large change of label vectors costs, where these alone are learnt; None leaves it to
        the number of rows.
    verbose : int or None
        Whether to show a progress bar while texts are encoded.
    checkpoint_folder : str or path or None
        Where a checkpoint is kept, and gone on from.
    n_votes : int
        How many of the nearest labelled texts vote on a text, where none are shown in its prompt.
    kept : KeptTexts or None
        The labelled texts that vote.
    """

    engine: Engine
    problem: Problem
    plan: ScoringPlan
    options: TrainingOptions
    callbacks: FitCallbacks
    start: FitState
    retrieval_backend: str
    tunes: Tunes
    has_all_texts: bool
    starts_from_labels: bool = False
    label_penalty: float | None = None
    verbose: int | None = None
    checkpoint_folder: str | PathLike[str] | None = None
    n_votes: int = 0
    kept: KeptTexts | None = None

    def judging(self, store: Store | None) -> ScoringPlan:
        """Give how held-out texts are scored: as others, without a vote on themselves."""
        if not self.n_votes:
            return self.plan
        return replace(self.plan, n_retrieved=self.n_votes).voted_by(store, leaves_out_own=True)


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """What a fit gives, by the names of the classifiers' attributes.

    `trainable` is what was changed; `interrupted` tells that the user stopped it, so that `state`
    holds the best weights so far; `checkpoint` is what was kept meanwhile, to go on from.
    """

    state: FitState
    trainable: str
    n_iter: int = 0
    loss_curve: tuple[float, ...] = ()
    validation_scores: list[float] | None = None
    best_iter: int = 0
    interrupted: bool = False
    checkpoint: FitCheckpoint | None = None

    def remove_checkpoint(self) -> None:
        """Remove the checkpoint of a fit whose result is safe."""
        if self.checkpoint is not None:
            self.checkpoint.remove()

    def check_not_interrupted(self) -> None:
        """Stop whoever called for the fit, now that what it leaves is stored.

        Raises
        ------
        KeyboardInterrupt
            If the user stopped it: a cross-validation has to end, and not to count what was learnt.
        """
        if self.interrupted:
            raise KeyboardInterrupt(
                f"fit was interrupted after {self.n_iter} epoch(s); the best weights so far are "
                "kept and the classifier can be used."
            )


def run(job: FitJob) -> FitOutcome:
    """Train as a job says, and tune what comes after the logits.

    Parameters
    ----------
    job : FitJob
        What to do.

    Returns
    -------
    FitOutcome
        For the classifier to store.
    """
    with naming_rows(job.problem.passed), job.engine.warning_once() as engine:
        store: Store | None = _make_store(job)
        job = _with_kept(replace(job, engine=engine))
        if job.options.max_epochs == 0 or job.options.trainable == "labels":
            return _without_training(job, store)
        from ..training.loop import train

        job = _started(job, store)
        data = _training_data(job, store)
        validate = _validator(job, store)
        checkpoint = _checkpoint(job, data)
        # The calls of the loop stand here, one below `fit`: a traceback out of training stays
        # short.
        with job.callbacks as callbacks:
            result = train(
                job.engine,
                data,
                job.options,
                validate=validate,
                on_epoch=lambda progress: callbacks.on_epoch(
                    progress, lambda: _state_with(job, progress.weights(), store)[1]
                ),
                on_step=callbacks.on_step,
                keeper=checkpoint,
            )
        try:
            state = _finished(job, result, store)
        except KeyboardInterrupt:
            if result.interrupted:
                # Stopped a second time: the user does not want to wait.
                raise
            result.interrupted = True
            state = _finished(job, result, store)
    return FitOutcome(
        state,
        job.options.trainable,
        result.n_iter,
        tuple(result.loss_curve),
        None if validate is None else result.validation_scores,
        result.best_iter,
        result.interrupted,
        checkpoint,
    )


def _without_training(job: FitJob, store: Store | None) -> FitOutcome:
    """Do what a job says that leaves the model as it is."""
    if job.options.max_epochs:
        return _learnt_labels(job, store)
    job = _with_change(job, job.start.change)
    store = store or _voters_of_untrained(job)
    # Weights that come out of training count as trained, but heads may still be random here.
    state = _tuned_after(job, job.engine, replace(job.start, store=store))
    return FitOutcome(_bound(job, state), job.options.trainable)


def epochs_of(parameters: Mapping[str, Any], n_samples: int) -> int:
    """Give how many epochs a classifier's parameters mean for so many examples."""
    epochs = parameters["max_epochs"]
    if epochs == "auto":
        epochs = automatic_epochs(n_samples, parameters["batch_size"])
    return int(epochs)


def automatic_epochs(n_samples: int, batch_size: int) -> int:
    """Choose how many epochs to train: many of few examples, few of many.

    Parameters
    ----------
    n_samples, batch_size : int
        How many examples there are, and how many make an optimizer step.

    Returns
    -------
    int
        Enough for about 200 steps, but between 3 and 10.
    """
    steps = max(1, -(-n_samples // batch_size))
    return int(np.clip(round(200 / steps), 3, 10))


def training_options(
    parameters: Mapping[str, Any], n_samples: int, *, multi_label: bool, one_epoch: bool
) -> TrainingOptions:
    """Give how to train, as a classifier's parameters say.

    Parameters
    ----------
    parameters : mapping of str to Any
        By name.
    n_samples : int
        How many examples there are, which ``max_epochs="auto"`` depends on.
    multi_label : bool
        Whether a text may have any number of classes.
    one_epoch : bool
        Whether to train one epoch without warm-up and decay, rather than as many as the parameters
        say; none with ``max_epochs=0``.
    """
    from ..modeling.losses import LossOptions
    from ..training.options import TrainingOptions

    # torch takes a number. Drawn, so that a RandomState goes on from one fit to the next.
    seed = check_random_state(parameters["random_state"]).randint(2**31 - 1)
    n_epochs = epochs_of(parameters, n_samples)
    return fill(
        TrainingOptions,
        parameters,
        multi_label=multi_label,
        max_epochs=min(n_epochs, 1) if one_epoch else n_epochs,
        # Calls of partial_fit follow each other; with each a rise and a fall would begin anew.
        decay=not one_epoch,
        head_learning_rate=parameters["head_learning_rate"] or parameters["learning_rate"],
        warmup_fraction=0.0 if one_epoch else parameters["warmup_fraction"],
        loss=fill(LossOptions, parameters),
        n_iter_no_change=parameters["n_iter_no_change"] if parameters["early_stopping"] else None,
        seed=int(seed),
    )


# Label vectors and biases alone.


def _learnt_labels(job: FitJob, store: Store | None) -> FitOutcome:
    """Learn what is added to logits, and tune what comes after them."""
    tunes_on_rows = job.tunes.any and job.problem.validation is None
    # Along a hierarchy classes are scored beside their branches, of which rows have no logits.
    holds_out = (tunes_on_rows or job.n_votes > 0) and job.plan.hierarchy is None
    found = _best_with_labels(job, store, holds_out=holds_out)
    learnt, chosen, store = found.learnt, found.job, found.store
    state = replace(chosen.start, store=store, rows=learnt.rows)
    is_learnt = chosen.start.change is learnt.change
    if job.problem.validation is not None:
        state = _tuned_after(chosen, job.engine, state, found.logits, is_cautious=True)
    elif job.tunes.any and found.evidence is not None:
        state = _tuned_on(chosen, job.engine, state, found.evidence)
    return FitOutcome(
        _bound(job, state),
        "labels",
        learnt.n_iter,
        learnt.loss_curve,
        found.scores,
        learnt.n_iter if is_learnt else 0,
    )


_STARTING_ROWS = 256.0
"""From how many rows a class on the training of the weights starts without what labels learnt.

That explains the rows that the weights are to learn from too well to leave them much to learn, and
the more rows there are, the less it is needed. With 128 rows a class all of it has .838, .722,
.416, .899 and .770 on five data sets, half of it .846, .727, .422, .907 and .780, and none of it
.837, .722, .422, .901 and .779. With 270 rows a class a third of it has .905 on one and none .965;
with 330 a half .953 on another and none .958; with 900 a half .738 on a third and none .748."""


def _started(job: FitJob, store: Store | None) -> FitJob:
    """Give a job of training the weights that starts from what the labels alone can learn.

    What is added to logits stays as it is then, while the weights are trained beside it: a part of
    it, or all where there are held-out texts, since the start is one of the candidates for the best
    there.
    """
    can_start = job.problem.training.shares_classes and job.engine.loaded.zero_shot
    share = _starting_share(job) if job.starts_from_labels and can_start else 0.0
    if not share:
        return _with_change(job, job.start.change)
    # The training set warns of the same texts.
    engine = job.engine.without_warnings()
    found = _best_with_labels(replace(job, engine=engine), store)
    started = replace(found.job, engine=job.engine)
    if share == 1 or started.start.change is not found.learnt.change:
        return started
    return _with_change(started, found.learnt.change.times(share))


def _starting_share(job: FitJob) -> float:
    """Tell how much of what the labels alone learn the weights are trained beside."""
    if job.problem.validation is not None:
        return 1.0
    return max(0.0, 1 - job.problem.training.texts_a_class / _STARTING_ROWS)


@dataclass(frozen=True, eq=False)
class _Found:
    """What was learnt, and the better of the jobs with it and without it.

    `scores` are those on the held-out texts, before and after, and `logits` those of the better;
    `store` has the labelled texts to retrieve from, and `evidence` is what is said of rows without
    themselves, votes included.
    """

    learnt: LearntLabels
    job: FitJob
    store: Store | None
    evidence: Evidence | None
    scores: list[float] | None = None
    logits: NDArray[np.float32] | None = None


def _best_with_labels(job: FitJob, store: Store | None, *, holds_out: bool = False) -> _Found:
    """Learn what is added to logits, unless the held-out texts say that it is none the better."""
    rows, distinct = _rows_to_learn(job, store)
    store = store or _voters(job, job.engine, rows)
    validation, multi_label = job.problem.validation, job.plan.multi_label
    learnt = learn(
        rows,
        distinct,
        job.plan.label_set.texts,
        job.problem.label_weights,
        _label_options(job),
        job.start.change,
        holds_out=holds_out,
    )
    evidence = learnt.evidence
    if holds_out:
        store, evidence = _with_told_votes(job, learnt, store)
    before, after = _first_change(job), learnt.change
    if validation is None:
        return _Found(learnt, _with_change(job, after), store, evidence)
    of_both = _logits_with(job, validation, store, (before, after))
    (was, loss_was), (now, loss_now) = (validation.judge(z, multi_label) for z in of_both)
    is_worse = (now, -loss_now) < (was, -loss_was)
    chosen = _with_change(job, before if is_worse else after)
    return _Found(learnt, chosen, store, evidence, [was, now], of_both[0 if is_worse else 1])


def _logits_with(
    job: FitJob,
    held_out: Examples,
    store: Store | None,
    changes: Sequence[LogitChange | None],
) -> list[Any]:
    """Score held-out texts with each of several changes; read once where that is enough."""
    engine, plan = job.engine, job.judging(store).changed_by(None)
    shown = held_out.prompt_examples(engine, plan, store)
    if not isinstance(held_out, SharedExamples) or plan.options.shortlist is not None:
        engines = [engine, *[engine.without_warnings()] * (len(changes) - 1)]
        return [
            held_out.logits(engine, plan.changed_by(change), shown)
            for engine, change in zip(engines, changes, strict=True)
        ]
    x = np.empty((len(held_out), engine.width), dtype=np.float32)
    arguments = {**plan.arguments(shown), "on_vectors": x.__setitem__}
    logits = engine.logits(held_out.texts, **arguments)
    count = plan.counted(held_out.texts)
    if count is not None:
        count.take(slice(0, len(x)), x)
    changed = [plan.changed_by(change).added(logits, x) for change in changes]
    return [plan.class_logits(of_change, count) for of_change in changed]


def _with_told_votes(
    job: FitJob, learnt: LearntLabels, store: Store | None
) -> tuple[Store | None, Evidence | None]:
    """Tell how much votes deserve by rows that were held out, and give these with the votes."""
    from ..engine.votes import VoteStore

    evidence = learnt.evidence
    if not isinstance(store, VoteStore):
        return store, evidence
    if evidence is None:
        # No row could be held out, as where each label has one text.
        return replace(store, share=0.0), None
    count = _own_votes(job, store, learnt.judged.x)
    weights = evidence.counts.astype(np.float32)
    count = count.sharing(count.told_share(evidence.logits, evidence.matrix, weights))
    evidence = replace(evidence, logits=count.added(evidence.logits))
    return replace(store, share=count.share), evidence


def _own_votes(job: FitJob, store: VoteStore, x: NDArray[np.float32]) -> VoteCount:
    """Count the votes on labelled texts, by their vectors: those of the others."""
    from ..engine.votes import Votes

    votes = Votes(store, job.n_votes, job.plan.multi_label)
    return votes.count_own(x, job.plan.label_set.texts)


def _label_options(job: FitJob) -> LabelOptions:
    return LabelOptions(job.plan.multi_label, job.label_penalty, job.options.loss)


def _with_change(job: FitJob, change: LogitChange | None) -> FitJob:
    """Give a job with what is added to logits."""
    start = replace(job.start, change=change)
    return replace(job, start=start, plan=job.plan.changed_by(change))


def _first_change(job: FitJob) -> LogitChange | None:
    """Give what belongs to the model before anything is learnt: what it was tuned beside."""
    return job.start.change if job.start.is_tuned else None


def _rows_to_learn(job: FitJob, store: Store | None) -> tuple[LearntRows, LearntRows]:
    """Encode what is to be learnt, after the rows of earlier calls; and give the rows merged."""
    training, engine, plan = job.problem.training, job.engine, job.plan
    unlabelled = that_teach(engine, job.problem.unlabelled, len(training))
    engine.warn_of_alike_labels([plan.class_texts])
    with scoring_bar(len(training) + len(unlabelled), job.verbose) as on_progress:
        rows = encoded_rows(engine, plan, training, store, on_progress)
        of_unlabelled = encoded_texts(engine, plan, unlabelled, store, on_progress)
    if job.start.rows is not None and not job.has_all_texts:
        rows = job.start.rows.followed_by(rows)
        return rows, rows.merged()
    distinct = rows.merged()
    moved = moved_by_texts(engine, plan, of_unlabelled, distinct)
    begin = replace(rows, moved=moved), replace(distinct, moved=moved)
    if not job.start.is_tuned:
        return begin
    before, texts = _first_change(job), plan.label_set.texts
    return begin[0].beside(before, texts), begin[1].beside(before, texts)


# The labelled texts that prompts show, or that vote.


def _make_store(job: FitJob) -> ExampleStore | None:
    """Keep the texts to learn from, after those of earlier calls, where prompts show any."""
    if not job.plan.n_retrieved:
        return None
    from ..engine.retrieval import ExampleStore
    from ..prompts.examples import ExampleEncoder

    # It refuses a model that has no place for examples before any work is done.
    ExampleEncoder(job.engine.composer, job.plan.options.example_format)
    last = job.start.store
    texts = set(job.plan.label_set.texts)
    of_before = last.examples if isinstance(last, ExampleStore) else []
    earlier = [example for example in of_before if texts.issuperset(example.labels)]
    windows = job.problem.training.windows()
    new = (example for window in windows for example in window.worth_showing(job.plan))
    examples = [*earlier, *new]
    store = ExampleStore.embed(job.engine, examples, backend=job.retrieval_backend)
    if job.has_all_texts:
        _check_enough(store, job)
    return store


def _check_enough(store: ExampleStore, job: FitJob) -> None:
    """Refuse fewer texts than are to be retrieved; where it trains, besides the text itself."""
    k, trains = job.plan.n_retrieved, job.options.max_epochs > 0
    n_set_aside = job.problem.n_set_aside
    try:
        store.check_size(k, exclude_self=trains)
    except ValueError as error:
        # The hint is true only where the texts set aside would have made up the number.
        if k > len(store) - trains + n_set_aside:
            raise
        raise ValueError(
            f"{error} {n_set_aside} texts were set aside for validation "
            "(validation_fraction); with X_val and y_val none are."
        ) from error


def _with_kept(job: FitJob) -> FitJob:
    """Gather the labelled texts that vote, after those of earlier calls."""
    if not job.n_votes:
        return job
    from ..engine.votes import KeptTexts

    earlier, windows = _earlier_voters(job), job.problem.training.windows()
    parts = [] if earlier is None else [earlier.kept]
    parts.extend(window.worth_keeping(job.plan) for window in windows)
    return replace(job, kept=KeptTexts.joined(parts, job.plan.label_set.texts))


def _earlier_voters(job: FitJob) -> VoteStore | None:
    from ..engine.votes import VoteStore

    return job.start.store if isinstance(job.start.store, VoteStore) else None


def _voters(job: FitJob, engine: Engine, rows: LearntRows | None = None) -> VoteStore | None:
    """Give the labelled texts that vote with their vectors: of an engine, or as rows have them."""
    if job.kept is None:
        return None
    from ..engine.votes import VoteStore

    if rows is None:
        vectors = vectors_alone(engine, job.plan, job.kept.texts)
    else:
        vectors = _vectors_of_rows(job, job.kept, rows)
    return VoteStore(job.kept, vectors, job.retrieval_backend)


def _voters_of_untrained(job: FitJob) -> VoteStore | None:
    """Give the labelled texts that vote beside scores that nothing was learnt for.

    These tell how much votes deserve. Where the model may have learnt from the same texts before,
    votes count as they did, or as many rows as there are let them.
    """
    from ..engine.votes import VoteStore

    start, kept = job.start, job.kept
    if kept is None or not len(kept) or job.plan.hierarchy is not None:
        return _voters(job, job.engine)
    if start.is_tuned or start.change is not None:
        store, earlier = _voters(job, job.engine), _earlier_voters(job)
        return store if store is None or earlier is None else replace(store, share=earlier.share)
    from ..training.folds import dealt

    engine = job.engine.without_warnings()
    shown = job.plan.examples_for(engine, kept.texts, None, exclude_self=True)
    x, logits = encoded(engine, job.plan, kept.texts, shown)
    targets = np.where(kept.weights > 0, kept.targets, np.float32(np.nan))
    folds, n_searches = dealt(x, targets, kept.weights)
    judged = np.flatnonzero((folds >= 0) & (folds < n_searches))
    store = VoteStore(kept, x, job.retrieval_backend)
    count = _own_votes(job, store, x[judged])
    share = count.told_share(logits[judged], targets[judged], kept.weights[judged])
    return replace(store, share=share)


def _vectors_of_rows(job: FitJob, kept: KeptTexts, rows: LearntRows) -> NDArray[np.float32]:
    """Find the vectors of kept texts among those of earlier calls and of the rows of this one."""
    earlier = _earlier_voters(job)
    n_earlier = 0 if earlier is None else len(earlier)
    vectors = np.empty((len(kept), rows.x.shape[1]), dtype=np.float32)
    if earlier is not None:
        vectors[:n_earlier] = earlier.vectors
    row = len(rows.x) - len(job.problem.training)
    for window in job.problem.training.windows():
        assert isinstance(window, SharedExamples)
        for text in window.texts:
            place = kept.position.get(text, -1)
            if place >= n_earlier:
                vectors[place] = rows.x[row]
            row += 1
    return vectors


def _encoded_by(job: FitJob, engine: Engine, store: Store | None) -> Store | None:
    """Give the labelled texts with vectors of another model."""
    from ..engine.retrieval import ExampleStore

    if not isinstance(store, ExampleStore):
        return _voters(job, engine)
    # Texts are searched by vectors of the model that will predict: training moved them.
    return type(store).embed(engine, store.examples, backend=store.backend)


# Training.


def _training_data(job: FitJob, store: Store | None) -> Windows:
    """Tokenise what is learnt from: at once, or each of several windows when its turn comes."""
    windows = _TrainingWindows(job, store)
    return windows if len(windows.sizes) > 1 else next(windows.read())


class _TrainingWindows:
    """The training sets of a job, window by window."""

    def __init__(self, job: FitJob, store: Store | None) -> None:
        self._job, self._store = job, store
        # What is to be said of one window holds of the others, too, and of later epochs.
        self._has_warned = self._has_counted_cuts = False

    @property
    def sizes(self) -> Sequence[int]:
        return self._job.problem.training.sizes

    def read(self, first: int = 0) -> Iterator[TrainingSet]:
        windows = self._job.problem.training.windows(first)
        # No name for a window, which would keep it in memory while the next one is read.
        return map(self._training_set, windows, range(first, len(self.sizes)))

    def _training_set(self, examples: Examples, place: int) -> TrainingSet:
        job, store = self._job, self._store
        engine = job.engine.without_warnings() if self._has_warned else job.engine
        self._has_warned = True
        shown = examples.prompt_examples(engine, job.plan, store, exclude_self=True)
        data = examples.training_set(engine, job.plan, shown, job.problem.label_weights)
        if not self._has_counted_cuts:
            self._count_cuts(data, is_last=place == len(self.sizes) - 1)
        return data

    def _count_cuts(self, data: TrainingSet, *, is_last: bool) -> None:
        """Count the texts that are cut in the first epoch, and tell when all were seen."""
        self._has_counted_cuts = is_last
        truncation = self._job.engine.truncation
        if truncation is None:
            return
        truncation.add(len(data), data.n_cut)
        if is_last:
            # Before the hours that training may take.
            truncation.tell(self._job.engine.max_length, trains=True)


def _validator(job: FitJob, store: Store | None) -> Callable[[Engine], Validation] | None:
    """Give what judges the weights after each epoch, where there are held-out texts."""
    validation = job.problem.validation
    if validation is None:
        return None
    from ..training.loop import Validation

    # Neighbours are those by the vectors before training, as in the training prompts.
    examples = validation.prompt_examples(job.engine, job.plan, store)

    def validate(engine: Engine) -> Validation:
        # That texts were cut is not to be said anew after every epoch.
        try:
            # Those that vote are found by the vectors of the model that is judged.
            plan = job.judging(_voters(job, engine))
            logits = validation.logits(engine.without_warnings(), plan, examples)
        except NonFiniteScoresError:
            # Training has diverged, of which its loop knows more to say.
            return Validation(np.nan, np.nan)
        return Validation(*validation.judge(logits, job.plan.multi_label))

    return validate


def _checkpoint(job: FitJob, data: Windows) -> FitCheckpoint | None:
    """Give where the training is kept, with all that it depends on."""
    if job.checkpoint_folder is None:
        return None
    from ..training.checkpoint import FitCheckpoint, fingerprint
    from ..training.data import TrainingSet

    validation = job.problem.validation
    several = len(data.sizes) > 1
    of_windows = [*data.sizes, job.problem.training.identity, *job.plan.class_texts]
    # What was learnt before follows from the rest, but is not the same to the last bit everywhere.
    plain = data
    if job.starts_from_labels and isinstance(data, TrainingSet):
        plain = replace(data, change=None)
    identity = {
        "model": fingerprint(job.engine.loaded.network.state_dict()),
        "max_length": str(job.engine.max_length),
        "the texts or labels": fingerprint(of_windows if several else plain),
        "label_penalty": repr(job.label_penalty),
        "where training starts": repr(job.starts_from_labels),
        "n_retrieved": repr(job.n_votes),
        "the validation data": fingerprint(None if validation is None else vars(validation)),
        "how texts are scored": fingerprint(job.plan.options),
        **{f.name: repr(getattr(job.options, f.name)) for f in fields(job.options)},
    }
    return FitCheckpoint(job.checkpoint_folder, identity)


def _what_changed(result: TrainingResult, job: FitJob) -> TunedWeights | None:
    """Give the weights to keep: none where the ones before training were the best."""
    nothing_better = job.problem.validation is not None and result.best_iter == 0
    # Heads that came fresh from the random generator are not there to be loaded again.
    return None if nothing_better and job.engine.loaded.zero_shot else result.weights


# What a fit leaves.


def _finished(job: FitJob, result: TrainingResult, store: Store | None) -> FitState:
    """Give the state after a training, with all that is tuned on its weights."""
    engine, state = _state_with(job, _what_changed(result, job), store)
    return _bound(job, _tuned_after(job, engine, state))


def _bound(job: FitJob, state: FitState) -> FitState:
    """Tie what was tuned, or embedded, to the model that it was for."""
    tuned = state.store, state.change, state.rows, state.thresholds, state.min_probability
    is_tuned = state.temperature != 1 or any(value is not None for value in tuned)
    if state.weights is not None or not is_tuned:
        return state
    from ..training.tuned_weights import TunedWeights

    return replace(state, weights=TunedWeights(base=job.engine.loaded.digest))


def _state_with(
    job: FitJob, changed: TunedWeights | None, store: Store | None
) -> tuple[Engine, FitState]:
    """Give the state with weights that training changed, and an engine of that model."""
    if changed is None:
        return job.engine, replace(job.start, store=store or _voters(job, job.engine))
    before = job.start.weights
    if before is None:
        changed = replace(changed, base=job.engine.loaded.digest)
    engine = job.engine.around(changed.apply(job.engine.loaded))
    weights = changed if before is None else before.then(changed)
    return engine, replace(job.start, weights=weights, store=_encoded_by(job, engine, store))


def _tuned_after(
    job: FitJob,
    engine: Engine,
    state: FitState,
    logits: NDArray[np.float32] | None = None,
    *,
    is_cautious: bool = False,
) -> FitState:
    """Tune what comes after the logits on the validation data, where it is wanted.

    Their `logits` need not be computed anew where they are known.
    """
    validation = job.problem.validation
    if validation is None or validation.matrix is None or not _tunes(job).any:
        # Rows with labels of their own have no classes that a threshold could be of.
        return state
    if logits is None:
        # Not those of the training prompts: the tuned model may find other neighbours.
        plan = job.judging(state.store)
        examples = validation.prompt_examples(engine, plan, state.store)
        logits = np.asarray(validation.logits(engine, plan, examples))
    held_out = HeldOut.SET_ASIDE if job.problem.n_set_aside else HeldOut.PASSED
    evidence = Evidence(logits, validation.matrix, is_cautious=is_cautious, held_out=held_out)
    return _tuned_on(job, engine, state, evidence)


def _tunes(job: FitJob) -> Tunes:
    """Give what is tuned: the limit of texts of no class only where there are any."""
    others = job.tunes.min_probability and len(job.problem.others) > 0
    return replace(job.tunes, min_probability=others)


def _tuned_on(job: FitJob, engine: Engine, state: FitState, evidence: Evidence) -> FitState:
    tunes, others = _tunes(job), job.problem.others
    if tunes.min_probability:
        of_none = SharedExamples(others, np.zeros((len(others), len(state.label_set)), np.float32))
        plan = job.judging(state.store)
        shown = of_none.prompt_examples(engine, plan, state.store)
        evidence = replace(evidence, others=of_none.logits(engine, plan, shown))
    return tuned(state, tunes, evidence, job.plan.multi_label)
