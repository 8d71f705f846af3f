import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import image_to_text
from cogjax.nn import attention as forms
from cogjax.ops import gradient_scale
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.plan.hlo import traffic
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import init_state, make_train_step

LAYOUT = TwoWayLayout(Vocab(24, 20), text_len=5, image_len=16)
SETTINGS = ernie_vilg.TransformerConfig(
    width=16, depth=3, heads=2, dropout=0.0, text_len=5, kernel=3
)
CONFIG = ernie_vilg.make_transformer(SETTINGS, LAYOUT)
TASK = TwoWayTask(CONFIG, LAYOUT.vocab)
RNG = np.random.default_rng(0)
TEXTS = [list(RNG.integers(0, 20, n)) for n in (5, 0, 2, 1, 3, 4, 2, 7)]
CODES = RNG.integers(0, 24, (8, 16))
BATCH = {
    "to_image": np.stack(
        [LAYOUT.text_to_image(*pair) for pair in zip(TEXTS, CODES, strict=True)]
    ),
    "to_text": np.stack(
        [LAYOUT.image_to_text(*pair)[0] for pair in zip(TEXTS, CODES, strict=True)]
    ),
}
# Programs that several tests run.
IMAGE_LOSSES, TEXT_LOSSES = jax.jit(TASK.image_losses), jax.jit(TASK.text_losses)


@pytest.fixture(scope="module")
def params():
    start, rng = jax.device_get(initial()), np.random.default_rng(1)
    return jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32), start
    )


@functools.cache
def initial():
    return jax.jit(TASK.init)(jax.random.key(0))[0]


@functools.cache
def gradient(**numerics):
    """Jitted ((loss, metrics), gradient) of the whole task."""
    task = TwoWayTask(dataclasses.replace(CONFIG, **numerics), LAYOUT.vocab)

    def loss(params):
        value, (_, metrics) = task.loss(params, {}, BATCH, jax.random.key(0))
        return value, metrics

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def directions(params):
    """(loss, gradient) of each direction's sums."""
    names = "text_to_image", "image_to_text"

    def loss(params, weights):
        metrics = TASK.eval_metrics(params, {}, BATCH, None)
        return sum(weights[i] * metrics[name] for i, name in enumerate(names))

    run = jax.jit(jax.value_and_grad(loss))
    rows = np.eye(2, dtype=np.float32)
    return dict(zip(names, (run(params, row) for row in rows), strict=True))


def nll(logits, ids, start):
    """float64 [t] of ids among logits [t, v] of the ids from `start`."""
    logits = np.asarray(logits, np.float64)
    picked = logits[np.arange(len(ids)), np.asarray(ids) - start]
    return np.log(np.exp(logits).sum(-1)) - picked


def test_loss_is_the_sum_over_both_targets(params):
    """Both by whole logits, one example at a time and without any padding."""
    vocab, total = LAYOUT.vocab, {"text_to_image": 0.0, "image_to_text": 0.0}
    codes_at = 6 + np.arange(16)
    apply = {c: jax.jit(ImageLM(c).apply) for c in (CONFIG, image_to_text(CONFIG))}
    for text, codes in zip(TEXTS, CODES, strict=True):
        pieces = [vocab.text_start + i for i in text[:5]]
        places = 1 + np.arange(len(pieces))
        prompt = LAYOUT.prompts([text])
        ids = np.concatenate([prompt.ids[0], codes])[None]
        places_in = np.concatenate([prompt.positions[0], codes_at])[None]
        visible = np.arange(6) >= prompt.num_padding[:, None]
        logits, _ = apply[CONFIG]({"params": params}, ids, places_in, visible=visible)
        logits = np.asarray(logits)[0, 5:-1, :24]
        total["text_to_image"] += nll(logits, codes, 0).sum()
        # Behind its own end a text is padded to the length of the sequence.
        rest = np.full(5 - len(pieces), vocab.command("[CLS]"))
        ids = np.concatenate([codes, [vocab.command("[ROI1]")], pieces, rest])[None]
        tail = np.zeros(len(rest))
        places_in = np.concatenate([codes_at, [0], places, tail])[None].astype(int)
        logits, _ = apply[image_to_text(CONFIG)](
            {"params": params}, ids.astype(int), places_in
        )
        targets = [*pieces, vocab.command("[SEP]")]
        scored = np.asarray(logits)[0, 16 : 16 + len(targets), 24 : vocab.size]
        total["image_to_text"] += nll(scored, targets, 24).sum()
    metrics = jax.jit(TASK.eval_metrics)(params, {}, BATCH, None)
    for name, value in total.items():
        np.testing.assert_allclose(metrics[name], value / 8, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], sum(total.values()) / 8, rtol=1e-4)
    num_text = sum(min(len(text), 5) + 1 for text in TEXTS)
    per_token = total["text_to_image"] / (8 * 16), total["image_to_text"] / num_text
    np.testing.assert_allclose(metrics["image_loss"], per_token[0], rtol=1e-4)
    np.testing.assert_allclose(metrics["text_loss"], per_token[1], rtol=1e-4)


