"""`cogjax finetune` of a cascade: its stages in turn, or one; nano models."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import model_folder
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.families.imagen.presets import STAGES
from cogjax.families.imagen.stage import SUPER
from cogjax.model import Model
from cogjax.parallel.mesh import make_mesh
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.stages import finetune
from cogjax.stages import run as launch
from cogjax.stages.finetune import FineTuning
from cogjax.stages.sections import DataConfig, RunConfig, SampleConfig
from tests.test_distillation import TEXT, component

pytestmark = pytest.mark.usefixtures("one_device")

SAMPLER = CascadeSampler(steps=(2, 3), guidance=1.0)


@pytest.fixture(scope="module")
def base(nano_folder, tmp_path_factory):
    """Folder of a cascade of two stages that learnt nothing."""
    text = load_text(nano_folder / "text.model")
    parts = {"text_encoder": component(TEXT)}
    parts |= zip(("base", "super_1"), map(component, STAGES["nano"]), strict=True)
    layout = Cascade(("v", "eps"), ("cosine", "linear"), ("cosine",), cleaned=True)
    model = Model("imagen", parts, layout, text, SAMPLER, {"licenses": ["MIT"]})
    return model_folder.save(model, tmp_path_factory.mktemp("cascade") / "base")


@pytest.fixture
def asked(base, nano_data, tmp_path):
    out = str(tmp_path / "mine")
    return FineTuning(str(nano_data), out, str(base), steps=2, prompts=("a cat",))


@pytest.fixture
def configs(monkeypatch):
    """The configs of the runs, each of which adds one to its stage's weights."""
    found = []

    def train(config, workdir):
        found.append(config)
        run = RunConfig.of(config)
        whole = model_folder.load(run.data.weights)
        # What is refused is refused here.
        name, part = launch.find_stage(config).base(run)
        first = part.params["in"]
        params = {**part.params, "in": {**first, "kernel": first["kernel"] + 1}}
        whole = whole.with_component(name, dataclasses.replace(part, params=params))
        return model_folder.save(whole, workdir / "export")

    monkeypatch.setattr(finetune.launch, "train", train)
    return found


def kernels(folder):
    model = model_folder.load(folder)
    return {x: model[x].params["in"]["kernel"] for x in ("base", "super_1")}


def test_stages_are_tuned_in_turn_as_each_was_trained(asked, base, configs):
    folder, runs = finetune.finetune(asked)
    tuned, before = kernels(folder), kernels(base)
    for name in tuned:
        np.testing.assert_allclose(tuned[name], before[name] + 1, atol=1e-5)
    first, second = configs
    assert first["task"] == {"name": "imagen", "prediction": "v", "schedule": "cosine"}
    assert second["task"] == {
        "name": "imagen_super",
        "prediction": "eps",
        "schedule": "linear",
        "augmentation": "cosine",
    }
    # The second run shows images of the tuned base, and each run of its own stages.
    assert "below" not in first["data"]
    assert second["data"]["below"] == str(asked.folder / "base" / "export")
    assert first["sample"]["sampler"]["steps"] == (2,)
    assert second["sample"]["sampler"]["steps"] == (2, 3)
    model = cogjax.load(folder).model
    assert model.sampler == SAMPLER and model.layout.cleaned
    assert model.card["licenses"] == ["MIT"] and model.card["name"] == "mine"
    assert runs == (asked.folder / "base", asked.folder / "super_1")


def test_one_stage_is_tuned_and_the_others_stay(asked, base, configs):
    asked = dataclasses.replace(asked, stage="super_1")
    tuned, before = kernels(finetune.finetune(asked).model), kernels(base)
    np.testing.assert_array_equal(tuned["base"], before["base"])
    np.testing.assert_allclose(tuned["super_1"], before["super_1"] + 1, atol=1e-5)
    [config] = configs
    # What is below the stage is taken from the whole cascade.
    assert config["data"]["below"] == str(base)
    run = RunConfig.of(config)
    below = SUPER._below(run, model_folder.load(base))
    assert below.layout == Cascade(("v",), ("cosine",), cleaned=True)
    assert below.components.keys() == {"text_encoder", "base"}


@pytest.mark.parametrize("own", [{}, {"licence": "Apache-2.0", "what": "T5"}])
def test_the_text_encoder_keeps_its_own_entry_of_the_card(base, own, tmp_path):
    """What is said of the whole cascade is not said of its text encoder."""
    model = model_folder.load(base)
    card = {"what": "draws", "licenses": ["MIT"]} | (
        {"text_encoder": own} if own else {}
    )
    whole = dataclasses.replace(model, card=card)
    folder = str(model_folder.save(whole, tmp_path / "whole"))
    sections = SUPER.tunes(whole, folder)["super_1"]
    data = DataConfig("", weights=folder, **sections["data"])
    sample = SampleConfig(sampler=sections["sampler"])
    run = RunConfig(
        "imagen_super", sections["task"], sections["model"], data, sample=sample
    )
    found = SUPER.export(run, model["super_1"].params, {}).card
    assert found == {**card, "trained": "on, from these weights"}


