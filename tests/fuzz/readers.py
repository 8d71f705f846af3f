"""Every reader of untrusted input: its intact files, its damage and its digests."""

import functools
import hashlib
import io
import json
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import msgpack
import numpy as np
from PIL import Image

from cogjax import config, model_folder
from cogjax.data import manifest as manifests
from cogjax.data.codes import CodedExample
from cogjax.data.folder_entries import TEXT_KEYS, list_entries
from cogjax.data.images import decode_image, encode_png
from cogjax.data.question_file import _read as read_questions
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer, load_text
from cogjax.errors import UserError
from cogjax.interop.pickles import read_array_pickle
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.torch_files import read_torch
from cogjax.interop.tree import flatten
from cogjax.model import Component, Model
from cogjax.models.registry import shapes_of
from cogjax.models.vqvae import VQVAEConfig
from cogjax.stages.sections import RunConfig
from cogjax.train import manifest as digests
from tests.fuzz import damage
from tests.fuzz.harness import Files, Reader
from tests.interop.test_torch_files import entries, tensor, write_legacy, write_zip

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=12).astype(np.float32)
PIXELS = RNG.integers(0, 256, (9, 12, 3), np.uint8)
TEXTS = [f"a red cat sits {i}" for i in range(40)] + ["猫 在 这里", "一只猫"] * 9


def files_of(folder: Path) -> Files:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def each(**kinds: Callable) -> Callable:
    """Damages one file, in the way of the first kind that is the end of its name."""

    def one(rng, files: Files) -> Files:
        name = rng.choice(sorted(files))
        kind = next((k for k in kinds if name.endswith(k)), None)
        change = kinds.get(kind, damage.some_bytes)
        roll = rng.random()
        if len(files) > 1 and roll < 0.04:
            return {other: data for other, data in files.items() if other != name}
        if len(files) > 1 and roll < 0.1:
            other = rng.choice(sorted(files))
            return files | {name: files[other], other: files[name]}
        return files | {name: change(rng, files[name])}

    return one


