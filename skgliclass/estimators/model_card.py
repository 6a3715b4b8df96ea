"""The page that lies beside a saved classifier and says what it is and how it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .labels import LabelSet
from .values import listed

_N_SHOWN = 100
_MARK = "<!-- Written by skgliclass, which writes it anew unless it was changed: "

_CARD = """---
library_name: skgliclass
pipeline_tag: {task}
{base}tags:
- skgliclass
- gliclass
- text-classification
---

# A text classifier

{description}
```python
from skgliclass import {kind}

clf = {kind}.from_pretrained({place})
clf.predict{method}(["a text"])
```

It is a GLiClass model ({architecture}){origin}. What lies here:

| file | what it holds |
| --- | --- |
| `skgliclass.json` | classes, label texts and parameters |
| `config.json`, `model.safetensors` | the model, as the `gliclass` package writes it |
| `tokenizer.json`, `tokenizer_config.json` | the tokenizer |
{learnt}
"""


_MORE_FILES = {
    "retrieved_examples.json": "labelled texts, which predictions look the nearest up in",
    "retrieved_examples.safetensors": "the vectors of these texts",
    "learnt_labels.safetensors": "what `fit` learnt for the classes beside the model",
    "learnt_rows.safetensors": "the rows that it was learnt from, which `partial_fit` goes on from",
}
_BESIDE = "learnt_labels.safetensors"

_LEARNT = """
What was learnt beside the model is added to its scores by skgliclass alone. The `gliclass` package
loads the model without it.
"""


@dataclass(frozen=True)
class CardFacts:
    """What the page tells.

    Attributes
    ----------
    kind : str
        The name of the classifier's class.
    label_set : LabelSet
        Its classes; empty where every row brings its own.
    architecture : str
        The model's.
    is_tuned : bool
        Whether weights of the model were trained.
    began_as : str or None
        The repository on the hub with the model that it began with.
    hub_name : str or None
        The repository that the page is for; None for a folder.
    files : collection of str
        The names of the files beside it.
    """

    kind: str
    label_set: LabelSet
    architecture: str
    is_tuned: bool
    began_as: str | None
    hub_name: str | None
    files: Collection[str]


def model_card(facts: CardFacts) -> str:
    """Give the text of the page.

    Parameters
    ----------
    facts : CardFacts
        What it tells.
    """
    is_multi = "Multi" in facts.kind
    text = _CARD.format(
        task="text-classification" if facts.label_set else "zero-shot-classification",
        base=f"base_model: {json.dumps(facts.began_as)}\n" if facts.began_as else "",
        kind=facts.kind,
        place=json.dumps(facts.hub_name or "path/to/this/folder"),
        method="_labels" if is_multi else "",
        architecture=facts.architecture,
        origin=_origin(facts),
        learnt=_of_learnt(facts.files),
        description=_description(facts.label_set, "any number" if is_multi else "one"),
    )
    return f"{text}{_MARK}{_digest(text)} -->\n"


def _origin(facts: CardFacts) -> str:
    began = f" that began as `{facts.began_as}`" if facts.began_as else ""
    link = "; its" if began else " whose"
    return f"{began}{link} weights were trained further" if facts.is_tuned else began


def _of_learnt(files: Collection[str]) -> str:
    rows = "".join(
        f"| `{file}` | {what} |\n" for file, what in _MORE_FILES.items() if file in files
    )
    return rows + _LEARNT if _BESIDE in files else rows


def may_be_replaced(path: Path) -> bool:
    """Tell whether there is no page yet, or one as it was written here and not changed since."""
    if not path.is_file():
        # Not a folder either, nor a link to nothing: those are not ours.
        return not path.exists() and not path.is_symlink()
    try:
        return is_as_written(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def is_as_written(page: str) -> bool:
    """Tell whether a page is as it was written here, and not changed since."""
    text, mark, digest = page.rpartition(_MARK)
    return bool(mark) and digest.strip() == f"{_digest(text)} -->"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _description(label_set: LabelSet, how_many: str) -> str:
    if not label_set:
        return "It has no labels of its own: give it `labels=`, or texts with labels to fit.\n"
    pairs = list(zip(listed(label_set.classes), label_set.texts, strict=True))
    # As JSON in a block: labels are the user's, and may hold whatever markdown would read.
    lines = [f"    {_shown(value)}: {_shown(text)}" for value, text in pairs[:_N_SHOWN]]
    if len(pairs) > _N_SHOWN:
        lines.append(f"    ... and {len(pairs) - _N_SHOWN} more")
    listed_pairs = "\n".join(lines)
    return (
        f"It chooses {how_many} of {len(pairs)} classes for each text. Each class, and what the "
        f"model reads for it:\n\n{listed_pairs}\n"
    )


def _shown(value: Any) -> str:
    plain = isinstance(value, str | int | float)
    return json.dumps(value if plain else str(value), ensure_ascii=False)
