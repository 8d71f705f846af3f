"""Self-checks of a model in both directions, and how well they choose.

    text -> image -> text     does the caption of a generated image say the prompt?
    image -> text -> image    does the image of a caption show the original?

They serve as scores, and as signals that choose among candidates; the exact rules of
the world of shapes say which choice was right. For generated images the caption loss
(CogView section 3.4) is the same check without a decoded text; for captions it is the
loss of the image's codes given the caption, in the direction that generates.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cogjax.evaluate.judges.compositional import Judged
from cogjax.evaluate.judges.reading import agreement, is_true, share
from cogjax.evaluate.metrics.captions import rouge_l, tokenise
from cogjax.pipelines.reader import Search
from cogjax.worlds.shapes.captions import read
from cogjax.worlds.shapes.scenes import Scene

# Candidate captions are sampled as the model gives them, at temperature 1.
SAMPLED = 1.0


def image_signals(
    prompts: Sequence[str], captions: Sequence[str], losses: np.ndarray
) -> dict[str, np.ndarray]:
    """Signals that choose among generated images, float [p, k], higher is better.

    Args:
      captions: of all images in turn, p k of them. losses: of the prompts, [p, k].
    """
    count = losses.shape[1]
    asked = [prompt for prompt in prompts for _ in range(count)]
    words = rouge_l(
        [tokenise(text) for text in captions], [[tokenise(text)] for text in asked]
    )
    graph = [agreement(read(a), read(b)) for a, b in zip(asked, captions, strict=True)]
    graph = np.array(graph).reshape(losses.shape)
    return {
        "caption loss": -losses.astype(np.float64),
        "round trip, words": words.reshape(losses.shape),
        "round trip, graph": graph,
        # Many captions agree in full: among these the loss decides.
        "round trip, graph and loss": graph - 1e-3 * losses,
    }


def chosen(signals: Mapping[str, np.ndarray], right: np.ndarray) -> dict[str, dict]:
    """Shares of prompts whose chosen candidate is right, beside the mean and any of k.

    signals: [p, k], the first of the best is taken. right: bool [p, k].
    """
    rows = np.arange(len(right))
    found = {"mean of all": share(right.ravel())}
    for name, signal in signals.items():
        found[name] = share(right[rows, signal.argmax(1)])
    return found | {"any": share(right.any(1))}


def text_round_trip(
    judged: Judged,
    codes: np.ndarray,
    losses: np.ndarray,
    caption: Callable[..., list[str]],
) -> dict:
    """text -> image -> text of generated codes [p, k, grid, grid].

    "score": mean agreement of the description with the prompt; "consistent": all that
    both say agrees; "when right", "when wrong": over images that are right by the
    oracle, and over others. "chosen": `chosen` by each signal.

    Args:
      caption: (codes [n, grid, grid], language, search, label) -> texts.
    """
    num_prompts, count = losses.shape
    told = np.empty((num_prompts, count), object)
    languages = np.array([prompt.language for prompt in judged.prompts])
    for language in dict.fromkeys(languages.tolist()):
        which = languages == language
        part = codes[which].reshape(-1, *codes.shape[2:])
        texts = caption(part, language, Search(), f"captions of images, {language}")
        told[which] = np.array(texts, object).reshape(-1, count)
    prompts = [prompt.caption for prompt in judged.prompts]
    signals = image_signals(prompts, told.ravel().tolist(), losses)
    graph = signals["round trip, graph"]
    return {
        "score": float(graph.mean()),
        "consistent": share((graph == 1).ravel()),
        "when right": share((graph == 1)[judged.right]),
        "when wrong": share((graph == 1)[~judged.right]),
        "chosen": chosen(signals, judged.right),
    }


def caption_choice(
    scenes: Sequence[Scene],
    captions: Sequence[Sequence[str]],
    losses: np.ndarray,
    image_losses: np.ndarray,
) -> dict[str, dict]:
    """image -> text -> image as a signal: which of k captions is true.

    losses: of each caption given its image, nats a text token; image_losses: of the
    image given the caption, nats a code; both [p, k].
    """
    right = np.array(
        [
            [is_true(text, scene) for text in own]
            for own, scene in zip(captions, scenes, strict=True)
        ]
    )
    signals = {
        "caption loss": -losses,
        "round trip, loss of the image": -image_losses,
    }
    return chosen(signals, right)
