"""CogView's checkpoints of captions and of super-resolution, as its public code reads.

All three have the same tensors; a JSON file beside them says which they are.
"""

import json

import numpy as np
import pytest

import cogjax
from cogjax.data.text import TextTokenizer
from cogjax.data.vocab import Vocab
from cogjax.errors import UserError
from cogjax.families.cogview import presets
from cogjax.importing import import_model
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.vqvae import VQVAE
from cogjax.pipelines.enlarge import Enlarger
from cogjax.sampling.tokens.autoregressive import Sampler
from tests.importing import public
from tests.programs import random_params


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Task -> model folder."""

    def make(task):
        folder = public.write_cogview(tmp_path_factory.mktemp("source"))
        (folder / "args.json").write_text(json.dumps({"generation_task": task}))
        out = tmp_path_factory.mktemp("model") / "cogview"
        import_model([folder], out)
        return out

    return make


class Sums(Enlarger):
    """Draws what the model of `record_cogview.py` does, and keeps what it reads."""

    def _fill(self, prompts, there, *_):
        drawn = []
        rows = zip(prompts.ids, prompts.positions, prompts.num_padding, strict=True)
        for (ids, positions, padding), [codes] in zip(rows, there, strict=True):
            self.contexts.append(np.stack([ids[padding:], positions[padding:]]))
            drawn.append(self._continued(codes.copy(), ids[-1], positions[-1]))
        return drawn

    def _continued(self, codes, before, position):
        for i, code in enumerate(codes):
            if code < 0:
                codes[i] = (3 * position + 5 * before + 1) % self.num_codes
            before, position = codes[i], 4 + i
        return codes


def test_windows_are_those_of_the_release(models):
    """What each reads, at which positions, and the codes of the large image."""
    model = cogjax.load(models("super-resolution"))
    assert isinstance(model, Enlarger) and model.model.sampler == Sampler(1.02, 200)
    assert model.layout.text_len == public.COGVIEW.max_positions - 1024 - 8
    with np.load(public.CASES / "cogview-enlarged.npz") as case:
        expected = dict(case)
    sums = Sums(model.model)
    sums.contexts, pieces = [], [5, 17, 200]
    sums.pieces = lambda text: pieces
    found = sums.enlarge_codes(expected["codes"][None], "a text of three pieces")
    seen = np.stack(sums.contexts)
    np.testing.assert_array_equal(seen, expected["contexts"])
    np.testing.assert_array_equal(found[0], expected["large"])


@pytest.fixture(scope="module")
def small():
    """An enlarger of 4 x 4 codes with random weights."""
    tokenizer = presets.TOKENIZERS["nano"]
    words = TextTokenizer.train(["a red cat", "two blue dogs"] * 9, 280)
    config = presets.TRANSFORMERS["nano"]
    layout = presets.make_layout(tokenizer, words.size, config)
    layout = type(layout)(**vars(layout) | {"enlarges": True})
    network = presets.make_transformer(config, layout)
    length = layout.enlarging_len + 16
    sequence = type(network.sequence).causal(length)
    network = type(network)(**vars(network) | {"sequence": sequence})
    ids = np.zeros((1, 2), np.int32)
    params = random_params(ImageLM(network), ids, ids)
    pixels = np.zeros((1, 16, 16, 3), np.float32)
    codebook = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    parts = {
        "transformer": Component(network, params),
        "tokenizer": Component(
            tokenizer, random_params(VQVAE(tokenizer), pixels), {"codebook": codebook}
        ),
    }
    return Model("cogview", parts, layout, words, Sampler(temperature=0))


def test_codes_of_a_window_are_the_likeliest(small):
    """The whole sequence at once, without a cache, for texts of two lengths."""
    model = Enlarger(small)
    texts = ["a red cat", "dogs"]
    rng = np.random.default_rng(1)
    codes = rng.integers(32, size=(2, 4, 4))
    large = model.enlarge_codes(codes, texts)
    prompts = model.layout.enlarging_prompts(
        [model.pieces(text) for text in texts], codes[:, :2, :2].reshape(2, -1)
    )
    first = large[:, :4, :4].reshape(2, -1)
    part, length = small["transformer"], prompts.ids.shape[1]
    ids = np.concatenate([prompts.ids, first[:, :-1]], axis=1)
    places = np.concatenate([prompts.positions, np.tile(4 + np.arange(15), (2, 1))], 1)
    visible = np.arange(length) >= prompts.num_padding[:, None]
    logits, _ = part.network.apply({"params": part.params}, ids, places, visible)
    best = np.asarray(logits)[:, length - 1 :, :32].argmax(-1)
    np.testing.assert_array_equal(first, best)
    images = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    pixels = model.enlarge(images, texts)
    assert pixels.shape == (2, 32, 32, 3) and pixels.std() > 0
    with pytest.raises(UserError, match="2 images but 1 texts"):
        model.enlarge(images, texts[:1])


def test_captions_have_no_end(models):
    """As many pieces as the release draws, and no command among them."""
    model = cogjax.load(models("image2text"))
    assert model.layout.caption_len == min(20, model.layout.text_len)
    ids = model.text_ids(None)
    vocab = Vocab(24, 280)
    assert ids.end is None
    allowed = np.flatnonzero(ids.allowed) + ids.first
    assert vocab.text_start <= allowed.min() and allowed.max() < vocab.command_start


def test_a_task_that_is_none(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_cogview(folder)
    (folder / "args.json").write_text('{"generation_task": "draw"}')
    with pytest.raises(UserError, match="says generation_task 'draw': text2image, ima"):
        import_model([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()
