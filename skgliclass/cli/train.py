"""``skgliclass train``: fine-tune a model on a file of labelled texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..datasets.examples import Example
from ..estimators.fit import FitOutcome
from ..estimators.problem import LEARNS_FROM_TEXTS
from ..estimators.rows import RowError
from ..exceptions import warn
from ..prompts.checks import listed
from .data import (
    LabelledFile,
    TextFile,
    add_data_options,
    chosen_kind,
    open_data,
    read_data,
    read_saved,
    saved_kind,
    told_kind,
)
from .errors import CommandError, NoRowsError
from .folders import check_new_folder, check_room
from .options import (
    Classifier,
    add_label_options,
    add_scoring_options,
    add_training_options,
    chosen_labels,
    has_labels,
    make_classifier,
    option_of,
    wants_bar,
)
from .rows import (
    class_names,
    named_as_classes,
    names_in,
    of_known,
    offer,
    offer_beside,
    without_other,
)
from .tables import Limit
from .training_rows import Deal, StreamedRows, Survey, UnlabelledTexts, held_out_rows, limit_of

if TYPE_CHECKING:
    from ..training.processes import Workers

_EPILOG = """examples:
  skgliclass train data.json --output tuned
  skgliclass train train.jsonl --validation dev.jsonl --n-iter-no-change 3 --output tuned
  skgliclass train tickets.csv --label-column team --trainable head --output tuned
  skgliclass train big.jsonl.gz --window-rows 20000 --checkpoint-folder run --output tuned
  skgliclass train texts.csv --labels travel dreams sport --output learnt
  skgliclass train half.csv --unlabelled-rows --output learnt
  skgliclass train fifty.csv --unlabelled mails.csv --output learnt
"""


def add_train(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "train",
        help="fine-tune a model on labelled texts",
        description="Fine-tune a model on a file in the GLiClass training format (JSON or JSONL, "
        "also with .gz; every row may have a label set of its own, and soft labels), or on a "
        "table (CSV, TSV, JSON, JSONL, Parquet or Excel) with a column of texts and one of labels. "
        "With --labels the texts may be without labels: a table without a column of them, a .txt "
        "file or stdin (-). "
        "The file may be larger than memory: it is read in windows of rows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="FILE", help="what to learn from")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new or empty folder")
    add_data_options(parser)
    parser.add_argument(
        "--unlabelled-rows",
        action="store_true",
        help="rows without a label are texts without labels, from which label vectors are learnt, "
        "too; otherwise such a row is an error",
    )
    parser.add_argument(
        "--unlabelled",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="further texts, from which label vectors are learnt, too: tables, of which the column "
        "of texts alone is read, .txt files or stdin (-)",
    )
    add_label_options(parser)
    add_scoring_options(parser)
    _add_validation_options(parser)
    _add_training_options(parser)
    parser.set_defaults(run=run)


def _add_validation_options(parser: argparse.ArgumentParser) -> None:
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument(
        "--validation", metavar="FILE", help="held-out data; the best epoch on it is kept"
    )
    held_out.add_argument(
        "--validation-fraction", type=float, metavar="F", help="hold out this share of the rows"
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    options = add_training_options(parser)
    options.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of the same command"
    )
    options.add_argument(
        "--join-processes",
        action="store_true",
        help="share the work among the processes that a launcher such as torchrun started",
    )
    options.add_argument(
        "--window-rows",
        type=int,
        metavar="N",
        help="how many rows are in memory at a time; of a file with more, every epoch reads one "
        "window after the other, and shuffles the rows of each (default: 65536, fewer of long "
        "texts)",
    )
    options.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")


class _Rows(NamedTuple):
    """What is learnt from, what it is judged by, and the texts of no class and of unknown ones."""

    training: list[Example] | StreamedRows
    validation: list[Example] | None
    others: list[str]
    unlabelled: UnlabelledTexts


class _Data(NamedTuple):
    """All rows of the file, what a first look found, how much stays in memory, further texts."""

    examples: Iterable[Example]
    survey: Survey
    limit: Limit
    further: list[TextFile]


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say, and write the result."""
    _check_options(args)
    data, files = _opened(args)
    classifier = _make_classifier(args, data.survey)
    _check_labels(classifier, args, data)
    rows = _rows_for(classifier, args, files, data)
    with _processes(args) as processes:
        # One bar for all of them.
        classifier.set_params(verbose=wants_bar() if processes.is_first else 0)
        try:
            outcome = classifier._fit_rows(*rows)
        except RowError as error:
            raise CommandError(f"{args.data}: {error}") from error
    if processes.is_first:
        classifier.save_pretrained(args.output)
        if args.join_processes:
            print(f"processes         {processes.size}")
        _print_summary(outcome, rows, args.output)
    if outcome.interrupted:
        raise KeyboardInterrupt(
            f"interrupted after {outcome.n_iter} epoch(s); the best weights so far are in "
            f"{args.output}"
        )
    # Only now: until the folder is written, a later run could still go on.
    outcome.remove_checkpoint()


