"""The one place that knows the special tokens and where each piece of the prompt goes.

The model reads ``<<LABEL>>travel<<LABEL>>dreams<<SEP>>One day I will see the world!``. The pieces
between the markers come from users, so a prompt is put together from token ids, never from
strings: whatever characters a text or a label holds, it cannot add a marker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

LABEL_MARKER = "<<LABEL>>"
TEXT_MARKER = "<<SEP>>"
EXAMPLE_MARKER = "<<EXAMPLE>>"
MARKERS = (LABEL_MARKER, TEXT_MARKER, EXAMPLE_MARKER)

TokenIds = list[int]


class PieceTokenizer:
    """Tokenises the pieces of a prompt so that they stay data.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The tokenizer of the backbone, without truncation and padding.

    Attributes
    ----------
    prefix, suffix : list of int
        What the tokenizer puts before and after a whole sequence, such as ``[CLS]``, ``[SEP]``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.prefix, self.suffix = _template_ids(tokenizer)
        self._has_marker = tokenizer.token_to_id(TEXT_MARKER) is not None
        special = _special_tokens(tokenizer, (*self.prefix, *self.suffix))
        spelled = "|".join(map(re.escape, sorted(special.values())))
        self._special_pattern = re.compile(spelled or "(?!)")
        unknown = _unknown_id(tokenizer)
        self._special_ids = frozenset(special) - {unknown}
        self._substitute = [] if unknown is None else [unknown]

    def encode(self, pieces: Sequence[str], *, after_marker: bool) -> list[TokenIds]:
        """Give the token ids of each piece, without special tokens.

        Parameters
        ----------
        pieces : sequence of str
            Texts, label texts, task descriptions.
        after_marker : bool
            Whether a marker precedes the piece in the prompt. Some tokenizers treat the start of
            the sequence differently (a Unigram tokenizer may put a space before it).

        Returns
        -------
        list of list of int
            For a piece without special tokens the ids that tokenising the joined prompt gives.
            A special token written in a piece, such as ``[SEP]``, becomes ordinary characters.
        """
        anchored = after_marker and self._has_marker
        suspects = {i for i, piece in enumerate(pieces) if self._special_pattern.search(piece)}
        plain = (
            pieces if not suspects else ["" if i in suspects else p for i, p in enumerate(pieces)]
        )
        encoded = self._encode_plain(plain, anchored)
        for i in suspects:
            fragments = _break_up(pieces[i], self._special_pattern)
            first, *rest = self._encode_plain(fragments, anchored)
            encoded[i] = first + [token for ids in rest for token in ids]
        return [self._without_special_ids(ids) for ids in encoded]

    def _encode_plain(self, pieces: Sequence[str], anchored: bool) -> list[TokenIds]:
        if not anchored:
            encodings = self._tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
            return [encoding.ids for encoding in encodings]
        encodings = self._tokenizer.encode_batch_fast(
            [TEXT_MARKER + piece for piece in pieces], add_special_tokens=False
        )
        return [encoding.ids[1:] for encoding in encodings]

    def _without_special_ids(self, ids: TokenIds) -> TokenIds:
        # A normaliser may turn other characters (full-width ones, say) into a special token after
        # the search above, and a Unigram vocabulary holds "</s>" as an ordinary piece.
        if self._special_ids.isdisjoint(ids):
            return ids
        kept: TokenIds = []
        for token in ids:
            kept.extend(self._substitute if token in self._special_ids else [token])
        return kept