def written(write: Callable[[Path], object]) -> Files:
    """Files that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return files_of(Path(folder))


TREE = {"a": {"w": VALUES.reshape(3, 4), "b": VALUES[:3]}, "n": VALUES[3:5]}


def safetensors() -> Reader:
    def read(folder):
        tree = flatten(load_tree(folder / "w.safetensors"))
        return {k: np.where(np.isfinite(v), v, 0) for k, v in tree.items()}

    files = written(lambda folder: save_tree(folder / "w.safetensors", TREE, None))
    return Reader("safetensors", files, read, each(safetensors=damage.some_safetensors))


def numpy_pickle() -> Reader:
    def read(folder):
        found = read_array_pickle(folder / "w.ckpt")
        return {k: np.where(np.isfinite(v), v, 0) for k, v in found.items()}

    tree = {"net": TREE, "more": {"x": VALUES}}
    files = {"w.ckpt": pickle.dumps(tree, 3)}
    return Reader("pickle", files, read, each(ckpt=damage.some_pickle))


def torch_file(name: str, write: Callable, change: Callable) -> Reader:
    def read(folder):
        found = read_torch(folder / "w.pt")
        return {k: np.where(np.isfinite(v), v, 0) for k, v in found.items()}

    legacy = name == "torch legacy"
    parts = {
        "w": tensor("0", 12, (3, 4), (4, 1), legacy=legacy),
        "b": tensor("1", 4, (2,), (1,), 1, legacy=legacy),
    }
    storages = {"0": VALUES, "1": VALUES[:4]}
    files = written(lambda folder: write(folder / "w.pt", entries(**parts), storages))
    return Reader(name, files, read, each(pt=change))


def records(kind: type, name: str) -> Reader:
    def read(folder):
        item = kind.unpack((folder / "r").read_bytes())
        return {**vars(item), "questions": item.questions}

    item = {"id": "a", "captions": [("en", "a cat")], "meta": {"style": "x"}}
    item |= {"questions": [("kind", "what?", "a cat")]}
    field = {"image": b"png"} if kind is Example else {"codes": bytes(range(16))}
    files = {"r": msgpack.packb(item | field)}
    refusals = (ValueError,)
    return Reader(name, files, read, each(), refusals=refusals)


def sentencepiece() -> Reader:
    def read(folder):
        text = TextTokenizer.load(folder / "text.model")
        ids = text.encode("a red cat 猫 \x01😀")
        return [text.size, ids, text.decode(ids)]

    serialized = TextTokenizer.train(TEXTS, 300).serialized
    return Reader("sentencepiece", {"text.model": serialized}, read, each())


def wordpiece() -> Reader:
    """Every change that leaves a vocabulary is another one: its own digest vouches."""

    def read(folder):
        text = load_text(folder / "text.model")
        ids = text.encode("a red cat 猫 \x01😀")
        return [text.size, ids, text.decode(ids)]

    serialized = WordPieceTokenizer.train(TEXTS, 40).serialized
    files = {"text.model": serialized}
    return Reader("wordpiece", files, read, each(model=damage.some_lines))


def image(kind: str, **settings) -> Reader:
    def read(folder):
        return [decode_image((folder / "i").read_bytes(), size) for size in (None, 8)]

    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **settings)
    files = {"i": buffer.getvalue()}
    return Reader(f"image {kind}", files, read, each(i=damage.some_image))


def captions(name: str, files: Files, change: Callable) -> Reader:
    """Folders, tables and archives with their captions; all entries are read.

    Refused is a file of which an entry is.
    """

    def read(folder):
        rows, reasons = [], []
        for entry in list_entries(folder, TEXT_KEYS, Counter()):
            try:
                rows.append([entry.name, entry.read_captions(), entry.read_image()])
            except UserError as error:
                reasons.append(str(error))
        if reasons:
            raise UserError(
                max(reasons, key=lambda text: (text.count("\n"), len(text)))
            )
        return rows

    return Reader(name, files, read, change)


def questions() -> Reader:
    def read(folder):
        asked = read_questions(folder / "q.jsonl", Counter())
        return {name: [str(path), rows] for name, (path, _, rows) in asked.items()}

    row = {"image": "a.png", "question": "what?", "answer": "a cat", "type": "kind"}
    lines = "\n".join(json.dumps(row | {"answer": f"{i}"}) for i in range(4))
    files = {"a.png": encode_png(PIXELS), "q.jsonl": lines.encode()}
    return Reader("questions", files, read, each(jsonl=some_rows))


def some_rows(rng, data: bytes) -> bytes:
    """A line as text, or as JSON."""
    if rng.random() < 0.5:
        return damage.some_lines(rng, data)
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    lines[place] = damage.some_json(rng, lines[place])
    return b"\n".join(lines)


def data_set() -> Reader:
    def write(folder):
        with DatasetBuilder(folder, "folder", 9, {"train": 2, "val": 1}) as builder:
            for i in range(5):
                example = Example(f"e{i}", encode_png(PIXELS), (("en", f"a cat {i}"),))
                builder.write("val" if i == 4 else "train", example)
            builder.finish({"note": "x"})

    def read(folder):
        found = {}
        for split in manifests.read_manifest(folder).counts:
            source = open_split(folder, split)
            found[split] = [vars(source[i]) for i in range(len(source))]
        return found

    change = each(json=damage.some_json)
    return Reader("data set", written(write), read, change, sign_data_set)


def sign_data_set(files: Files) -> Files:
    """Checksums, marks and fingerprint of the shards as they are now."""
    fields = json.loads(files["manifest.json"])
    with tempfile.TemporaryDirectory() as folder:
        for name in fields["checksums"]:
            path = Path(folder) / "shard"
            path.write_bytes(files[name])
            fields["checksums"][name] = manifests.checksum(path)
            fields["marks"][name] = manifests.mark(path)
    fields["fingerprint"] = manifests.fingerprint(fields["checksums"])
    return files | {"manifest.json": json.dumps(fields).encode()}


def model() -> Reader:
    shape = VQVAEConfig(8, (4,), 3, 6, (2,), 1, 4)
    params, state = jax.tree.map(
        lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes_of(shape)
    )
    parts = {"tokenizer": Component(shape, params, state)}
    text = TextTokenizer.train(TEXTS, 300)

    def read(folder):
        found = model_folder.load(folder)
        parts = {
            k: flatten({**c.params, **c.state}) for k, c in found.components.items()
        }
        return [parts, found.text and hashlib.sha256(found.text.serialized).hexdigest()]

    files = written(lambda f: model_folder.save(Model("", parts, None, text), f))
    kinds = {"safetensors": damage.some_safetensors, "json": damage.some_json}
    return Reader("model folder", files, read, each(**kinds), sign_model)


def sign_model(files: Files) -> Files:
    """The sha256 of each file as it is now."""
    fields = json.loads(files["config.json"])
    for name, component in fields["components"].items():
        data = files[f"{name}.safetensors"]
        component["sha256"] = hashlib.sha256(data).hexdigest()
    fields["text"] = hashlib.sha256(files["text.model"]).hexdigest()
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
        params, _, fingerprint = restore_params(folder, "params")
        return [flatten(params), fingerprint, [v.status for v in verdicts]]

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


def run_config() -> Reader:
    sections = {
        "task": {"name": "vq", "method": "ema"},
        "data": {"path": "set", "split": "train"},
        "optim": {"lr": 1e-3, "warmup": 10},
        "train": {"steps": 100, "batch_size": 8, "seed": 0},
        "sample": {"prompts": ["a cat"], "sampler": {"top_p": 0.9}},
        "model": {"widths": [4, 8], "strides": [2, 2]},
    }

    def read(folder):
        found = RunConfig.of(config.load(str(folder / "c.json")))
        config.section(VQVAEConfig, found.model, "model")
        return [found.name, found.train.steps, found.optim.lr, found.data.path]

    files = {"c.json": json.dumps(sections).encode()}
    return Reader("config", files, read, each(json=damage.some_json))


PNG = encode_png(PIXELS)
CSV = b'file,caption\na.png,"a cat, on a mat"\na.png,a dog\n'
JSONL = (
    b'{"file_name": "a.png", "text": "a cat"}\n{"file_name": "a.png", "text": ["x"]}'
)
PAIRS = {"0.png": PNG, "0.txt": b"a cat", "1.png": PNG, "1.json": b'{"text": "a dog"}'}
TABLES = {"a.png": PNG}

READERS: dict[str, Callable[[], Reader]] = {
    "safetensors": safetensors,
    "pickle": numpy_pickle,
    "torch zip": functools.partial(torch_file, "torch zip", write_zip, damage.some_zip),
    "torch legacy": functools.partial(
        torch_file, "torch legacy", write_legacy, damage.some_pickle
    ),
    "example": functools.partial(records, Example, "example"),
    "coded example": functools.partial(records, CodedExample, "coded example"),
    "sentencepiece": sentencepiece,
    "wordpiece": wordpiece,
    **{
        f"image {kind}": functools.partial(image, kind)
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
    },
    "captions": lambda: captions(
        "captions",
        {"a.png": PNG, "a.txt": "a cat\n猫\n".encode()},
        each(txt=damage.some_lines),
    ),
    "csv": lambda: captions(
        "csv", TABLES | {"t.csv": CSV}, each(csv=damage.some_lines)
    ),
    "jsonl": lambda: captions(
        "jsonl", TABLES | {"metadata.jsonl": JSONL}, each(jsonl=some_rows)
    ),
    "tar": lambda: captions(
        "tar", {"x.tar": damage.a_tar(PAIRS)}, each(tar=damage.some_tar)
    ),
    "questions": questions,
    "data set": data_set,
    "model folder": model,
    "checkpoint": checkpoint,
    "config": run_config,
}
