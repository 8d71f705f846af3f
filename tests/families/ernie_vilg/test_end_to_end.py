import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm import ImageLM
from cogjax.models.reconstructor import ReconstructorConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.losses import logit_laplace
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.sampling.tokens.reconstruct import image_states
from cogjax.train.optim import OptimConfig, make_schedule
from cogjax.train.step import init_state, make_train_step

LAYOUT = TwoWayLayout(Vocab(24, 20), text_len=5, image_len=16)
TOKENIZER = VQVAEConfig(image_size=16, widths=(4, 8), strides=(2, 2), code_dim=4)
SETTINGS = ernie_vilg.TransformerConfig(
    width=16, depth=2, heads=2, dropout=0.0, text_len=5, kernel=3
)
RNG = np.random.default_rng(0)
TEXTS = [list(RNG.integers(0, 20, n)) for n in (5, 0, 2, 1, 3, 4, 2, 7)]
CODES = RNG.integers(0, 24, (8, 16))
IMAGES = RNG.integers(0, 256, (8, 16, 16, 3), np.uint8)
MIXTURE = EndToEndConfig(caption_dropout=0.0)
ROWS = [
    MIXTURE.example(LAYOUT, [text], codes, image, RNG)
    for text, codes, image in zip(TEXTS, CODES, IMAGES, strict=True)
]
BATCH = {name: np.stack([row[name] for row in ROWS]) for name in ROWS[0]}
JUDGED = {"disc_weight": 0.5, "disc_layers": 2, "disc_width": 4}
VQGAN = {"reconstructor": ReconstructorConfig("vqgan", width=8), **JUDGED}
SOFTMAX = {"reconstructor": ReconstructorConfig(activation="softmax"), **JUDGED}


@functools.cache
def task(numerics=(), **settings):
    network = ernie_vilg.make_transformer(
        dataclasses.replace(SETTINGS, **dict(numerics)), LAYOUT
    )
    return EndToEndTask(network, LAYOUT.vocab, TOKENIZER, EndToEndConfig(**settings))


@functools.cache
def start(**settings):
    """(random params, state) of the shapes of `init`, which compiles longer."""
    rng = np.random.default_rng(1)
    params, state = jax.eval_shape(task(**settings).init, jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: rng.normal(path[-1].key == "scale", 0.1, x.shape).astype(
            np.float32
        ),
        params,
    )
    return params, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)


@functools.cache
def values_and_gradients(**settings):
    """{metric: value}, {metric: its gradient for all parameters} of the batch.

    One program, of a sum whose weights it is given.
    """
    found, (params, state) = task(**settings), start(**settings)

    @functools.partial(jax.grad, has_aux=True)
    def run(params, weights):
        loss, (_, metrics) = found.loss(params, state, BATCH, jax.random.key(0))
        kept = {name: metrics[name] for name in weights if name != "loss"}
        kept["loss"] = loss
        return sum(weights[name] * kept[name] for name in weights), kept

    names = ["reconstruction", "generation", "loss"]
    names += ["disc_loss"] if "disc_weight" in settings else []
    run, grads = jax.jit(run), {}
    for name in names:
        weights = {other: np.float32(other == name) for other in names}
        grads[name], values = jax.device_get(run(params, weights))
    return values, grads


def gradient(name, **settings):
    return values_and_gradients(**settings)[1][name]


def largest(tree):
    return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


def test_reconstruction_trains_the_transformer_end_to_end():
    grads = gradient("reconstruction")
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads["transformer"]):
        name = jax.tree_util.keystr(path)
        # A key's bias shifts all scores of a query alike, see test_two_way.py.
        assert np.abs(leaf).max() > 1e-9, name
    assert largest(grads["reconstructor"]) > 0


