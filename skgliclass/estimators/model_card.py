"""The page that lies beside a saved classifier and says what it is and how it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .labels import LabelSet
from .values import listed

_N_SHOWN = 100
_MARK = "<!-- Written by skgliclass, which writes it anew unless it was changed: "

_CARD = """---
library_name: skgliclass
pipeline_tag: text-classification
tags:
- gliclass
- text-classification
---

# A text classifier

{description}
```python
from skgliclass import {kind}

clf = {kind}.from_pretrained("path/to/this/folder")
clf.predict{method}(["a text"])
```

It is a GLiClass model ({architecture}). What lies here:

| file | what it holds |
| --- | --- |
| `skgliclass.json` | classes, label texts and parameters |
| `config.json`, `model.safetensors` | the model, as the `gliclass` package writes it |
| `tokenizer.json`, `tokenizer_config.json` | the tokenizer |
{learnt}
"""


_LEARNT_FILES = {
    "learnt_labels.safetensors": "what `fit` learnt for the classes beside the model",
    "learnt_rows.safetensors": "the rows that it was learnt from, which `partial_fit` goes on from",
}

_LEARNT = """
What was learnt beside the model is added to its scores by skgliclass alone. The `gliclass` package
loads the model without it.
"""


def model_card(kind: str, label_set: LabelSet, config: Any, *, learnt: Collection[str] = ()) -> str:
    """Give the text of the page.

    Parameters
    ----------
    kind : str
        The name of the classifier's class.
    label_set : LabelSet
        Its classes; empty where every row brings its own.
    config : GLiClassConfig
        The model's.
    learnt : collection of str
        The files with what was learnt beside the model.
    """
    text = _CARD.format(
        kind=kind,
        method="_labels" if "Multi" in kind else "",
        architecture=config.architecture_type,
        learnt=_of_learnt(learnt),
        description=_description(label_set, "any number" if "Multi" in kind else "one"),
    )
    return f"{text}{_MARK}{_digest(text)} -->\n"


def _of_learnt(files: Collection[str]) -> str:
    if not files:
        return ""
    rows = (f"| `{file}` | {what} |\n" for file, what in _LEARNT_FILES.items() if file in files)
    return "".join(rows) + _LEARNT


def may_be_replaced(path: Path) -> bool:
    """Tell whether there is no page yet, or one as it was written here and not changed since."""
    if not path.is_file():
        # Not a folder either, nor a link to nothing: those are not ours.
        return not path.exists() and not path.is_symlink()
    try:
        text, mark, digest = path.read_text(encoding="utf-8").rpartition(_MARK)
    except (OSError, UnicodeDecodeError):
        return False
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
