"""Models as files: saved, loaded, checked, and those of format 1."""

import dataclasses
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

import cogjax
from cogjax import cli, model_folder
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.files import file_sha256
from cogjax.interop.safetensors import save_tree
from cogjax.interop.tree import flatten, unflatten
from cogjax.model import Component, Model, digest
from cogjax.models.image_lm import param_shapes
from cogjax.models.reconstructor import (
    ReconstructorConfig,
    ReconstructorNetworkConfig,
)
from cogjax.models.registry import shapes_of
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.tokens.autoregressive import Sampler

SHIPPED = (
    "clip-icons",
    "clip-shapes",
    "emoji",
    "shapes",
    "shapes-dalle",
    "shapes-ernie",
)


def numbers(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes
    )


def check_same(found, wanted):
    """Two models, by all that they are."""
    assert found.family == wanted.family
    assert found.layout == wanted.layout
    assert found.text == wanted.text
    assert found.sampler == wanted.sampler
    assert found.card == wanted.card
    assert found.words == wanted.words
    assert found.components.keys() == wanted.components.keys()
    for name, part in wanted.components.items():
        assert found[name].config == part.config
        for tree in ("params", "state"):
            pair = getattr(found[name], tree), getattr(part, tree)
            jax.tree.map(np.testing.assert_array_equal, *pair)


def ernie(nano_model):
    """An end-to-end model of sparse layers with random weights."""
    there = nano_model.model
    tokenizer, settings = there["tokenizer"].config, ernie_vilg.TRANSFORMERS["nano"]
    layout = ernie_vilg.make_layout(tokenizer, there.text.size, settings)
    network = ernie_vilg.make_transformer(settings, layout)
    decoder = ReconstructorNetworkConfig(
        ReconstructorConfig("dvae", width=4), tokenizer, settings.width
    )
    components = {
        "tokenizer": there["tokenizer"],
        "transformer": Component(network, numbers(shapes_of(network)[0])),
        "reconstructor": Component(decoder, numbers(shapes_of(decoder)[0])),
    }
    sampler, card = Sampler(temperature=0.5, top_k=3), {"name": "nano", "what": "猫"}
    return Model("ernie_vilg", components, layout, there.text, sampler, card)


def test_a_model_comes_back_as_it_was(nano_model, tmp_path):
    model = ernie(nano_model)
    check_same(model_folder.load(model_folder.save(model, tmp_path)), model)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "text.model",
        "tokenizer.safetensors",
        "transformer.safetensors",
        "reconstructor.safetensors",
    }


def test_the_words_of_a_model_are_a_file(nano_model, tmp_path):
    """It is owned: a model without one that replaces this removes it."""
    model = dataclasses.replace(nano_model.model, words=WordList.of(["a cat", "猫"]))
    check_same(model_folder.load(model_folder.save(model, tmp_path)), model)
    path = tmp_path / "words.txt"
    path.write_text("a\ncat\ndog\n")
    with pytest.raises(UserError, match=r"words\.txt is not the file that its config"):
        model_folder.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read word list .*words\.txt"):
        model_folder.load(tmp_path)
    model_folder.save(model, tmp_path, overwrite=True)
    model_folder.save(nano_model.model, tmp_path, overwrite=True)
    assert not path.exists()
    path.write_text("a file of the user's\n")
    with pytest.raises(UserError, match="is not of the model folder"):
        model_folder.save(model, tmp_path, overwrite=True)


def test_a_tokenizer_is_a_model_of_one_component(nano_model, nano_folder, tmp_path):
    tokenizer = nano_model.model["tokenizer"]
    folder = model_folder.save(Model("", {"tokenizer": tokenizer}), tmp_path)
    check_same(model_folder.load(folder), Model("", {"tokenizer": tokenizer}))
    with pytest.raises(UserError, match="has tokenizer and generates no images"):
        cogjax.load(folder)
    with pytest.raises(UserError, match="has no transformer, only tokenizer"):
        model_folder.load_component(folder, "transformer")
    for where in (folder, nano_folder):
        found = model_folder.load_component(where, "tokenizer")
        assert digest(found) == digest(tokenizer)


