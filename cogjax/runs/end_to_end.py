"""What an end-to-end run has besides a transformer's: pictures, and another start."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cogjax import model_folder
from cogjax.data import records
from cogjax.data.vocab import Vocab
from cogjax.evaluate.lpips import lpips_params
from cogjax.model_folder import ImageTokenizer, Parts
from cogjax.models.image_lm import ImageLMConfig
from cogjax.models.reconstructor import decoder_of
from cogjax.tasks.end_to_end import EndToEndConfig, EndToEndTask


@dataclass(frozen=True)
class PicturedSource:
    """(texts, codes) and the pixels uint8 [size, size, 3], which are read when asked.

    source: of the pictures, in the order of `coded`.
    """

    coded: Sequence[tuple]
    source: Sequence[records.Example]
    size: int

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: int):
        image = records.decode_image(self.source[index].image, self.size)
        return *self.coded[index], image


def make_task(
    network: ImageLMConfig,
    vocab: Vocab,
    tokenizer: ImageTokenizer,
    config: EndToEndConfig,
) -> EndToEndTask:
    """The objective; UserError if it needs LPIPS and there are no weights of it."""
    lpips = lpips_params() if config.perceptual else None
    return EndToEndTask(network, vocab, tokenizer.config, config, lpips)


def start_params(
    task: EndToEndTask, parts: Parts, weights: str, transformer: Any, seed: int
) -> Any:
    """Parameters to start from; None is all of them at random.

    parts: of the run, without parameters. transformer: what the model folder `weights`
    holds, if there is one; its reconstructor is taken too if it has one.
    """
    decoder = task.config.start == "tokenizer"
    if not weights and not decoder:
        return None
    params = jax.jit(task.init)(jax.random.key(seed))[0]
    if decoder:
        own = decoder_of(parts.tokenizer.config, parts.tokenizer.params)
        params["reconstructor"]["decoder"] = own
    if weights:
        params["transformer"] = transformer
        found = model_folder.load_reconstructor(Path(weights), parts)
        if found:
            params["reconstructor"] = found.params
    return params
