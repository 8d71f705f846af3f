"""Readers of networks with weights: model folders, T5's folders, checkpoints."""

import dataclasses
import functools
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy as safetensors_numpy

from cogjax import model_folder
from cogjax.data.text import TextTokenizer
from cogjax.data.vocab import Vocab
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.families.cogview.layout import Layout
from cogjax.interop.t5 import _SIZES as T5_SIZES
from cogjax.interop.t5 import read_t5
from cogjax.interop.tree import flatten
from cogjax.model import Component, Model
from cogjax.models.registry import shapes_of
from cogjax.models.t5 import T5Config, T5Encoder
from cogjax.models.vqvae import VQVAEConfig
from cogjax.train import manifest as digests
from tests.fuzz import damage
from tests.fuzz.harness import Files, Reader
from tests.fuzz.intact import RNG, TEXTS, each, files_of, random_like, written
from tests.published import expected_tensors


@functools.cache
def model_files() -> Files:
    """A model folder with all that one may hold, but for a second network."""
    shape = VQVAEConfig(8, (4,), 3, 6, (2,), 1, 4)
    parts = {"tokenizer": Component(shape, *random_like(shapes_of(shape)))}
    layout, words = Layout(Vocab(6, 300), 8, 16), WordList.of(TEXTS)
    text, card = TextTokenizer.train(TEXTS, 300), {"data": "cats"}
    model = Model("cogview", parts, layout, text, card=card, words=words)
    return written(lambda folder: model_folder.save(model, folder))


def model() -> Reader:
    def read(folder):
        found = sealed(folder)
        parts = {
            k: flatten({**c.params, **c.state}) for k, c in found.components.items()
        }
        text = found.text and hashlib.sha256(found.text.serialized).hexdigest()
        words = found.words and sorted(found.words.words)
        configs = {k: dataclasses.asdict(c.config) for k, c in found.components.items()}
        return [parts, text, words, configs]

    kinds = {"safetensors": damage.some_safetensors, "json": damage.some_json}
    kinds |= {"txt": damage.some_lines}
    return Reader("model folder", model_files(), read, each(**kinds), sign_model)


def sealed(folder):
    """The model; UserError without a seal, where people may change the config."""
    found = model_folder.load(folder)
    if not model_folder.read_config(folder).seal:
        raise UserError("config.json has no seal")
    return found


def model_config() -> Reader:
    """The sections of a model's config.json."""

    def read(folder):
        found = sealed(folder)
        layout = found.layout and dataclasses.asdict(found.layout)
        return [found.family, layout, dataclasses.asdict(found.sampler), found.card]

    def change(rng, files):
        return files | {"config.json": damage.some_json(rng, files["config.json"])}

    return Reader("model config", model_files(), read, change, sign_model)


def t5_folder() -> Reader:
    sizes = {"width": 4, "depth": 1, "heads": 1, "head_dim": 2, "mlp_dim": 4}
    shape = T5Config(**sizes, vocab_size=512)
    stored = {name: getattr(shape, ours) for ours, name in T5_SIZES.items()}
    stored |= {"model_type": "t5", "feed_forward_proj": "gated-gelu"}
    stored |= {"relative_attention_max_distance": 128}
    tensors = {
        name: RNG.normal(size=size).astype(np.float32)
        for name, size in expected_tensors(T5Encoder(shape)).items()
    }

    def write(folder):
        (folder / "config.json").write_text(json.dumps(stored))
        safetensors_numpy.save_file(tensors, folder / "model.safetensors")
        TextTokenizer.train(TEXTS, 300).save(folder / "spiece.model")

    def read(folder):
        found, params, text = read_t5(folder)
        return [dataclasses.asdict(found), flatten(params), text.encode("a red cat 猫")]

    kinds = {"safetensors": damage.some_safetensors, "json": damage.some_json}
    return Reader("T5 folder", written(write), read, each(**kinds))


def sign_model(files: Files) -> Files:
    """The sha256 of each file as it is now, and the seal over them."""
    fields = json.loads(files["config.json"])
    for name, component in fields["components"].items():
        data = files[f"{name}.safetensors"]
        component["sha256"] = hashlib.sha256(data).hexdigest()
    for key, name in (("text", "text.model"), ("words", "words.txt")):
        fields[key] = hashlib.sha256(files[name]).hexdigest()
    fields["seal"] = model_folder.seal_of(fields)
    return files | {"config.json": json.dumps(fields).encode()}


def checkpoint() -> Reader:
    from cogjax.train.checkpoint import Checkpoints, restore_params
    from tests.train.test_checkpoint import state

    def write(folder):
        checkpoints = Checkpoints(folder)
        checkpoints.save(state(3), 48, "data")
        checkpoints.close()

    def read(folder):
        verdicts = digests.verify_run(folder)
        if bad := [v for v in verdicts if v.status == "bad"]:
            raise UserError(str(bad[0]))
        # Restoring parses with the libraries of Orbax, whose own checks hold there.
        params, _, fingerprint, _ = restore_params(folder, "params")
        # One without digests is said to be unverified, and no word on its values.
        return [flatten(params), fingerprint]

    kinds = {"json": damage.some_json, "metadata": damage.some_json}
    files = written(write)
    return Reader("checkpoint", files, read, each(**kinds), sign_checkpoint)


def sign_checkpoint(files: Files) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        digests.write_digests(Path(folder) / "checkpoints" / "3")
        return files_of(Path(folder))
