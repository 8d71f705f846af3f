"""What every stage keeps of its contract."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cogjax import catalogue, config, model_folder
from cogjax.catalogue import Family, resolve, stages
from cogjax.data.images import decode_image
from cogjax.data.records import open_split
from cogjax.errors import UserError
from cogjax.pipelines.tokenize import encode
from cogjax.stages.encode import encode_dataset
from cogjax.stages.run import find_stage
from cogjax.stages.sections import RunConfig
from cogjax.stages.sharded import EncodeSettings
from cogjax.stages.stage import Stage

CONFIGS = {
    "vq": "experiments/cogview/emoji.py:tokenizer,nano",
    "masked": "experiments/cogview/masked.py:nano",
    "super": "experiments/cogview/icons_super.py:nano",
    "lm": "experiments/cogview/emoji.py:transformer,nano",
    "ernie_vilg": "experiments/ernie_vilg/shapes.py:transformer,nano",
    "end_to_end": "experiments/ernie_vilg/end_to_end.py:end_to_end,nano",
    "t5": "experiments/imagen/text.py:nano",
    "vqgan": "experiments/vqgan/shapes.py:shapes,nano",
    "dvae": "experiments/dalle/shapes.py:tokenizer,nano",
    "dalle": "experiments/dalle/shapes.py:transformer,nano",
    "decoder": "experiments/vqgan/decoder.py:shapes,nano",
    "clip": "experiments/clip/icons.py:nano",
}
# In tests of their own, which have what they start from.
ELSEWHERE = {"imagen", "imagen_super", "imagen_distill", "imagen_super_distill"}
ELSEWHERE |= {"dalle_mini", "llamagen", "llamagen_captions", "mindalle", "rudalle"}


def test_every_task_names_a_stage():
    assert stages().keys() == CONFIGS.keys() | ELSEWHERE
    assert all(isinstance(resolve(spec), Stage) for spec in stages().values())


@pytest.mark.parametrize("task", CONFIGS)
def test_batches_are_what_the_task_says(task, nano_data, nano_folder, tmp_path):
    values = {"data.path": nano_data, "train.batch_size": 4, "eval.batches": 1}
    if task not in ("t5", "vq", "vqgan", "clip", "dvae"):
        values["data.tokenizer"] = nano_folder
    if task == "super":
        values["task.image_size"] = 32
    if task in (
        "lm",
        "masked",
        "super",
        "dalle",
        "ernie_vilg",
        "end_to_end",
        "clip",
        "t5",
    ):
        values["data.text"] = nano_folder / "text.model"
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS[task], words)
    assert found["task"]["name"] == task
    job = find_stage(found).job(RunConfig.of(found), tmp_path)
    spec = job.task.batch_spec(4)
    for batch in (next(job.batches(0)), *job.eval_batches):
        got = jax.tree.map(lambda x: (x.shape, x.dtype), dict(batch))
        assert got == jax.tree.map(lambda x: (x.shape, x.dtype), spec)


def test_a_masked_model_starts_from_a_causal_one(nano_data, nano_folder, tmp_path):
    values = {"data.path": nano_data, "data.tokenizer": nano_folder}
    values |= {"data.text": nano_folder / "text.model", "data.weights": nano_folder}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS["masked"], words)
    job = find_stage(found).job(RunConfig.of(found), tmp_path)
    trained = model_folder.load(nano_folder)["transformer"].params
    jax.tree.map(np.testing.assert_array_equal, job.start_params, trained)


@pytest.fixture
def enlarging(nano_data, nano_folder):
    """Stage and run of super-resolution from 16 to 32 px, and its config's words."""

    def make(**values):
        values = {"data.path": nano_data, "train.batch_size": 4, **values}
        values = {"data.tokenizer": nano_folder, "data.text": nano_folder, **values}
        values = {"task.image_size": 32, "sample.num_images": 2, **values}
        words = [f"--config.{key}={value}" for key, value in values.items()]
        found = config.load(CONFIGS["super"], words)
        return find_stage(found), RunConfig.of(found)

    return make


