"""An evaluation's folder, and a model that caches its work there.

settings.json         everything that the metrics depend on; another model or setting
                      is refused here, so that two never mix
kept/*.safetensors    codes, losses and texts of the model, by a digest of the request
report.json, report.html
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.adapter import CONFIG
from cogjax.config import load_json
from cogjax.errors import UserError
from cogjax.files import check_folder, file_sha256, write_atomic
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.model_folder import find_file, read_config
from cogjax.pipelines.contracts import Generation
from cogjax.pipelines.reader import Search

SETTINGS = "settings.json"


def model_digest(folder: str | os.PathLike) -> str:
    """sha256 of a model folder: weights, texts and config, not its card or words."""
    folder = Path(folder)
    config = asdict(read_config(folder))
    del config["card"], config["format"], config["words"], config["seal"]
    for name, part in config["components"].items():
        path = find_file(folder, f"{name}.safetensors")
        part["sha256"] = part["sha256"] or file_sha256(path)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def adapters_digest(adapters: Mapping[str, float]) -> dict[str, Any]:
    """What identifies adapters by folder and weight, {} for none.

    Their config names the sha256 of their weights and of their base.
    """
    found = [
        [file_sha256(Path(folder) / CONFIG), adapters[folder]] for folder in adapters
    ]
    return {"adapters": sorted(found)} if found else {}


def data_digest(folder: str | os.PathLike) -> str:
    """sha256 of a data set's manifest, which names all its files by theirs."""
    return file_sha256(Path(folder) / "manifest.json")


def open_folder(out: str | os.PathLike, settings: Mapping[str, Any]) -> Path:
    """Makes the folder of an evaluation, or returns the one that was begun.

    UserError if `out` holds other files, or an evaluation with other settings; it names
    the settings that differ.
    """
    out, path = check_folder(out), Path(out) / SETTINGS
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        check_free(out)
        write_atomic(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return out
    found = load_json(path)
    differ = [
        f"{name} is {_short(found.get(name))} there, {_short(settings.get(name))} here"
        for name in dict.fromkeys([*settings, *found])
        if found.get(name) != settings.get(name)
    ]
    # Other prompts follow from other settings, which say more than a digest.
    differ = [text for text in differ if not text.startswith("prompts_")] or differ
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"{out} holds an evaluation of something else: {', '.join(differ[:3])}"
            f"{more}; choose another --out"
        )
    return out


def check_free(out: str | os.PathLike) -> None:
    """UserError if `out` holds other files than an evaluation's."""
    out = check_folder(out)
    if out.is_dir() and any(out.iterdir()) and not (out / SETTINGS).is_file():
        raise UserError(
            f"{out} is not empty and holds no evaluation to go on with: choose "
            f"another --out"
        )


class CachedModel:
    """A model that looks up its earlier results.

    It has `TokensPipeline`'s methods that generate, read, score, encode and decode, as
    far as the model has them.
    Files are named by a digest of the request. The folder belongs to one model and one
    format of its weights: `open_folder` sees to that. folder: None caches nothing.
    """

    def __init__(self, model, folder: Path | None):
        self.model = model
        self.folder = folder
        self.image_size = model.image_size
        # A cascade has no codes.
        self.num_codes = getattr(model, "num_codes", 0)
        self.encode, self.decode = (
            getattr(model, name, None) for name in ("encode", "decode")
        )

    @property
    def answers_questions(self) -> bool:
        """As of the model."""
        return self.model.answers_questions

    @property
    def batch_size(self) -> int:
        """Most rows in one call of the network."""
        return self.model.batch_size

    def generate(
        self, prompts: Sequence[str], num_images: int, seed: int, **settings
    ) -> Generation:
        """As `TokensPipeline.generate`, for settings that are numbers or None."""
        prompts = tuple(prompts)

        def generate() -> np.ndarray:
            found = self.model.generate(prompts, num_images, seed, **settings)
            return found.pixels if found.codes is None else found.codes

        asked = ["codes", prompts, num_images, seed, settings]
        codes = self._look_up(asked, b"", generate, (len(prompts), num_images))
        if not self.decode:
            return Generation(prompts, codes)
        pixels = self.decode(codes.reshape(-1, *codes.shape[2:]))
        return Generation(
            prompts, pixels.reshape(*codes.shape[:2], *pixels.shape[1:]), codes
        )

    def score_codes(self, codes: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """As `TokensPipeline.score_codes`."""
        data = np.ascontiguousarray(codes, np.int32).tobytes()

        def score() -> np.ndarray:
            return self.model.score_codes(codes, texts)

        asked = ["losses", *np.shape(codes), *texts]
        return self._look_up(asked, data, score, (len(texts),))

    def image_losses(self, codes: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """As `TokensPipeline.image_losses`."""
        data = np.ascontiguousarray(codes, np.int32).tobytes()

        def score() -> np.ndarray:
            return self.model.image_losses(codes, texts)

        # The name in the digests of folders that were begun before.
        asked = ["drawn", *np.shape(codes), *texts]
        return self._look_up(asked, data, score, (len(texts),))

    def caption_codes(
        self, codes: np.ndarray, language: str | None, search: Search
    ) -> list[str]:
        """As `TokensPipeline.caption_codes`."""
        return self._texts(
            ["captions", *np.shape(codes), language, asdict(search)],
            codes,
            lambda: self.model.caption_codes(codes, language, search),
        )

    def ask_codes(
        self, codes: np.ndarray, questions: Sequence[str], search: Search
    ) -> list[str]:
        """As `TokensPipeline.ask_codes`."""
        return self._texts(
            ["answers", *np.shape(codes), *questions, asdict(search)],
            codes,
            lambda: self.model.ask_codes(codes, questions, search),
        )

    def _texts(self, asked: list, codes: np.ndarray, work) -> list[str]:
        """Texts about codes, cached as the bytes of their JSON."""
        data = np.ascontiguousarray(codes, np.int32).tobytes()

        def write() -> np.ndarray:
            return np.frombuffer(json.dumps(work()).encode(), np.uint8)

        return json.loads(self._look_up(asked, data, write, ()).tobytes())

    def _look_up(
        self, asked: list, data: bytes, work: Callable[[], np.ndarray], lead: tuple
    ) -> np.ndarray:
        """The cached array of this request, or else `work()`; [*lead, ...]."""
        if self.folder is None:
            return np.asarray(work())
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + b"\n" + data)
        path = self.folder / "kept" / f"{asked[0]}-{key.hexdigest()[:24]}.safetensors"
        if path.exists():
            try:
                found = load_tree(path).get("values")
            except UserError:
                found = None  # Damaged: it is made again.
            if found is not None and found.shape[: len(lead)] == lead:
                return found
        values = np.asarray(work())
        save_tree(path, {"values": values}, None)
        return values


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 24 else text[:20] + "..."