def _opened(args: argparse.Namespace) -> tuple[_Data, list[LabelledFile]]:
    """Open the files, and look at what is to be learnt from."""
    names = [args.data, *([args.validation] if args.validation else [])]
    limit = limit_of(args.window_rows)
    files = open_data(args, *names, keeps=limit, takes_texts=True)
    saved = read_saved(args)
    asked = chosen_kind(args)
    examples = read_data(
        files[0],
        args,
        multi_label=asked,
        keeps=limit,
        # Without labels to choose from, they are missed.
        takes_texts=has_labels(args) or bool(saved.get("classes")),
        unlabelled=args.unlabelled_rows,
    )
    survey = Survey(examples, args.data, asked)
    if not survey.n_labelled:
        # No label tells which kind it is.
        kind = saved_kind(args.model, saved, None) if asked is None else asked
        survey.is_multi_label = bool(kind)
    return _Data(examples, survey, limit, list(_further_texts(args))), files


def _further_texts(args: argparse.Namespace) -> Iterator[TextFile]:
    """Open the files of ``--unlabelled``; one without rows is as if it were not given."""
    for name in args.unlabelled:
        try:
            yield TextFile.opened(name, args)
        except NoRowsError as error:
            # As when the last of the texts has got its label; where it is a mistake, it is said.
            warn(f"{error}, so that --unlabelled adds no text of it")


def _check_labels(classifier: Classifier, args: argparse.Namespace, data: _Data) -> None:
    """Refuse texts without labels where nothing could be learnt from them."""
    if args.join_processes and classifier.trainable == "labels":
        raise CommandError("--join-processes has no effect with --trainable labels")
    survey = data.survey
    n_unlabelled = survey.n_rows - survey.n_labelled
    if not (n_unlabelled or data.further):
        return
    texts = f"{args.data}: {n_unlabelled} of {survey.n_rows} rows have no label"
    if not n_unlabelled:
        texts = f"--unlabelled {' '.join(args.unlabelled)}: no text has a label"
    if not survey.n_labelled and classifier.labels is None:
        raise CommandError(f"{texts}, and nothing says what to choose from; give --labels")
    if classifier.trainable not in LEARNS_FROM_TEXTS:
        raise CommandError(
            f"{texts}, and --trainable {classifier.trainable} learns nothing from such texts; give "
            "--trainable auto, or their labels (see --label-column)"
        )


