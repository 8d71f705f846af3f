"""A model as files: config.json, tokenizer.safetensors, transformer.safetensors,
text.model, and reconstructor.safetensors if it was trained end to end. A tokenizer
folder holds the first two. Nothing in either is executed.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.config import load_json, section
from cogjax.data.layout import Layout
from cogjax.data.text import TextTokenizer
from cogjax.data.two_way import TwoWayLayout
from cogjax.errors import UserError
from cogjax.families import cogview, ernie_vilg
from cogjax.files import write_atomic
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import check_leaves, flatten
from cogjax.models import reconstructor
from cogjax.models.image_lm import param_shapes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.reconstructor import ReconstructorConfig
from cogjax.models.tokenizers import KINDS, TokenizerConfig, kind_of, network_of
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.sampling.autoregressive import Sampler

FORMAT = 1

# What a family says of its transformer: the class `TransformerConfig` of its settings,
# `make_layout(tokenizer, num_text, config)` and `make_transformer(config, layout)`.
FAMILIES = {"cogview": cogview, "ernie_vilg": ernie_vilg}


@dataclass(frozen=True)
class ImageTokenizer:
    """Network of the image tokenizer and its codebook [k, z]; params are nested."""

    config: TokenizerConfig
    params: dict[str, Any]
    codebook: np.ndarray


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructor (`models/reconstructor.py`) and its nested parameters."""

    config: ReconstructorConfig
    params: dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """What a model is made of. params: of the transformer, nested. family: its name.

    reconstructor: of ERNIE-ViLG trained end to end.
    """

    tokenizer: ImageTokenizer
    transformer: DecoderConfig
    params: dict[str, Any]
    text: TextTokenizer
    sampler: Sampler = Sampler()
    card: dict[str, Any] = dataclasses.field(default_factory=dict)
    family: str = "cogview"
    reconstructor: Reconstruction | None = None

    @property
    def layout(self) -> Layout | TwoWayLayout:
        """Sequence layout that the two tokenizers and the longest text decide."""
        return FAMILIES[self.family].make_layout(
            self.tokenizer.config, self.text.size, self.transformer
        )

    @property
    def network(self) -> ImageLMConfig:
        """The network that draws."""
        return FAMILIES[self.family].make_transformer(self.transformer, self.layout)

    def decoding(self, decode: str | None = None) -> str:
        """What pictures are made from, "codes" or "hidden" states; None: as trained.

        UserError for anything else, and for "hidden" without a reconstructor.
        """
        if decode not in (None, "codes", "hidden"):
            raise UserError(f"decode is {decode!r}, expected 'codes' or 'hidden'")
        if decode == "hidden" and not self.reconstructor:
            raise UserError(
                "decode 'hidden' needs a model trained end to end, and this one has no "
                "reconstructor: choose 'codes'"
            )
        return decode or ("hidden" if self.reconstructor else "codes")


def find(source: str | os.PathLike) -> Path:
    """Folder of a shipped model's name, or `source` itself if it is a folder."""
    if Path(source).is_dir():
        return Path(source)
    shipped = _shipped()
    if str(source) not in shipped:
        known = ", ".join(shipped) or "none"
        raise UserError(
            f"no model {str(source)!r}: give a model folder or one of: {known}"
        )
    return shipped[str(source)]


def find_text(source: str | os.PathLike) -> Path:
    """Text model file: `source`, or that of the folder or shipped model it names."""
    if Path(source).is_dir() or str(source) in _shipped():
        return find(source) / "text.model"
    return Path(source)


def _shipped() -> dict[str, Path]:
    """Folders of the models in the package, by name."""
    assets = Path(str(resources.files("cogjax") / "assets"))
    return {p.parent.name: p.parent for p in sorted(assets.glob("*/config.json"))}


def load(folder: Path) -> Parts:
    """Reads a model folder and checks every weight against its config.

    Raises UserError for a missing, damaged or unfitting file.
    """
    config = _read_config(folder)
    family = config["family"]
    settings = FAMILIES[family].TransformerConfig
    transformer = section(settings, config.get("transformer", {}), "transformer")
    parts = Parts(
        load_tokenizer(folder),
        transformer,
        {},
        TextTokenizer.load(folder / "text.model"),
        section(Sampler, config.get("sampler", {}), "sampler"),
        config.get("card", {}),
        family,
    )
    return dataclasses.replace(
        parts,
        params=load_transformer(folder, parts.network),
        reconstructor=load_reconstructor(folder, parts),
    )


def load_transformer(
    folder: Path, network: ImageLMConfig, to_train: bool = False
) -> dict[str, Any]:
    """Reads the transformer of a model folder, checked against a network.

    to_train: where the network's codes have rows and columns, the folder may be of a
    CogView, and the text longer than it was; its further positions are drawn as for a
    new network.
    """
    path = folder / "transformer.safetensors"
    params = load_tree(path)
    if to_train and network.grid and "position_embedding" in params:
        config = _read_config(folder)
        if config["family"] == "cogview":
            params = _from_cogview(folder, config, params, network.grid)
        held = params["position_embedding"]
        missing = max(0, network.table_positions - len(held))
        drawn = np.random.default_rng(0).normal(0, 0.02, (missing, *held.shape[1:]))
        drawn = drawn.astype(held.dtype)
        params = {**params, "position_embedding": np.concatenate([held, drawn])}
    check_leaves(flatten(params), flatten(param_shapes(network)), str(path))
    return params


