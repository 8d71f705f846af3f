"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726): n-grams that matter.

Each caption is four vectors, of its n-grams for n = 1 to 4, by tf-idf; the score is 10
times the mean cosine with its references. An n-gram's document frequency is the number
of images whose references have it. Against gaming, a candidate's counts are clipped at
the reference's and a Gaussian of sigma 6 punishes a difference in length.

COCO's tool prints CIDEr-D under the name CIDEr, and takes for a length the number of
bigrams, which changes no difference of captions with a word in them. Neither it nor we
reduce words to stems, as the paper does.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.captions import Tokens, check_corpus, ngrams

_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0


def cider_d(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> np.ndarray:
    """CIDEr-D of each image, float64 [n] in [0, 10]; the metric is their mean.

    UserError for one image: every n-gram is then in all images, and weighs nothing.
    """
    check_corpus(candidates, references)
    if len(references) < 2:
        raise UserError("CIDEr weighs words by how rare they are: 2 images at least")
    frequencies = Counter()
    for own in references:
        frequencies.update(set().union(*(_grams(reference) for reference in own)))
    most = np.log(len(references))
    rarity = {gram: most - np.log(count) for gram, count in frequencies.items()}

    scores = []
    for candidate, own in zip(candidates, references, strict=True):
        # A gram that no reference has weighs as if one had it.
        weighted = _weigh(candidate, rarity, most)
        each = []
        for reference in own:
            cosine = _cosine(weighted, _weigh(reference, rarity, most))
            step = _length(candidate) - _length(reference)
            penalty = np.exp(-(step**2) / (2 * _SIGMA**2))
            each.append(cosine * penalty)
        scores.append(10 * np.mean(each))
    return np.array(scores)


def _grams(tokens: Tokens) -> Counter:
    """Counts of the n-grams of all orders together."""
    return sum((ngrams(tokens, n) for n in _ORDERS), Counter())


def _weigh(tokens: Tokens, rarity: dict, most: float) -> list[dict]:
    """tf-idf vectors, one an order."""
    return [
        {gram: n * rarity.get(gram, most) for gram, n in ngrams(tokens, order).items()}
        for order in _ORDERS
    ]


def _cosine(left: list[dict], right: list[dict]) -> float:
    """Mean over orders of the cosine, 0 where a vector is; x is clipped at y."""
    total = 0.0
    for x, y in zip(left, right, strict=True):
        norm = np.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
        if norm:
            shared = x.keys() & y.keys()
            dot = sum(min(x[g], y[g]) * y[g] for g in shared)
            total += dot / norm
    return total / len(_ORDERS)


def _length(tokens: Tokens) -> int:
    """Bigrams, as COCO's tool counts."""
    return max(len(tokens) - 1, 0)
