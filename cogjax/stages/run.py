"""From a config to a training run: finds the stage, builds its job, then calls `fit`.

The task of the config names the stage (`cogjax/catalogue.py`). What a run has learnt is
written to WORKDIR/export when it ends.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cogjax import model_folder
from cogjax.adapter import ADAPTER, save_adapter
from cogjax.catalogue import resolve, stages
from cogjax.config import load_json, section
from cogjax.data.word_list import WordList
from cogjax.errors import UserError, did_you_mean
from cogjax.nn.lora import LoRAConfig
from cogjax.parallel.mesh import make_mesh
from cogjax.parallel.powersgd import count_bytes
from cogjax.stages.lora import LoRAStage
from cogjax.stages.refresh import Refresh
from cogjax.stages.sections import RunConfig
from cogjax.stages.seen_words import seen_words
from cogjax.stages.stage import Stage
from cogjax.stages.tokenizer import ImagesStage
from cogjax.train.checkpoint import restore_params
from cogjax.train.compression import compressed_matrices
from cogjax.train.loop import fit
from cogjax.train.session import Job


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> Path:
    """Runs or resumes the training that a resolved config describes.

    Returns the export folder, beside which LoRA's adapter is, in `adapter`. UserError
    for anything in the config or data that does not fit, before any compilation.
    """
    workdir = Path(workdir)
    stage, run = check(config, workdir)
    mesh = make_mesh(run.mesh)

    report = Refresh(workdir)

    def job() -> Job:
        made = stage.job(run, workdir)
        hooks = (*made.hooks, *report.hooks(run.train))
        return dataclasses.replace(
            made, config=dict(config), hooks=hooks, ended=report.write
        )

    # Without a name here: `fit` lets go of the weights that a run starts from.
    fit(job(), run.train, run.optim, mesh, workdir)
    trained = _Trained.of(workdir)
    if run.lora.rank:
        trained.save_adapter(workdir / "adapter", overwrite=True)
    return trained.save(workdir / "export", None, overwrite=True)


def check(config: Mapping[str, Any], workdir: Path) -> tuple[Stage, RunConfig]:
    """What `train` refuses before it reads anything; the stage and its typed config.

    UserError for a wrong key, and for a folder of the run that holds something else.
    """
    model_folder.MODEL.check(workdir / "export", overwrite=True)
    stage, run = _found(config)
    if run.lora.rank:
        ADAPTER.check(workdir / "adapter", overwrite=True)
    return stage, run


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the latest checkpoint's EMA weights of a run as a tokenizer or model.

    With LoRA the adapter is merged into them. With `overwrite` an earlier one in `out`
    is replaced; UserError if `out` holds anything else.
    """
    out = model_folder.MODEL.check(out, overwrite)
    return _Trained.of(Path(workdir)).save(out, dtype, overwrite)


def export_adapter(
    workdir: str | os.PathLike, out: str | os.PathLike, overwrite: bool = False
) -> Path:
    """As `export`, of a run with LoRA the adapter alone; UserError for another run."""
    out = ADAPTER.check(out, overwrite)
    return _Trained.of(Path(workdir)).save_adapter(out, overwrite)


def write_codebook(workdir: str | os.PathLike) -> None:
    """Counts and draws the codes of a tokenizer's latest checkpoint for its report.

    UserError for a run of another kind, or without its data.
    """
    config = load_json(Path(workdir) / "config.json")
    if not isinstance(find_stage(config), ImagesStage):
        raise UserError(
            f"{workdir} trains no image tokenizer, so it has no codebook: leave out "
            "--codebook"
        )
    trained = _Trained.of(Path(workdir))
    parts = trained.params, trained.state, trained.step
    trained.stage.write_board(trained.run, *parts, trained.workdir)


@dataclass(frozen=True, eq=False)
class _Trained:
    """A run at its latest checkpoint."""

    workdir: Path
    stage: Stage
    run: RunConfig
    params: Any
    state: Any
    fingerprint: str
    step: int

    @classmethod
    def of(cls, workdir: Path) -> "_Trained":
        """UserError if a model that the run reads is another one now."""
        config = load_json(workdir / "config.json")
        found = restore_params(workdir, "ema")
        stage, run = _found(config)
        digests = set(filter(None, stage.sources_digest(run).split("/")))
        if not digests <= set(found[2].split("/")):
            raise UserError(
                f"a model that {workdir} reads is another one now than it was trained "
                "with: put that back where the config's section 'data' says, and "
                "export again"
            )
        return cls(workdir, stage, run, *found)

    @functools.cached_property
    def words(self) -> WordList | None:
        """Words of all texts of the training, if they are known."""
        return seen_words(self.run.data, self.fingerprint)

    def save(self, out: Path, dtype: str | None, overwrite: bool) -> Path:
        """Writes the model folder."""
        model = self.stage.export(self.run, self.params, self.state)
        if model.text:
            model = dataclasses.replace(model, words=self.words)
        return model_folder.save(model, out, dtype, overwrite)

    def save_adapter(self, out: Path, overwrite: bool) -> Path:
        """Writes the adapter folder; UserError if there is no adapter."""
        if not isinstance(self.stage, LoRAStage):
            raise UserError(f"{self.workdir} was trained without LoRA: no adapter")
        adapter, base = self.stage.adapter(self.run, self.params)
        adapter = dataclasses.replace(adapter, words=self.words)
        return save_adapter(adapter, base.params, out, overwrite)


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter counts and sizes of a config, without data or compilation."""
    stage, run = _found(config)
    task, powersgd = stage.task(run), run.optim.powersgd
    params, state = jax.eval_shape(task.init, jax.random.key(0))
    sizes = {"parameters": _count(params)}
    if run.lora.rank:
        base = {name: state[name] for name in task.frozen}
        sizes["parameters of the base, not learnt"] = _count(base)
        sizes["bytes of base, adapter, moments and average"] = 4 * (
            _count(base) + 4 * _count(params)
        )
    if powersgd.rank:
        sent = count_bytes(powersgd, compressed_matrices(powersgd, task), params)
        sizes["bytes of gradients that workers sum, exact"] = sent.exact
        sizes["bytes of gradients that workers sum, compressed"] = sent.compressed
        sizes["bytes of errors a worker"] = sent.error
    return sizes


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _found(config: Mapping[str, Any]) -> tuple[Stage, RunConfig]:
    """The stage and its typed config; UserError for a wrong key."""
    stage, run = find_stage(config), RunConfig.of(config)
    section(stage.sampler, run.sample.sampler, "sample.sampler")
    return stage, run


def find_stage(config: Mapping[str, Any]) -> Stage:
    """The stage of a config's task, with LoRA if the section 'lora' says so.

    UserError for a task that no family has.
    """
    name, known = config.get("task", {}).get("name"), stages()
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(str(name), known)
        raise UserError(f"config key 'task.name': unknown task {name!r}{hint}")
    stage = resolve(known[name])
    lora = section(LoRAConfig, config.get("lora", {}), "lora")
    return LoRAStage(stage) if lora.rank else stage