@dataclass(frozen=True)
class PromptComposer:
    """Arranges the pieces of a uni-encoder prompt within a length.

    Parameters
    ----------
    tokenizer : PieceTokenizer
        Supplies the ids around a whole sequence.
    label_id, text_id : int
        The ids of ``<<LABEL>>`` and ``<<SEP>>``.
    prompt_first : bool
        Whether the labels come before the text, as the checkpoint was trained.
    max_length : int
        The longest prompt in tokens.
    """

    tokenizer: PieceTokenizer
    label_id: int
    text_id: int
    prompt_first: bool
    max_length: int

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give the ids of each label with its marker."""
        pieces = self.tokenizer.encode(label_texts, after_marker=True)
        return [[self.label_id, *ids] for ids in pieces]

    def encode_texts(self, texts: Sequence[str], task_description: str = "") -> list[TokenIds]:
        """Give the ids of each text, with the task description where it directly precedes it."""
        if self.prompt_first and task_description:
            texts = [task_description + text for text in texts]
        return self.tokenizer.encode(texts, after_marker=self.prompt_first)

    def encode_task(self, task_description: str) -> TokenIds:
        """Give the ids of the task description where it stands apart from the text."""
        if self.prompt_first or not task_description:
            return []
        return self.tokenizer.encode([task_description], after_marker=True)[0]

    def frame_length(self) -> int:
        """Count the tokens that every prompt has besides labels, task and text."""
        return len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1

    def text_budget(self, label_ids: Iterable[TokenIds], task_length: int = 0) -> int:
        """Count the tokens that the labels leave for the text."""
        return self.max_length - self.frame_length() - sum(map(len, label_ids)) - task_length

    def split_labels(
        self, label_ids: Sequence[TokenIds], label_texts: Sequence[str], task_length: int = 0
    ) -> list[range]:
        """Divide a label set over as many passes as its length needs.

        A quarter of the prompt is kept for the text, so that the labels of one pass fill at most
        three quarters. The division depends on the labels alone, never on a text, and its parts
        are of similar length.

        Parameters
        ----------
        label_ids : sequence of list of int
            The ids of each label with its marker.
        label_texts : sequence of str
            The label texts, for the error.
        task_length : int, default=0
            The tokens of a task description that stands apart from the text.

        Returns
        -------
        list of range
            The positions of the labels of each pass, in order.

        Raises
        ------
        ValueError
            If a label alone is longer than the room for labels.
        """
        room = self.max_length - self.frame_length() - task_length - self.max_length // 4
        lengths = [len(ids) for ids in label_ids]
        for text, length in zip(label_texts, lengths, strict=True):
            if length > room:
                raise ValueError(
                    f"The label {_shorten(text)!r} has {length - 1} tokens; at most {room - 1} fit "
                    f"in a prompt of max_length={self.max_length}. Shorten the label text, or "
                    "raise max_length if the model allows it."
                )
        n_passes = len(_greedy_split(lengths, room))
        if n_passes == 1:
            return [range(len(lengths))]
        return _balanced_split(lengths, room, n_passes)

    def compose(
        self, label_ids: Iterable[TokenIds], text_ids: TokenIds, task: Sequence[int] = ()
    ) -> TokenIds:
        """Put one prompt together; `text_ids` must fit in :meth:`text_budget`."""
        labels = [token for ids in label_ids for token in ids]
        middle = (
            [*labels, self.text_id, *text_ids]
            if self.prompt_first
            else [*text_ids, *labels, self.text_id, *task]
        )
        return [*self.tokenizer.prefix, *middle, *self.tokenizer.suffix]


def _template_ids(tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Find what the post-processor puts around a sequence."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    mask, ids = encoding.special_tokens_mask, encoding.ids
    body = [i for i, special in enumerate(mask) if not special]
    if not body:
        return ids, []
    return ids[: body[0]], ids[body[-1] + 1 :]


def _special_tokens(tokenizer: Tokenizer, framing: Iterable[int]) -> dict[int, str]:
    special = {
        index: token.content
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.special or token.content in MARKERS
    }
    special.update((index, tokenizer.id_to_token(index) or "") for index in framing)
    return {index: content for index, content in special.items() if content}


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    if name is not None:
        return tokenizer.token_to_id(name)
    return next((i for i in map(tokenizer.token_to_id, ("<unk>", "[UNK]")) if i is not None), None)


def _break_up(piece: str, pattern: re.Pattern[str]) -> list[str]:
    """Cut a piece inside each special token it spells, until none is left in any part."""
    fragments, start = [], 0
    while match := pattern.search(piece, start):
        fragments.append(piece[start : match.start() + 1])
        start = match.start() + 1
    fragments.append(piece[start:])
    return fragments


def _greedy_split(lengths: Sequence[int], room: int) -> list[range]:
    parts, start, used = [], 0, 0
    for i, length in enumerate(lengths):
        if used + length > room:
            parts.append(range(start, i))
            start, used = i, 0
        used += length
    return [*parts, range(start, len(lengths))]


def _balanced_split(lengths: Sequence[int], room: int, n_parts: int) -> list[range]:
    """Lower the room as far as the number of parts allows, so that the last is not a remnant."""
    low, high = max(max(lengths), sum(lengths) // n_parts), room
    while low < high:
        middle = (low + high) // 2
        if len(_greedy_split(lengths, middle)) <= n_parts:
            high = middle
        else:
            low = middle + 1
    return _greedy_split(lengths, high)


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
