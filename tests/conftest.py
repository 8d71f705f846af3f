"""Eight virtual CPU devices for every test; must run before anything imports JAX."""

import collections
import functools
import gc
import importlib.metadata
import os

import pytest

from tests import compile_budget

os.environ["JAX_PLATFORMS"] = "cpu"
COUNTER = compile_budget.Counter()
# How XLA compiles for users, whatever `pytest_configure` chose.
USUAL = {
    "xla_backend_optimization_level": 3,
    "xla_disable_hlo_passes": "",
}
# How it compiles the fast tests: nothing is simplified, and a program is one piece.
FAST = {
    "xla_backend_optimization_level": 0,
    "xla_disable_hlo_passes": "algsimp,cse,reshape-mover,constant_folding",
}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Gone from later versions, and XLA ends the process at a flag it does not know.
    USUAL |= {"xla_cpu_use_fusion_emitters": True}
    USUAL |= {"xla_cpu_parallel_codegen_split_count": 32}
    FAST |= {"xla_cpu_use_fusion_emitters": "false"}
    FAST |= {"xla_cpu_parallel_codegen_split_count": 1}


def _add_flags(**flags):
    """Adds XLA flags to the environment but for those that it sets already."""
    words = os.environ.get("XLA_FLAGS", "").split()
    there = {word.removeprefix("--").split("=")[0] for word in words}
    words += [f"--{name}={value}" for name, value in flags.items() if name not in there]
    os.environ["XLA_FLAGS"] = " ".join(words)


_add_flags(xla_force_host_platform_device_count=8)


def pytest_addoption(parser):
    parser.addoption(
        "--record-compiles",
        action="store_true",
        help="write tests/compile_budget.json for the files of this run",
    )


def pytest_configure(config):
    """Little of what the fast tests compile runs often: optimising it costs more than
    it saves, half to two thirds of all time. And what one has compiled the others
    load, in this run and the next. The slow tests compile as users do.
    """
    if config.option.markexpr != "not slow":
        # Nor do they load from, or add to, what users have compiled.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")
        return
    config.pluginmanager.register(COUNTER)
    # Imports make much and leave no garbage: until `pytest_collection_finish`.
    gc.disable()
    _add_flags(**FAST)
    # Where in Python each operation was called is found out, and written, for nobody.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    if hasattr(config, "cache"):
        compiled = str(config.cache.mkdir("xla"))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def pytest_collection_modifyitems(config, items):
    """Workers take whole files: the long ones first, so that none is left at the end.

    How long is guessed from the programs that a file makes, and its tests.
    """
    if hasattr(config, "workerinput"):
        count = compile_budget.programs()
        tests = collections.Counter(item.path for item in items)
        items.sort(key=lambda x: -count.get(x.path, 0) - tests[x.path] / 2)