def test_source_tokens_have_no_loss(params):
    """There are no values for them, and none for what stands behind a text."""
    values = jax.eval_shape(TASK.image_losses, params, BATCH["to_image"])
    assert values.shape == (8, 16)
    values, weights = jax.device_get(TEXT_LOSSES(params, BATCH["to_text"]))
    assert values.shape == weights.shape == (8, 1, 6)
    values, weights = values[:, 0], weights[:, 0]
    np.testing.assert_array_equal(
        weights.sum(1), [min(len(text), 5) + 1 for text in TEXTS]
    )
    # Another token behind the end of a text changes no loss before it.
    other = BATCH["to_text"].copy()
    other[:, -1] = np.where(weights[:, -1] > 0, other[:, -1], 3)
    again, _ = jax.device_get(TEXT_LOSSES(params, other))
    again = (again[:, 0] * weights)[:, :-1]
    np.testing.assert_array_equal(again, (values * weights)[:, :-1])


def test_captions_of_a_picture_see_nothing_of_each_other(params):
    """Three in one sequence have the losses of each alone; their mean counts."""
    codes = BATCH["to_text"][:, :16]
    texts = [np.roll(BATCH["to_text"][:, 16:], k, axis=0) for k in (0, 1, 3)]
    alone = [TEXT_LOSSES(params, np.concatenate([codes, text], 1)) for text in texts]
    ids = np.concatenate([codes, *texts], axis=1)

    @jax.jit
    def run(params):
        _, metrics, _ = TASK.both(params, {**BATCH, "to_text": ids})
        return *TASK.text_losses(params, ids), metrics

    values, weights, metrics = jax.device_get(run(params))
    want, of = (np.concatenate(parts, axis=1) for parts in zip(*alone, strict=True))
    np.testing.assert_array_equal(weights, of)
    np.testing.assert_allclose(values * weights, want * of, atol=1e-5)
    mean = (want * of).sum() / (3 * 8)
    np.testing.assert_allclose(metrics["image_to_text"], mean, rtol=1e-5)


def test_hidden_padding_is_seen_by_no_code(params):
    """The same text where longer ones are allowed: another number of padding slots."""
    wide = dataclasses.replace(LAYOUT, text_len=9)
    settings = dataclasses.replace(SETTINGS, text_len=9)
    task = TwoWayTask(ernie_vilg.make_transformer(settings, wide), wide.vocab)
    rows = [wide.text_to_image(*x) for x in zip(TEXTS, CODES, strict=True)][:7]
    table = np.zeros((10, 16), np.float32)
    table[:6] = params["position_embedding"]
    # Codes follow the longest text by number, their embeddings are the grid's.
    got = jax.jit(task.image_losses)(
        {**params, "position_embedding": table}, np.asarray(rows)
    )
    want = np.asarray(IMAGE_LOSSES(params, BATCH["to_image"]))[:7]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["text_to_image", "image_to_text"])
def test_each_direction_trains_all_parameters(directions, direction):
    _, grads = directions[direction]
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(grads)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        # A key's bias shifts all scores of a query alike: its gradient is rounding.
        assert np.abs(leaf).max() > 1e-3, name


def test_directions_add_up(params, directions):
    parts = jax.device_get(list(directions.values()))
    (both, _), grads = gradient()(params)
    np.testing.assert_allclose(both, parts[0][0] + parts[1][0], rtol=1e-6)
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-3, atol=1e-3),
        parts[0][1],
        parts[1][1],
        grads,
    )


@pytest.mark.slow
def test_remat_changes_nothing(params):
    (want, _), grads = gradient()(params)
    (got, _), again = gradient(remat="nothing_saveable")(params)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        again,
        grads,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_sixteen_bits_stay_close(params, dtype, error):
    (want, _), _ = gradient()(params)
    (got, _), _ = gradient(dtype=dtype)(params)
    assert abs(float(got) - float(want)) < error * float(want)
    task = TwoWayTask(dataclasses.replace(CONFIG, dtype=dtype), LAYOUT.vocab)
    assert task.loss_scale == (dtype == "float16")


