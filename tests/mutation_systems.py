"""More faults of `tests/mutations.py`: diffusion, texts, codes, training.

As in `mutation_list.py`.
"""

from tests.mutation_kind import Mutation

DIFFUSION = (
    Mutation(
        "ops/diffusion.py",
        "return alpha * noise - sigma * x\n",
        "return alpha * x - sigma * noise\n",
        ("ops/test_diffusion.py",),
        "the velocity with noise and image exchanged",
    ),
    Mutation(
        "ops/diffusion.py",
        "return (z - sigma * predicted) / alpha",
        "return z - sigma * predicted / alpha",
        ("ops/test_diffusion.py",),
        "an image from predicted noise is not divided as a whole",
    ),
    Mutation(
        "ops/diffusion.py",
        "return jnp.clip(x0, -s, s) / s",
        "return jnp.clip(x0, -1, 1) / s",
        ("ops/test_diffusion.py",),
        "the dynamic threshold clips to 1 and not to its percentile",
    ),
    Mutation(
        "ops/diffusion.py",
        "return weight * conditional + (1 - weight) * unconditional",
        "return weight * conditional + (1 + weight) * unconditional",
        ("ops/test_diffusion.py",),
        "guidance adds the branch without text",
    ),
    Mutation(
        "ops/diffusion.py",
        "jnp.expm1(1e-4 + 10 * jnp.square(t))",
        "jnp.expm1(1e-4 + 10 * t)",
        ("ops/test_diffusion.py",),
        "the linear schedule without its square",
    ),
    Mutation(
        "ops/diffusion.py",
        "return next_alpha * x0 + next_sigma / sigma * (z - alpha * x0)",
        "return next_alpha * x0 + next_sigma * (z - alpha * x0)",
        ("sampling/diffusion/test_samplers.py",),
        "DDIM carries noise at the wrong level",
    ),
    Mutation(
        "sampling/diffusion/samplers.py",
        "(there - here) / (2 * (here - last))",
        "(there - here) / (here - last)",
        ("sampling/diffusion/test_samplers.py",),
        "the second order leans twice as far",
    ),
    Mutation(
        "sampling/diffusion/samplers.py",
        "return _move(z, (x0 + again) / 2, here, there)",
        "return _move(z, again, here, there)",
        ("sampling/diffusion/test_samplers.py",),
        "no trapezoid: the second estimate alone",
    ),
    Mutation(
        "sampling/diffusion/samplers.py",
        "spread = next_sigma ** (1 - gamma) * sigma**gamma",
        "spread = next_sigma**gamma * sigma ** (1 - gamma)",
        ("sampling/diffusion/test_samplers.py",),
        "ancestral variances exchanged",
    ),
    Mutation(
        "sampling/diffusion/denoisers.py",
        "jnp.where(known, images, denoise(z, log_snr))",
        "jnp.where(known, denoise(z, log_snr), images)",
        ("sampling/diffusion/test_samplers.py",),
        "in-painting keeps what is to be made",
    ),
    Mutation(
        "families/imagen/denoising.py",
        "return Text(tokens, jnp.where(dropped[:, None], first, text.mask))",
        "return Text(tokens, text.mask)",
        ("families/imagen/test_denoising.py",),
        "a dropped text still tells its length",
    ),
    Mutation(
        "nn/unet.py",
        "* (1 + scale) + shift",
        "* scale + shift",
        ("models/test_unet.py",),
        "FiLM without its 1",
    ),
    Mutation(
        "nn/unet.py",
        "masks.append(jnp.ones((batch, rows * columns), bool))",
        "masks.append(jnp.zeros((batch, rows * columns), bool))",
        ("models/test_unet.py",),
        "an image does not see itself",
    ),
)

