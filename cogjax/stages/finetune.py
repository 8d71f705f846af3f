"""A folder of captioned images to a tuned model: the recipe of `cogjax finetune`.

The base brings sizes, tokenizers and sampler, `recipe` chooses the rest of a config,
and `stages/run.py` trains it.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax import model_folder
from cogjax.catalogue import families, resolve
from cogjax.data import records
from cogjax.errors import UserError
from cogjax.files import check_outside
from cogjax.model import Model
from cogjax.parallel.mesh import check_batch, make_mesh
from cogjax.stages import run as launch
from cogjax.stages.finetune_images import captions, check_same, data_set
from cogjax.stages.sections import RunConfig
from cogjax.train.processes import say

BATCH = 16


@dataclass(frozen=True)
class FineTuning:
    """What is asked for.

    source: folder, CSV or .tar of captioned images, or a data set. out: the model
    folder to write. base: model to start from. workdir: of the run, which the same call
    resumes. rank: of LoRA; 0 tunes all weights. base_data: data set of the base, whose
    images are mixed in against forgetting. steps: at most, 0 leaves them to the recipe.
    prompts: of the sample grids; () takes captions that are held out. stage: of a
    cascade, the one that is tuned; "" is all, one after the other.
    """

    source: str
    out: str
    base: str = "emoji"
    workdir: str = ""
    rank: int = 0
    base_data: str = ""
    steps: int = 0
    prompts: tuple[str, ...] = ()
    stage: str = ""
    overwrite: bool = False
    progress: Callable[[int, int, str], None] = lambda done, total, label: None

    @property
    def folder(self) -> Path:
        """Folder of the run: beside the model if nothing is said."""
        return Path(self.workdir or f"{self.out}-run")


class _Network(NamedTuple):
    """A network of the base that is tuned: its name there, the task that trains it, and
    the sections of a config as of `Stage.tunes`. folder: of its run.
    """

    name: str
    task: str
    sections: Mapping[str, Any]
    folder: Path


class Tuned(NamedTuple):
    """model: folder of the tuned model. runs: those of its runs, one, or one a stage of
    a cascade.
    """

    model: Path
    runs: tuple[Path, ...]


def finetune(asked: FineTuning) -> Tuned:
    """Trains and writes the tuned model.

    UserError for what does not fit, before any training.
    """
    base, networks = _checked(asked)
    asked.folder.mkdir(parents=True, exist_ok=True)
    check_same(asked.folder, asked.source, asked.base_data)
    data = _data(asked, base, asked.folder)
    configs = [_config(asked, base, network, data) for network in networks]
    for network, config in zip(networks, configs, strict=True):
        _check_run(config, network.folder)
    if kept := _kept(base, networks):
        say(f"not tuned, and kept as in {asked.base}: {', '.join(kept)}")
    exports = {}
    for network, config in zip(networks, configs, strict=True):
        if below := exports.get(_below(base, network.name)):
            # A stage that enlarges shows what those below have learnt already.
            config["data"]["below"] = str(below)
        exports[network.name] = launch.train(config, network.folder)
    about = {"base": dict(base.card), "images": str(data.resolve())}
    made = model_folder.save(
        _whole(asked, exports, about), asked.out, None, asked.overwrite
    )
    return Tuned(made, tuple(network.folder for network in networks))


def _whole(asked: FineTuning, exports: dict[str, Path], about: dict[str, Any]) -> Model:
    """The base with what each run has learnt, by its name. about: for the card."""
    last = model_folder.load_outline([*exports.values()][-1])
    card = {"name": Path(asked.out).name, "what": f"{asked.base}, fine-tuned", **about}
    tuned = {name: model_folder.load_component(exports[name], name) for name in exports}
    whole = model_folder.load(asked.base)
    # Licences and sources of the base are true of the tuned model, its figures are not.
    return dataclasses.replace(
        whole,
        components={**whole.components, **tuned},
        card={**last.card, **card},
        words=last.words,
    )


def check(asked: FineTuning) -> dict[str, Any]:
    """All checks of `finetune`, and what it would do: {what: value}.

    Images are read into a folder that goes again.
    """
    base, networks = _checked(asked)
    if asked.folder.is_dir():
        check_same(asked.folder, asked.source, asked.base_data, keep=False)
    with tempfile.TemporaryDirectory() as folder:
        data, found = _data(asked, base, Path(folder)), {"base": asked.base}
        for split, count in records.read_manifest(data).counts.items():
            found[f"images of {split}"] = count
        for network in networks:
            own = _checks(_config(asked, base, network, data), network.folder)
            many = f"{network.name}: " if len(networks) > 1 else ""
            found |= {f"{many}{what}": value for what, value in own.items()}
    if kept := _kept(base, networks):
        found["stages that stay as they are"] = ", ".join(kept)
    return found


def _check_run(config: dict[str, Any], folder: Path) -> RunConfig:
    """The typed config of a run in a folder; UserError for what does not fit."""
    stage, run = launch.check(config, folder)
    check_batch(make_mesh(run.mesh), run.train.batch_size)
    if run.lora.rank:
        stage.base(run)
    stage.task(run)
    return run


def _checks(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What one run would do."""
    run = _check_run(config, folder)
    found = {"task": run.name, "steps at most": run.train.steps}
    found |= {"images a step": run.train.batch_size, "learning rate": run.optim.lr}
    found |= launch.describe(config)
    return found | {"prompts": ", ".join(run.sample.prompts)}


