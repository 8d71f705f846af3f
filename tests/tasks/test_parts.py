"""Parts of a batch give what the whole batch gives, however unequal its texts are."""

import types

import jax
import numpy as np
import optax
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview.layout import Layout
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.tasks.lm import LMTask
from cogjax.train import loop
from cogjax.train.step import init_state, make_train_step

RNG = np.random.default_rng(0)
VOCAB, CODES = Vocab(24, 20), RNG.integers(0, 24, (8, 16))
# Every second is short: two of the four parts of a batch weigh 6 of the texts, two 14.
TEXTS = [RNG.integers(0, 20, 2 if i % 2 else 6) for i in range(8)]
PAIRS = list(zip(TEXTS, CODES, strict=True))


def reading():
    """CogView's objective on image to text, whose loss is of the texts alone."""
    layout = Layout(VOCAB, text_len=6, image_len=16)
    rows = [layout.image_to_text(*pair) for pair in PAIRS]
    ids, weights = (np.stack(each) for each in zip(*rows, strict=True))
    config = ImageLMConfig(
        vocab_size=128,
        width=16,
        depth=1,
        heads=2,
        mlp_dim=32,
        max_positions=layout.length,
        dropout=0.0,
    )
    task = LMTask(config, num_codes=24)
    return task, {"ids": ids, "weights": weights}


def two_way():
    """ERNIE-ViLG's with questions; the answers of every second picture are long."""
    layout = TwoWayLayout(VOCAB, text_len=6, image_len=16)
    settings = ernie_vilg.TransformerConfig(
        width=16, depth=1, heads=2, dropout=0.0, text_len=6, kernel=3
    )
    task = TwoWayTask(ernie_vilg.make_transformer(settings, layout), VOCAB)
    answers = [[layout.answer(text, text, 5)] for text in TEXTS]
    batch = {
        "to_image": np.stack([layout.text_to_image(*pair) for pair in PAIRS]),
        "to_text": np.stack([layout.image_to_text(*pair)[0] for pair in PAIRS]),
        "asked": CODES.astype(np.int32),
        "answers": np.array(answers),
    }
    return task, batch


TX = optax.sgd(1.0)


@pytest.fixture(scope="module", params=[reading, two_way])
def started(request):
    """(task, batch, the state before the first step)."""
    task, batch = request.param()
    state = jax.jit(lambda key: init_state(task, TX, key))(jax.random.key(0))
    return task, batch, jax.device_get(state)


def norm(tree):
    return np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree)))


def test_accumulation_equals_the_whole_batch(started):
    task, batch, state = started

    def move(parts):
        """(what a step of so many parts adds to the weights, its metrics)."""
        step = make_train_step(
            task, TX, lambda step: 1.0, accumulate=parts, ema_decay=0.9
        )
        new, metrics = jax.device_get(jax.jit(step)(state, batch))
        return jax.tree.map(np.subtract, new.params, state.params), metrics

    (whole, wanted), (moved, metrics) = move(1), move(4)
    error = norm(jax.tree.map(np.subtract, moved, whole))
    assert error < 1e-5 * norm(whole)
    assert metrics.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(metrics[name], wanted[name], rtol=1e-5)


def test_evaluation_of_batches_equals_that_of_all(started):
    task, batch, start = started
    params, state = start.params, start.state
    batches = [jax.tree.map(lambda x, i=i: np.asarray(x[i::2]), batch) for i in (0, 1)]
    rows = []
    logger = types.SimpleNamespace(scalars=lambda step, row: rows.append(row))
    train_state = types.SimpleNamespace(ema=params, state=state)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    loop._make_eval(task, batches, mesh)(1, train_state, logger)
    wanted = jax.jit(task.eval_metrics)(params, state, batch, None)
    assert rows[0].keys() == {f"eval/{name}" for name in wanted}
    for name in wanted:
        np.testing.assert_allclose(rows[0][f"eval/{name}"], wanted[name], rtol=1e-5)
