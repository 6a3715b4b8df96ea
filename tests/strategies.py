"""What the property tests draw: texts of any characters, label sets, examples, tables of labels."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from tiny import CORPUS

N_CASES = settings().max_examples


def costly(test):
    """Try a few cases by default, and as many as elsewhere in the slow suite."""
    return settings(max_examples=N_CASES if N_CASES >= 200 else N_CASES // 3)(test)


WORDS = sorted({word for line in CORPUS for word in line.split()})
# What stands for something in a prompt, or is made to look like it.
MARKERS = [
    "<<LABEL>>",
    "<<SEP>>",
    "<<EXAMPLE>>",
    "<<<LABEL>>>",
    "＜＜LABEL＞＞",
    "<<TRUE_LABEL>>",
    "<<FALSE_LABEL>>",
    "<</EXAMPLE>>",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "<s>",
    "</s>",
    "＜/s＞",
    "<</s>/s>",
    "<pad>",
    "<unk>",
    "\nLabels:\n",
    "{}",
]
ODD = [
    # No width, from right to left, combined with what stands before, joined, beyond 16 bits.
    "\u200b",
    "\ufeff",
    "\u202e",
    "\u2066\u2069",
    "\u200f",
    "\u0301",
    "e\u0301\u0308",
    "a" + "\u0335" * 9,
    "\u200d",
    "👩\u200d👩\u200d👧",
    "🇳🇵",
    "𝕏",
    "\U0010ffff",
    "\ue000",
    "\ufffd",
    "\0",
    # Ends of lines to some and not to others.
    "\n",
    "\r\n",
    "\t",
    "\x0b",
    "\x1c",
    "\x85",
    "\u2028",
    # Changed by normalisers, and scripts without spaces.
    "ﬁ",
    "İ",
    "ß",
    "㎏",
    "你好",
    "नमस्ते",
    "مرحبا",
    "한국어",
]
any_characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
surrogates = st.sampled_from(["\ud800", "\udbff", "\udc00", "\udfff"])


def _texts(most: int) -> st.SearchStrategy[str]:
    pieces = st.one_of(
        st.sampled_from(WORDS), st.sampled_from(MARKERS), st.sampled_from(ODD), any_characters
    )
    joiners = st.sampled_from([" ", ""])
    return st.builds(str.join, joiners, st.lists(pieces, max_size=most))


def can_be_seen(text: str) -> bool:
    """Tell whether a text has a character that is neither space nor without width."""
    return any(c.isprintable() and not c.isspace() for c in text)


short_texts = _texts(6)
# Some are longer than any prompt of the tests.
texts = st.one_of(short_texts, _texts(20), st.builds(str.__mul__, short_texts, st.just(40)))
label_texts = _texts(3).filter(can_be_seen)
label_sets = st.lists(label_texts, min_size=1, max_size=6, unique=True)
many_labels = st.lists(label_texts, min_size=7, max_size=25, unique=True)
task_descriptions = st.one_of(st.just(""), st.just("Classify this:"), _texts(4))


@st.composite
def prompt_examples(draw, labels):
    """Draw up to three labelled texts whose labels are among those given."""
    from skgliclass.datasets import PromptExample

    of_example = st.lists(st.sampled_from(labels), unique=True, max_size=3)
    shown = st.builds(PromptExample, short_texts.filter(str.strip), of_example)
    return tuple(draw(st.lists(shown, max_size=3)))


# A dot would join two names to that of another leaf.
undotted = label_texts.filter(lambda name: "." not in name)


@st.composite
def hierarchies(draw, names=undotted, depth=2):
    """Draw nested dicts, whose branches end in lists of names or in label texts."""
    branch = st.lists(names, min_size=1, max_size=3, unique=True)
    if depth > 1 and draw(st.booleans()):
        return {name: draw(hierarchies(names, depth - 1)) for name in draw(branch)}
    return {name: draw(branch) for name in draw(branch)}