TEXTS = (
    Mutation(
        "ops/relative_attention.py",
        "start, distance = num * (relative > 0), np.abs(relative)",
        "start, distance = num * (relative < 0), np.abs(relative)",
        ("ops/test_relative_attention.py", "models/test_t5.py"),
        "buckets of keys behind and before exchanged",
    ),
    Mutation(
        "ops/relative_attention.py",
        "        scale=1.0,\n",
        "        scale=None,\n",
        ("ops/test_relative_attention.py", "models/test_t5.py"),
        "T5's scores are scaled",
    ),
    Mutation(
        "models/t5.py",
        "h *= nn.gelu(gate)",
        "h *= nn.gelu(gate, approximate=False)",
        ("models/test_t5.py",),
        "the gate by the exact GELU",
    ),
    Mutation(
        "tasks/span_corruption.py",
        "states *= self.config.width**-0.5",
        "states *= 1.0",
        ("tasks/test_span_corruption.py",),
        "T5's states are not scaled before the shared table",
    ),
    Mutation(
        "data/span_corruption.py",
        "        if leave and not inside:\n",
        "        if leave:\n",
        ("data/test_span_corruption.py",),
        "each piece that is left out is a span",
    ),
    Mutation(
        "data/bpe_dropout.py",
        "left = rng.random(len(known)) >= self._rate",
        "left = rng.random(len(known)) < self._rate",
        ("data/test_bpe_dropout.py",),
        "merges are kept as often as they should be left out",
    ),
    Mutation(
        "data/wordpiece.py",
        "ends = range(len(word), at, -1)",
        "ends = range(at + 1, len(word) + 1)",
        ("data/test_wordpiece.py",),
        "the shortest piece is taken",
    ),
    Mutation(
        "data/word_list.py",
        "order = sorted(found, key=lambda word: (-found[word], word))",
        "order = sorted(found, key=lambda word: (found[word], word))",
        ("data/test_word_list.py",),
        "the rarest words are kept",
    ),
    Mutation(
        "data/filter_rules.py",
        "return 2 * len(left) < len(words_of(text))",
        "return len(left) < len(words_of(text))",
        ("data/test_filter_rules.py",),
        "one date makes a caption boilerplate",
    ),
    Mutation(
        "models/clip.py",
        "jnp.argmax(ids, axis=-1)",
        "jnp.full(len(ids), length - 1)",
        ("models/test_clip.py",),
        "a caption's vector is that of its last place",
    ),
    Mutation(
        "models/clip.py",
        "h *= jax.nn.sigmoid(1.702 * h)",
        "h *= jax.nn.sigmoid(1.6 * h)",
        ("models/test_clip.py",),
        "another quick GELU",
    ),
    Mutation(
        "ops/losses.py",
        "return jnp.mean(of_images + of_texts) / 2",
        "return jnp.mean(of_images)",
        ("ops/test_losses.py",),
        "captions look for no image",
    ),
    Mutation(
        "ops/losses.py",
        "wanted = same / jnp.sum(same, axis=1, keepdims=True)",
        "wanted = jnp.eye(len(same))",
        ("ops/test_losses.py",),
        "captions that read alike are pushed apart",
    ),
)

CODES = (
    Mutation(
        "families/dalle/layout.py",
        "weights[1 : self.text_len] = text_share / (self.text_len - 1)",
        "weights[1 : self.text_len] = text_share / self.text_len",
        ("families/dalle/test_layout.py",),
        "text has less than its share",
    ),
    Mutation(
        "families/dalle/layout.py",
        "ids = self.vocab.padding_start + np.arange(self.text_len, dtype=np.int32)",
        "ids = np.full(self.text_len, self.vocab.padding_start, np.int32)",
        ("families/dalle/test_layout.py",),
        "one id pads all positions",
    ),
    Mutation(
        "families/dalle/layout.py",
        "weights[-learnt:] = (1 - text_share) / learnt",
        "weights[self.text_len :] = (1 - text_share) / learnt",
        ("families/dalle/test_pairs.py",),
        "the source of a pair is learnt too",
    ),
    Mutation(
        "pipelines/tokens.py",
        "np.sum(losses * behind[:, :, None], axis=3).argmin(axis=2)",
        "np.sum(losses * behind[:, :, None], axis=3).argmax(axis=2)",
        ("pipelines/test_editing.py",),
        "the filling stays after which the rest is least likely",
    ),
    Mutation(
        "pipelines/editing.py",
        "return ~_touched(self.hole, shape)",
        "return _touched(self.hole, shape)",
        ("pipelines/test_editing.py",),
        "what a mask leaves black is drawn anew",
    ),
    Mutation(
        "pipelines/tokens_generator.py",
        "forced[np.ix_(which, images)].reshape(len(pairs), -1)",
        "forced[np.ix_(which, images)].swapaxes(0, 1).reshape(len(pairs), -1)",
        ("pipelines/test_pairs.py",),
        "candidates of two sources are mixed up",
    ),
    Mutation(
        "worlds/pairs.py",
        'plain = nouns if not color or own in ("", color) else ()',
        "plain = nouns",
        ("worlds/test_pairs.py",),
        "a colour that changes is not named",
    ),
    Mutation(
        "ops/losses.py",
        "return jnp.log(2.0) + log_scale + jnp.log(x) + jnp.log1p(-x) + distance",
        "return jnp.log(2.0) + log_scale + distance",
        ("ops/test_losses.py",),
        "logit-Laplace without the slope of the logit",
    ),
    Mutation(
        "models/dvae.py",
        "return 1 / (self.levels * self.blocks) ** 2",
        "return 1 / (self.levels * self.blocks)",
        ("models/test_dvae.py",),
        "residual branches of the dVAE are too strong",
    ),
    Mutation(
        "ops/quantize.py",
        "vectors, codebook = vectors - centre, codebook - centre",
        "vectors, codebook = vectors, codebook",
        ("ops/test_quantize.py",),
        "far from 0 the nearest code is a matter of rounding",
    ),
    Mutation(
        "ops/masks.py",
        "LayerKind(name, kernel, edge, row_extent) for name",
        "LayerKind(name, kernel, row_extent=row_extent) for name",
        ("families/ernie_vilg/test_presets.py",),
        "a window's edge cannot be set",
    ),
    Mutation(
        "models/vqgan.py",
        """if level in cfg.attention_levels:
                    x = Attention(*cfg.norms, name=f"{name}.attn.{i}")(x)
            if level <""",
        """if x.shape[1] == cfg.grid:
                    x = Attention(*cfg.norms, name=f"{name}.attn.{i}")(x)
            if level <""",
        ("models/test_vqgan.py",),
        "attention by the side of an image and not by its level",
    ),
    Mutation(
        "sampling/tokens/masked.py",
        "wanted = np.floor(masked * masked_share(step / steps)).astype(np.int32)",
        "wanted = np.floor(masked * (1 - step / steps)).astype(np.int32)",
        ("sampling/tokens/test_masked.py",),
        "a linear schedule of unmasking",
    ),
)