def test_super_resolution_learns_both_sizes_and_shows_them(
    enlarging, nano_data, nano_model, tmp_path
):
    stage, run = enlarging()
    job = stage.job(run, tmp_path)
    first = next(job.batches(0))
    source = open_split(nano_data, "train")
    pixels = [
        np.stack([decode_image(source[i].image, size) for i in range(len(source))])
        for size in (16, 32)
    ]
    small, large = (
        encode(nano_model.model["tokenizer"], x).reshape(len(x), -1) for x in pixels
    )
    start = nano_model.layout.prompt_len
    for ids, codes in zip(first["ids"], first["codes"], strict=True):
        which = (large == codes).all(1).argmax()
        np.testing.assert_array_equal(large[which], codes)
        np.testing.assert_array_equal(ids[start : start + 16], small[which])
    shown, asked = {}, []

    def enlarge(images, texts, **settings):
        asked.append((texts, settings))
        return images.repeat(2, 1).repeat(2, 2)

    logger = SimpleNamespace(images=lambda step, images, texts: shown.update(images))
    hook = stage.sample_hook(
        stage.setup(run), run, lambda _: SimpleNamespace(enlarge=enlarge)
    )
    hook(5, SimpleNamespace(ema=None), logger)
    assert asked == [(["a red apple 10", "a red apple 11"], {"size": 32, "seed": 0})]
    assert shown["enlarged"].shape == (3 * 32 + 2 * 2, 2 * 32 + 2, 3)
    np.testing.assert_array_equal(
        shown["enlarged"][68:, :32],
        decode_image(open_split(nano_data, "val")[0].image, 32),
    )


def test_super_resolution_starts_from_a_cogview_or_from_its_own(
    enlarging, nano_folder, tmp_path
):
    stage, run = enlarging(
        **{"data.weights": nano_folder, "model.positions": "running"}
    )
    setup = stage.setup(run)
    trained = model_folder.load(nano_folder)["transformer"].params
    params = stage.start(setup, None, run)
    table = params.pop("position_embedding")
    known = dict(trained)
    known = known.pop("position_embedding"), known
    np.testing.assert_array_equal(table[: len(known[0])], known[0][: len(table)])
    jax.tree.map(np.testing.assert_array_equal, params, known[1])
    # A model of its own has sizes, and the tokenizer at its size.
    params["position_embedding"] = table
    model = stage.model(setup, params, stage.sampler_of(run))
    path = model_folder.save(model, tmp_path / "super")
    words = [f"--config.data.{key}={path}" for key in ("weights", "path")]
    words += ["--config.task.name=super", "--config.data.tokenizer="]
    words += ["--config.data.text="]
    found = config.load(CONFIGS["super"], words) | {"model": {}}
    found["task"].pop("image_size")
    run = RunConfig.of(found)
    setup = stage.setup(run)
    assert setup.layout == model.layout and setup.tokenizer.config.image_size == 32
    again = stage.start(setup, None, run)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_what_super_resolution_cannot_learn(enlarging, nano_folder, tmp_path):
    for size, message in ((33, "no multiple of the product"), (40, "a multiple of 4")):
        stage, run = enlarging(**{"task.image_size": size})
        with pytest.raises(UserError, match=message):
            stage.setup(run)
    stage, run = enlarging()
    encode_dataset(run.data.path, nano_folder, tmp_path / "codes", EncodeSettings())
    stage, run = enlarging(**{"data.path": tmp_path / "codes"})
    with pytest.raises(UserError, match="codes of one size, and the model learns imag"):
        stage.job(run, tmp_path / "run")


def test_a_plan_is_of_the_tokenizers_of_the_weights(nano_folder):
    """As training is, where the config names no other."""
    values = {"weights": nano_folder, "path": "x", "tokenizer": "", "text": ""}
    words = [f"--config.data.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS["masked"], words)
    planned = find_stage(found).plan(RunConfig.of(found))
    assert planned.num_codes == model_folder.load(nano_folder).layout.vocab.num_codes


def test_two_families_have_no_task_of_one_name(monkeypatch):
    both = {name: Family(name, "", stages={"same": "x:y"}) for name in ("one", "two")}
    monkeypatch.setattr(catalogue, "families", lambda: both)
    with pytest.raises(UserError, match="family 'two' has a task 'same', which"):
        stages()