def _check_options(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, what could only fail later."""
    if args.validation is None and args.validation_fraction is None:
        # Where label vectors alone are learnt, or may be, rows can be held out in turn.
        trains = args.trainable not in (None, *LEARNS_FROM_TEXTS)
        needs = {
            "n_iter_no_change": args.n_iter_no_change,
            "calibrate": args.calibrate and trains,
            "threshold": args.threshold == "auto" and trains,
        }
        for name, is_asked_for in needs.items():
            if is_asked_for:
                value = " auto" if name == "threshold" else ""
                raise CommandError(
                    f"{option_of(name)}{value} needs --validation or --validation-fraction"
                )
    _check_checkpoint(args)
    reads = args.data, args.validation, args.model, args.labels_file, *args.unlabelled
    if [args.data, *args.unlabelled].count("-") > 1:
        raise CommandError("stdin (-) can be read once")
    check_new_folder(args.output, reads=reads, n_bytes=_size_of_weights(args))


def _size_of_weights(args: argparse.Namespace) -> int:
    """Tell how many bytes of weights will be written at least."""
    # Not that of a model on the hub, which is not here yet.
    folder = Path(args.model)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _check_checkpoint(args: argparse.Namespace) -> None:
    """Refuse to go on from what is not there, and to go on where that was not asked for."""
    folder = args.checkpoint_folder
    if folder is None:
        if args.resume:
            raise CommandError("--resume needs --checkpoint-folder")
        return
    path = Path(folder)
    if path.absolute() == Path(args.output).absolute():
        raise CommandError(f"--checkpoint-folder {folder}: this is --output; give another folder")
    check_room(_existing(path.absolute()), 0, f"--checkpoint-folder {folder}")
    from ..training.checkpoint import NAME

    exists = (path / NAME).is_file()
    if args.resume and not exists:
        raise CommandError(f"--resume: there is no checkpoint in {folder}")
    if exists and not args.resume:
        raise CommandError(
            f"--checkpoint-folder {folder}: it holds a checkpoint; go on from it with --resume, or "
            "give another folder"
        )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _processes(args: argparse.Namespace) -> AbstractContextManager[Workers]:
    from ..training.processes import Workers, joined_processes

    return joined_processes() if args.join_processes else nullcontext(Workers())


def _held_out_file(
    args: argparse.Namespace, files: Sequence[LabelledFile], survey: Survey
) -> list[Example] | None:
    """Read the file to judge by, all of which stays in memory."""
    if args.validation is None:
        return None
    is_multi_label = survey.is_multi_label
    rows = read_data(files[1], args, multi_label=is_multi_label, labels=survey.labels)
    held_out = list(rows)
    told_kind(held_out, is_multi_label, args.validation)
    return held_out


def _make_classifier(args: argparse.Namespace, survey: Survey) -> Classifier:
    parameters: dict[str, Any] = {}
    if survey.prompt is not None:
        # What all rows have is a part of the classifier, and saved with it.
        parameters["task_description"] = survey.prompt
        if args.task_description not in (None, survey.prompt):
            raise CommandError(
                f"--task-description has no effect: every row of {args.data} has a prompt of its "
                f"own, {survey.prompt!r}"
            )
    return make_classifier(
        args,
        multi_label=survey.is_multi_label,
        labels=chosen_labels(args),
        has_examples=survey.has_examples,
        retrains=True,
        **parameters,
        # The best epoch on held-out data is kept in any case.
        early_stopping=args.n_iter_no_change is not None,
        random_state=args.seed,
    )


def _rows_for(
    classifier: Classifier, args: argparse.Namespace, files: Sequence[LabelledFile], data: _Data
) -> _Rows:
    """Give the rows as the classifier is to see them, and set its labels by theirs."""
    held_out = _held_out_file(args, files, data.survey)
    view = _View.of(classifier, args, files, data.survey, held_out)
    deal = _deal(args, files[0], data, view)
    if view.known is None:
        # What a saved classifier was for is another task; without labels what is learnt serves
        # any, and every row brings its own.
        classifier.set_params(labels=deal.shared_labels)
    n_windows = data.survey.n_windows(data.limit, deal.n_rows) if deal.n_rows else 1
    windows = StreamedRows(deal, n_windows)
    training = windows if n_windows > 1 else next(windows.windows())
    validation = None if args.validation_fraction is None else deal.validation
    others = deal.others
    if held_out is not None:
        seen = view(held_out, files[1])
        if view.known is None and deal.shared_labels is not None and files[1].is_table:
            whose = f"the labels of {args.data}"
            seen = of_known(seen, deal.shared_labels, name=args.validation, whose=whose)
        validation = list(seen)
        if view.other is not None:
            others = [*others, *(row.text for row in validation if not row.true_labels)]
            validation = [row for row in validation if row.true_labels]
    return _Rows(training, validation, others, UnlabelledTexts(deal, data.further))


def _deal(args: argparse.Namespace, file: LabelledFile, data: _Data, view: _View) -> Deal:
    survey, held_out = data.survey, set[int]()
    if args.validation_fraction is not None:
        held_out = held_out_rows(args.validation_fraction, survey, args.data, data.limit, args.seed)
    return Deal(
        lambda: view(data.examples, file),
        args.data,
        survey,
        held_out,
        sorts_out=view.other is not None,
        n_windows=survey.n_windows(data.limit),
        seed=args.seed,
    )


class _View(NamedTuple):
    """How a classifier sees the rows of a file.

    `other` stands for no class, and labels of a table may stand for one of the `classes`. `known`
    are the classes that the rows of a table offer; None where they will be those of the data.
    `columns` are the labels that have a column each, in which what is empty is not annotated; None
    where a row of a table names all of its labels.
    """

    other: str | None
    classes: list[Any]
    known: list[str] | None
    columns: list[str] | None

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        args: argparse.Namespace,
        files: Sequence[LabelledFile],
        survey: Survey,
        held_out: list[Example] | None,
    ) -> _View:
        other = getattr(classifier, "other", None)
        classes = [] if classifier.labels is None else classifier.classes_.tolist()
        known = [str(value) for value in classes]
        labels = [survey.labels, names_in(held_out or [])]
        name_of = class_names(classes) if classes else str
        names = {
            name_of(label) if file.is_table else label
            for of_file, file in zip(labels, files, strict=False)
            for label in of_file
            if label != other
        }
        is_known = not survey.has_open_labels and names <= set(known)
        knows = has_labels(args) or is_known
        columns = args.label_columns and list(dict.fromkeys(map(name_of, args.label_columns)))
        return cls(other, classes, known if knows else None, columns)

    def __call__(self, rows: Iterable[Example], file: LabelledFile) -> Iterator[Example]:
        name = file.table.name
        rows = without_other(rows, self.other, name=name)
        # A file of examples says for each row what it offers; a table does not.
        if self.classes and file.is_table:
            rows = named_as_classes(rows, self.classes)
        if self.known is not None and file.is_table:
            rows = of_known(rows, self.known, name=name, whose="the labels")
        offered = self.columns if self.known is None else self.known
        if offered and file.is_table:
            rows = offer(rows, offered) if self.columns is None else offer_beside(rows, offered)
        return iter(rows)


def _print_summary(outcome: FitOutcome, rows: _Rows, folder: str) -> None:
    print(f"changed           {outcome.trainable}")
    if classes := outcome.state.label_set.classes.tolist():
        print(f"classes           {len(classes)}: {listed(classes)}")
    if outcome.trainable == "labels":
        print(f"labelled rows     {_n_rows(rows.training)}")
        print(f"unlabelled texts  {len(rows.unlabelled)}")
        # Texts alone are learnt from in one go.
        if _n_rows(rows.training):
            print(f"steps             {outcome.n_iter}")
    else:
        print(f"epochs            {outcome.n_iter}")
    if outcome.loss_curve:
        print(f"training loss     {outcome.loss_curve[-1]:.4f}")
    if outcome.validation_scores:
        step = "step" if outcome.trainable == "labels" else "epoch"
        print(f"before training   {outcome.validation_scores[0]:.4f}")
        best = max(outcome.validation_scores)
        print(f"best validation   {best:.4f} ({step} {outcome.best_iter})")
    print(f"written to        {folder}")


def _n_rows(rows: list[Example] | StreamedRows) -> int:
    return len(rows) if isinstance(rows, list) else sum(rows.sizes)