def test_a_reconstructor_of_another_model_is_refused(nano_model):
    model = ernie(nano_model)
    own = model["reconstructor"].config
    other = dataclasses.replace(own, states_width=16)
    other = Component(other, numbers(shapes_of(other)[0]))
    with pytest.raises(UserError, match="each other: 16 and 32 values of a state"):
        TokensPipeline(model.with_component("reconstructor", other))


@pytest.fixture
def copy(nano_folder, tmp_path):
    return shutil.copytree(nano_folder, tmp_path / "copy")


def rewrite(folder, change):
    """Changes config.json on purpose: without its seal, if it had one."""
    written = json.loads((folder / "config.json").read_text())
    written.pop("seal", None)
    change(written)
    (folder / "config.json").write_text(json.dumps(written))


@pytest.mark.parametrize("name", ["transformer.safetensors", "text.model"])
def test_files_of_another_model_are_refused(copy, nano_model, name):
    """They have the same sizes: only the sha256 says that they are others."""
    other = nano_model.model["transformer"].params
    other = jax.tree.map(lambda x: x + 1, other)
    if name == "text.model":
        # An unknown field of the protocol buffer, that every reader skips.
        data = (copy / name).read_bytes() + b"\xf8\x7f\x01"
        (copy / name).write_bytes(data)
    else:
        save_tree(copy / name, other, None)
    with pytest.raises(UserError, match=rf"{name} is not the file that its config"):
        model_folder.load(copy)


def test_verify_names_the_file(copy, capsys):
    assert cli.main(["verify", str(copy)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(":")[0] for line in shown) == [
        "text.model",
        "tokenizer.safetensors",
        "transformer.safetensors",
    ]
    path = copy / "tokenizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    assert cli.main(["verify", str(copy)]) == 2
    assert "1 of 3 files are bad (tokenizer.safetensors)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "key", "size"),
    [
        ("transformer", "vocab_size", 0),
        ("transformer", "mlp_dim", -1),
        ("transformer", "depth", 10**6),
        ("transformer", "depth", 0),
        ("transformer", "width", 0),
        ("transformer", "dropout", -3),
        ("transformer", "unroll", 0),
        ("transformer", "grid", 40),
        ("tokenizer", "code_dim", 0),
        ("tokenizer", "res_width", -1),
        ("tokenizer", "res_blocks", 10**5),
        ("tokenizer", "image_size", -16),
        ("tokenizer", "pixel_std", [0, 0, 0]),
        ("tokenizer", "pixel_mean", []),
        ("tokenizer", "strides", [2, 10**6]),
    ],
)
def test_sizes_that_make_no_network(copy, name, key, size):
    rewrite(copy, lambda c: c["components"][name]["config"].update({key: size}))
    with pytest.raises(UserError, match=f"{name}'?: .*{key}.*{name}|{name}.*{key}"):
        model_folder.load(copy)


WEIGHTS = {
    "nan": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x),
    "inf": lambda x: x / np.float32(0),
    "int64": lambda x: x.astype(np.int64),
    "float64": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_no_numbers(copy, nano_model, kind):
    """Also where a digest vouches for them."""
    tree = dict(nano_model.model["transformer"].params)
    name = min(k for k, v in flatten(tree).items() if v.size > 3)
    with np.errstate(all="ignore"):
        changed = {**flatten(tree), name: WEIGHTS[kind](flatten(tree)[name])}
    path = copy / "transformer.safetensors"
    save_tree(path, unflatten(changed), None)
    sha256 = file_sha256(path)
    rewrite(copy, lambda c: c["components"]["transformer"].update(sha256=sha256))
    found = kind if kind.endswith("64") else r"that are no numbers \(NaN, inf\)"
    with pytest.raises(UserError, match=rf"safetensors: {name} .*{found}"):
        model_folder.load(copy)


def test_a_config_that_was_not_changed_on_purpose(copy):
    """No shape tells of it; but the seal does."""
    path = copy / "config.json"
    text = path.read_text()
    assert '"alpha": 32.0' in text
    path.write_text(text.replace('"alpha": 32.0', '"alpha": 12.0'))
    with pytest.raises(UserError, match="config.json has changed since it was written"):
        model_folder.load(copy)
    rewrite(copy, lambda config: None)
    assert model_folder.load(copy)["transformer"].config.alpha == 12


