"""The faults of `tests/mutations.py`: one line each that changes what is computed.

Ordered by what their tests cost, cheapest first; those of `mutation_people.py` and
`mutation_systems.py` follow.
"""

from tests.mutation_kind import Mutation
from tests.mutation_people import PEOPLE
from tests.mutation_systems import SYSTEMS

OPS = (
    Mutation(
        "ops/masks.py",
        "near = np.abs(query - key) <= cols",
        "near = np.abs(query - key) < cols",
        ("ops/test_masks.py",),
        "a row does not reach the cell above",
    ),
    Mutation(
        "ops/logits.py",
        "jnp.sum(kept * weights, axis=0) >= needed",
        "jnp.sum(kept * weights, axis=0) > needed",
        ("ops/test_logits.py",),
        "top-p keeps one more token where its share is reached exactly",
    ),
    Mutation(
        "ops/quantize.py",
        "return vectors + jax.lax.stop_gradient(quantized - vectors)",
        "return quantized",
        ("ops/test_quantize.py",),
        "straight-through dropped: no gradient reaches the encoder",
    ),
    Mutation(
        "ops/quantize.py",
        "decay * stats.sums + (1 - decay) * sums,",
        "(1 - decay) * stats.sums + decay * sums,",
        ("ops/test_quantize.py",),
        "EMA codebook: decay and its rest swapped",
    ),
    Mutation(
        "ops/quantize.py",
        "return jax.nn.softmax((logits + noise) / temperature, axis=-1)",
        "return jax.nn.softmax(logits + noise / temperature, axis=-1)",
        ("ops/test_quantize.py",),
        "gumbel temperature divides the noise alone",
    ),
    Mutation(
        "ops/attention.py",
        "& visible[:, None]) |",
        "& (visible | jnp.roll(visible, -1, 1))[:, None]) |",
        ("ops/test_attention.py",),
        "left padding: the last padding key is seen",
    ),
    Mutation(
        "ops/attention.py",
        "(weights * (change - inner[:, :, at]) * scale)",
        "(weights * change * scale)",
        ("ops/test_attention.py",),
        "gradient of the softmax without its sum",
    ),
    Mutation(
        "ops/cache.py",
        "return make(0, width, np.zeros_like(places), places % width, visible)",
        "return make(0, width, 0 * places, (places + 1) % width, visible)",
        ("ops/test_cache.py",),
        "a ring is written one slot off",
    ),
    Mutation(
        "ops/window_cache.py",
        "ring = min(size * times, num_tokens)",
        "ring = min(size * times - 1, num_tokens)",
        ("ops/test_window_cache.py",),
        "the window's oldest code is overwritten a step too early",
    ),
    Mutation(
        "ops/window_cache.py",
        "np.searchsorted(used, places))",
        'np.searchsorted(used, places, side="right"))',
        ("ops/test_window_cache.py",),
        "a pivot is written into the slot of the next",
    ),
    Mutation(
        "ops/pivot_attention.py",
        "(places // self.size - self.times + 1) * self.size",
        "places - self.times * self.size + 1",
        ("ops/test_window_cache.py",),
        "the window moves by one position and not by blocks",
    ),
)

