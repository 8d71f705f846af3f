"""Readers of what others bring: checkpoints around weights, modules, cases."""

import json

import msgpack
import numpy as np
import yaml
from flax.serialization import msgpack_serialize

from cogjax import parity
from cogjax.catalogue import importers, resolve
from cogjax.data.byte_bpe import pack
from cogjax.data.text_files import load_text
from cogjax.interop.byte_bpe import find_byte_bpe
from cogjax.interop.source import open_source
from tests.fuzz import damage
from tests.fuzz.harness import Reader
from tests.fuzz.intact import VALUES, each, written
from tests.importing import dalle_mini, files, public

TENSORS = {"a.w": VALUES.reshape(3, 4), "a.b": VALUES[:3], "n": VALUES[3:5]}


def _finite(arrays):
    return {name: np.where(np.isfinite(x), x, 0) for name, x in arrays.items()}


def _read_source(folder):
    found = open_source([folder])
    tensors = {name: x.read() for name, x in found.tensors.items()}
    configs = [found.configs[path] for path in sorted(found.configs)]
    return [_finite(tensors), sorted(found.beside), [sorted(x) for x in configs]]


def module() -> Reader:
    """A whole module, as OpenAI's dVAE is kept."""
    intact = written(lambda folder: files.module(folder / "w.pkl", TENSORS))
    return Reader("module", intact, _read_source, each(pkl=damage.some_pickle))


def checkpoint_of_others() -> Reader:
    """A state dict in what a trainer puts around it, and its config file."""

    def write(folder):
        files.state_dict(folder / "w.ckpt", TENSORS, ("state_dict",))
        (folder / "w.json").write_text('{"model": {"params": {"x": [1, 2]}}}')

    kinds = {"ckpt": damage.some_zip, "json": damage.some_json}
    return Reader("checkpoint of others", written(write), _read_source, each(**kinds))


def flax_file() -> Reader:
    """Nested maps with arrays, as Flax writes them."""

    def arrays(rng, data):
        """Half of the time within an array."""
        tree = msgpack.unpackb(data)
        if rng.random() < 0.5:
            return damage.some_record(rng, data)
        inner = damage.some_record(rng, tree["a"]["w"].data)
        tree["a"]["w"] = msgpack.ExtType(1, inner)
        return msgpack.packb(tree)

    tree = {"a": {"w": VALUES.reshape(3, 4), "b": VALUES[:3]}, "n": VALUES[3:5]}
    intact = {"w.msgpack": msgpack_serialize(tree)}
    return Reader("file of Flax", intact, _read_source, each(msgpack=arrays))


def _texts(text):
    ids = text.encode("a red #catcar, it's 12 \U0001f34e")
    return [text.size, ids, text.decode(ids)]


def byte_bpe() -> Reader:
    """The text tokenizer of a model folder."""
    merges, words = dalle_mini.MERGES, dalle_mini.WORDS
    packed = pack(dalle_mini.VOCAB, merges, "normalized", words)
    damaged = each(model=damage.some_json)

    def read(folder):
        return _texts(load_text(folder / "text.model"))

    return Reader("byte BPE", {"text.model": packed}, read, damaged)


def byte_bpe_of_others() -> Reader:
    """tokenizer.json beside weights, or vocab.json with merges.txt and words."""
    model = {"type": "BPE", "vocab": dalle_mini.VOCAB, "merges": dalle_mini.MERGES}
    added = [{"content": "<s>", "id": 0}]
    before = {"type": "ByteLevel"}
    table = {"model": model, "pre_tokenizer": before, "added_tokens": added}
    intact = {
        "w.msgpack": msgpack_serialize({"n": VALUES}),
        "tokenizer.json": json.dumps(table).encode(),
        "words.txt": "\n".join(dalle_mini.WORDS).encode(),
    }

    def read(folder):
        _, found = find_byte_bpe(open_source([folder]), "normalized")
        return found and _texts(found)

    kinds = {"json": damage.some_json, "txt": damage.some_lines}
    return Reader("byte BPE of others", intact, read, each(**kinds))


def import_of(name: str) -> Reader:
    """Files of a family as they are distributed, up to where tensors would be read."""

    def write(folder):
        public.WRITE[name](folder)
        if name == "vqgan":
            with (folder / "model.yaml").open("a") as file:
                file.write("cogjax_vqgan: {black: 0, epsilon: 1.0e-5}\n")

    def read(folder):
        source = open_source([folder])
        known = [resolve(spec) for spec in importers().values()]
        known = [each for each in known if each.detect(source)]
        if len(known) != 1:
            return None
        plan = known[0].plan(source)
        for part in plan.components.values():
            part.check(name)
        configs = [repr(part.config) for part in plan.components.values()]
        ids = plan.text.encode("1") if plan.text else []
        return [configs, repr(plan.layout), ids, list(plan.notes)]

    kinds = dict.fromkeys(("pt", "bin", "ckpt"), damage.some_zip)
    kinds |= {"json": damage.some_json, "yaml": _some_yaml, "txt": damage.some_lines}
    kinds |= {"msgpack": damage.some_record, "model": damage.some_lines}
    return Reader(f"import of {name}", written(write), read, each(**kinds))


def _some_yaml(rng, data):
    if rng.random() < 0.3:
        return damage.some_lines(rng, data)
    return yaml.safe_dump(damage.some_node(rng, yaml.safe_load(data))).encode()


def case() -> Reader:
    """A case of `cogjax parity`."""

    def read(folder):
        inputs, outputs = parity.read_case(folder / "case.npz")
        return [_finite(inputs), _finite(outputs)]

    intact = {"case.npz": parity.pack({"pixels": VALUES}, {"codes": VALUES[:4]})}
    return Reader("case", intact, read, each(npz=damage.some_zip))
