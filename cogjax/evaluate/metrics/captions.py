"""Likeness of captions: BLEU-4, ROUGE-L and METEOR's skeleton, in [0, 1].

All take tokens: one list an image, and a list for each of its references. `tokenise`
splits English words and Chinese characters; published values use the tokens of the Penn
Treebank, which differ in rare cases ("cannot" is two, "&" is one).
CIDEr is in `cider.py`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cogjax.errors import UserError

Tokens = Sequence[str]

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = rf"[^\W_{_HAN}]"
# Words keep hyphens and apostrophes inside, numbers their points.
_TOKEN = re.compile(
    rf"[{_HAN}]|(?<= )'(?:s|m|d|ll|re|ve)\b|"
    rf"{_WORD}+(?:['-]{_WORD}+|(?<=\d)[.,:](?=\d){_WORD}+)*"
)
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))\b")
_BETA = 1.2


def tokenise(caption: str) -> list[str]:
    """ "A cat's T-shirt, 红色的" -> ["a", "cat", "'s", "t-shirt", "红", "色", "的"].

    Lower case and full-width letters made narrow (NFKC); words and numbers, "'s" and
    "n't" apart as in the Penn Treebank, each Chinese character alone, no punctuation.
    """
    caption = unicodedata.normalize("NFKC", caption).lower().replace("\u2019", "'")
    return _TOKEN.findall(_CLITIC.sub(r" \1", caption))


def ngrams(tokens: Tokens, n: int) -> Counter:
    """How often each run of n tokens occurs."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], order: int = 4
) -> float:
    """BLEU of a corpus (Papineni et al. 2002), no smoothing: BLEU-4 unless told.

    exp(min(0, 1 - r/c)) times the geometric mean of the clipped n-gram precisions, all
    counts summed over the corpus; r sums the reference lengths nearest to each
    candidate's, the shorter one of two. 0 where no n-gram of some length is right.
    """
    check_corpus(candidates, references)
    right, total = np.zeros(order), np.zeros(order)
    length, reference_length = 0, 0
    for candidate, own in zip(candidates, references, strict=True):
        length += len(candidate)
        lengths = [(abs(len(r) - len(candidate)), len(r)) for r in own]
        reference_length += min(lengths)[1]
        for n in range(1, order + 1):
            counts = ngrams(candidate, n)
            # The union of counters keeps the largest count of each n-gram.
            most = Counter()
            for reference in own:
                most |= ngrams(reference, n)
            right[n - 1] += (counts & most).total()
            total[n - 1] += counts.total()
    if not right.all():
        return 0.0
    penalty = min(0.0, 1 - reference_length / length)
    return float(np.exp(penalty + np.mean(np.log(right / total))))


def rouge_l(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> np.ndarray:
    """ROUGE-L of each image [n], by the longest common subsequence, beta 1.2.

    As COCO's: precision and recall are each the best over the references, then joined.
    """
    check_corpus(candidates, references)
    scores = []
    for candidate, own in zip(candidates, references, strict=True):
        common = [_longest_common(candidate, reference) for reference in own]
        precision = max(common) / max(len(candidate), 1)
        recall = max(c / len(r) for c, r in zip(common, own, strict=True))
        weighted = recall + _BETA**2 * precision
        scores.append((1 + _BETA**2) * precision * recall / weighted if weighted else 0)
    return np.array(scores, np.float64)


def meteor_exact(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> np.ndarray:
    """METEOR with its exact matcher only, of each image [n]: not METEOR.

    The best over references of F (1 - 0.5 (chunks / matches)^3), F = P R / (0.9 P +
    0.1 R): the parameters of Banerjee and Lavie 2005. No stems, synonyms, paraphrases
    or weights of function words, so its values are lower. Chunks, runs that are matched
    in one piece, are picked longest first: as few as possible but for rare ties.
    """
    check_corpus(candidates, references)
    return np.array(
        [
            max(_meteor(candidate, reference) for reference in own)
            for candidate, own in zip(candidates, references, strict=True)
        ]
    )


def check_corpus(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> None:
    """UserError unless each candidate has references, none of them empty, as tokens."""
    if len(candidates) != len(references) or not candidates:
        raise UserError(
            f"as many captions as sets of references are needed, got {len(candidates)} "
            f"and {len(references)}"
        )
    for i, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        if (
            isinstance(candidate, str)
            or isinstance(own, str)
            or any(isinstance(reference, str) for reference in own)
        ):
            raise UserError(f"caption {i} is text: tokens expected, see tokenise")
        if not own or not all(own):
            raise UserError(f"caption {i} has no reference, or one without words")


def _longest_common(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for token in a:
        before = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = before + 1 if token == other else max(above, row[j - 1])
            before = above
    return row[-1]


def _meteor(candidate: Tokens, reference: Tokens) -> float:
    runs = _common_runs(list(candidate), list(reference))
    matches = sum(runs)
    if not matches:
        return 0.0
    precision, recall = matches / len(candidate), matches / len(reference)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    penalty = 0.5 * (len(runs) / matches) ** 3
    # A caption that is its reference is in one piece: METEOR 1.5 takes no penalty.
    return 1.0 if runs == [len(candidate)] == [len(reference)] else mean * (1 - penalty)


def _common_runs(a: list, b: list) -> list[int]:
    """Lengths of common runs of tokens, longest first, until no token is common."""
    runs = []
    while True:
        length, i, j = _longest_run(a, b)
        if not length:
            return runs
        runs.append(length)
        # Used tokens equal nothing, and runs do not reach across them.
        a[i : i + length] = [None] * length
        b[j : j + length] = [None] * length


def _longest_run(a: list, b: list) -> tuple[int, int, int]:
    """Length and places of the first longest common run of tokens that are unused."""
    best = (0, 0, 0)
    row = [0] * (len(b) + 1)
    for i, token in enumerate(a):
        # From the right, so that row[j] is still that of the token before.
        for j in range(len(b) - 1, -1, -1):
            same = token is not None and token == b[j]
            row[j + 1] = row[j] + 1 if same else 0
            if row[j + 1] > best[0]:
                best = (row[j + 1], i + 1 - row[j + 1], j + 1 - row[j + 1])
    return best
