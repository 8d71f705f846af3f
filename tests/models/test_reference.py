"""The transformer against its statement in float64 numpy, `tests/reference`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import image_to_text
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.tasks.lm import LMTask
from tests.reference import transformer as reference
from tests.reference.numeric import double, slope, with_leaf

NUM_CODES, NUM_PIECES, GRID, TEXT_LEN, DEPTH = 24, 20, 4, 5, 3
IDS = reference.Ids(NUM_CODES, NUM_PIECES)
VOCAB = Vocab(NUM_CODES, NUM_PIECES)
SMALL = {"width": 16, "depth": DEPTH, "heads": 2, "dropout": 0.0, "text_len": TEXT_LEN}
LAYOUT = Layout(VOCAB, TEXT_LEN, GRID**2)
COGVIEW = cogview.make_transformer(cogview.TransformerConfig(**SMALL), LAYOUT)
TWO_WAY = TwoWayLayout(VOCAB, TEXT_LEN, GRID**2)
CODES_AT = TEXT_LEN + 1
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(0, NUM_PIECES, n).tolist() for n in (5, 2, 3, 0)]
CODES = RNG.integers(0, NUM_CODES, (4, GRID**2)).tolist()
ANSWERS = [RNG.integers(0, NUM_PIECES, n).tolist() for n in (1, 3, 2, 3)]


def ernie(attention, **settings):
    """Network of text to image."""
    form = {"attention": attention, "kernel": 3, **settings}
    return ernie_vilg.make_transformer(
        ernie_vilg.TransformerConfig(**SMALL, **form), TWO_WAY
    )


def random_params(config):
    """Far from the start values, so that every part of the network matters."""
    ids, rng = jnp.zeros((1, 2), jnp.int32), np.random.default_rng(1)
    shapes = jax.eval_shape(ImageLM(config).init, jax.random.key(0), ids, ids)

    def leaf(path, shape):
        middle = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(middle, 0.4, shape.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes["params"])


@pytest.fixture(scope="module")
def params():
    return random_params(COGVIEW)


@pytest.fixture(scope="module")
def ernie_params():
    return random_params(ernie("sparse"))


def without_sandwich(params):
    """Plain pre-norm blocks have these norms less, and nothing else."""
    layers = dict(params["blocks"]["layers"])
    del layers["post_attn_norm"], layers["post_mlp_norm"]
    return {**params, "blocks": {"layers": layers}}


def close(got, want):
    """Rounding of float32 is some 1e-6 of the largest; other formulas are far off."""
    assert float(np.abs(want).max()) > 1
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


# CogView's, DALL-E's and ERNIE-ViLG's.
CAUSAL = [reference.causal(LAYOUT.length - 1)] * DEPTH
RASTER = {
    "kinds": tuple(LayerKind(name, kernel=3) for name in ("row", "column", "conv")),
    "sequence": Sequence.text_to_image(9, (GRID, GRID)),
}


def drawing_masks(kinds, num_text, *, text_causal):
    images = [reference.image_keys(kind, GRID, 1) for kind in kinds]
    form = {"text_causal": text_causal}
    return [reference.drawing_sees(num_text, image, **form) for image in images]


def reading_masks(kinds, num_text, num_question=0):
    images = [reference.image_keys(kind, GRID, 1, causal=False) for kind in kinds]
    return [reference.reading_sees(image, num_text, num_question) for image in images]


SPARSE_MASKS = drawing_masks(("row", "column", "conv"), 9, text_causal=True)


@pytest.mark.parametrize(
    ("settings", "form", "masks"),
    [
        ({}, reference.Form(), CAUSAL),
        ({"norm_scope": "tensor"}, reference.Form(relaxed="tensor"), CAUSAL),
        (
            {"norm_scope": "none", "sandwich": False},
            reference.Form(sandwich=False, relaxed="none"),
            CAUSAL,
        ),
        (RASTER, reference.Form(), SPARSE_MASKS),
    ],
    ids=("cogview", "release", "pre-norm", "sparse"),
)
def test_logits(params, settings, form, masks):
    config = dataclasses.replace(COGVIEW, **settings)
    assert config.vocab_size == IDS.rows
    rng = np.random.default_rng(2)
    ids = rng.integers(0, IDS.rows, (2, len(masks[0])))
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    if not form.sandwich:
        params = without_sandwich(params)
    got, _ = jax.jit(ImageLM(config).apply)({"params": params}, ids, positions)
    close(got, reference.logits(double(params), ids, positions, masks, form))


# Two drawings, of which one has text to spare, and a caption.
EXAMPLES = [
    IDS.cogview_drawing(TEXTS[0], CODES[0]),
    IDS.cogview_drawing(TEXTS[1], CODES[1]),
    IDS.cogview_reading(TEXTS[2], CODES[2]),
]
NUM_SOURCE = (1, 1, GRID**2 + 4)


def cogview_batch():
    """Ids and weights by `families/cogview/layout.py`."""
    rows = [LAYOUT.text_to_image(TEXTS[i], CODES[i]) for i in (0, 1)]
    rows.append(LAYOUT.image_to_text(TEXTS[2], CODES[2]))
    ids, weights = map(np.stack, zip(*rows, strict=True))
    return {"ids": ids, "weights": weights}


def test_cogview_sequences():
    batch = cogview_batch()
    rows = zip(batch["ids"], batch["weights"], EXAMPLES, NUM_SOURCE, strict=True)
    for ids, weights, want, source in rows:
        missing = len(ids) - len(want)
        np.testing.assert_array_equal(ids, want + [IDS.command("PAD")] * missing)
        targets = len(want) - source
        expected = [0] * source + [1] * targets + [0] * missing
        np.testing.assert_array_equal(weights, expected)


def cogview_loss(params, head=None, codes_at=0):
    """Mean over the targets of all examples, in the whole padded vocabulary."""
    total, count = 0.0, 0
    head = params["token_embedding"] if head is None else head
    for ids, source in zip(EXAMPLES, NUM_SOURCE, strict=True):
        places = np.array([IDS.cogview_positions(ids, codes_at)])[:, :-1]
        x = reference.embed(params, np.array([ids])[:, :-1], places)
        masks = [reference.causal(len(ids) - 1)] * DEPTH
        states = reference.transformer(params, x, masks, reference.Form())[0]
        found = reference.next_token_losses(states @ head.T, ids)[source - 1 :]
        total, count = total + found.sum(), count + len(found)
    return total / count


@pytest.mark.parametrize("codes_at", [0, TEXT_LEN + 4], ids=("running", "fixed"))
def test_cogview_loss(params, codes_at):
    task = LMTask(COGVIEW, NUM_CODES, image_start=codes_at)
    metrics = jax.jit(task.eval_metrics)(params, {}, cogview_batch(), None)
    want = cogview_loss(double(params), codes_at=codes_at)
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-5)


def test_gradients_with_a_shrunk_embedding(params):
    """The slope of the loss along a random direction of each parameter; alpha 0.1."""
    task = LMTask(dataclasses.replace(COGVIEW, embedding_gradient=0.1), NUM_CODES)
    gradient = jax.jit(jax.grad(task.loss, has_aux=True))
    grads, _ = gradient(params, {}, cogview_batch(), jax.random.key(0))
    exact, rng = double(params), np.random.default_rng(3)
    head = exact["token_embedding"]
    for path, grad in jax.tree_util.tree_leaves_with_path(double(grads)):
        names = tuple(part.key for part in path)
        at = functools.reduce(dict.__getitem__, names, exact)
        along = rng.normal(size=at.shape) / np.sqrt(at.size)

        def loss(leaf, names=names):
            return cogview_loss(with_leaf(exact, names, leaf), head)

        want = slope(loss, at, along)
        if names[0].endswith("_embedding"):
            want *= 0.1
        if names[0] == "token_embedding":
            want += slope(functools.partial(cogview_loss, exact), head, along)
        got = (grad * along).sum()
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6, err_msg=str(path))


PRE_NORM = reference.Form(sandwich=False, relaxed="none")
KINDS = {"sparse": ("own row", "column", "conv"), "full": ("full",) * DEPTH}


def ernie_example(task, attention, row):
    """(ids, positions, masks, number of source tokens), without any padding."""
    text, codes, kinds = TEXTS[row], CODES[row], KINDS[attention]
    asked = len(text) + 1
    if task == "draw":
        ids, places = IDS.ernie_drawing(text, codes, CODES_AT)
        return ids, places, drawing_masks(kinds, asked, text_causal=False), asked
    if task == "read":
        ids, places = IDS.ernie_reading(text, codes, CODES_AT)
        return ids, places, reading_masks(kinds, asked), GRID**2 + 1
    answer = ANSWERS[row]
    ids, places = IDS.ernie_reading(answer, codes, CODES_AT, text)
    masks = reading_masks(kinds, asked + len(answer), asked)
    return ids, places, masks, GRID**2 + asked


def ernie_batch(task):
    """Padded, of `families/ernie_vilg/layout.py`: (ids, positions, visible)."""
    pad = IDS.command("PAD")
    if task == "draw":
        text, _, places, _ = TWO_WAY.prompts(TEXTS)
        codes_at = np.broadcast_to(CODES_AT + np.arange(GRID**2), (4, GRID**2))
        ids, places = np.hstack([text, CODES]), np.hstack([places, codes_at])
        return ids, places, text != pad
    if task == "read":
        rows = map(TWO_WAY.image_to_text, TEXTS, CODES)
        ids = np.stack([ids[:-1] for ids, _ in rows])
        places = np.broadcast_to(TWO_WAY.reading_positions[:-1], ids.shape)
        return ids, places, None
    text = np.stack(list(map(TWO_WAY.answer, TEXTS, ANSWERS, [3] * 4)))[:, :-1]
    _, _, places, _ = TWO_WAY.question_prompts(TEXTS, np.array(CODES))
    answers_at = np.broadcast_to([1, 2, 3], (4, 3))
    ids, places = np.hstack([CODES, text]), np.hstack([places, answers_at])
    visible = np.hstack([np.ones_like(CODES, bool), text != pad])
    return ids, places, visible


@pytest.mark.parametrize("task", ["draw", "read", "ask"])
def test_ernie_logits(ernie_params, task):
    config = ernie("sparse")
    if task != "draw":
        config = image_to_text(config, *((3, CODES_AT) if task == "ask" else ()))
    ids, places, visible = ernie_batch(task)
    apply = jax.jit(ImageLM(config).apply)
    got, _ = apply({"params": ernie_params}, ids, places, visible=visible)
    exact = double(ernie_params)
    for row in range(4):
        want_ids, want_places, masks, _ = ernie_example(task, "sparse", row)
        count = len(want_places)
        want_ids = want_ids[:count]
        there = np.flatnonzero(ids[row] != IDS.command("PAD"))[:count]
        np.testing.assert_array_equal(ids[row, there], want_ids)
        np.testing.assert_array_equal(places[row, there], want_places)
        args = np.array([want_ids]), np.array([want_places]), masks, PRE_NORM
        close(np.asarray(got)[row, there], reference.logits(exact, *args)[0])


def ernie_loss(params, task):
    """Sum over an example's targets, their mean over the examples."""
    among = (0, NUM_CODES) if task == "draw" else (NUM_CODES, IDS.end)
    total = 0.0
    for row in range(4):
        ids, places, masks, source = ernie_example(task, "full", row)
        count = len(ids) - 1
        masks = [mask[:count, :count] for mask in masks]
        args = np.array([ids[:count]]), np.array([places[:count]]), masks, PRE_NORM
        logits = reference.logits(params, *args)[0]
        total += reference.next_token_losses(logits, ids, *among)[source - 1 :].sum()
    return total / 4


