"""Adapters in use: in every task, several at once, of bad files; PEFT's layout."""

import json
import shutil

import jax
import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.adapter import Adapter, Base, load_adapter, save_adapter, with_adapters
from cogjax.errors import UserError
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.model import Component, Model, digest
from cogjax.models.registry import shapes_of
from cogjax.nn.lora import LoRAConfig, init_adapter
from tests.models.test_unet import TINY

CONFIG = LoRAConfig(rank=2, alpha=6.0)
KEEP = np.arange(4)[:, None] < np.array([2] * 4)
PROMPT = "a red apple"


def grown(model, folder, seed, match=(), component="transformer"):
    """Writes an adapter of random A and B; returns its folder and its changes."""
    part, config = model[component], LoRAConfig(2, 6.0, match)
    shapes = jax.eval_shape(
        lambda key: init_adapter(key, part.params, config), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)
    draw = lambda x: np.float32(rng.normal(0, 0.3, x.shape))  # noqa: E731
    changes = jax.tree.map(draw, shapes)
    base = Base(component, digest(part), "the base")
    adapter = Adapter(changes, config, base)
    return save_adapter(adapter, part.params, folder), changes


@pytest.fixture(scope="module")
def adapters(nano_model, tmp_path_factory):
    """Folders of two adapters of the nano model, of all matrices and of one."""
    folder, model = tmp_path_factory.mktemp("adapters"), nano_model.model
    one = grown(model, folder / "one", 1)[0]
    return one, grown(model, folder / "two", 2, ("qkv",))[0]


def kernel(model, name="qkv"):
    return np.float64(model["transformer"].params["blocks"]["layers"][name]["kernel"])


def test_two_adapters_add_up_with_their_weights(nano_model, adapters):
    """In float64: W + w s A B of both; one kernel is changed by the first alone."""
    model = nano_model.model
    found = with_adapters(model, {adapters[0]: 0.5, adapters[1]: -2.0})
    for name in ("qkv", "mlp_in"):
        wanted = kernel(model, name)
        for folder, weight in zip(adapters, (0.5, -2.0), strict=True):
            layers = load_adapter(folder, model).changes["blocks"]["layers"]
            if name in layers:
                a, b = (np.float64(layers[name]["kernel"][each]) for each in "ab")
                wanted = wanted + (weight * 3 * a @ b).reshape(wanted.shape)
        np.testing.assert_allclose(kernel(found, name), wanted, atol=1e-5)
    assert found.card["adapters"] == {"one": 0.5, "two": -2.0}


@pytest.fixture(scope="module", params=["float32", "int8"])
def models(request, nano_folder, adapters, tmp_path_factory):
    """(base, base with an adapter, the same merged and saved) in a weight format."""
    load = lambda *args, **settings: cogjax.load(  # noqa: E731
        *args, weights=request.param, **settings
    )
    used = load(nano_folder, adapters={adapters[0]: 1.0})
    folder = used.save(tmp_path_factory.mktemp("merged") / "model")
    return load(nano_folder), used, load(folder)


