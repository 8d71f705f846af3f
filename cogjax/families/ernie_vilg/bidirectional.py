"""ERNIE-ViLG's objective: text to image and image to text in one step (section 3.1).

    L = L_text_to_image + L_image_to_text (+ L_answers, generative question answering)

and weights of the last two beside the first, which the paper does not have.

Each is the sum of the target's negative log-likelihoods; the source has no loss. The
sums are divided by the number of examples and nothing else, so a direction weighs by
its number of targets, the image most. Codes compete with codes, text with text and
commands: the paper does not say, and nothing else is ever drawn there.
"""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.data.vocab import Vocab
from cogjax.models.image_lm import ImageLM, Training
from cogjax.models.image_lm_config import ImageLMConfig, image_to_text
from cogjax.ops import losses
from cogjax.parallel.axes import constrain
from cogjax.tasks import resblock_scales
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.task import Cost, Pass


class TwoWayTask(TransformerTask):
    """Task over {"to_image": [b, m + n], "to_text": [b, n + k (m + 1)]} of int32.

    m text positions, n codes and k captions, laid out by `layout.py` beside this file.
    With questions also "asked": [b, n], pictures, and "answers": [b, q, m + a + 1], q
    questions about each.
    """

    def __init__(
        self,
        model: ImageLMConfig,
        vocab: Vocab,
        text_weight: float = 1.0,
        answer_weight: float = 1.0,
    ):
        """model: the network of text to image; its codes have rows and columns."""
        super().__init__(model)
        text, image = model.sequence.segments
        self.num_text, self.num_codes = text.length, image.length
        self.text_weight, self.answer_weight = text_weight, answer_weight
        self.vocab = vocab

    def loss(self, params, state, batch, key: Array):
        """One training forward pass in each direction: (loss, (state, metrics))."""
        # The loss is a sum over tokens: M counts examples (`ops/gradient_scale`).
        count = len(batch["to_image" if "to_image" in batch else "to_text"])
        params, scales = resblock_scales.scale(params, state, count)
        loss, metrics, _ = self.both(params, batch, key, scales)
        metrics |= resblock_scales.metrics(state)
        return loss, (state, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """Losses without dropout: of an example, of a code and of a text token."""
        del state, key
        loss, metrics, _ = self.both(params, batch)
        return {"loss": loss, **metrics}

    def weights(self, batch) -> dict[str, Array]:
        """What the metrics a token are means over; all else is of an example each."""
        counted = {"text_loss": self._counted(self._texts(batch["to_text"])[..., 1:])}
        if "answers" in batch:
            answers = batch["answers"][..., self.num_text :]
            counted["answer_loss"] = self._counted(answers)
        return {name: jnp.sum(each) for name, each in counted.items()}

    def terms(self, batch) -> tuple[dict[str, Array], ...]:
        """The two directions; questions go with image to text.

        Without remat memory does not matter, and one gradient is a tenth faster on a
        CPU, where small networks are trained so.
        """
        if self.config.remat == "none":
            return (batch,)
        rest = {name: each for name, each in batch.items() if name != "to_image"}
        return {"to_image": batch["to_image"]}, rest

    def batch_spec(self, size: int):
        """Both directions, one caption an image and no questions."""
        length = self.num_text + self.num_codes
        return {
            "to_image": jax.ShapeDtypeStruct((size, length), jnp.int32),
            "to_text": jax.ShapeDtypeStruct((size, length + 1), jnp.int32),
        }

    def cost(self, read_last: bool = False) -> Cost:
        """Two passes, of one caption and no questions.

        All codes are scored among codes, all text among text and commands. read_last:
        whether the last code, of which nothing is predicted, is read too.
        """
        codes = self.num_codes * self.vocab.num_codes
        text = self.num_text * (self.vocab.size - self.vocab.text_start)
        length = self.num_text + self.num_codes
        to_image = Pass(self.config, length - 1 + read_last, codes, codes)
        to_text = Pass(image_to_text(self.config), length, text, text)
        return Cost((to_image, to_text))

    def both(self, params, batch, key=None, scales=None, at_codes=False):
        """(loss, metrics in nats, states [b, n, d] of `image_outputs`).

        A batch of one of the `terms` has that one's loss and metrics. Metrics of a
        direction are sums over an example.
        """
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        loss, metrics, states = jnp.zeros(()), {}, None
        if "to_image" in batch:
            image, states = self.image_outputs(
                params, batch["to_image"], keys[0], scales, at_codes
            )
            loss += jnp.sum(image, 1).mean()
            metrics |= {"text_to_image": loss, "image_loss": jnp.mean(image)}
        if "to_text" in batch:
            told, more = self._told(params, batch, keys[1:], scales)
            loss, metrics = loss + told, metrics | more
        return loss, metrics, states

    def _told(self, params, batch, keys, scales):
        """(weighted loss, metrics) of image to text, and of answers if there are."""
        text, weights = self.text_losses(params, batch["to_text"], keys[0], scales)
        to_text = jnp.sum(text * weights, (1, 2)).mean() / text.shape[1]
        metrics = {
            "image_to_text": to_text,
            "text_loss": losses.weighted_mean(text, weights),
        }
        loss = self.text_weight * to_text
        if "answers" not in batch:
            return loss, metrics
        asked = batch["asked"], batch["answers"]
        values, weights, picked = self.answer_losses(params, *asked, keys[1], scales)
        answers = jnp.sum(values * weights) / len(values)
        metrics |= {
            "answers": answers,
            "answer_loss": losses.weighted_mean(values, weights),
            "answer_right": jnp.mean(jnp.all(picked | (weights == 0), axis=-1)),
        }
        return loss + self.answer_weight * answers, metrics

    def image_losses(self, params, ids: Array) -> Array:
        """Text to image: int [b, m + n] -> loss of each code, float32 [b, n]."""
        return self.image_outputs(params, ids)[0]

    def image_outputs(
        self, params, ids: Array, key=None, scales=None, at_codes: bool = False
    ):
        """As `image_losses`, and states of the last layer, [b, n, d].

        They are those that predict the codes, from [BOI1] to the last code but one. Or
        with `at_codes` those at the codes' own places, for which the last is read too.
        """
        num_text, num_codes = self.num_text, self.num_codes
        inputs = ids if at_codes else ids[:, :-1]
        visible = ids[:, :num_text] != self.vocab.command("[PAD]")
        text = jnp.cumsum(visible, axis=1).at[:, -1].set(0)
        codes = jnp.arange(num_text, inputs.shape[1])
        codes = jnp.broadcast_to(codes, (len(ids), len(codes)))
        positions = jnp.concatenate([text, codes], axis=1)
        # As whole as the ids are: XLA would work out a part of them on each device.
        positions = constrain(positions, "batch", None)
        predicting = slice(num_text - 1, num_text - 1 + num_codes)
        wanted = slice(num_text, None) if at_codes else predicting
        (logits, states), _ = self.model.apply(
            {"params": params},
            inputs,
            positions,
            training=Training(key, scales=scales),
            parts=((predicting, slice(0, self.vocab.num_codes)), (wanted, None)),
            visible=visible,
        )
        return losses.token_losses(logits, ids[:, num_text:]), states

    def text_losses(self, params, ids: Array, key=None, scales=None):
        """Image to text: int [b, n + k (m + 1)] -> (losses, weights), [b, k, m] floats.

        The captions share their picture's sequence, and see nothing of each other. The
        padding behind one is seen by no token of it, and weighs nothing.
        """
        codes, texts = ids[:, : self.num_codes], self._texts(ids)
        inputs, targets = texts[..., :-1], texts[..., 1:]
        places = jnp.broadcast_to(jnp.arange(self.num_text), inputs.shape)
        training = Training(key, scales=scales)
        logits = self._logits_behind(params, codes, inputs, places, training)
        values = losses.token_losses(logits, targets - self.vocab.text_start)
        return values, self._counted(targets)

    def _texts(self, ids: Array) -> Array:
        """The k captions of image to text: int [b, n + k (m + 1)] -> [b, k, m + 1]."""
        return ids[:, self.num_codes :].reshape(len(ids), -1, self.num_text + 1)

    def _counted(self, targets: Array) -> Array:
        """1 where a target is no padding, of the shape of the targets: float32."""
        return (targets != self.vocab.command("[PAD]")).astype(jnp.float32)

    def answer_losses(self, params, codes, ids: Array, key=None, scales=None):
        """Pictures [b, n] and questions [b, q, t] -> (losses, weights, right).

        Each [b, q, answer and its end]; right: the most probable token is the answer's.
        The questions share their picture's sequence, and see nothing of each other.
        """
        num_text, pad = self.num_text, self.vocab.command("[PAD]")
        inputs, targets = ids[..., :-1], ids[..., num_text:]
        real = inputs != pad
        question = jnp.cumsum(real[..., :num_text], axis=-1).at[..., -1].set(0)
        answer = 1 + jnp.arange(inputs.shape[-1] - num_text)
        answer = jnp.broadcast_to(answer, (*ids.shape[:2], len(answer)))
        places = jnp.concatenate([question, answer], axis=-1)
        training = Training(key, scales=scales)
        logits = self._logits_behind(
            params, codes, inputs, places, training, num_text, real
        )
        weights, targets = self._counted(targets), targets - self.vocab.text_start
        values = losses.token_losses(logits, targets)
        return values, weights, jnp.argmax(logits, axis=-1) == targets

    def _logits_behind(
        self, params, codes, texts, places, training, question=0, visible=None
    ) -> Array:
        """Logits of text and commands, after each token of texts behind one picture.

        codes: [b, n]; texts, their positions `places`, visible: [b, k, t] -> [b, k, m,
        v] of the last m places, from the end of a question on. The k texts see the
        picture and nothing of each other, see `image_to_text`.
        """
        batch, num_texts, length = texts.shape
        ends = [codes.shape[1] + length * (i + 1) for i in range(num_texts)]
        count = length - max(question - 1, 0)
        vocab = slice(self.vocab.text_start, self.vocab.size)
        image = jnp.arange(codes.shape[1]) + self.num_text
        image = jnp.broadcast_to(image, codes.shape)
        answer = length - question
        network = ImageLM(image_to_text(self.config, answer, question, num_texts))
        if visible is not None:
            # The image stands before the texts, and is all there.
            visible = visible.reshape(batch, -1)  # [b, k t]
            visible = jnp.pad(
                visible, ((0, 0), (codes.shape[1], 0)), constant_values=True
            )
        logits, _ = network.apply(
            {"params": params},
            jnp.concatenate([codes, texts.reshape(batch, -1)], axis=1),
            jnp.concatenate([image, places.reshape(batch, -1)], axis=1),
            visible,
            training=training,
            parts=tuple((slice(end - count, end), vocab) for end in ends),
        )
        return jnp.stack(logits, axis=1)
