"""Every reader of untrusted input: its intact files, its damage and its digests."""

import functools
import io
import json
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image

from cogjax import config
from cogjax.data import manifest as manifests
from cogjax.data.char_bpe import CharBPE
from cogjax.data.class_names import ClassNames
from cogjax.data.codes import CodedExample
from cogjax.data.embeddings import EmbeddedExample
from cogjax.data.folder_entries import TEXT_KEYS, list_entries
from cogjax.data.images import decode_image, encode_png
from cogjax.data.question_file import _read as read_questions
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.data.word_list import WordList
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.data.yttm import YttmBPE
from cogjax.errors import UserError
from cogjax.files import file_sha256
from cogjax.interop.pickles import read_array_pickle
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import flatten
from cogjax.models.vqvae import VQVAEConfig
from cogjax.stages.sections import RunConfig
from tests.fuzz import damage
from tests.fuzz.harness import Files, Reader
from tests.fuzz.import_readers import (
    byte_bpe,
    byte_bpe_of_others,
    case,
    checkpoint_of_others,
    flax_file,
    import_of,
    module,
)
from tests.fuzz.intact import PIXELS, TEXTS, VALUES, each, written
from tests.fuzz.model_readers import checkpoint, model, model_config, t5_folder
from tests.fuzz.outside_readers import clip_bpe, coco, format_1, prompts
from tests.interop.test_torch_files import (
    entries,
    read_torch,
    tensor,
    write_legacy,
    write_zip,
)

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
    return Reader(name, files, read, each(r=damage.some_record), refusals=refusals)


def embedded_example() -> Reader:
    def read(folder):
        item = EmbeddedExample.unpack((folder / "r").read_bytes())
        if not len(item.captions) == len(item.tokens) == len(item.pooled):
            raise AssertionError("vectors of other captions")
        vectors = [np.float32(x) for x in (*item.tokens, *item.pooled)]
        return {**vars(item), "tokens": vectors, "pooled": ()}

    texts = (("en", "a cat"), ("zh", "猫"))
    vectors = (VALUES.reshape(4, 3), VALUES[:6].reshape(2, 3))
    item = EmbeddedExample("a", texts, vectors, (VALUES[:3], VALUES[3:6]))
    files, refusals = {"r": item.pack()}, (ValueError,)
    return Reader(
        "embedded example", files, read, each(r=damage.some_record), refusals=refusals
    )


def word_list() -> Reader:
    def read(folder):
        return sorted(WordList.load(folder / "words.txt").words)

    files = written(lambda folder: WordList.of(TEXTS).save(folder / "words.txt"))
    return Reader("word list", files, read, each(txt=damage.some_lines))


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


def text_of_others(kind: str) -> Reader:
    """Tokenizers of released models; another intact one is vouched for by a digest."""

    def read(folder):
        text = load_text(folder / "text.model")
        return [text.size, text.encode("1"), text.decode([0, text.size - 1])]

    rules = "2 1\n9601 4\n49 5\n4 5 6\n1 0 2 3\n"
    serialized = {
        "char_bpe": CharBPE.of({"[UNK]": 0, "1": 1, "1</w>": 2}, [], "x").serialized,
        "classes": ClassNames.of(["tench, Tinca", "goldfish", ""]).serialized,
        "yttm": YttmBPE(rules.encode()).serialized,
    }[kind]
    files = {"text.model": serialized}
    return Reader(kind, files, read, each(model=damage.some_lines))


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
            fields["checksums"][name] = file_sha256(path)
            fields["marks"][name] = manifests.mark(path)
    fields["fingerprint"] = manifests.fingerprint(fields["checksums"])
    return files | {"manifest.json": json.dumps(fields).encode()}


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

# Families whose files are read as they are distributed; `tests/importing/public.py`.
IMPORTED = ("dalle-mini", "llamagen-c2i", "llamagen-t2i", "mindalle", "rudalle-v2")
IMPORTED += ("rudalle-v3", "vqgan", "cogview", "openai-dvae", "clip", "clip-hf")
READERS: dict[str, Callable[[], Reader]] = {
    "safetensors": safetensors,
    "pickle": numpy_pickle,
    "torch zip": functools.partial(torch_file, "torch zip", write_zip, damage.some_zip),
    "torch legacy": functools.partial(
        torch_file, "torch legacy", write_legacy, damage.some_pickle
    ),
    "module": module,
    "checkpoint of others": checkpoint_of_others,
    "Flax": flax_file,
    "byte BPE": byte_bpe,
    "byte BPE of others": byte_bpe_of_others,
    **{f"import of {name}": functools.partial(import_of, name) for name in IMPORTED},
    "case": case,
    "example": functools.partial(records, Example, "example"),
    "coded example": functools.partial(records, CodedExample, "coded example"),
    "embedded example": embedded_example,
    "word list": word_list,
    "sentencepiece": sentencepiece,
    "wordpiece": wordpiece,
    **{
        kind: functools.partial(text_of_others, kind)
        for kind in ("char_bpe", "classes", "yttm")
    },
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
    "prompts": prompts,
    "coco": coco,
    "clip bpe": clip_bpe,
    "data set": data_set,
    "model folder": model,
    "model config": model_config,
    "format 1": format_1,
    "T5 folder": t5_folder,
    "checkpoint": checkpoint,
    "config": run_config,
}
