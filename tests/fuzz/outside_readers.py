"""Readers of files that others made or that a user types, and of models of before."""

import dataclasses
import gzip
import json
import struct
from pathlib import Path

from cogjax import model_folder
from cogjax.commands.arguments import read_lines
from cogjax.data.clip_bpe import ClipTokenizer
from cogjax.data.images import encode_png
from cogjax.interop.safetensors import save_tree
from cogjax.interop.tree import flatten
from cogjax.models.registry import shapes_of
from cogjax.models.vqvae import VQVAEConfig
from cogjax.worlds.coco import sample_captions
from tests.fuzz import damage
from tests.fuzz.harness import Reader
from tests.fuzz.intact import PIXELS, TEXTS, each, random_like, written

MERGES = ["h e", "l l", "he ll", "o </w>", "hell o</w>", "c a", "ca t</w>"]


def clip_bpe() -> Reader:
    def read(folder):
        text = ClipTokenizer(folder / "bpe.txt.gz", len(MERGES))
        return [text.vocab_size, text(["hello cats", "猫 \x01😀"])]

    def change(rng, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return damage.some_bytes(rng, data)
        if rng.random() < 0.1:
            # The length that the file claims to have.
            return data[:-4] + struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1)))
        return gzip.compress(damage.some_lines(rng, gzip.decompress(data)))

    files = {"bpe.txt.gz": gzip.compress("\n".join(["#v", *MERGES, ""]).encode())}
    return Reader("clip bpe", files, read, each(gz=change))


def coco() -> Reader:
    def read(folder):
        name, found = sample_captions(folder, 3)
        rows = [[one.caption, one.path.name, one.pixels(8)] for one in found]
        return [name, sorted(rows, key=lambda row: row[:2])]

    rows = [{"id": i, "file_name": f"{i}.png"} for i in range(4)]
    texts = [{"image_id": i % 4, "caption": TEXTS[i]} for i in range(8)]
    content = json.dumps({"images": rows, "annotations": texts}).encode()
    files = {"captions_val2014.json": content}
    files |= {f"val2014/{i}.png": encode_png(PIXELS) for i in range(4)}
    kinds = {"json": damage.some_json, "png": damage.some_image}
    return Reader("coco", files, read, each(**kinds))


def prompts() -> Reader:
    def read(folder):
        return read_lines(str(folder / "p.txt"), "prompts file")

    files = {"p.txt": "\n".join(TEXTS[:6]).encode()}
    return Reader("prompts", files, read, each(txt=damage.some_lines))


def format_1() -> Reader:
    """A tokenizer of the first version, without digests: sizes and values must fit."""
    shape = VQVAEConfig(8, (4,), 3, 6, (2,), 1, 4)

    def write(folder: Path):
        params, state = random_like(shapes_of(shape))
        save_tree(folder / "tokenizer.safetensors", {**params, **state}, None)
        config = {"format": 1, "family": "cogview"}
        config["tokenizer"] = dataclasses.asdict(shape)
        (folder / "config.json").write_text(json.dumps(config))

    def read(folder):
        found = model_folder.load_component(folder, "tokenizer")
        return [found.kind, dataclasses.asdict(found.config), flatten(found.params)]

    kinds = {"safetensors": damage.some_safetensors, "json": damage.some_json}
    return Reader("format 1", written(write), read, each(**kinds))