SAMPLING = (
    Mutation(
        "sampling/tokens/masked.py",
        "confidence = jnp.where(masked, confidence, jnp.inf)",
        "confidence = jnp.where(masked, confidence, 0.0)",
        ("sampling/tokens/test_masked.py",),
        "a code that was unmasked is masked again",
    ),
    Mutation(
        "families/cogview/prompted.py",
        "return losses.weighted_mean(values, self.code_weights(batch))",
        "return jnp.mean(values)",
        ("families/cogview/test_masked.py",),
        "the loss has the codes that are not masked too",
    ),
    Mutation(
        "pipelines/enlarge.py",
        "owner[window.drawn] = np.where(there < 0, i, there)",
        "owner[window.drawn] = i",
        ("pipelines/test_enlarge.py",),
        "a window counts as its own what earlier ones have drawn",
    ),
    Mutation(
        "families/cogview/enlarging.py",
        "ids = np.concatenate([prompt, large[:-1]])",
        "ids = np.concatenate([prompt, large[1:]])",
        ("families/cogview/test_enlarging.py",),
        "a code of the large image sees itself",
    ),
    Mutation(
        "sampling/tokens/beam.py",
        "ended = jnp.where(ends, scores / (i + 1.0) ** length_penalty, -jnp.inf)",
        "ended = jnp.where(ends, scores / (i + 2.0) ** length_penalty, -jnp.inf)",
        ("sampling/tokens/test_beam.py",),
        "length penalty counts one token too many",
    ),
    Mutation(
        "sampling/tokens/beam.py",
        "hope = now.scores.max(1) / length**length_penalty",
        "hope = now.scores.max(1) / (now.step + 1) ** length_penalty",
        ("sampling/tokens/test_beam.py",),
        "the search ends while a longer text could still win",
    ),
    Mutation(
        "sampling/tokens/autoregressive.py",
        "logits_ops.guide(*jnp.split(logits, 2), self.guidance)",
        "logits_ops.guide(*jnp.split(logits, 2)[::-1], self.guidance)",
        ("sampling/tokens/test_autoregressive.py",),
        "guidance with its branches swapped",
    ),
    Mutation(
        "sampling/tokens/autoregressive.py",
        "return slots >= num_padding[:, None]",
        "return slots > num_padding[:, None]",
        ("sampling/tokens/test_autoregressive.py",),
        "decoding hides the first token of a prompt",
    ),
    Mutation(
        "sampling/tokens/autoregressive.py",
        "return jax.random.uniform(jax.random.fold_in(key, step))",
        "return jax.random.uniform(key)",
        ("sampling/tokens/test_autoregressive.py",),
        "all tokens of a sequence are drawn by the same number",
    ),
    Mutation(
        "sampling/tokens/speculative.py",
        "accepted = is_forced | (numbers[:, 0] * q < p)",
        "accepted = is_forced | (numbers[:, 0] < p)",
        ("sampling/tokens/test_speculative.py",),
        "speculative accept rule without the draft's probability",
    ),
    Mutation(
        "sampling/tokens/speculative.py",
        "rest = jnp.maximum(probs - sampled_from, 0)",
        "rest = probs",
        ("sampling/tokens/test_speculative.py",),
        "a refused draft is drawn again from p instead of p - q",
    ),
    Mutation(
        "sampling/tokens/rerank.py",
        "of_codes = positions_of(next_position, jnp.arange(count - 1))",
        "of_codes = positions_of(next_position, jnp.arange(1, count))",
        ("sampling/tokens/test_rerank.py",),
        "scored codes stand one position too far",
    ),
)

MODELS = (
    Mutation(
        "models/vqvae.py",
        "pixels * jnp.array(cfg.pixel_std) + jnp.array(cfg.pixel_mean)",
        "pixels + jnp.array(cfg.pixel_mean)",
        (
            "models/test_vqvae.py",
            "models/test_reconstructor.py",
            "tasks/test_tokenizer.py",
        ),
        "decoded pixels are not scaled back",
    ),
    Mutation(
        "models/discriminator.py",
        'nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x), 0.2)',
        'nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x), 0.01)',
        ("models/test_discriminator.py", "families/vqgan/test_objective.py"),
        "another slope of the leaky relu",
    ),
    Mutation(
        "models/reconstructor.py",
        'constrain(z, "batch", None, None).reshape(len(z), grid, grid, -1)',
        "z.reshape(len(z), grid, grid, -1).swapaxes(1, 2)",
        ("models/test_reconstructor.py",),
        "states are laid out by columns",
    ),
    Mutation(
        "models/image_lm.py",
        "return shrink_gradient(x.astype(dtype), cfg.embedding_gradient)",
        "return x.astype(dtype)",
        ("models/test_reference.py", "tasks/test_lm.py"),
        "embedding-gradient shrink is never called",
    ),
    Mutation(
        "models/image_lm.py",
        'x = norm_of(cfg, "final_norm")(x)',
        'x += 0 * norm_of(cfg, "final_norm")(x)',
        ("models/test_two_way.py", "models/test_image_lm.py"),
        "final norm off",
    ),
    Mutation(
        "models/image_lm.py",
        "layer_keys = jax.random.split(stack_key, cfg.depth)",
        "layer_keys = jnp.stack([stack_key] * cfg.depth)",
        ("models/test_image_lm.py", "tasks/test_lm.py"),
        "all layers drop out by the same key",
    ),
    Mutation(
        "models/image_lm.py",
        "image = _look_up(rows, code // num_columns, None)",
        "image = _look_up(rows, code % num_columns, None)",
        ("models/test_two_way.py",),
        "the row embedding is that of the column",
    ),
    Mutation(
        "ops/sequence.py",
        'segments = [Segment(rows * cols, "all", grid=grid)]',
        'segments = [Segment(rows * cols, "causal", grid=grid)]',
        ("models/test_two_way.py",),
        "an image that is read sees itself one way only",
    ),
)

