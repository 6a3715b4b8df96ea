"""Other words for the labels of the training sets, from a data file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).with_name("wordings.json")


@dataclass(frozen=True)
class SetWordings:
    """What is known about the labels of one set.

    Attributes
    ----------
    family : str or None
        Sets of one family ask similar questions; None where it is not known.
    near : set of str
        The families, the own one too, whose labels may hold for the texts of this set.
    labels : dict of str to list of str
        Other words for each label.
    templates : list of str
        Sentences with ``{label}`` in them.
    tasks : list of str
        Task descriptions.
    """

    family: str | None = None
    near: frozenset[str] = frozenset()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    templates: Sequence[str] = ()
    tasks: Sequence[str] = ()

    def is_foreign_to(self, other: SetWordings) -> bool:
        """Tell whether the labels of this set are false for the texts of another one."""
        known = self.family is not None and other.family is not None
        return known and self.family not in other.near and other.family not in self.near

    def meanings(self, label: str) -> frozenset[str]:
        """Give all that may stand for a label, the label itself too, in a form to compare."""
        return frozenset(map(normalized, (label, *self.labels.get(label, ()))))


@dataclass(frozen=True)
class Group:
    """A further set that is made by putting the labels of another one together.

    Attributes
    ----------
    source : str
        The set whose rows it takes: those with all true labels in one group.
    labels : dict of str to list of str
        The labels of `source` that each new label stands for.
    """

    source: str
    labels: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Wordings:
    """The content of a file of wordings.

    Attributes
    ----------
    sets : dict of str to SetWordings
    groups : dict of str to Group
        By the name of the set that they make.
    """

    sets: Mapping[str, SetWordings]
    groups: Mapping[str, Group]

    def of(self, name: str) -> SetWordings:
        """Give what is known about a set."""
        return self.sets.get(name, SetWordings())


def read_wordings(path: str | Path = "") -> Wordings:
    """Read a file of wordings.

    Parameters
    ----------
    path : str or path, default=""
        A JSON file; by default the package's own.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not of the right form, or two labels of a set share a wording.
    """
    path = Path(path or PACKAGED)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        families = content.get("families", {})
        sets = {name: _set_wordings(entry, families) for name, entry in content["sets"].items()}
        groups = {
            name: Group(entry["from"], entry["labels"])
            for name, entry in content.get("groups", {}).items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no file of wordings ({error!r}).") from error
    for name, words in sets.items():
        _check_apart(path, name, words)
    return Wordings(sets, groups)


def normalized(text: str) -> str:
    """Give a text without what does not change its meaning: case and spaces."""
    return " ".join(text.casefold().split())


def _set_wordings(content: dict[str, Any], families: dict[str, Any]) -> SetWordings:
    family = content["family"]
    shared = {} if family is None else families.get(family, {})
    return SetWordings(
        family,
        frozenset() if family is None else frozenset([family, *shared.get("near", ())]),
        content.get("labels", {}),
        [*shared.get("templates", ()), *content.get("templates", ())],
        [*shared.get("tasks", ()), *content.get("tasks", ())],
    )


def _check_apart(path: Path, name: str, words: SetWordings) -> None:
    """Refuse words that may stand for two labels of a set."""
    owner: dict[str, str] = {}
    for label in words.labels:
        for meaning in words.meanings(label):
            # Otherwise a label that is true could be shown as a false one.
            if owner.setdefault(meaning, label) != label:
                raise ValueError(
                    f"{path}: in the set {name!r}, {meaning!r} stands for both "
                    f"{owner[meaning]!r} and {label!r}; a wording must belong to one label."
                )
