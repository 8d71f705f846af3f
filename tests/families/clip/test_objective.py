"""The contrastive objective: one batch on one device or four, and what it learns."""

import jax
import numpy as np
import pytest

from cogjax.families.clip.objective import ContrastiveTask
from cogjax.models.clip import ClipConfig
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, place_batch
from tests.programs import random_params

CONFIG = ClipConfig(16, 8, 64, 2, 16, 64, text_depth=1, text_len=6, vocab_size=20)
TASK = ContrastiveTask(CONFIG)
RNG = np.random.default_rng(0)
IDS = np.concatenate(
    [np.full((8, 1), 18), RNG.integers(0, 18, (8, 4)), np.full((8, 1), 19)], 1
).astype(np.int32)
IDS[5] = IDS[2]  # on another device
BATCH = {"image": RNG.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8), "ids": IDS}


@pytest.fixture(scope="module")
def params():
    return random_params(TASK.model, np.float32(BATCH["image"]), BATCH["ids"], std=0.1)


def value_and_gradients(params, batch):
    found = jax.value_and_grad(TASK.loss, has_aux=True)(params, {}, batch, None)
    return found[0][0], found[0][1][1], found[1]


@pytest.fixture(scope="module")
def one(params):
    return jax.jit(value_and_gradients)(params, BATCH)


def test_four_devices_have_the_gradients_of_one(params, one):
    """Each device's captions compete with those of all others."""
    mesh = make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4])
    places = (None, batch_sharding(mesh))
    with jax.set_mesh(mesh):
        run = jax.jit(value_and_gradients, in_shardings=places)
        many = run(params, place_batch(BATCH, mesh))
    for want, got in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(one[2])) > 1e-2


def test_loss_is_that_of_the_logits(params, one):
    """Float64 from the network's own logits, repeated captions right for each other."""
    apply = jax.jit(lambda p, images, ids: TASK.model.apply({"params": p}, images, ids))
    images = np.float32(BATCH["image"]) / 127.5 - 1
    logits = np.asarray(apply(params, images, IDS), np.float64)
    same = (IDS[:, None] == IDS[None]).all(-1)
    assert same.sum() == 10
    chance = np.exp(logits)
    of_images = np.log(chance / chance.sum(1, keepdims=True))
    of_texts = np.log(chance / chance.sum(0, keepdims=True))
    wanted = same / same.sum(1, keepdims=True)
    want = -(wanted * (of_images + of_texts)).sum() / 16
    assert float(one[0]) == pytest.approx(want, 1e-5)
    hits = [same[i, row.argmax()] for i, row in enumerate(logits)]
    assert float(one[1]["image_to_text"]) == np.mean(hits)
    hits = [same[i, row.argmax()] for i, row in enumerate(logits.T)]
    assert float(one[1]["text_to_image"]) == np.mean(hits)


def test_a_run_starts_at_the_scale_and_size_of_the_paper():
    params, state = jax.jit(TASK.init)(jax.random.key(0))
    assert state == {}
    assert float(np.exp(params["logit_scale"])) == pytest.approx(1 / 0.07, 1e-5)
    kernel = np.asarray(params["visual"]["blocks"]["layers"]["c_proj"]["kernel"])
    assert kernel.std() == pytest.approx((2 * 2 * 64) ** -0.5, rel=0.05)
    assert np.asarray(params["text"]["token_embedding"]["embedding"]).std() > 0.015