def test_and_leaves_it_alone_in_two_stages():
    grads = gradient("reconstruction", end_to_end=False)
    assert largest(grads["transformer"]) == 0
    assert largest(grads["reconstructor"]) > 0
    # The whole loss then gives the transformer what generation alone gives.
    both, alone = gradient("loss", end_to_end=False), gradient("generation")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        both["transformer"],
        alone["transformer"],
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"pixels": "l2", "reduction": "sum", "weight": 2.0},
        pytest.param({"pixels": "l1", "reduction": "mean"}, marks=pytest.mark.slow),
        pytest.param(
            {
                "pixels": "logit_laplace",
                "reconstructor": ReconstructorConfig("dvae", width=4),
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["l2", "l1", "laplace"],
)
def test_losses_add_up(settings):
    """Against the maps of the reconstructor and numpy, in float64."""
    found = task(**settings)
    params, state = start(**settings)

    def run(params):
        _, states = found.generation.image_outputs(
            params["transformer"], BATCH["to_image"]
        )
        maps = found.reconstructor.apply({"params": params["reconstructor"]}, states)[1]
        if settings["pixels"] != "logit_laplace":
            maps = found.reconstructor.pixels(maps)
        loss, (_, metrics) = found.loss(params, state, BATCH, jax.random.key(0))
        return loss, metrics, maps

    loss, metrics, maps = jax.jit(run)(params)
    maps, images = np.asarray(maps, np.float64), IMAGES / 255
    if settings["pixels"] == "logit_laplace":
        values = logit_laplace(jnp.asarray(images), maps[..., :3], maps[..., 3:])
    else:
        values = abs(maps - images) ** {"l1": 1, "l2": 2}[settings["pixels"]]
    factor = {"sum": 16 * 16 * 3, "mean": 1, "code": 16}
    want = factor[settings.get("reduction", "code")] * np.mean(values)
    np.testing.assert_allclose(metrics["reconstruction"], want, rtol=1e-4)
    generation = metrics["text_to_image"] + metrics["image_to_text"]
    weighted = generation + settings.get("weight", 1.0) * want
    np.testing.assert_allclose(loss, weighted, rtol=1e-5)


@pytest.mark.slow
def test_remat_changes_nothing():
    values, grads = values_and_gradients()
    again, others = values_and_gradients(numerics=(("remat", "nothing_saveable"),))
    np.testing.assert_allclose(again["loss"], values["loss"], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        others["loss"],
        grads["loss"],
    )


@pytest.mark.parametrize("at_codes", [False, True])
def test_training_and_drawing_read_the_same_states(at_codes):
    """States of [BOI1] and the codes before, or of the codes: nothing is lost then."""
    found, params = task(), start()[0]["transformer"]
    _, states = jax.jit(found.generation.image_outputs, static_argnames="at_codes")(
        params, BATCH["to_image"], at_codes=at_codes
    )
    drawn = jax.jit(image_states, static_argnums=0, static_argnames="at_codes")(
        ImageLM(found.model.config),
        params,
        LAYOUT.prompts(TEXTS),
        CODES,
        at_codes=at_codes,
    )
    assert states.shape == (8, 16, 16)
    np.testing.assert_allclose(states, drawn, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [VQGAN, SOFTMAX], ids=["vqgan", "vqvae"])
def test_the_discriminator_is_trained_by_its_own_loss_alone(settings):
    params, state = start(**settings)
    assert int(state["step"]) == 0
    grads = gradient("loss", **settings)
    assert largest(grads["discriminator"]) > 0 and largest(grads["transformer"]) > 0
    assert largest(gradient("reconstruction", **settings)["discriminator"]) == 0
    assert largest(gradient("disc_loss", **settings)["reconstructor"]) == 0


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs reconstructor.kind 'dvae'"):
        EndToEndConfig(pixels="logit_laplace")
    with pytest.raises(ValueError, match="captions is 0, at least 1"):
        EndToEndConfig(captions=0)
    with pytest.raises(ValueError, match="needs .* 'vqvae' or 'vqgan', got 'dvae'"):
        EndToEndConfig(disc_weight=1.0, reconstructor=ReconstructorConfig("dvae"))
    with pytest.raises(ValueError, match="start 'tokenizer' needs .* 'vqvae'"):
        task(start="tokenizer", reconstructor=ReconstructorConfig("dvae"))
    with pytest.raises(ValueError, match="too many for pictures of 16 px"):
        task(**VQGAN | {"disc_layers": 4})


OPTIM = OptimConfig(lr=1e-3, warmup=1)


@functools.cache
def train(sizes, variant):
    """(Weights, losses) of three steps on a mesh of these sizes."""
    settings = VQGAN if variant == "vqgan" else {}
    found = task(numerics=(("remat", "nothing_saveable"),), **settings)
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    schedule = make_schedule(OPTIM, 10)
    # Adam would turn the rounding of gradients that are 0 into whole steps.
    tx = optax.sgd(schedule)
    state = jax.jit(lambda key: init_state(found, tx, key))(jax.random.key(0))
    shardings = tree_shardings(state, mesh, found.param_axes)
    step = jax.jit(
        make_train_step(found, tx, schedule, accumulate=1, ema_decay=0.9),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
    )
    losses = []
    with jax.set_mesh(mesh):
        state = jax.device_put(jax.device_get(state), shardings)
        for _ in range(3):
            state, metrics = step(state, place_batch(jax.device_get(BATCH), mesh))
            losses.append(float(metrics["loss"]))
    return jax.device_get(state.params), losses


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vqvae", "vqgan"])
def test_eight_devices_equal_one(variant):
    params, want = train((1, 1, 1), variant)
    others, got = train((2, 2, 2), variant)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert want[2] < want[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        others,
        params,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("bfloat16", "loss"), ("float16", "loss"), ("float16", "resblock")],
)
def test_sixteen_bits_stay_close(dtype, scale):
    numerics = (("dtype", dtype), ("gradient_scale", scale))
    found = task(numerics=numerics)
    assert found.loss_scale == (dtype == "float16" and scale == "loss")
    params, _ = start()
    _, state = jax.jit(found.init)(jax.random.key(0))

    def run(params):
        return found.loss(params, state, BATCH, jax.random.key(0))[0]

    got, grads = jax.jit(jax.value_and_grad(run))(params)
    want = float(values_and_gradients()[0]["loss"])
    assert abs(float(got) - want) < 0.02 * want
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    after, _ = found.after_gradients(state, grads)
    assert after.keys() == state.keys()