def test_ernie_loss(ernie_params):
    """Sums, not means, in three directions; layers that see all."""
    task = TwoWayTask(ernie("full"), VOCAB, text_weight=2.0, answer_weight=0.5)
    draw = map(TWO_WAY.text_to_image, TEXTS, CODES)
    read = (ids for ids, _ in map(TWO_WAY.image_to_text, TEXTS, CODES))
    ask = map(TWO_WAY.answer, TEXTS, ANSWERS, [3] * 4)
    batch = {
        "to_image": np.stack(list(draw)),
        "to_text": np.stack(list(read)),
        "asked": np.array(CODES),
        "answers": np.stack(list(ask))[:, None],
    }
    metrics = jax.jit(task.eval_metrics)(ernie_params, {}, batch, None)
    exact = double(ernie_params)
    draw, read, ask = (ernie_loss(exact, task) for task in ("draw", "read", "ask"))
    np.testing.assert_allclose(metrics["text_to_image"], draw, rtol=1e-5)
    np.testing.assert_allclose(metrics["image_to_text"], read, rtol=1e-5)
    np.testing.assert_allclose(metrics["answers"], ask, rtol=1e-5)
    want = draw + 2 * read + 0.5 * ask
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-5)


def test_start_values():
    """They are normal with deviation 0.02, and less in what ends a branch."""
    wide = {"width": 64, "mlp_dim": 256, "sandwich": True}
    config = dataclasses.replace(ernie("full"), **wide)
    params, _ = jax.jit(TwoWayTask(config, VOCAB).init)(jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        module, kind = path[-2].key if len(path) > 1 else "", path[-1].key
        if kind in ("bias", "scale"):
            np.testing.assert_array_equal(leaf, float(kind == "scale"))
            continue
        ends = module in ("attn_out", "mlp_out")
        std = reference.output_std(DEPTH) if ends else reference.START_STD
        leaf, error = np.asarray(leaf, np.float64), 4 / np.sqrt(leaf.size)
        np.testing.assert_allclose(leaf.std(), std, rtol=error, err_msg=str(path))
        np.testing.assert_allclose(leaf.mean(), 0, atol=error * std)
        within = (np.abs(leaf) < std).mean()
        np.testing.assert_allclose(within, 0.6827, atol=error, err_msg=str(path))