@pytest.mark.slow
def test_resblock_scales(params):
    """They change no value, and fall where a gradient is not finite."""
    numerics = {"dtype": "float16", "gradient_scale": "resblock"}
    task = TwoWayTask(dataclasses.replace(CONFIG, **numerics), LAYOUT.vocab)
    assert not task.loss_scale
    state = gradient_scale.start_scales(CONFIG.depth)

    def loss(params):
        return task.loss(params, state, BATCH, jax.random.key(0))

    (got, _), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    (want, _), wanted = gradient()(params)
    np.testing.assert_allclose(got, want, rtol=0.01)
    kernel = [g["blocks"]["layers"]["qkv"]["kernel"] for g in (grads, wanted)]
    scale = float(jnp.abs(kernel[1]).max())
    np.testing.assert_allclose(kernel[0] / scale, kernel[1] / scale, atol=0.05)
    broken = jax.tree.map(lambda g: g, grads)
    broken["blocks"]["layers"]["mlp_in"]["kernel"] = jnp.full_like(
        grads["blocks"]["layers"]["mlp_in"]["kernel"], jnp.inf
    )
    after, searching = task.after_gradients(state, broken)
    assert searching and (after["scale"][:, 1] < state["scale"][:, 1]).all()
    assert (after["scale"][:, 0] > state["scale"][:, 0]).all()


def test_overfits_both_directions_of_one_batch():
    params, run = initial(), gradient()
    tx = optax.adam(3e-2)
    step, rows, moments = jax.jit(tx.update), [], jax.jit(tx.init)(params)
    for _ in range(80):
        (_, metrics), grads = run(params)
        rows.append(metrics)
        updates, moments = step(grads, moments)
        params = jax.tree.map(np.add, params, jax.device_get(updates))
    first, last = rows[0], rows[-1]
    assert first["image_loss"] > 2 and first["text_loss"] > 2
    assert last["image_loss"] < 0.5 and last["text_loss"] < 0.3


OPTIM = OptimConfig(lr=3e-3, warmup=1, clip=0)


def train(sizes, accumulate=1, steps=3):
    """(EMA weights, losses) on a mesh of these sizes; by terms on several devices."""
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    remat = "none" if mesh.size == 1 else "nothing_saveable"
    task = TwoWayTask(dataclasses.replace(CONFIG, remat=remat), LAYOUT.vocab)
    schedule = make_schedule(OPTIM, 10)
    tx = make_optimizer(OPTIM, schedule)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    shardings = tree_shardings(state, mesh, task.param_axes)
    step = jax.jit(
        make_train_step(task, tx, schedule, accumulate=accumulate, ema_decay=0.9),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
    )
    losses = []
    with jax.set_mesh(mesh):
        state = jax.device_put(jax.device_get(state), shardings)
        for _ in range(steps):
            state, metrics = step(state, place_batch(jax.device_get(BATCH), mesh))
            losses.append(float(metrics["loss"]))
    return jax.device_get(state.ema), losses


@functools.cache
def on_one_device():
    return train((1, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "accumulate"), [((2, 2, 2), 1), ((1, 1, 1), 2)], ids=("mesh", "parts")
)
def test_eight_devices_and_parts_of_a_batch_equal_one(sizes, accumulate):
    (ema, want), (others, got) = on_one_device(), train(sizes, accumulate)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert want[-1] < want[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=3e-4),
        others,
        ema,
    )


def test_nothing_of_a_drawing_pass_moves_from_all_to_all():
    """Positions least of all, which XLA would split along the sequence."""
    mesh = make_mesh(MeshConfig(1, 4, 2), jax.devices())
    shapes = jax.eval_shape(TASK.init, jax.random.key(0))[0]
    where = tree_shardings(shapes, mesh, TASK.param_axes), batch_sharding(mesh)
    losses = jax.jit(TASK.image_losses, in_shardings=where)
    with jax.set_mesh(mesh):
        compiled = losses.lower(shapes, BATCH["to_image"]).compile()
    calls = traffic(compiled.as_text()).calls
    assert calls["all-gather"] > 0 and "all-to-all" not in calls


def test_every_table_has_a_rule():
    """At the paper's size tables and kernels are split as their rules say."""
    paper = ernie_vilg.make_transformer(ernie_vilg.TRANSFORMERS["paper"])
    task = TwoWayTask(paper, Vocab(ernie_vilg.NUM_CODES, ernie_vilg.NUM_PIECES))
    shapes = jax.eval_shape(task.init, jax.random.key(0))[0]
    mesh = make_mesh(MeshConfig(2, 2, 2), jax.devices())
    specs = tree_shardings(shapes, mesh, task.param_axes)
    for name in ("token", "position", "row", "column"):
        assert specs[f"{name}_embedding"].spec[-1] == "fsdp"


ASKED = [list(RNG.integers(0, 20, n)) for n in (5, 1, 1, 5)]
ANSWERS = [list(RNG.integers(0, 20, n)) for n in (1, 3, 2, 0)]
# Two questions about each of two pictures.
QUESTIONS = np.stack(
    [LAYOUT.answer(*row, 3) for row in zip(ASKED, ANSWERS, strict=True)]
).reshape(2, 2, -1)
PICTURES = CODES[:2].astype(np.int32)
ANSWER_LOSSES = jax.jit(TASK.answer_losses)


