"""CogView's transformer, and the same with ERNIE-ViLG's masks and positions.

    x = token_embedding[ids] + places
    h = x + LN3(Attn(LN1(x)))        x = h + LN4(MLP(LN2(h)))        a layer
    logits = LN(x) token_embedding^T

CogView (Ding et al. 2021), sections 2.1, 2.3, 2.4 and the release; DALL-E (Ramesh et
al. 2021), appendix B; ERNIE-ViLG (Zhang et al. 2021), section 3.1. Parameters are
nested dicts under cogjax's names, those of layers stacked on a first axis.

Start values: normal, 0.02; the output projections of both branches 0.02 / sqrt(2 L);
biases 0, scales 1. Shrinking by alpha: e = alpha e + (1 - alpha) constant(e) has the
value of e, so with a tied table the loss's gradient is

    d loss / d table = alpha (by way of e) + (by way of the logits)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.reference.numeric import Array, gelu, layer_norm, log_softmax

START_STD = 0.02


def output_std(depth: int) -> float:
    """Deviation of the start values of `attn_out` and `mlp_out`."""
    return START_STD / np.sqrt(2 * depth)


@dataclass(frozen=True)
class Form:
    """sandwich: LN3 and LN4 are there. relaxed: what max|x| is taken over.

    CogView divides by max|x| / 8 before it takes LayerNorm: of the "tensor" in the
    release, of each "token" in cogjax; "none" does not. That is an epsilon.
    """

    sandwich: bool = True
    relaxed: str = "token"

    def norm(self, x: Array, params: dict) -> Array:
        """x: [b, t, d]."""
        epsilon = 1e-5
        if self.relaxed != "none":
            axis = None if self.relaxed == "tensor" else -1
            epsilon = epsilon * np.abs(x).max(axis, keepdims=True) ** 2 / 64
        return layer_norm(x, params["scale"], params["bias"], epsilon)


def attend(x: Array, params: dict, sees: Array) -> Array:
    """x [b, t, d] -> [b, t, d], before projection.

    sees: [t, t] or [b, t, t], of a query and a key: bool, or what is added to the
    score, -inf where it is unseen.
    """
    weight, bias = params["kernel"], params["bias"]  # [d, 3, n, h], [3, n, h]
    probs = attention_weights(x, params, sees)
    values = [x @ weight[:, 2, n] + bias[2, n] for n in range(weight.shape[2])]
    heads = [probs[:, n] @ value for n, value in enumerate(values)]
    return np.concatenate(heads, axis=-1)


def attention_weights(x: Array, params: dict, sees: Array) -> Array:
    """As `attend`: [b, n, t, t] (query, key), 1 over a row."""
    weight, bias = params["kernel"], params["bias"]
    heads = []
    for head in range(weight.shape[2]):
        query, key = (x @ weight[:, i, head] + bias[i, head] for i in range(2))
        scores = query @ key.swapaxes(1, 2) / np.sqrt(weight.shape[3])
        seen = np.where(sees, 0, -np.inf) if sees.dtype == bool else sees
        heads.append(np.exp(log_softmax(scores + seen)))
    return np.stack(heads, axis=1)


def linear(x: Array, params: dict) -> Array:
    """All axes of the kernel but the last are inputs."""
    return x @ params["kernel"].reshape(x.shape[-1], -1) + params["bias"]


def block(x: Array, params: dict, sees: Array, form: Form) -> Array:
    """One layer: [b, t, d] -> [b, t, d]."""
    a = attend(form.norm(x, params["pre_attn_norm"]), params["qkv"], sees)
    a = linear(a, params["attn_out"])
    h = x + (form.norm(a, params["post_attn_norm"]) if form.sandwich else a)
    m = gelu(linear(form.norm(h, params["pre_mlp_norm"]), params["mlp_in"]))
    m = linear(m, params["mlp_out"])
    return h + (form.norm(m, params["post_mlp_norm"]) if form.sandwich else m)


def embed(params: dict, ids: Array, positions: Array) -> Array:
    """int [b, t] -> [b, t, d].

    One table of positions; or, where there are rows and columns, text has one and code
    k, at position k behind all of the text's, its row's and its column's.
    """
    places = params["position_embedding"]
    if "row_embedding" in params:
        rows, columns = params["row_embedding"], params["column_embedding"]
        codes = [row + column for row in rows for column in columns]
        places = np.concatenate([places, codes])
    return params["token_embedding"][ids] + places[positions]


def layer_of(params: dict, i: int) -> dict:
    """Parameters of one layer."""
    return {
        name: {key: leaf[i] for key, leaf in part.items()}
        for name, part in params["blocks"]["layers"].items()
    }


def transformer(
    params: dict, embedded: Array, sees: Iterable[Array], form: Form
) -> Array:
    """[b, t, d] -> the states that logits are made of; sees: a mask for each layer."""
    x = embedded
    for i, mask in enumerate(sees):
        x = block(x, layer_of(params, i), mask, form)
    return form.norm(x, params["final_norm"])


def all_weights(
    params: dict, embedded: Array, sees: Iterable[Array], form: Form
) -> Array:
    """As `transformer`: the attention weights of each layer, [l, b, n, t, t]."""
    x, found = embedded, []
    for i, mask in enumerate(sees):
        layer = layer_of(params, i)
        normed = form.norm(x, layer["pre_attn_norm"])
        found.append(attention_weights(normed, layer["qkv"], mask))
        x = block(x, layer, mask, form)
    return np.stack(found)


def logits(
    params: dict, ids: Array, positions: Array, sees: Iterable[Array], form: Form
) -> Array:
    """int [b, t] -> [b, t, v], with the tied head."""
    ids, positions = np.asarray(ids), np.asarray(positions)
    x = transformer(params, embed(params, ids, positions), sees, form)
    return x @ params["token_embedding"].T


def next_token_losses(
    logits: Array, ids: Sequence[int], start: int = 0, stop: int | None = None
) -> Array:
    """-log p of each next token: logits [t - 1, v], ids [t] -> [t - 1].

    Only the ids from `start` to `stop` compete; any other gets an infinite loss.
    """
    among = np.full_like(logits, -np.inf)
    among[:, start:stop] = logits[:, start:stop]
    return -log_softmax(among)[np.arange(len(ids) - 1), ids[1:]]


def causal(length: int) -> Array:
    """bool [t, t]: query, key."""
    return np.tri(length, dtype=bool)


def window_sees(
    length: int, size: int, times: int, pivots: Iterable[int], bonus: float
):
    """[t, t] that is added to scores: 0 in the window, the bonus at pivots before it.

    CogView's release: a block of `size` queries sees the last `times` blocks up to
    itself, and of what is before these the pivots.
    """
    added = np.full((length, length), -np.inf)
    for query in range(length):
        for key in range(query + 1):
            blocks_between = query // size - key // size
            if blocks_between < times:
                added[query, key] = 0
            elif key in pivots:
                added[query, key] = bonus
    return added


def image_keys(kind: str, width: int, radius: int, *, causal: bool = True) -> Array:
    """bool [m, m] of the width x width codes: keys of each query, listed.

    "row" is DALL-E's, over the start of the row; "own row" ERNIE-ViLG's. "conv" are
    windows of the flat sequence, 2 radius + 1 to a side.
    """
    count = width**2
    sees = np.zeros((count, count), bool)
    near = range(-radius, radius + 1)
    for query in range(count):
        start = query // width * width
        keys = {
            "full": range(count),
            "row": range(query - width, query + width + 1),
            "own row": range(start, start + width),
            "column": range(query % width, count, width),
            "conv": [
                query + width * down + right
                for down in near
                for right in near
                if not causal or down <= 0
            ],
        }[kind]
        last = query if causal else count - 1
        sees[query, [key for key in keys if 0 <= key <= last]] = True
    return sees


def drawing_sees(num_text: int, image: Array, *, text_causal: bool) -> Array:
    """Text, then codes: these see all text, and each other as `image` says."""
    text = causal(num_text) if text_causal else np.ones((num_text, num_text), bool)
    ahead = np.zeros((num_text, len(image)), bool)
    return np.block([[text, ahead], [np.ones_like(ahead.T), image]])


def reading_sees(image: Array, num_text: int, num_question: int = 0) -> Array:
    """Codes, which see each other, then text, which sees them and what is before it.

    The first `num_question` positions of text are a question: seen by all text.
    """
    text = causal(num_text)
    text[:, :num_question] = True
    ahead = np.zeros((len(image), num_text), bool)
    return np.block([[image, ahead], [np.ones_like(ahead.T), text]])


@dataclass(frozen=True)
class Ids:
    """Codes, then pieces of text, then 27 commands; rows of tables in 128s."""

    num_codes: int
    num_pieces: int

    def command(self, name: str) -> int:
        """CogView's order; commands without a use here are left out."""
        places = {"PAD": 0, "BOI1": 1, "EOI1": 4, "ROI1": 7, "SEP": 10, "BASE": 16}
        return self.num_codes + self.num_pieces + places[name]

    def text(self, pieces: Sequence[int]) -> list[int]:
        """Ids of pieces."""
        return [self.num_codes + int(piece) for piece in pieces]

    @property
    def end(self) -> int:
        """Behind the last id in use."""
        return self.num_codes + self.num_pieces + 27

    @property
    def rows(self) -> int:
        """Rows of the table of ids."""
        return int(np.ceil(self.end / 128)) * 128

    def cogview_drawing(self, pieces, codes) -> list[int]:
        """[ROI1] text [BASE] [BOI1] codes [EOI1]: all but the first are predicted."""
        before = [self.command("ROI1"), *self.text(pieces)]
        before += [self.command("BASE"), self.command("BOI1")]
        return [*before, *codes, self.command("EOI1")]

    def cogview_reading(self, pieces, codes) -> list[int]:
        """[BASE] [BOI1] codes [EOI1] [ROI1] text [SEP]: predicted behind [ROI1]."""
        before = [self.command("BASE"), self.command("BOI1"), *codes]
        before += [self.command("EOI1"), self.command("ROI1")]
        return [*before, *self.text(pieces), self.command("SEP")]

    def cogview_positions(self, ids: Sequence[int], codes_at: int = 0) -> list[int]:
        """As they come; or codes from `codes_at` on, the others without them."""
        if not codes_at:
            return list(range(len(ids)))
        code, other = iter(range(codes_at, len(ids) + codes_at)), iter(range(len(ids)))
        return [next(code if i < self.num_codes else other) for i in ids]

    def ernie_drawing(self, pieces, codes, codes_at: int) -> tuple[list, list]:
        """text [BOI1] | codes, and positions: text from 1, the command 0."""
        ids = [*self.text(pieces), self.command("BOI1"), *codes]
        places = [*range(1, len(pieces) + 1), 0]
        return ids, [*places, *range(codes_at, codes_at + len(codes))]

    def ernie_reading(
        self, pieces, codes, codes_at: int, question: Sequence[int] = ()
    ) -> tuple[list, list]:
        """codes question [ROI1] | text [SEP], and positions of all but the last.

        The question and the text are both counted from 1, the command is at 0.
        """
        ids = [*codes, *self.text(question), self.command("ROI1")]
        ids += [*self.text(pieces), self.command("SEP")]
        places = [*range(codes_at, codes_at + len(codes))]
        places += [*range(1, len(question) + 1), 0]
        return ids, [*places, *range(1, len(pieces) + 1)]
