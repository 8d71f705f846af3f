"""LoRA by config: a run, what it leaves behind, and models that use it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.interop.safetensors import load_tree
from cogjax.stages import run as launch

pytestmark = pytest.mark.usefixtures("one_device")

NANO = dataclasses.asdict(cogview.TRANSFORMERS["nano"])
FAST = {"steps": 2, "batch_size": 8, "save_every": 2, "eval_every": 2, "log_every": 1}


def config(path, weights, **sections):
    """Config of a run that learns an adapter of a model."""
    return {
        "task": {"name": "lm"},
        "data": {"path": str(path), "weights": str(weights)},
        "lora": {"rank": 2},
        # One program, however many steps a run has.
        "optim": {"lr": 0.05, "warmup": 1, "schedule": "constant"},
        "train": FAST,
        "eval": {"batches": 1},
        "sample": {"prompts": ("a cat",), "num_images": 1},
    } | sections


@pytest.fixture(scope="module")
def tuned(nano_model, nano_data, tmp_path_factory):
    """(folder of a base with words, workdir of a run)."""
    folder = tmp_path_factory.mktemp("lora")
    words = WordList(frozenset({"cat"}))
    model = dataclasses.replace(nano_model.model, words=words)
    base = model_folder.save(model, folder / "base")
    launch.train(config(nano_data, base), folder / "run")
    return base, folder / "run"


def weights(model):
    return jax.tree.leaves(model["transformer"].params)


def test_merged_is_the_base_with_the_adapter(tuned):
    base, workdir = tuned
    merged = model_folder.load(workdir / "export")
    used = cogjax.load(base, adapters={workdir / "adapter": 1.0}).model
    for one, other in zip(weights(merged), weights(used), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    plain = weights(model_folder.load(base))
    moved = map(np.subtract, weights(merged), plain)
    assert max(np.abs(change).max() for change in moved) > 1e-3
    assert {"cat", "red", "apple"} <= merged.words.words == used.words.words
    assert used.card["adapters"] == {"adapter": 1.0}


def test_checkpoints_hold_the_adapter_alone_and_a_run_resumes(tuned, nano_data):
    base, workdir = tuned
    meta = next((workdir / "checkpoints" / "2").rglob("meta/metadata"))
    names = json.loads(meta.read_text())["tree"]
    assert not [name for name in names if "base" in name]
    assert "params/blocks/layers/qkv/kernel/a" in names
    more = config(nano_data, base, train={**FAST, "steps": 3})
    copy = shutil.copytree(workdir, workdir.with_name("more"))
    launch.train(more, copy)
    assert (copy / "checkpoints" / "3").is_dir()


def test_files_are_as_peft_names_them(tuned):
    """A of [r, i] and B of [o, r] for each layer and matrix."""
    base, workdir = tuned
    stored = json.loads((workdir / "adapter" / "adapter_config.json").read_text())
    assert (stored["peft_type"], stored["r"], stored["lora_alpha"]) == ("LORA", 2, 16.0)
    assert stored["target_modules"] == ["attn_out", "mlp_in", "mlp_out", "qkv"]
    tensors = load_tree(workdir / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 4 * 2
    name = "base_model.model.transformer.blocks.layers.1.mlp_in.lora_{}.weight"
    assert tensors[name.format("A")].shape == (2, 32)
    assert tensors[name.format("B")].shape == (128, 2)
    change = 8 * (tensors[name.format("B")] @ tensors[name.format("A")]).T
    kernels = [
        model_folder.load(folder)["transformer"].params["blocks"]["layers"]["mlp_in"]
        for folder in (base, workdir / "export")
    ]
    moved = kernels[1]["kernel"][1] - kernels[0]["kernel"][1]
    np.testing.assert_allclose(moved, change, atol=1e-6)


def test_the_base_is_read_once_to_train_and_once_to_export(
    tuned, nano_data, monkeypatch, tmp_path
):
    base, workdir = tuned
    read, load = [], model_folder._component

    def component(folder, stored, name):
        read.append((folder.name, name))
        return load(folder, stored, name)

    monkeypatch.setattr(model_folder, "_component", component)
    copy = shutil.copytree(workdir, tmp_path / "run")
    launch.train(config(nano_data, base), copy)
    assert read.count((base.name, "transformer")) == 2


def test_another_base_is_refused(tuned, nano_data, nano_folder, tmp_path):
    base, workdir = tuned
    copy = shutil.copytree(workdir, tmp_path / "run")
    found = json.loads((copy / "config.json").read_text())
    other = model_folder.load(base)
    kernel = other["transformer"].params["blocks"]["layers"]["qkv"]["kernel"]
    kernel[0, 0] += 1
    found["data"]["weights"] = str(model_folder.save(other, tmp_path / "other"))
    with pytest.raises(UserError, match="data or a tokenizer changed since the check"):
        launch.train(found, copy)
    (copy / "config.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="reads is another one now than it was trained"):
        launch.export_adapter(copy, tmp_path / "out")
    with pytest.raises(UserError, match="was trained on another transformer .*base"):
        cogjax.load(tmp_path / "other", adapters={workdir / "adapter": 1.0})


def test_sizes_are_described(nano_data, nano_folder):
    """A, B of 2 layers: 2 (qkv 32 + 96, attn_out 32 + 32, MLP 32 + 128, 128 + 32)."""
    sizes = launch.describe(config(nano_data, nano_folder))
    learnt, frozen, state = sizes.values()
    assert learnt == 2 * 2 * (128 + 64 + 160 + 160)
    assert state == 4 * (frozen + 4 * learnt)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {}, "model": NANO}, "section 'lora' needs 'data.weights'"),
        ({"model": {"width": 64, "heads": 2}}, "other sizes or sequences than data.w"),
        ({"task": {"name": "vq"}}, "task vq has no LoRA: what it learns is not one"),
        ({"task": {"name": "end_to_end"}}, "task end_to_end has no LoRA: what it le"),
        ({"lora": {"rank": 2, "match": ["key"]}}, "'lora.match': no matrix ends"),
        ({"optim": {"name": "muon"}}, "'muon' does not fit this task"),
    ],
)
def test_what_does_not_fit_is_refused(
    sections, message, nano_data, nano_folder, tmp_path
):
    found = config(nano_data, nano_folder, **sections)
    if not found["data"]:
        found["data"] = {"path": str(nano_data), "tokenizer": str(nano_folder)}
        found["data"]["text"] = str(nano_folder / "text.model")
    with pytest.raises(UserError, match=message):
        launch.train(found, tmp_path / "run")


def test_a_run_without_lora_has_no_adapter(tuned, tmp_path):
    copy = shutil.copytree(tuned[1], tmp_path / "run")
    found = json.loads((copy / "config.json").read_text())
    del found["lora"]
    (copy / "config.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="was trained without LoRA"):
        launch.export_adapter(copy, tmp_path / "out")
