"""Studies without images, whose answers are simulated."""

import pytest

from cogjax.evaluate.human.study import Prompt, make_study


@pytest.fixture(scope="session")
def study_of():
    """A study of a form, with prompts in two categories."""

    def made(form, models=3, prompts=30, checks=6, per_rater=0):
        texts = [Prompt(f"prompt {i}", "ab"[i % 2]) for i in range(prompts)]
        names = [f"model {i}" for i in range(models)]
        settings = {"form": form, "n": prompts, "models": models}
        return make_study(form, names, texts, settings, checks, per_rater)

    return made
