"""Imagen's sizes, as its configs have them."""

import pytest

from cogjax import config as configs
from cogjax.families.imagen.presets import STAGES
from cogjax.stages.run import describe, find_stage
from cogjax.stages.sections import RunConfig

# 2B, 600M and 400M in the paper; what is printed gives less, and then more.
COUNTS = {"base": 2_234_275_843, "super": 484_222_595, "super_1024": 475_825_795}


@pytest.mark.parametrize("stage", COUNTS)
def test_the_papers_stages_have_the_papers_parameters(stage):
    config = configs.load(f"experiments/imagen/paper.py:{stage}")
    assert describe(config)["parameters"] == COUNTS[stage]
    run, found = RunConfig.of(config), find_stage(config)
    settings = found.settings_of(run)
    assert settings.prediction == "eps" and settings.text_dropout == 0.1
    last = stage == "super_1024"
    assert (settings.schedule, settings.crop) == (
        ("linear", 256) if last else ("cosine", 0)
    )


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_enlarges_what_the_one_before_makes(name):
    base, *rest = STAGES[name]
    for below, stage in zip((base, *rest), rest, strict=False):
        assert stage.small_size == below.image_size
        assert stage.text_dim == below.text_dim