def test_a_seal_is_of_what_the_file_holds(nano_model, tmp_path):
    """Keys are sorted as texts there, and what JSON has not is one line."""
    card = {"images": {10: 1, 9: 2, "all": 3}}
    model = dataclasses.replace(nano_model.model, card=card)
    folder = model_folder.save(model, tmp_path / "model")
    read = model_folder.load(folder).card
    assert read == {"images": {"10": 1, "9": 2, "all": 3}}
    model = dataclasses.replace(model, card={"at": tmp_path})
    with pytest.raises(UserError, match="cannot be saved as JSON"):
        model_folder.save(model, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def drop_layout(config):
    config["layout"] = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(extra=1), "unknown config key 'extra'"),
        (lambda c: c["layout"].update(text_ln=1), "mean 'layout.text_len'"),
        (lambda c: c["sampler"].update(top_q=1), "unknown config key 'sampler.top_q'"),
        (
            lambda c: c["components"]["tokenizer"].update(kind="vqfan"),
            "tokenizer: kind is 'vqfan', expected one of vqvae, vqgan, dvae, image_lm",
        ),
        (
            lambda c: c["components"]["tokenizer"]["config"].update(widht=3),
            "tokenizer: unknown config key 'tokenizer.widht'",
        ),
        (
            lambda c: c["components"]["transformer"]["config"].update(heads=3),
            "width 32 is no multiple of heads 3",
        ),
        (
            lambda c: c["components"]["transformer"]["config"].update(mlp_dim=7),
            "transformer.safetensors does not fit its config",
        ),
        (
            lambda c: c["components"].pop("transformer"),
            "does not name transformer.safetensors, which is beside it",
        ),
        (lambda c: c.update(text=""), "does not name text.model, which is beside it"),
        (lambda c: c.pop("text"), "has no text: export it again"),
        (
            lambda c: c["components"]["tokenizer"].pop("sha256"),
            "has no components.tokenizer.sha256: export it again",
        ),
        (drop_layout, "has no text.model or no layout"),
        (lambda c: c["layout"].update(image_len=25), "16 and 25 codes a sequence"),
        (
            lambda c: c["layout"]["vocab"].update(num_text=284),
            "285 and 284 pieces of text",
        ),
        (lambda c: c.update(family=""), "has a layout, which family '' has not"),
        (
            lambda c: c["components"].update({"../x": {"kind": "vqvae", "config": {}}}),
            "'../x' cannot be the name of a component",
        ),
        (
            lambda c: c["components"]["tokenizer"].update(kind="x" * 5000),
            r"kind is 'x+\.\.\. \(5002 characters\), expected one of",
        ),
        (lambda c: c.update(format=3), "is format 3 .* reads 1 and 2"),
        (lambda c: c.update(family=[]), r"of family \[\]: this reads 1 and 2"),
    ],
)
def test_configs_that_cannot_be(copy, change, message):
    rewrite(copy, change)
    with pytest.raises(UserError, match=message) as caught:
        cogjax.load(copy)
    assert "\n" not in str(caught.value)