def test_every_task_is_the_merged_model_s(models):
    """In-painting, reranked by the adapted model; its captions; scores."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    found = []
    for model in models:
        filled = model.generate(
            PROMPT, 2, seed=3, image=image, keep=KEEP, temperature=1.0, rerank=3
        )
        drawn = model.generate(PROMPT, 2, seed=3, guidance=2.0)
        texts = model.caption([image, filled.pixels[0, 0]])
        scores = model.score([image], [PROMPT])
        found.append((filled, drawn, texts, scores))
    base, used, merged = found
    for place in (0, 1):
        np.testing.assert_array_equal(used[place].codes, merged[place].codes)
        assert (used[place].codes != base[place].codes).any()
    np.testing.assert_allclose(used[0].scores, merged[0].scores, atol=1e-5)
    assert used[2] == merged[2] != base[2]
    np.testing.assert_allclose(used[3], merged[3], atol=1e-5)
    assert abs(used[3] - base[3]) > 1e-3


def test_a_u_net_is_read_back(tmp_path):
    """Convolutions are [r, c, y, x] and [o, r, 1, 1], as in PEFT."""
    shapes = shapes_of(TINY)[0]
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    model = Model("imagen", {"base": Component(TINY, params)})
    folder, changes = grown(model, tmp_path / "unet", 3, component="base")
    found = load_adapter(folder, model)
    jax.tree.map(np.testing.assert_array_equal, found.changes, changes)
    tensors = load_tree(folder / "adapter_model.safetensors")
    one = tensors["base_model.model.base.in.lora_A.weight"]
    a, b = changes["in"]["kernel"]["a"], changes["in"]["kernel"]["b"]
    assert one.shape == (2, 3, 3, 3)
    np.testing.assert_array_equal(one[1, 2, 0, 1], a.reshape(3, 3, 3, 2)[0, 1, 2, 1])
    two = tensors["base_model.model.base.in.lora_B.weight"]
    np.testing.assert_array_equal(two[..., 0, 0], b.T)


def edit(**fields):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def retensor(change):
    """Changes the tensors and keeps their digest true."""

    def changed(folder):
        from cogjax.files import file_sha256

        path = folder / "adapter_model.safetensors"
        tensors = load_tree(path)
        change(tensors)
        save_tree(path, tensors, None)
        edit(weights=file_sha256(path))(folder)

    return changed


def cut(tensors):
    tensors[min(tensors)] = tensors[min(tensors)][:, :-1]


def drop(tensors):
    del tensors[min(tensors)]


def add(tensors):
    tensors["base_model.model.transformer.other.lora_A.weight"] = tensors[min(tensors)]


def spoil(tensors):
    tensors[min(tensors)][0, 0] = np.nan


BAD = [
    (
        lambda folder: (folder / "adapter_config.json").unlink(),
        "no adapter_config.json",
    ),
    (edit(peft_type="LOHA"), "is of no LoRA that cogjax has trained"),
    (edit(r=0), "r is 0, expected 1 or more"),
    (edit(r="x"), "'r' expects a whole number"),
    (edit(lora_alpha=-1), "alpha above 0"),
    (edit(cogjax={"component": "base", "sha256": ""}), "with a base is needed"),
    (edit(cogjax={"component": "tokenizer", "sha256": "0"}), "another tokenizer than"),
    (edit(weights="0"), "has changed since it was written"),
    (retensor(cut), "does not fit blocks/layers/attn_out/kernel"),
    (retensor(drop), "does not fit blocks/layers/attn_out/kernel"),
    (retensor(add), "other.lora_A.weight' changes no weight"),
    (retensor(spoil), "values that are no numbers"),
]


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_a_bad_folder_is_named(damage, message, nano_model, adapters, tmp_path):
    folder = shutil.copytree(adapters[0], tmp_path / "bad")
    damage(folder)
    with pytest.raises(UserError, match=message):
        with_adapters(nano_model.model, {folder: 1.0})


@pytest.mark.parametrize("weight", [float("nan"), 1e9, True, "2"])
def test_a_weight_is_a_number(weight, nano_folder, adapters):
    with pytest.raises(UserError, match="the weight of adapter .* expected a number"):
        cogjax.load(nano_folder, adapters={adapters[0]: weight})


def test_an_adapter_replaces_an_adapter_alone(nano_folder, adapters, tmp_path):
    copy, part = shutil.copytree(adapters[0], tmp_path / "copy"), None
    model = model_folder.load(nano_folder)
    adapter, part = load_adapter(copy, model), model["transformer"]
    with pytest.raises(UserError, match="give --overwrite to replace it"):
        save_adapter(adapter, part.params, copy)
    assert save_adapter(adapter, part.params, copy, overwrite=True) == copy
    with pytest.raises(UserError, match="is not empty and not a LoRA folder"):
        save_adapter(adapter, part.params, nano_folder, overwrite=True)
