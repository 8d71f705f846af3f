"""Imagen's stages: the base and super-resolution, each trained alone (section 2.3)."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.errors import UserError
from cogjax.families.imagen.denoising import (
    DenoisingConfig,
    DenoisingTask,
    NetworkConfig,
)
from cogjax.families.imagen.distillation import DistillationConfig, DistillingTask
from cogjax.families.imagen.examples import Paired, example
from cogjax.families.imagen.layout import Cascade
from cogjax.model import Component, Model, digest
from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.t5 import T5Config
from cogjax.models.unet import UNetConfig
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.text_encoder import (
    cleaning_of,
    digest_of,
    is_released,
    read_text_encoder,
)
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.stages.caption_vectors import TextSource, caption_vectors
from cogjax.stages.card import card_of
from cogjax.stages.code_model import same_network
from cogjax.stages.samples import of_prompts, sample_hook
from cogjax.stages.sections import RunConfig, batches, check_contents, eval_batches
from cogjax.stages.stage import Planned, Stage
from cogjax.train.session import Job


class DenoisingStage(Stage):
    """One network of the cascade.

    data.text is the folder of the frozen text encoder. The vectors of the captions are
    those of data.vectors, or made once a run, in WORKDIR/texts. data.below: for
    super-resolution, the model whose images it enlarges. data.weights: a cascade with
    a stage of the same network, to start from.
    """

    settings, sampler = DenoisingConfig, CascadeSampler
    objective: type[DenoisingTask] = DenoisingTask
    unread: tuple[str, ...] = ("tokenizer", "questions")

    def __init__(self, model: type[NetworkConfig]):
        self.model_section = model

    def task(self, run: RunConfig) -> DenoisingTask:
        """The objective; UserError for what does not fit."""
        return self._task(run, _encoder(run) if run.data.text else None)

    def _task(self, run: RunConfig, encoder: Model | None) -> DenoisingTask:
        """encoder: None without one, to be looked at."""
        config, text_len = self._config(run), 1
        if encoder:
            found = encoder["text_encoder"].config
            text_len = found.text_len
            if found.width != config.text_dim:
                raise UserError(
                    f"model.text_dim is {config.text_dim}, and {run.data.text} has "
                    f"{found.width} channels: set it to that"
                )
        return self._made(run, text_len)

    def _made(self, run: RunConfig, text_len: int) -> DenoisingTask:
        try:
            settings = self.settings_of(run)
            return self.objective(self._config(run), settings, text_len)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def _config(self, run: RunConfig) -> NetworkConfig:
        """The section 'model', read before any file."""
        for name in self.unread:
            if getattr(run.data, name):
                raise UserError(f"task {run.name} does not read data.{name}")
        return section(self.model_section, run.model, "model")

    def tunes(self, base: Model, source: str) -> dict[str, Any]:
        """The stages of a cascade with such a network that are not distilled."""
        layout, found = base.layout, {}
        names = getattr(layout, "components", ())
        for place, name in enumerate(names):
            config = base[name].config
            if type(config) is not self.model_section or layout.distilled_steps[place]:
                continue
            task = {"prediction": layout.predictions[place]}
            task["schedule"], data = layout.schedules[place], {"text": source}
            if place:
                task["augmentation"] = layout.augmentations[place - 1]
                data["below"] = source
            found[name] = {
                "task": task,
                "model": dataclasses.asdict(config),
                "data": data,
                "sampler": base.sampler.first(place + 1),
            }
        return found

    def plan(self, run: RunConfig) -> Planned:
        """Plans with the text encoder of data.text, or with texts as long as T5's."""
        if run.data.text:
            return Planned(self.task(run))
        return Planned(self._made(run, T5Config.text_len))

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over images and one caption of each, drawn anew each time."""
        self._config(run)
        encoder, data = _encoder(run), run.data
        task = self._task(run, encoder)
        below = self._below(run, encoder)
        layout = self._layout(run, encoder, below)
        self.sampler_of(run).stages(len(layout.components))
        manifest = records.read_manifest(data.path)
        check_contents(manifest, data.path, data.split)
        splits = data.split, data.eval_split
        texts = caption_vectors(data, TextSource(data.text, encoder), workdir)
        one = functools.partial(example, task.model.config, task.text_len)
        training, evals = (Paired(data.path, texts, split) for split in splits)

        def made(params):
            return CascadePipeline(self._joined(run, encoder, below, params))

        request = functools.partial(of_prompts, run.sample)
        fingerprint = manifest.fingerprint, data.split, self.sources_digest(run)
        return Job(
            task,
            batches(training, one, run.train),
            eval_batches(evals, one, run),
            ((run.train.sample_every, sample_hook(run.sample, made, request)),),
            "/".join(fingerprint),
            **self.start(run, encoder, below),
        )

    def start(self, run: RunConfig, encoder: Model, below: Model | None) -> dict:
        """`start_params` and `start_state` of a job: of data.weights, or at random."""
        del below
        # With LoRA they are `base`, and are read there.
        if not run.data.weights or run.lora.rank:
            return {}
        return {"start_params": self._given(run, encoder)[1].params}

    def base(self, run: RunConfig) -> tuple[str, Component]:
        """The stage of data.weights that has the same network."""
        return self._given(run, _encoder(run))

    def _given(self, run: RunConfig, encoder: Model) -> tuple[str, Component]:
        layout, place = self._found(run, encoder)
        name = layout.components[place]
        return name, model_folder.load_component(run.data.weights, name)

    def _found(self, run: RunConfig, encoder: Model) -> tuple[Cascade, int]:
        """(layout of data.weights, the place of its stage with this network and
        objective).
        """
        source = run.data.weights
        if not source:
            raise UserError(
                f"config key 'data.weights' is required for task {run.name} here: the "
                "cascade with the stage to start from"
            )
        model, config = model_folder.load_outline(source), self._config(run)
        _check_cascade(model, source, "data.weights", run)
        own = model_folder.load_component(source, "text_encoder")
        _check_encoder(
            model.with_component("text_encoder", own), encoder, "data.weights", run
        )
        names = model.layout.components
        same = [same_network(model[name].config, config) for name in names]
        if not any(same):
            raise UserError(
                f"no stage of {source} has the network of the section 'model': set "
                "that to the network of the stage to start from"
            )
        self._check_objective(run, model.layout, same.index(True))
        return model.layout, same.index(True)

    def _check_objective(self, run: RunConfig, layout: Cascade, place: int) -> None:
        """UserError for a stage of data.weights that was trained otherwise."""
        settings = self.settings_of(run)
        had = layout.predictions[place], layout.schedules[place]
        own = settings.prediction, settings.schedule
        if place:
            had += (layout.augmentations[place - 1],)
            own += (settings.augmentation,)
        if had != own:
            raise UserError(
                f"{layout.components[place]} of {run.data.weights} was trained with "
                f"{', '.join(had)}, and the section 'task' says {', '.join(own)}: set "
                "it to that"
            )

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The text encoder, the stages below, and this one."""
        del state
        encoder = _encoder(run)
        model = self._joined(run, encoder, self._below(run, encoder), params)
        return dataclasses.replace(model, card=_card(run, encoder))

    def _joined(
        self, run: RunConfig, encoder: Model, below: Model | None, params: Any
    ) -> Model:
        """One more stage on those below."""
        layout = self._layout(run, encoder, below)
        parts = {"text_encoder": encoder["text_encoder"]}
        parts |= below.components if below else {}
        parts[layout.components[-1]] = Component(self._config(run), params)
        return Model("imagen", parts, layout, encoder.text, self.sampler_of(run))

    def _layout(self, run: RunConfig, encoder: Model, below: Model | None) -> Cascade:
        """That of the model below with this stage."""
        settings = self.settings_of(run)
        had = below.layout if below else None
        return Cascade(
            (*(had.predictions if had else ()), settings.prediction),
            (*(had.schedules if had else ()), settings.schedule),
            (*had.augmentations, settings.augmentation) if had else (),
            (*(had.distilled_steps if had else ()), self.distilled_to(run)),
            cleaning_of(encoder) is not None,
        )

    def distilled_to(self, run: RunConfig) -> int:
        """Steps that the stage is distilled to, 0 for none."""
        del run
        return 0

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of the text encoder and its tokenizer."""
        source, found = run.data.text, hashlib.sha256()
        if is_released(source):
            return digest_of(read_text_encoder(source))[:12]
        weights = model_folder.find_file(source, "text_encoder.safetensors")
        for path in (weights, model_folder.find_text(source)):
            found.update(path.read_bytes())
        if cleaning_of(model_folder.load_outline(source)):
            found.update(b"cleaned")
        return found.hexdigest()[:12]

    def _below(self, run: RunConfig, encoder: Model) -> Model | None:
        """The model of data.below; UserError where there must be one, or none."""
        below, small = run.data.below, getattr(self._config(run), "small_size", 0)
        if bool(below) != bool(small):
            wanted = "a model whose images are enlarged" if small else "nothing"
            raise UserError(f"data.below is {below!r}, expected {wanted}")
        if not below:
            return None
        model = model_folder.load(below)
        _check_cascade(model, below, "data.below", run)
        names = model.layout.components
        sizes = [model[name].config.image_size for name in names]
        if small not in sizes:
            raise UserError(
                f"model.small_size is {small}, and {below} draws {sizes[-1]} "
                "pixels: set it to that"
            )
        _check_encoder(model, encoder, "data.below", run)
        # Only the stages of a whole cascade up to that size are below this one.
        layout = model.layout.first(sizes.index(small) + 1)
        own = {name: model[name] for name in ("text_encoder", *layout.components)}
        return dataclasses.replace(model, components=own, layout=layout)


class DistillingStage(DenoisingStage):
    """A stage of the cascade data.weights, in fewer steps.

    The student starts as its teacher. data.below is, for super-resolution, the model
    that it is put on, which may be distilled itself.
    """

    settings, objective = DistillationConfig, DistillingTask
    # An adapter alone would leave its base's steps as many as they were.
    base, tunes = Stage.base, Stage.tunes

    def distilled_to(self, run: RunConfig) -> int:
        """The student's steps."""
        return self.settings_of(run).steps

    def start(self, run: RunConfig, encoder: Model, below: Model | None) -> dict:
        """The teacher, twice; UserError for one that does not fit."""
        del below
        params = self._teacher(run, encoder).params
        return {"start_params": params, "start_state": {"teacher": params}}

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of the text encoder, its tokenizer and the teacher."""
        found = hashlib.sha256(super().sources_digest(run).encode())
        for name in self._found(run, _encoder(run))[0].components:
            part = model_folder.load_component(run.data.weights, name)
            found.update(digest(part).encode())
        return found.hexdigest()[:12]

    def _teacher(self, run: RunConfig, encoder: Model) -> Component:
        """The stage of data.weights that has the same network and objective."""
        layout, place = self._found(run, encoder)
        settings, source = self.settings_of(run), run.data.weights
        _check_steps(layout.distilled_steps[place], settings, source)
        return model_folder.load_component(source, layout.components[place])


def _check_steps(steps: int, settings: DistillationConfig, source: str) -> None:
    """UserError for a teacher that is distilled itself, to another grid."""
    asked = settings.teacher_steps, settings.guidance
    if steps and asked != (steps, 1):
        raise UserError(
            f"{source} was distilled to {steps} steps: set task.guidance to 1, and "
            "task.steps and task.substeps so that (steps - 1) * substeps + 1 is as many"
        )


def _check_cascade(model: Model, source: str, key: str, run: RunConfig) -> None:
    """UserError for a model of another kind."""
    if not isinstance(model.layout, Cascade):
        raise UserError(f"{key}, {source}, is no cascade of {run.name}")


def _check_encoder(model: Model, encoder: Model, key: str, run: RunConfig) -> None:
    """UserError for a model that was trained with another text encoder."""
    if digest_of(encoder) != digest_of(model):
        raise UserError(
            f"{key}, {getattr(run.data, key[5:])}, was trained with another text "
            f"encoder than data.text, {run.data.text}"
        )


def _card(run: RunConfig, encoder: Model) -> dict[str, Any]:
    """Where the stage and the text encoder are from, and their licences."""
    text, weights = run.data.text, run.data.weights
    if not isinstance(encoder.layout, Cascade):
        return card_of(weights, text_encoder="" if is_released(text) else text)
    # A cascade's card is of all of it, with an entry for its text encoder.
    own = model_folder.load_outline(text).card.get("text_encoder")
    return card_of(weights) | ({"text_encoder": own} if own else {})


def _encoder(run: RunConfig) -> Model:
    if not run.data.text:
        raise UserError(
            f"config key 'data.text' is required for task {run.name}: the folder of a "
            "text encoder, ours or a released T5, or the name minilm"
        )
    return read_text_encoder(run.data.text)


BASE = DenoisingStage(UNetConfig)
SUPER = DenoisingStage(EfficientUNetConfig)
DISTILLED = DistillingStage(UNetConfig)
DISTILLED_SUPER = DistillingStage(EfficientUNetConfig)