TRAINING = (
    Mutation(
        "nn/lora.py",
        "params + ((scale * a) @ b)",
        "params + (a @ b)",
        ("nn/test_lora.py",),
        "LoRA's alpha and an adapter's weight do nothing",
    ),
    Mutation(
        "tasks/lora.py",
        "return self.inner.eval_metrics(self.merged(params, base), state, batch, key)",
        "return self.inner.eval_metrics(base, state, batch, key)",
        ("tasks/test_lora.py",),
        "held-out images are seen without the adapter",
    ),
    Mutation(
        "train/patience.py",
        "0 < self._patience <= self._waited",
        "0 < self._patience < self._waited",
        ("train/test_patience.py",),
        "a run waits one evaluation longer than its patience",
    ),
    Mutation(
        "train/session.py",
        "self._go_back(train_state, self.held_out.best + 1)",
        "self._go_back(train_state, self.held_out.best)",
        ("train/test_patience.py",),
        "a run ends before its lowest held-out loss",
    ),
    Mutation(
        "train/step.py",
        "weights = jax.vmap(task.weights)(parts)",
        "weights = {}",
        ("train/test_step.py", "tasks/test_parts.py"),
        "parts of a batch count alike, whatever they weigh",
    ),
    Mutation(
        "train/step.py",
        "jax.random.fold_in(key, index)",
        "key",
        ("tasks/test_parts.py",),
        "all parts draw by the same key",
    ),
    Mutation(
        "train/loss_scale.py",
        "jnp.where(finite, 1.0, 0.5)",
        "jnp.where(finite, 1.0, 1.0)",
        ("train/test_loss_scale.py",),
        "the loss scale never falls",
    ),
    Mutation(
        "parallel/powersgd.py",
        "_store(full[name] - sums[name] / workers, kept.dtype)[None]",
        "_store(full[name] - sums[name], kept.dtype)[None]",
        ("parallel/test_powersgd.py", "train/test_compression.py"),
        "the error is that of all workers",
    ),
    Mutation(
        "parallel/powersgd.py",
        'query = right if config.basis == "warm" else query',
        "query = query",
        ("parallel/test_powersgd.py", "train/test_compression.py"),
        "no warm start",
    ),
    Mutation(
        "train/optim.py",
        'if name in ("bias", "scale", "null_caption") or leaf.ndim == 0:',
        'if name in ("bias", "null_caption") or leaf.ndim == 0:',
        ("train/test_optim.py",),
        "scales of norms decay",
    ),
    Mutation(
        "train/manifest.py",
        'return "" if crc == wanted_crc else "has changed"',
        'return ""',
        ("train/test_checkpoint.py",),
        "a file of the right size is good",
    ),
    Mutation(
        "train/manifest.py",
        'if part.get("step", step) != step:',
        'if part.get("step", step) < 0:',
        ("train/test_checkpoint.py",),
        "steps may change places",
    ),
    Mutation(
        "data/records.py",
        "if manifest.marks and mark(path) != manifest.marks.get(path.name):",
        "if not manifest.marks:",
        ("data/test_records.py",),
        "shards may change places",
    ),
)

SERVING = (
    Mutation(
        "serve/guard.py",
        "return name in self._names",
        "return True",
        ("serve/test_api.py",),
        "a name that was made to lead here is answered",
    ),
    Mutation(
        "serve/engine.py",
        "if self._closed or len(self._queue) >= self.limits.queue:",
        "if self._closed:",
        ("serve/test_engine.py",),
        "the queue has no end",
    ),
    Mutation(
        "serve/job.py",
        "if not self._wakers and now > self._wanted_until:",
        "if now > self._wanted_until:",
        ("serve/test_engine.py",),
        "who watches does not keep the work going",
    ),
    Mutation(
        "serve/draw.py",
        "encode_png(each, common | own)",
        "encode_png(each, common)",
        ("serve/test_api.py",),
        "an image's recipe lacks its prompt and codes",
    ),
)

SYSTEMS = (*DIFFUSION, *TEXTS, *CODES, *TRAINING, *SERVING)
