"""What the card of a model says of which a part was trained on."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax import model_folder
from cogjax.families.cogview.stage import VQ
from cogjax.stages.sections import DataConfig, RunConfig
from cogjax.stages.tokenizer import DECODER
from tests.conftest import make_nano_model

CARD = {
    "name": "first",
    "version": "0.3",
    "what": "draws cats",
    "licenses": ["MIT"],
    "notes": ["of another network"],
    "hardware": "2 cores",
    "figures": {"right": 0.9},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A whole model that has been measured."""
    model = dataclasses.replace(make_nano_model().model, card=CARD)
    return model_folder.save(model, tmp_path_factory.mktemp("card") / "base")


def exported(stage, run):
    task = stage.task(run)
    if stage is DECODER:
        params, state = jax.eval_shape(task.init, jax.random.key(0))
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (params, state))
        return stage.export(run, *zeros)
    return stage.export(run, *stage.start(task, run))


def test_a_tokenizer_says_that_it_is_of_a_model_and_alone(base, tmp_path):
    config = dataclasses.asdict(model_folder.load(base)["tokenizer"].config)
    run = RunConfig("vq", {}, config, DataConfig("", weights=str(base)))
    found = exported(VQ, run)
    assert found.card == {
        "what": "the image tokenizer of first 0.3, alone",
        "licenses": ["MIT"],
        "trained": "on, from these weights",
    }
    alone = model_folder.save(found, tmp_path / "alone")
    run = dataclasses.replace(run, data=DataConfig("", weights=str(alone)))
    assert exported(VQ, run).card == found.card


def test_a_decoder_makes_another_model_of_it(base):
    data = DataConfig("", tokenizer=str(base))
    run = RunConfig("decoder", {"disc_layers": 1}, {}, data)
    found = exported(DECODER, run)
    assert found.components.keys() == {"tokenizer", "transformer"}
    assert found.card == {
        "what": "draws cats",
        "licenses": ["MIT"],
        "notes": ["of another network"],
        "trained": "the image decoder alone, anew, of first 0.3",
    }
