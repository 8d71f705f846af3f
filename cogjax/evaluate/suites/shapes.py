"""`--suite shapes`: the compositional world, judged by the oracle.

All tasks have equally many prompts. The report has the score and any-of-g, beside the
scores of real renders of the same requests, of these through the model's tokenizer, and
of images against captions of others; best of k by caption loss or by a CLIP; scores
against guidance and temperature. Held-out combinations have their own section.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.judges.compositional import (
    Judged,
    Prompt,
    confusion,
    judge,
    make_prompts,
    shuffled,
    summary,
)
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.report.html import Markup
from cogjax.evaluate.report.shapes import choose_images, shapes_page
from cogjax.evaluate.suites.cache import CachedModel, model_digest
from cogjax.evaluate.suites.run import (
    Progress,
    decoded,
    generate_codes,
    score_captions,
)
from cogjax.model_folder import find
from cogjax.pipelines.contracts import Embedder, expect
from cogjax.pipelines.loading import load
from cogjax.worlds.shapes.dataset import sample_scene_for, satisfied
from cogjax.worlds.shapes.scenes import render

LEAST_SIDE = 32
SECOND_SIDE = 64  # what `evaluate/judges/checker.py` reads
_JUDGED = 16  # prompts whose images are in memory at once


@dataclass(frozen=True)
class ShapesSuite:
    """Settings of the suite.

    n: prompts of seen combinations; a quarter as many of unseen ones. num_images:
    images a prompt that are scored. best_of: candidates a prompt for reranking, 0 is
    off. guidance, temperature: none: the model's own; one: that; several: also a sweep
    on `sweep_prompts` seen prompts, each with the other at the model's own. rerank_by:
    model folder of a CLIP; none: the model's caption loss.
    """

    n: int = 500
    num_images: int = 4
    best_of: int = 0
    seed: int = 0
    guidance: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()
    sweep_prompts: int = 96
    rerank_by: str = ""
    name = "shapes"

    def check(self, model) -> None:
        """UserError for images that the oracle cannot read."""
        if model.image_size < LEAST_SIDE:
            raise UserError(
                f"the shapes suite reads images of {LEAST_SIDE} px or more, the "
                f"model makes {model.image_size}: train one with larger images"
            )
        if self.best_of and not self.rerank_by and not hasattr(model, "score_codes"):
            raise UserError(
                "this model cannot score images: give --rerank-model CLIP, or leave "
                "--best-of out"
            )

    def settings(self) -> dict[str, Any]:
        """The fields, and a digest of the prompts."""
        captions = [p.caption for part in (0, 1) for p in self._prompts(bool(part))]
        digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
        found = asdict(self) | {"prompts_digest": digest}
        if self.rerank_by:
            found["rerank_digest"] = model_digest(find(self.rerank_by))
        return found

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`."""
        report, images = {}, {}
        for name, unseen in (("seen", False), ("unseen", True)):
            report[name], images[name] = self._split(model, name, unseen, progress)
        report["sweeps"] = self._sweeps(model, progress)
        return report, shapes_page(report, images)

    def _prompts(self, unseen: bool) -> list[Prompt]:
        return make_prompts(-(-self.n // 4) if unseen else self.n, self.seed, unseen)

    @property
    def _sampler(self) -> dict[str, float]:
        """Values that were given alone."""
        given = {"guidance": self.guidance, "temperature": self.temperature}
        return {name: each[0] for name, each in given.items() if len(each) == 1}

    def _split(self, model: CachedModel, name: str, unseen: bool, progress: Progress):
        """(metrics, images to show) of seen or of unseen combinations."""
        prompts = self._prompts(unseen)
        captions = [prompt.caption for prompt in prompts]
        codes = generate_codes(
            model,
            captions,
            max(self.num_images, self.best_of),
            self.seed,
            label=f"generating {name}",
            progress=progress,
            **self._sampler,
        )
        judged = judge_codes(model, prompts, codes, f"judging {name}", progress)
        first = _cut(judged, self.num_images)
        report = {"score": scores(first), "shuffled": shuffled(first, self.seed)}
        if model.image_size == SECOND_SIDE:
            own = codes[:, : self.num_images]
            report["second_judge"] = second_judge(model, first, own, progress)
        if self.best_of:
            losses = self._losses(model, captions, codes, progress)
            report["rerank"] = rerank_curve(judged, losses, self.best_of)
        report |= _ceilings(
            model, prompts, self.seed, unseen, f"ceilings {name}", progress
        )
        report["confusion"] = confusion(first)
        report["prompts"] = _verdicts(first)
        images = choose_images(
            first, lambda p, i: decoded(model, codes[p, i][None, None])[0, 0], self.seed
        )
        return report, images

    def _losses(self, model: CachedModel, captions, codes, progress: Progress):
        """What candidates [p, g] are chosen by, lower is better."""
        if not self.rerank_by:
            return score_captions(model, captions, codes, progress=progress)
        clip = expect(load(self.rerank_by), Embedder)
        return clip_losses(clip, model, captions, codes, progress)

    def _sweeps(self, model: CachedModel, progress: Progress) -> dict[str, list[dict]]:
        """Scores for each of several values of guidance, and of temperature."""
        prompts, sweeps = _subset(self._prompts(False), self.sweep_prompts), {}
        for name in ("guidance", "temperature"):
            values = getattr(self, name)
            for value in values if len(values) > 1 else ():
                label = f"{name} {value:g}"
                codes = generate_codes(
                    model,
                    [prompt.caption for prompt in prompts],
                    self.num_images,
                    self.seed,
                    label=label,
                    progress=progress,
                    **(self._sampler | {name: value}),
                )
                judged = judge_codes(model, prompts, codes, label, progress)
                entry = {"value": value, "score": scores(judged)}
                sweeps.setdefault(name, []).append(entry)
        return sweeps


def judge_codes(
    model: CachedModel,
    prompts: Sequence[Prompt],
    codes: np.ndarray,
    label: str,
    progress: Progress,
) -> Judged:
    """As `compositional.judge`, of codes [p, g, grid, grid], prompts bit by bit."""
    parts = []
    for start in range(0, len(prompts), _JUDGED):
        progress(start, len(prompts), label)
        pixels = decoded(model, codes[start : start + _JUDGED])
        parts.append(judge(prompts[start : start + _JUDGED], pixels))
    progress(len(prompts), len(prompts), label)
    return _joined(prompts, parts)


def clip_losses(
    clip: Embedder,
    model: CachedModel,
    captions: Sequence[str],
    codes: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    """1 - cosine of codes [p, g, grid, grid] and their captions: float32 [p, g]."""
    losses = []
    for i, caption in enumerate(captions):
        progress(i, len(captions), "scoring by CLIP")
        [pixels] = decoded(model, codes[i][None])
        losses.append(clip.score(pixels, [caption] * len(pixels)))
    progress(len(captions), len(captions), "scoring by CLIP")
    return np.stack(losses)


def second_judge(
    model: CachedModel, judged: Judged, codes: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """Scores of the same images by the network that was trained on renders only.

    codes: of the images of `judged`. "agrees": share of images of which both judges
    say the same, right or wrong. A model that pleases one of them alone is found out.
    """
    from cogjax.evaluate.judges.checker import check

    count, seen = len(judged.prompts), []
    for start in range(0, count, _JUDGED):
        progress(start, count, "second judge")
        pixels = decoded(model, codes[start : start + _JUDGED])
        seen += check(pixels.reshape(-1, *pixels.shape[2:]))
    progress(count, count, "second judge")
    asked = [p.request for p in judged.prompts for _ in range(codes.shape[1])]
    second = np.array([satisfied(*pair) for pair in zip(asked, seen, strict=True)])
    second = second.reshape(judged.right.shape)
    nothing = np.zeros_like(second)  # It abstains from none.
    found = scores(replace(judged, right=second, abstained=nothing))
    return {**found, "agrees": float((second == judged.right).mean())}


def scores(judged: Judged) -> dict[str, Any]:
    """`compositional.summary`, with an interval of "overall", and "any" over the tasks.

    Tasks have as many prompts each, so that the mean over tasks is that over images.
    """
    found = summary(judged)
    hits = int(judged.right.sum())
    found["interval"] = list(wilson(hits, judged.right.size))
    found["any"] = float(np.mean([entry["any"] for entry in found["tasks"].values()]))
    return found


def rerank_curve(judged: Judged, losses: np.ndarray, best_of: int) -> list[dict]:
    """Best of k = 1, 2, 4, ..., N by caption loss, from the same N candidates.

    DALL-E's Figure 9c and CogView's Figure 9. The candidates are parted in N / k groups
    (a rest is left out) of which each gives its best, so that small k are no noisier
    than large ones; best of 1 is the mean over all candidates. "any": an image of the
    group is right, which no reranking can beat.

    Args:
      judged: of [p, g >= N] candidates. losses: [p, g], lower is better.
    """
    curve, k, count = [], 1, len(judged.prompts)
    while k <= best_of:
        groups = best_of // k

        def parted(x, k=k, groups=groups):
            return x[:, : groups * k].reshape(count, groups, k)

        best = parted(losses).argmin(-1)[..., None]
        right, abstained = (
            np.take_along_axis(parted(x), best, -1)[..., 0]
            for x in (judged.right, judged.abstained)
        )
        entry = scores(replace(judged, right=right, abstained=abstained))
        entry["any"] = scores(replace(judged, right=parted(judged.right).any(-1)))[
            "overall"
        ]
        curve.append({"best_of": k, "groups": groups, **entry})
        k = min(2 * k, best_of) if k < best_of else best_of + 1
    return curve


def _ceilings(model, prompts, seed, unseen, label, progress) -> dict[str, dict]:
    """Scores of real renders of the requests, and of these through the tokenizer.

    A model without codes has no tokenizer that could spoil them.
    """
    rngs = [np.random.default_rng([seed, unseen, i]) for i in range(len(prompts))]
    judged = {"renders": [], "tokenizer": []}
    for start in range(0, len(prompts), _JUDGED):
        progress(start, len(prompts), label)
        chunk = prompts[start : start + _JUDGED]
        pixels = np.stack(
            [
                render(sample_scene_for(prompt.request, rng), model.image_size)
                for prompt, rng in zip(chunk, rngs[start:], strict=False)
            ]
        )
        judged["renders"].append(judge(chunk, pixels[:, None]))
        if model.encode:
            pixels = model.decode(model.encode(pixels))
        judged["tokenizer"].append(judge(chunk, pixels[:, None]))
    progress(len(prompts), len(prompts), label)
    return {name: scores(_joined(prompts, parts)) for name, parts in judged.items()}


def _joined(prompts: Sequence[Prompt], parts: Sequence[Judged]) -> Judged:
    return Judged(
        prompts,
        [row for part in parts for row in part.found],
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.abstained for part in parts]),
    )


def _cut(judged: Judged, count: int) -> Judged:
    """The first images of each prompt alone."""
    found = [row[:count] for row in judged.found]
    return Judged(
        judged.prompts, found, judged.right[:, :count], judged.abstained[:, :count]
    )


def _subset(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """The first prompts of each task, as many of each, `count` in all or nearly."""
    by_task: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_task.setdefault(prompt.task, []).append(prompt)
    each = max(count // len(by_task), 1)
    return [prompt for task in by_task.values() for prompt in task[:each]]


def _verdicts(judged: Judged) -> list[dict]:
    """Prompt by prompt, for whoever wants other statistics."""
    return [
        {
            "task": prompt.task,
            "language": prompt.language,
            "caption": prompt.caption,
            "right": right.tolist(),
            "abstained": abstained.tolist(),
        }
        for prompt, right, abstained in zip(
            judged.prompts, judged.right, judged.abstained, strict=True
        )
    ]