def recipe(images: int, rank: int, held_out: int, steps: int = 0) -> dict[str, Any]:
    """Sections train, optim and eval for so many images; not measured yet.

    Each image is seen 40 times, within 200 to 4,000 steps; the run ends earlier where
    the loss of the images held out has not fallen in three evaluations, at its lowest.
    """
    devices = jax.device_count()
    batch = -(-BATCH // devices) * devices
    steps = steps or int(np.clip(40 * images // batch, 200, 4000))
    every = max(steps // 10, 1)
    rhythm = {name: every for name in ("save_every", "eval_every", "sample_every")}
    return {
        "train": {
            **rhythm,
            "steps": steps,
            "batch_size": batch,
            "log_every": max(every // 5, 1),
            "ema_decay": 0.99,
            "keep": 4,
            "patience": 3 if held_out else 0,
        },
        "optim": {
            # Low-rank changes start from nothing and take larger steps.
            "lr": 1e-3 if rank else 2e-4,
            "warmup": 0.05,
            "b2": 0.99,
            "weight_decay": 0.0,
        },
        "eval": {"batches": min(-(-held_out // batch), 16)},
    }


def _checked(asked: FineTuning) -> tuple[Model, list[_Network]]:
    """(the base without its weights, what is tuned in turn)."""
    model_folder.MODEL.check(asked.out, asked.overwrite)
    if not Path(asked.source).exists():
        raise UserError(f"there is no {asked.source}: give a folder of images")
    check_outside(asked.folder, asked.source)
    base = model_folder.load_outline(asked.base)
    found = _networks(asked, base)
    if not found:
        raise UserError(
            f"{asked.base} is not tuned in one command, only transformers over image "
            "codes and stages of a cascade that are not distilled are: write a config "
            "with data.weights (docs/finetuning.md)"
        )
    if asked.stage:
        found = _chosen(asked, base, found)
    _check_sizes(asked, base, found)
    return base, found


def _chosen(asked: FineTuning, base: Model, found: list[_Network]) -> list[_Network]:
    """The one of --stage; UserError for none."""
    if not _stages(base):
        raise UserError(
            f"--stage {asked.stage}: {asked.base} is no cascade: leave --stage out"
        )
    if chosen := [each for each in found if each.name == asked.stage]:
        return chosen
    there = ", ".join(each.name for each in found)
    raise UserError(
        f"--stage {asked.stage}: {asked.base} has no such stage to tune, but {there}"
    )


def _check_sizes(asked: FineTuning, base: Model, networks: list[_Network]) -> None:
    """UserError for a data set whose images a stage would learn enlarged."""
    for source in filter(None, (asked.source, asked.base_data)):
        if records.DATA_SET.owned(Path(source)) is None:
            continue
        had = records.read_manifest(source).image_size
        for name in (network.name for network in networks):
            wanted = getattr(base[name].config, "image_size", 0)
            if had < wanted:
                raise UserError(
                    f"the images of {source} have {had} pixels, and {name} of "
                    f"{asked.base} learns from {wanted}: make the data set with "
                    f"--size {wanted}"
                )


def _stages(base: Model) -> tuple[str, ...]:
    """Names of the networks of a cascade, in turn; () of another model."""
    return getattr(base.layout, "components", ())


def _kept(base: Model, networks: list[_Network]) -> list[str]:
    """Stages of a cascade that are not tuned."""
    tuned = {network.name for network in networks}
    return [name for name in _stages(base) if name not in tuned]


def _below(base: Model, name: str) -> str:
    """The stage of a cascade whose images another enlarges; "" for none."""
    names = ("", *_stages(base))
    return names[names.index(name) - 1] if name in names else ""


def _networks(asked: FineTuning, base: Model) -> list[_Network]:
    """What of the base is tuned, in the order of its components."""
    tasks = families()[base.family].stages if base.family else {}
    source, found = _place(asked.base), {}
    for task, named in tasks.items():
        for name, sections in resolve(named).tunes(base, source).items():
            found.setdefault(name, (task, sections))
    folders = {name: asked.folder / name for name in _stages(base)}
    return [
        _Network(name, *found[name], folders.get(name, asked.folder))
        for name in base.components
        if name in found
    ]


def _config(
    asked: FineTuning, base: Model, network: _Network, data: Path
) -> dict[str, Any]:
    """The resolved config of the run that tunes a network on a data set."""
    counts = records.read_manifest(data).counts
    held_out = counts.get("val", 0)
    if not held_out:
        say("no image is held out: the run ends after all of its steps")
    settings = resolve(families()[base.family].stages[network.task]).settings
    known = {each.name for each in dataclasses.fields(settings)}
    # Shares of texts that are cut anew, or left out for guidance.
    usual = {"bpe_dropout": 0.0, "caption_dropout": 0.1}
    usual = {k: v for k, v in usual.items() if k in known}
    own, weights = network.sections, _place(asked.base)
    read = {"path": str(data.resolve()), "weights": weights}
    return {
        "task": {"name": network.task} | usual | dict(own.get("task", {})),
        "model": dict(own.get("model", {})),
        "data": read | dict(own.get("data", {})),
        "lora": {"rank": asked.rank, "alpha": 2.0 * asked.rank} if asked.rank else {},
        "sample": {
            "prompts": asked.prompts or captions(data, "val" if held_out else "train"),
            "num_images": 2,
            "sampler": dataclasses.asdict(base.sampler) | dict(own.get("sampler", {})),
        },
        **recipe(counts["train"], asked.rank, held_out, asked.steps),
    }


def _data(asked: FineTuning, base: Model, folder: Path) -> Path:
    return data_set(asked.source, asked.base_data, base, folder, asked.progress)


def _place(base: str) -> str:
    """A folder from the root, so that the run is resumed from anywhere; or a name."""
    return str(Path(base).resolve()) if Path(base).is_dir() else base
