"""ERNIE-ViLG's stages: both directions at once (section 3.1), and end to end (3.2)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout, TwoWayMixture
from cogjax.families.ernie_vilg.presets import (
    NUM_PIECES,
    TransformerConfig,
    make_layout,
    make_transformer,
    start_from,
)
from cogjax.interop.lpips import lpips_params
from cogjax.model import Component, Model
from cogjax.models.reconstructor import (
    ReconstructorNetworkConfig,
    decoder_of,
    expected_codes,
)
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.masks import Grid
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.code_model import Setup
from cogjax.stages.coded import CodedSplits, say_cut
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Stage
from cogjax.stages.transformer import TransformerStage


class BidirectionalStage(TransformerStage):
    """Text to image and image to text at once, and questions if there are some."""

    family = "ernie_vilg"
    settings = TwoWayMixture
    model_section = TransformerConfig
    # The paper's is a VQGAN of as many codes and pixels.
    paper = VQVAEConfig(), NUM_PIECES
    make_layout = staticmethod(make_layout)
    make_network = staticmethod(make_transformer)
    images = False  # Whether examples have the pixels too.

    def start_from(self, params: Any, layout: Any, setup: Setup) -> Any:
        """Those of a model with a fixed place for each code, or UserError."""
        return start_from(params, layout, setup.network)

    def make_task(self, setup: Setup, lpips: Any = None) -> Any:
        """The loss compares no images."""
        del lpips
        settings = setup.settings
        weights = settings.text_weight, settings.answer_weight
        return TwoWayTask(setup.network, setup.layout.vocab, *weights)

    def asks(self, settings: TwoWayMixture) -> bool:
        """Whether the questions of data.questions are learnt."""
        return settings.questions > 0

    def examples(self, setup: Setup, splits: CodedSplits, split: str, training: bool):
        """(source of a split, function of its item and a generator -> example)."""
        del training
        settings, asked = setup.settings, None
        if self.asks(settings):
            _check_answers(setup)
            asked = splits.questions(split)
            _say_what_is_cut(setup, asked, split)
        example = functools.partial(_example, settings, setup.layout, asked)
        return splits.captions(split, images=self.images), example


class EndToEndStage(BidirectionalStage):
    """The same with a reconstructor, whose loss reaches the transformer."""

    settings = EndToEndConfig
    images = True
    base = Stage.base  # Two networks are learnt.

    def make_layout(
        self,
        tokenizer: TokenizerConfig,
        num_text: int,
        transformer: TransformerConfig,
        shapes: tuple[Grid, ...] = (),
    ) -> TwoWayLayout:
        """ValueError for other shapes than squares, which the reconstructor makes."""
        if shapes:
            raise ValueError(
                "the data has oblong images, and the reconstructor makes squares: "
                "choose task 'ernie_vilg', or build the data without --aspect"
            )
        return make_layout(tokenizer, num_text, transformer)

    def make_task(self, setup: Setup, lpips: Any = None) -> EndToEndTask:
        """lpips: None not to train but look."""
        return EndToEndTask(
            setup.network,
            setup.layout.vocab,
            setup.tokenizer.config,
            setup.settings,
            lpips,
        )

    def lpips(self, setup: Setup) -> Any:
        """Weights of the perceptual distance, None if the objective has none."""
        return lpips_params() if setup.settings.perceptual else None

    def model(self, setup: Setup, params: Any, sampler: Sampler) -> Model:
        """The model of trained parameters, without the discriminator."""
        model = super().model(setup, params["transformer"], sampler)
        found = Component(_reconstructor(setup), params["reconstructor"])
        return model.with_component("reconstructor", found)

    def start(self, setup: Setup, task: EndToEndTask, run: RunConfig) -> Any:
        """Parameters to start from: data.weights, and a decoder; None is at random."""
        weights, found = run.data.weights, {}
        if weights:
            found["transformer"] = self.given_weights(setup, weights)
            if "reconstructor" in model_folder.load_outline(weights).components:
                found["reconstructor"] = _given_reconstructor(setup, weights)
        decoder = setup.settings.start == "tokenizer"
        if not found and not decoder:
            return None
        params = jax.jit(task.init)(jax.random.key(run.train.seed))[0] | found
        if decoder and "reconstructor" not in found:
            _start_decoder(setup, params)
        return params


BIDIRECTIONAL, END_TO_END = BidirectionalStage(), EndToEndStage()


def _example(mixture: TwoWayMixture, layout: Any, asked: Any, item: Sequence, rng):
    drawn = mixture.example(layout, *item, rng)
    return drawn | (mixture.answers(layout, asked, rng) if asked else {})


def _reconstructor(setup: Setup) -> ReconstructorNetworkConfig:
    settings, width = setup.settings.reconstructor, setup.network.width
    return ReconstructorNetworkConfig(settings, setup.tokenizer.config, width)


def _given_reconstructor(setup: Setup, source: str) -> Any:
    """Parameters of a model's reconstructor; UserError for other settings."""
    own = model_folder.load_component(source, "reconstructor")
    if own.config != _reconstructor(setup):
        raise UserError(
            f"data.weights, {source}, has another reconstructor than the config "
            f"section 'task': set task.reconstructor to that, {own.config.settings}"
        )
    return own.params


def _start_decoder(setup: Setup, params: dict[str, Any]) -> None:
    """Sets the reconstructor's decoder to the image tokenizer's, and a softmax's map
    to what the transformer's head expects of the codebook."""
    tokenizer, reconstructor = setup.tokenizer, params["reconstructor"]
    reconstructor["decoder"] = decoder_of(tokenizer.config, tokenizer.params)
    if setup.settings.reconstructor.activation == "softmax":
        head = params["transformer"]["token_embedding"]
        head = head[: setup.layout.vocab.num_codes]
        reconstructor |= expected_codes(head, tokenizer.state["codebook"])


def _check_answers(setup: Setup) -> None:
    """UserError for answers that have no positions."""
    answer_len, text_len = setup.settings.answer_len, setup.layout.text_len
    if answer_len > text_len:
        raise UserError(
            f"task.answer_len is {answer_len}, more than model.text_len, {text_len}: "
            "lower it or raise that"
        )


def _say_what_is_cut(setup: Setup, asked: Sequence, split: str) -> None:
    """Counts questions and answers that are longer than what is learnt of them."""
    lengths = [
        (len(question), len(answer))
        for i in range(len(asked))
        for question, answer in asked[i][0]
    ]
    limits = {
        "model.text_len": setup.layout.text_len,
        "task.answer_len": setup.settings.answer_len,
    }
    for which, (setting, most) in enumerate(limits.items()):
        what = f"{('questions', 'answers')[which]} of split '{split}'"
        say_cut([each[which] for each in lengths], most, what, setting)