def test_answers_add_their_sums_to_the_loss(params):
    """By whole logits, one question alone at a time and without any padding."""
    vocab, total, count = LAYOUT.vocab, 0.0, 0
    codes_at = 6 + np.arange(16)
    apply = {n: jax.jit(ImageLM(image_to_text(CONFIG, 3, n + 1)).apply) for n in (1, 5)}
    for asked, answer, codes in zip(ASKED, ANSWERS, CODES[[0, 0, 1, 1]], strict=True):
        question, reply = (vocab.text_start + np.array(x, int) for x in (asked, answer))
        # Nobody looks ahead at what fills up an answer.
        rest = [0] * (3 - len(reply))
        ids = [*codes, *question, vocab.command("[ROI1]"), *reply, *rest]
        places = [*codes_at, *(1 + np.arange(len(asked))), 0]
        places += list(1 + np.arange(len(reply))) + rest
        logits, _ = apply[len(asked)](
            {"params": params}, np.array([ids]), np.array([places])
        )
        targets = [*reply, vocab.command("[SEP]")]
        start = 16 + len(asked)
        scored = np.asarray(logits)[0, start : start + len(targets), 24 : vocab.size]
        total += nll(scored, targets, 24).sum()
        count += len(targets)
    task = TwoWayTask(CONFIG, LAYOUT.vocab, text_weight=2.0, answer_weight=0.5)
    pairs = {name: ids[:2] for name, ids in BATCH.items()}
    batch = pairs | {"asked": PICTURES, "answers": QUESTIONS}
    loss, (_, metrics) = jax.device_get(
        jax.jit(task.loss)(params, {}, batch, jax.random.key(0))
    )
    np.testing.assert_allclose(metrics["answers"], total / 2, rtol=1e-4)
    np.testing.assert_allclose(metrics["answer_loss"], total / count, rtol=1e-4)
    both = metrics["text_to_image"] + 2 * metrics["image_to_text"]
    np.testing.assert_allclose(loss, both + 0.5 * metrics["answers"], rtol=1e-5)


def test_terms_add_up_to_the_loss(params):
    """Questions are of image to text; all terms have the dropout of the whole."""
    config = dataclasses.replace(CONFIG, dropout=0.1, remat="nothing_saveable")
    task = TwoWayTask(config, LAYOUT.vocab, text_weight=2.0, answer_weight=0.5)
    pairs = {name: ids[:2] for name, ids in BATCH.items()}
    batch = pairs | {"asked": PICTURES, "answers": QUESTIONS}

    def run(batch):
        loss, (_, metrics) = jax.jit(task.loss)(params, {}, batch, jax.random.key(0))
        return {"loss": loss, **metrics}

    whole, (drawn, told) = run(batch), map(run, task.terms(batch))
    assert whole.keys() == {**drawn, **told}.keys()
    summed = {**drawn, **told, "loss": drawn["loss"] + told["loss"]}
    for name, value in whole.items():
        np.testing.assert_allclose(value, summed[name], rtol=1e-5, err_msg=name)
    assert "text_to_image" in drawn and "answers" in told
    assert TASK.terms(batch) == (batch,)


def test_an_answer_is_right_if_all_of_it_is(params):
    found = ANSWER_LOSSES(params, PICTURES, QUESTIONS)
    first, weights, right = jax.device_get(found)
    np.testing.assert_array_equal(weights.sum(-1), [[2, 4], [3, 1]])
    assert not right[weights > 0].all()
    # Another token behind an end changes no loss before it, but padding is hidden.
    ids = np.where(QUESTIONS == LAYOUT.vocab.command("[PAD]"), 3, QUESTIONS)
    again, _, _ = jax.device_get(ANSWER_LOSSES(params, PICTURES, ids))
    # The first question is as long as it may be: it has no padding before it.
    np.testing.assert_allclose(again[0, 0, :2], first[0, 0, :2], rtol=1e-5)
    assert abs(again[0, 1, 0] - first[0, 1, 0]) > 1e-4


@pytest.mark.slow
def test_the_kernel_of_tpus_on_8_devices(params, monkeypatch):
    """Splash, interpreted: a device has its own sequences and heads, texts padding."""
    (want, metrics), grads = gradient()(params)
    kernel = functools.partial(forms.splash_masked, interpret=True)
    monkeypatch.setattr("cogjax.ops.fused_attention.platform", lambda: "tpu")
    monkeypatch.setattr(forms, "splash_masked", kernel)
    gradient.cache_clear()
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        (got, parts), found = gradient()(params)
    gradient.cache_clear()
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert parts.keys() == metrics.keys()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
