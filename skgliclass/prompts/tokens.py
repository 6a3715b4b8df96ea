"""Tokenise the pieces that users bring so that they stay data.

The markers of a prompt are token ids that only this package puts there. A piece, whatever
characters it holds, becomes ordinary tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LABEL_MARKER = "<<LABEL>>"
TEXT_MARKER = "<<SEP>>"
EXAMPLE_MARKER = "<<EXAMPLE>>"
MARKERS = (LABEL_MARKER, TEXT_MARKER, EXAMPLE_MARKER)

TokenIds = NDArray[np.int32]
"""The ids of a piece or a sequence."""

NO_TOKENS: TokenIds = np.empty(0, dtype=np.int32)


def add_marker_tokens(tokenizer: Tokenizer) -> None:
    """Give a tokenizer the markers that it lacks, as special tokens."""
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKERS])


class PieceTokenizer:
    """Tokenises the pieces of a prompt so that they stay data.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The tokenizer of the backbone, without truncation and padding.

    Attributes
    ----------
    prefix, suffix : ndarray of int
        What the tokenizer puts before and after a whole sequence, such as ``[CLS]``, ``[SEP]``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.prefix, self.suffix = map(as_token_ids, _template_ids(tokenizer))
        self._has_marker = tokenizer.token_to_id(TEXT_MARKER) is not None
        special = _special_tokens(tokenizer, [*self.prefix.tolist(), *self.suffix.tolist()])
        self._special_tokens = sorted(special.values())
        spelled = "|".join(map(re.escape, self._special_tokens))
        # An empty pattern would match everywhere, this one nowhere.
        self._special_pattern = re.compile(spelled or "(?!)")
        unknown = _unknown_id(tokenizer)
        # The unknown token is the ordinary result of unusual characters, and what replaces the
        # others.
        self._special_ids = frozenset(special) - {unknown}
        self._substitute = [] if unknown is None else [unknown]

    def marker_id(self, marker: str) -> int | None:
        """Give the id of a marker, or None where the tokenizer has none for it."""
        index: int | None = self._tokenizer.token_to_id(marker)
        return index

    def rules(self) -> dict[str, Any]:
        """Give, in terms of JSON, what another program needs to tokenise pieces alike.

        Returns
        -------
        dict
            ``prefix_ids`` and ``suffix_ids`` go around a whole sequence. ``anchor`` is put before a
            piece that follows a marker, and its one id is dropped; None where there is none. A
            piece is cut behind the first character of each of ``special_tokens`` that it spells,
            and ``special_ids`` that still result are replaced by ``substitute_ids``.
        """
        return {
            "prefix_ids": self.prefix.tolist(),
            "suffix_ids": self.suffix.tolist(),
            "anchor": TEXT_MARKER if self._has_marker else None,
            "special_tokens": self._special_tokens,
            "special_ids": sorted(self._special_ids),
            "substitute_ids": self._substitute,
        }

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
        list of ndarray of int
            For a piece without special tokens the ids that tokenising the joined prompt gives.
            A special token written in a piece, such as ``[SEP]``, becomes ordinary characters.
        """
        anchored = after_marker and self._has_marker
        suspects = {i for i, piece in enumerate(pieces) if self._special_pattern.search(piece)}
        plain = pieces
        if suspects:
            plain = ["" if i in suspects else piece for i, piece in enumerate(pieces)]
        encoded = self._encode_plain(plain, anchored)
        for i in suspects:
            # A tokenizer finds special tokens before anything else, so one that is written in a
            # text can only be kept from it by cutting it in two.
            fragments = _break_up(pieces[i], self._special_pattern)
            first, *rest = self._encode_plain(fragments, anchored)
            encoded[i] = first + [token for ids in rest for token in ids]
        return [as_token_ids(self._without_special_ids(ids)) for ids in encoded]

    def _encode_plain(self, pieces: Sequence[str], anchored: bool) -> list[list[int]]:
        if not anchored:
            # The fast variant leaves out the offsets, which nobody here looks at.
            encodings = self._tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
            return [encoding.ids for encoding in encodings]
        # There is no other way to tell a tokenizer that the piece does not begin a sequence. The
        # marker is one token whatever comes after it, so that dropping the first id is safe.
        encodings = self._tokenizer.encode_batch_fast(
            [TEXT_MARKER + piece for piece in pieces], add_special_tokens=False
        )
        return [encoding.ids[1:] for encoding in encodings]

    def _without_special_ids(self, ids: list[int]) -> list[int]:
        # A normaliser may turn other characters (full-width ones, say) into a special token after
        # the search above, and a Unigram vocabulary holds "</s>" as an ordinary piece.
        if self._special_ids.isdisjoint(ids):
            return ids
        plain: list[int] = []
        for token in ids:
            plain.extend(self._substitute if token in self._special_ids else [token])
        return plain


def as_token_ids(ids: Sequence[int]) -> TokenIds:
    """Put ids in an array, of which a part can be taken without copying."""
    return np.array(ids, dtype=np.int32)


def count_tokens(pieces: Sequence[TokenIds]) -> NDArray[np.int64]:
    """Give the length of each piece."""
    return np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))


def _template_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Find what the post-processor puts around a sequence."""
    # Tried out: each kind of post-processor describes in another way what it puts where.
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
        # Some tokenizers know the markers as added tokens that are not special, which are found in
        # a text all the same.
        if token.special or token.content in MARKERS
    }
    # What frames a sequence need not be an added token: a Unigram has "</s>" in its vocabulary.
    special.update((index, tokenizer.id_to_token(index) or "") for index in framing)
    return {index: content for index, content in special.items() if content}


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    if name is not None:
        return tokenizer.token_to_id(name)
    # A Unigram model has an unknown token too, but does not tell it by this attribute.
    return next((i for i in map(tokenizer.token_to_id, ("<unk>", "[UNK]")) if i is not None), None)


def _break_up(piece: str, pattern: re.Pattern[str]) -> list[str]:
    """Cut a piece inside each special token it spells, until none is left in any part."""
    fragments, start = [], 0
    while match := pattern.search(piece, start):
        fragments.append(piece[start : match.start() + 1])
        start = match.start() + 1
    fragments.append(piece[start:])
    return fragments