def write_format_1(folder, model, settings):
    """What the first version of this package wrote of a model.

    settings: the family's, of the transformer; None is a tokenizer folder, and a
    reconstructor says its own.
    """
    config = {"format": 1, "family": model.family or "cogview"}
    config["tokenizer"] = dataclasses.asdict(model["tokenizer"].config)
    if settings:
        config["transformer"] = dataclasses.asdict(settings)
        config["sampler"] = dataclasses.asdict(model.sampler)
        config["card"] = model.card
        model.text.save(folder / "text.model")
    if "reconstructor" in model.components:
        own = model["reconstructor"].config.settings
        config["reconstructor"] = dataclasses.asdict(own)
        config["tokenizer"]["kind"] = "vqvae"
    for name, part in model.components.items():
        tree = {**part.params, **part.state}
        save_tree(folder / f"{name}.safetensors", tree, None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_models_of_format_1(nano_model, tmp_path):
    model = nano_model.model
    write_format_1(tmp_path, model, cogview.TRANSFORMERS["nano"])
    check_same(model_folder.load(tmp_path), model)
    rewrite(tmp_path, lambda c: c["transformer"].update(text_ln=3))
    with pytest.raises(UserError, match="unknown config key 'transformer.text_ln'"):
        model_folder.load(tmp_path)


def test_end_to_end_models_of_format_1(nano_model, tmp_path):
    model = ernie(nano_model)
    write_format_1(tmp_path, model, ernie_vilg.TRANSFORMERS["nano"])
    check_same(model_folder.load(tmp_path), model)
    # Another width than the sizes say.
    rewrite(tmp_path, lambda c: c["reconstructor"].update(hidden=5))
    with pytest.raises(UserError, match="project_in/kernel is "):
        model_folder.load(tmp_path)


def test_tokenizers_of_format_1(nano_model, tmp_path):
    tokenizer = nano_model.model["tokenizer"]
    model = Model("", {"tokenizer": tokenizer})
    write_format_1(tmp_path, model, None)
    check_same(model_folder.load(tmp_path), model)
    # What it was before there were kinds: the config's fields, then every leaf.
    fields = dataclasses.asdict(tokenizer.config)
    assert fields.pop("resize") is False  # Newer, and left out as long as it is off.
    fields = json.dumps(fields, sort_keys=True)
    want = hashlib.sha256(fields.encode())
    leaves = flatten({**tokenizer.params, **tokenizer.state})
    for name, leaf in sorted(leaves.items()):
        want.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode() + leaf.tobytes())
    found = model_folder.load_component(tmp_path, "tokenizer")
    assert digest(found) == want.hexdigest()
    rewrite(tmp_path, lambda c: c["tokenizer"].update(kind="vqfan"))
    with pytest.raises(UserError, match="kind is 'vqfan', expected one of vqvae, vqga"):
        model_folder.load(tmp_path)


# The config.json of the first emoji model, as it was shipped.
EMOJI = {
    "width": 256,
    "depth": 5,
    "heads": 4,
    "dropout": 0.0,
    "alpha": 32.0,
    "norm_scope": "token",
    "sandwich": True,
    "embedding_gradient": 1.0,
    "dtype": "float32",
    "remat": "none",
    "unroll": 5,
    "text_len": 16,
}


def test_settings_of_format_1_mean_the_shipped_model():
    shipped = model_folder.load("emoji")
    sizes = shipped["tokenizer"].config, shipped.text.size
    found = cogview.format_1(EMOJI, *sizes)
    assert found == (shipped.layout, shipped["transformer"].config)


def test_shipped_models_share_files_and_are_saved_whole(tmp_path):
    names = {"tokenizer.safetensors", "text.model"}
    found = {
        (model_folder.find_file(model, name), name)
        for model in ("shapes", "shapes-dalle", "shapes-ernie")
        for name in names
    }
    assert {name for _, name in found} == names and len(found) == 2
    for path, _ in found:
        assert path.parent.name == "shared"
        assert path.stem == file_sha256(path)
    model = model_folder.load("shapes-ernie")
    model_folder.save(model, tmp_path)
    assert names <= {path.name for path in tmp_path.iterdir()}
    check_same(model_folder.load(tmp_path), model)


def test_every_shared_file_is_used():
    folders = [model_folder.find(name) for name in SHIPPED]
    stored = [model_folder.read_config(folder) for folder in folders]
    used = {c.sha256 for one in stored for c in one.components.values()}
    used |= {one.text for one in stored}
    shared = folders[0].parent / "shared"
    assert {path.stem for path in shared.iterdir()} <= used


def test_a_folder_elsewhere_has_its_own_files(tmp_path):
    """The package's files are no part of a user's folder, whatever its config says."""
    copy = shutil.copytree(model_folder.find("shapes"), tmp_path / "shapes")
    with pytest.raises(UserError, match=r"cannot read .*shapes/text\.model"):
        model_folder.load(copy)


def test_the_shapes_of_a_network_are_those_of_its_weights(nano_model):
    for part in nano_model.model.components.values():
        params, state = shapes_of(part.config)
        for shapes, tree in ((params, part.params), (state, part.state)):
            jax.tree.map(
                lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, tree
            )
    network = nano_model.model["transformer"].config
    assert shapes_of(network)[0] == param_shapes(network)