def test_a_stage_that_is_not_tuned_is_below_as_it_is(
    asked, base, configs, tmp_path, capsys
):
    """The middle one of three is distilled: the last run shows the base's own."""
    model, middle = model_folder.load(base), ("v", "eps", "v")
    third = dataclasses.replace(STAGES["nano"][1], image_size=32, small_size=16)
    layout = Cascade(middle, ("cosine",) * 3, ("linear",) * 2, (0, 4, 0))
    model = dataclasses.replace(model, layout=layout, sampler=CascadeSampler())
    model = model.with_component("super_2", component(third))
    folder = str(model_folder.save(model, tmp_path / "three"))
    asked = dataclasses.replace(asked, base=folder)
    with pytest.raises(UserError, match="have 16 pixels, and super_2 .* from 32"):
        finetune.finetune(asked)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(images / f"{i}.png")
        (images / f"{i}.txt").write_text(f"a cat {i}")
    small = asked.source
    asked = dataclasses.replace(asked, source=str(images))
    with pytest.raises(UserError, match=f"images of {small} have 16 pixels"):
        finetune.check(dataclasses.replace(asked, base_data=small))
    made = finetune.finetune(asked)
    assert made.runs == (asked.folder / "base", asked.folder / "super_2")
    assert f"kept as in {folder}: super_1\n" in capsys.readouterr().out
    assert [config["model"]["image_size"] for config in configs] == [8, 32]
    assert configs[1]["data"]["below"] == folder
    below = SUPER._below(RunConfig.of(configs[1]), model)
    assert below.layout == layout.first(2) and "super_2" not in below.components


def test_what_is_not_tuned_is_said(asked, base, tmp_path):
    with pytest.raises(UserError, match="no such stage to tune, but base, super_1"):
        finetune.check(dataclasses.replace(asked, stage="super_2"))
    model = model_folder.load(base)
    half = dataclasses.replace(model.layout, distilled=(0, 4))
    folder = tmp_path / "half"
    model_folder.save(dataclasses.replace(model, layout=half), folder)
    asked = dataclasses.replace(asked, base=str(folder))
    found = finetune.check(asked)
    assert found["stages that stay as they are"] == "super_1"
    asked = dataclasses.replace(asked, stage="super_1")
    with pytest.raises(UserError, match="no such stage to tune, but base"):
        finetune.check(asked)


def test_one_stage_of_a_cascade_has_a_folder_of_its_own(asked, base, configs, tmp_path):
    """Also where it is the only one that is not distilled."""
    model = model_folder.load(base)
    half = dataclasses.replace(model.layout, distilled=(0, 4))
    folder = model_folder.save(dataclasses.replace(model, layout=half), tmp_path / "h")
    made = finetune.finetune(dataclasses.replace(asked, base=str(folder)))
    assert made.runs == (asked.folder / "base",)


def test_no_stage_is_trained_if_another_cannot_be(asked, configs):
    taken = asked.folder / "super_1" / "export"
    taken.mkdir(parents=True)
    (taken / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="export"):
        finetune.finetune(asked)
    assert not configs


def test_a_check_names_both_runs(asked):
    found = finetune.check(dataclasses.replace(asked, rank=2))
    assert (found["base: task"], found["super_1: task"]) == ("imagen", "imagen_super")
    learnt = found["super_1: parameters"]
    assert 0 < learnt < found["super_1: parameters of the base, not learnt"]
    assert not asked.folder.exists()


@pytest.mark.slow
def test_a_cascade_learns_adapters_of_its_stages(asked, base, monkeypatch):
    """The tuned cascade is the base with both."""
    # For eight devices U-Nets compile for minutes.
    one = jax.devices()[:1]
    monkeypatch.setattr(launch, "make_mesh", lambda config: make_mesh(config, one))
    folder, runs = finetune.finetune(dataclasses.replace(asked, rank=2))
    adapters = {run / "adapter": 1.0 for run in runs}
    used, before = cogjax.load(base, adapters=adapters).model, kernels(base)
    for name, kernel in kernels(folder).items():
        np.testing.assert_allclose(used[name].params["in"]["kernel"], kernel, atol=1e-5)
        assert np.abs(kernel - before[name]).max() > 1e-5