def _from_cogview(folder: Path, config, params, grid: int) -> dict[str, Any]:
    """Parameters of a CogView folder as a start for ERNIE-ViLG."""
    settings = section(
        cogview.TransformerConfig, config.get("transformer", {}), "transformer"
    )
    rows = settings.text_len + 4 + grid**2
    if settings.positions != "fixed" or len(params["position_embedding"]) != rows:
        raise UserError(
            f"{folder} is a CogView that ERNIE-ViLG cannot start from: expected "
            f"positions 'fixed' and codes of {grid} x {grid}"
        )
    return ernie_vilg.from_cogview(params, settings.text_len, grid)


def load_reconstructor(folder: Path, parts: Parts) -> Reconstruction | None:
    """Reads the reconstructor of a model folder, None if the config names none.

    Its weights are checked against the tokenizer and transformer of `parts`.
    """
    values = _read_config(folder).get("reconstructor")
    if values is None:
        return None
    if parts.family != "ernie_vilg":
        raise UserError(
            f"{folder}/config.json has a reconstructor: only family 'ernie_vilg' has "
            f"one, not {parts.family!r}"
        )
    config = section(ReconstructorConfig, values, "reconstructor")
    path = folder / "reconstructor.safetensors"
    params = load_tree(path)
    try:
        wanted = reconstructor.param_shapes(
            config, parts.tokenizer.config, parts.transformer.width
        )
    except ValueError as error:
        raise UserError(f"{folder}/config.json: {error}") from error
    check_leaves(flatten(params), flatten(wanted), str(path))
    return Reconstruction(config, params)


def load_tokenizer(folder: Path) -> ImageTokenizer:
    """Reads the image tokenizer of a tokenizer or model folder.

    Raises UserError for a missing or damaged file and for weights that do not fit.
    """
    values = dict(_read_config(folder).get("tokenizer", {}))
    # Folders older than the second kind do not say theirs.
    kind = values.pop("kind", "vqvae")
    if kind not in KINDS:
        raise UserError(
            f"{folder}/config.json: tokenizer kind is {kind!r}, expected one of "
            f"{', '.join(KINDS)}"
        )
    config = section(KINDS[kind][0], values, "tokenizer")
    path = folder / "tokenizer.safetensors"
    params = load_tree(path)
    size = config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = jax.eval_shape(network_of(config).init, jax.random.key(0), images)
    codebook = (config.codebook_size, config.code_dim)
    wanted = dict(init["params"]) | {
        "codebook": jax.ShapeDtypeStruct(codebook, jnp.float32)
    }
    check_leaves(flatten(params), flatten(wanted), str(path))
    return ImageTokenizer(config, params, params.pop("codebook"))


def digest(tokenizer: ImageTokenizer) -> str:
    """sha256 of an image tokenizer: the same for a folder, its copy and its export."""
    found = hashlib.sha256(
        json.dumps(dataclasses.asdict(tokenizer.config), sort_keys=True).encode()
    )
    leaves = flatten({**tokenizer.params, "codebook": tokenizer.codebook})
    for name, leaf in sorted(leaves.items()):
        leaf = np.asarray(leaf)
        found.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def save(parts: Parts, folder: Path, dtype: str | None = None) -> Path:
    """Writes the model folder; `dtype` "float16" halves its size."""
    save_tree(folder / "transformer.safetensors", parts.params, dtype)
    write_atomic(folder / "text.model", parts.text.serialized)
    # The kernel chosen for the training machine is not a property of the model.
    transformer = dataclasses.replace(parts.transformer, implementation="auto")
    config = {
        "family": parts.family,
        "transformer": dataclasses.asdict(transformer),
        "sampler": dataclasses.asdict(parts.sampler),
        "card": parts.card,
    }
    if parts.reconstructor:
        save_tree(
            folder / "reconstructor.safetensors", parts.reconstructor.params, dtype
        )
        config["reconstructor"] = dataclasses.asdict(parts.reconstructor.config)
    return save_tokenizer(parts.tokenizer, folder, dtype, config)


def save_tokenizer(
    tokenizer: ImageTokenizer,
    folder: Path,
    dtype: str | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Writes the tokenizer folder; `config` adds sections to its config.json."""
    tree = {**tokenizer.params, "codebook": tokenizer.codebook}
    save_tree(folder / "tokenizer.safetensors", tree, dtype)
    config = {
        "format": FORMAT,
        "family": "cogview",
        "tokenizer": {
            "kind": kind_of(tokenizer.config),
            **dataclasses.asdict(tokenizer.config),
        },
        **(config or {}),
    }
    # Last: a folder without config.json is not yet a model.
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "config.json", text)
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    config = load_json(folder / "config.json")
    if config.get("format") != FORMAT or config.get("family") not in FAMILIES:
        raise UserError(
            f"{folder}/config.json is format {config.get('format')!r} of family "
            f"{config.get('family')!r}: this version reads {FORMAT} of "
            f"{', '.join(map(repr, FAMILIES))}"
        )
    return config