def pytest_collection_finish():
    """Modules and tests stay: nothing is gained by looking through them for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def compiles(request):
    """Fails where the fast tests of a file made more programs than they may."""
    if request.config.option.markexpr == "not slow":
        yield from compile_budget.check(request, COUNTER)
    else:
        yield


@pytest.fixture(scope="module")
def one_device(request):
    """Fast trainings from configs have one device in the files that use this: an update
    for eight compiles in a third more time. What is of several has tests of its own,
    tests/test_ernie_vilg.py trains and resumes on eight, and so do the slow trainings.
    """
    if request.config.option.markexpr != "not slow":
        yield
        return
    import jax

    from cogjax.stages import run

    make = functools.partial(run.make_mesh, devices=jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "make_mesh", make)
        yield


@pytest.fixture
def compiled_text():
    """Text of a jitted function for arguments, compiled as for users."""

    def text(function, *args):
        return function.lower(*args).compile(compiler_options=USUAL).as_text()

    return text


@pytest.fixture
def compilations():
    """List that grows by one for every program that XLA compiles or loads."""
    from jax import monitoring

    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration)

    monitoring.register_event_duration_secs_listener(listen)
    yield found
    monitoring.unregister_event_duration_listener(listen)


def make_nano_model(image_size=16, shapes=(), **settings):
    """A TokensPipeline of the nano presets with random weights and 285 text pieces.

    shapes: (rows, columns) of images, whose codes then have rows and columns. settings:
    of the transformer.
    """
    import dataclasses

    import jax
    import jax.numpy as jnp
    import numpy as np

    from cogjax.data.text import TextTokenizer
    from cogjax.families.cogview import presets as cogview
    from cogjax.model import Component, Model
    from cogjax.models.image_lm import ImageLM
    from cogjax.models.vqvae import VQVAE
    from cogjax.pipelines.tokens import TokensPipeline

    rng = np.random.default_rng(0)

    def normal(shape, std=0.1):
        return rng.normal(0, std, shape).astype(np.float32)

    def weights(net, *example):
        # Shapes only: running `init` would compile every layer on its own.
        shapes = jax.eval_shape(net.init, jax.random.key(0), *example)["params"]
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: normal(leaf.shape) + (path[-1].key == "scale"), shapes
        )

    words = "cat apple house flower rocket whale red blue line drawing of a flat icon"
    text = TextTokenizer.train([f"{w} {w}s 猫的线稿" for w in words.split()], 285)
    tokenizer = dataclasses.replace(
        cogview.TOKENIZERS["nano"], image_size=image_size, strides=(2, image_size // 8)
    )
    transformer = dataclasses.replace(
        cogview.TRANSFORMERS["nano"],
        positions="grid" if shapes else "running",
        **settings,
    )
    layout = cogview.make_layout(tokenizer, text.size, transformer, shapes)
    network = cogview.make_transformer(transformer, layout)
    ids = jnp.zeros((1, 2), jnp.int32)
    images = jnp.zeros((1, tokenizer.image_size, tokenizer.image_size, 3))
    codes = weights(VQVAE(tokenizer), images)
    codebook = normal((tokenizer.codebook_size, tokenizer.code_dim), 1.0)
    components = {
        "tokenizer": Component(tokenizer, codes, {"codebook": codebook}),
        "transformer": Component(network, weights(ImageLM(network), ids, ids)),
    }
    card = {"name": "nano", "version": "0"}
    return TokensPipeline(Model("cogview", components, layout, text, card=card))


@pytest.fixture(scope="session")
def nano_model():
    return make_nano_model()


@pytest.fixture(scope="session")
def nano_folder(nano_model, tmp_path_factory):
    """Folder of a saved nano model; copy it before damaging it."""
    return nano_model.save(tmp_path_factory.mktemp("nano"))


@pytest.fixture(scope="session")
def nano_data(tmp_path_factory):
    """Data set of 10 random pictures of 16 px to train on and 2 to hold out."""
    import numpy as np

    from cogjax.data.images import encode_png
    from cogjax.data.records import DatasetBuilder, Example

    out = tmp_path_factory.mktemp("data") / "set"
    rng = np.random.default_rng(0)
    with DatasetBuilder(out, "nano", 16, {"train": 1, "val": 1}) as builder:
        for i in range(12):
            image = encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8))
            captions = (("en", f"a red apple {i}"), ("zh", f"猫 {i}"))
            split = "val" if i >= 10 else "train"
            builder.write(split, Example(str(i), image, captions, {}))
        builder.finish({})
    return out


TOY_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "蓝色": (0, 0, 255)}
TOY_COLOURS |= {"黄色": (255, 255, 0)}


@pytest.fixture(scope="session")
def toy_clip():
    """A ClipPipeline that has learnt to tell plain images of `TOY_COLOURS` apart."""
    import jax
    import numpy as np
    import optax

    from cogjax.data.sequences import bracketed
    from cogjax.data.text import TextTokenizer
    from cogjax.families.clip.objective import ContrastiveTask
    from cogjax.model import Component, Model
    from cogjax.models.clip import ClipConfig
    from cogjax.pipelines.clip import ClipPipeline
    from tests.programs import random_params

    text = TextTokenizer.train([f"{name} {name}" for name in TOY_COLOURS], 277)
    config = ClipConfig(
        16, 8, 64, 1, 16, 64, text_depth=1, text_len=8, vocab_size=text.size + 2
    )
    task, tx = ContrastiveTask(config), optax.adam(1e-2)
    images = np.zeros((4, 16, 16, 3), np.uint8) + np.uint8(
        [[[colour]] for colour in TOY_COLOURS.values()]
    )
    ids = bracketed([text.encode(name) for name in TOY_COLOURS], 8, text.size)
    batch = {"image": images, "ids": ids}
    example = (np.float32(images[:1]), ids[:1])
    params = random_params(task.model, *example, std=0.1)

    @jax.jit
    def step(carry, _):
        params, opt_state = carry
        grads, _ = jax.grad(task.loss, has_aux=True)(params, {}, batch, None)
        updates, opt_state = tx.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    train = jax.jit(
        lambda params: jax.lax.scan(step, (params, tx.init(params)), length=80)
    )
    (params, _), _ = train(params)
    part = Component(config, jax.device_get(params))
    return ClipPipeline(Model("clip", {"clip": part}, text=text, card={"name": "toy"}))


@pytest.fixture(scope="session")
def toy_clip_folder(toy_clip, tmp_path_factory):
    """Folder of the saved `toy_clip`."""
    return toy_clip.save(tmp_path_factory.mktemp("clip"))