NN = (
    Mutation(
        "nn/stack.py",
        "keys = jax.random.split(key, self.depth)",
        "keys = jnp.stack([key] * self.depth)",
        ("nn/test_stack.py",),
        "all layers start alike",
    ),
    Mutation(
        "nn/conv.py",
        'h = Conv(x_byxc.shape[-1], (1, 1), name="conv1")(nn.relu(h))',
        'h = Conv(x_byxc.shape[-1], (1, 1), name="conv1")(h)',
        ("nn/test_conv.py", "models/test_vqvae.py"),
        "residual block without its second relu",
    ),
    Mutation(
        "nn/block.py",
        'self._norm("post_mlp_norm")(h) if cfg.sandwich else h',
        'h + 0 * self._norm("post_mlp_norm")(h) if cfg.sandwich else h',
        ("models/test_reference.py", "models/test_image_lm.py"),
        "MLP branch: sandwich norm behind it off",
    ),
    Mutation(
        "nn/block.py",
        'h = self._norm("pre_attn_norm")(_enter(x, attn_scale))',
        'h = _enter(x, attn_scale) + 0 * self._norm("pre_attn_norm")(x)',
        ("models/test_reference.py", "models/test_image_lm.py"),
        "attention branch: norm before it off",
    ),
    Mutation(
        "nn/block.py",
        'approximate=form == "gelu"',
        "approximate=False",
        ("models/test_reference.py", "models/test_image_lm.py"),
        "exact instead of tanh GELU",
    ),
    Mutation(
        "models/image_lm.py",
        "nn.gelu(h)",
        "nn.gelu(h, approximate=False)",
        ("importing/test_cases.py",),
        "exact instead of tanh GELU between the layers of a caption",
    ),
    Mutation(
        "nn/block.py",
        "return 0.02 / (2 * self.config.depth) ** 0.5",
        "return 0.02",
        ("models/test_reference.py", "models/test_image_lm.py"),
        "output projections start without 1 / sqrt(2 L)",
    ),
    Mutation(
        "nn/block.py",
        "self._drop(constrain(h, *RESIDUAL), keys[1])",
        "self._drop(constrain(h, *RESIDUAL), keys[0])",
        ("nn/test_block.py", "models/test_image_lm.py"),
        "both branches drop out by the same key",
    ),
    Mutation(
        "nn/block.py",
        "qkv, cache = (qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]), layer.cache",
        "qkv, cache = (qkv[:, :, 1], qkv[:, :, 0], qkv[:, :, 2]), layer.cache",
        ("models/test_reference.py", "models/test_image_lm.py"),
        "query and key swapped in the trained kernel",
    ),
)

TASKS = (
    Mutation(
        "tasks/lm.py",
        'weights = batch["weights"][:, 1:]',
        'weights = batch["weights"][:, :-1]',
        ("tasks/test_lm.py",),
        "loss weights shifted by one",
    ),
    Mutation(
        "families/cogview/layout.py",
        "next_position = next_position[:, None] + self.places",
        "next_position = next_position[:, None] + np.arange(self.image_len)",
        ("test_oblong.py",),
        "codes of a narrow image are sampled as if rows had no gap",
    ),
    Mutation(
        "tasks/lm.py",
        "found = jnp.where(has_it, own, found)",
        "found = jnp.where(has_it, index, found)",
        ("test_oblong.py",),
        "codes of a narrow image are learnt as if rows had no gap",
    ),
    Mutation(
        "tasks/lm.py",
        "index = jnp.cumsum(is_code, axis=1) - 1",
        "index = jnp.cumsum(is_code, axis=1)",
        ("families/cogview/test_layout.py",),
        "codes stand one position too far",
    ),
    Mutation(
        "tasks/resblock_scales.py",
        "(count / gradient_scale.REPLICA_TOKENS)",
        "(gradient_scale.REPLICA_TOKENS / count)",
        ("tasks/test_gradient_scale.py",),
        "gradient scales fall with the tokens of a batch",
    ),
    Mutation(
        "tasks/codebook.py",
        "codebook_loss = own * commitment",
        "codebook_loss = commitment",
        ("families/vqgan/test_objective.py",),
        "commitment without its weight",
    ),
    Mutation(
        "tasks/codebook.py",
        "return cfg.temperature_start * ratio**progress",
        "return cfg.temperature_start * ratio**-progress",
        ("tasks/test_tokenizer.py", "families/vqgan/test_objective.py"),
        "the gumbel temperature rises",
    ),
    Mutation(
        "tasks/codebook.py",
        'moved = fresh - jax.lax.stop_gradient(params["codebook"])',
        "moved = fresh",
        ("tasks/test_tokenizer.py", "families/vqgan/test_objective.py"),
        "a restarted code lands beside its vector",
    ),
    Mutation(
        "tasks/adversarial.py",
        "lambda pixels: -jnp.mean(logits(frozen, pixels))",
        "lambda pixels: jnp.mean(logits(frozen, pixels))",
        ("families/vqgan/test_objective.py",),
        "the drawing network is paid for what looks false: wrong sign",
    ),
    Mutation(
        "families/ernie_vilg/bidirectional.py",
        "jnp.sum(text * weights, (1, 2)).mean() / text.shape[1]",
        "jnp.sum(text * weights, (1, 2)).mean() / text.shape[2]",
        ("families/ernie_vilg/test_bidirectional.py",),
        "caption loss divided by positions, not by captions",
    ),
)

MUTATIONS = (*OPS, *SAMPLING, *MODELS, *NN, *TASKS, *PEOPLE, *SYSTEMS)
