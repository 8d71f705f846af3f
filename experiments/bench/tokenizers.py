"""Image tokenizers of public code beside ours: 256 pixels, float32, the same weights.

Weights are random numbers; ours are exported under the names of the public code, which
loads them, draws the same codes and reads the same images: the differences are printed.
Then they take turns, each with its modules as they are and in torch's `channels_last`;
the ratio is to the faster of the two. In an environment of its own:

    python -m venv peer && peer/bin/pip install torch einops attrs safetensors requests
    git clone https://github.com/CompVis/taming-transformers  ... each into CLONES
    python experiments/bench/tokenizers.py CLONES --peer peer/bin/python

Prints medians of the wall clock and of processor time with their ranges. On a machine
that others use, `taskset -c 0` in front gives each one thread, whose processor time
depends on them less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

FILES = {
    "cogview": "vqvae.safetensors",
    "vqgan": "vqgan.safetensors",
    "rudalle": "vqgan.safetensors",
    "llamagen": "vq.safetensors",
    "dalle_mini": "detoker.safetensors",
}
NAMES = (*FILES, "dalle")
CLONES = {
    "cogview": "CogView",
    "vqgan": "taming-transformers",
    "rudalle": "taming-transformers",
    "dalle": "DALL-E",
    "llamagen": "LlamaGen/tokenizer/tokenizer_image",
    "dalle_mini": "min-dalle",
}
Parts = dict[str, Callable[[], Any]]


def ours(name: str, folder: Path, batch: int) -> Parts:
    """Writes the weights, inputs and outputs, and returns what is measured."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cogjax import model_folder
    from cogjax.catalogue import FAMILIES, resolve
    from cogjax.exporting.public import export_weights
    from cogjax.model import Component, Model
    from cogjax.models.registry import shapes_of
    from cogjax.pipelines.tokenize import compiled_encode

    config, rng = resolve(FAMILIES[name].tokenizer), np.random.default_rng(0)
    if name == "dalle_mini":
        config = replace(
            config, black=0, epsilon=1e-5, encodes=False
        )  # As of min-dalle.

    def fill(path, leaf):
        if path[-1].key == "scale":
            return np.ones(leaf.shape, np.float32)
        deviation = 0.02 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        if name == "cogview" and path[-1].key == "kernel":
            deviation *= 2  # Relu, and strides, would leave little of the signal.
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(deviation)

    params, state = jax.tree_util.tree_map_with_path(fill, shapes_of(config))
    book = rng.standard_normal(state["codebook"].shape, np.float32)
    if name == "llamagen":
        book /= np.linalg.norm(book, axis=1, keepdims=True)
    part = Component(config, params, {"codebook": book})
    model_folder.save(Model("", {"tokenizer": part}), folder / "model")
    export_weights(str(folder / "model"), folder / "weights", True, "float32")
    size, grid = config.image_size, config.grid
    images = rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    codes = rng.integers(0, len(book), (batch, grid, grid)).astype(np.int32)
    arrays = jax.device_put((params, book))

    @jax.jit
    def draw(params, book, codes):
        pixels = part.network.apply({"params": params}, book[codes], method="decode")
        return jnp.clip(pixels, 0, 1)

    parts = {"decode": lambda: jax.block_until_ready(draw(*arrays, codes))}
    outputs = {"pixels": parts["decode"]()}
    if name != "dalle_mini":
        read = (part.network, *arrays, images)
        parts["encode"] = lambda: jax.block_until_ready(compiled_encode(*read))
        outputs["found"] = parts["encode"]()
    np.savez(folder / "case.npz", images=images, codes=codes, **outputs)
    return parts


def peer(name: str, folder: Path, channels_last: bool) -> Parts:
    """The public modules with those weights; prints how far they are from ours."""
    import numpy as np
    import torch

    torch.set_grad_enabled(False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    case = np.load(folder / "case.npz")
    decode, encode, modules = PEERS[name](folder / "weights")
    if channels_last:
        for module in modules:
            module.to(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.tensor(case["images"]).permute(0, 3, 1, 2).float() / 255
    images = images.contiguous(memory_format=layout)
    codes = torch.tensor(case["codes"]).long()
    parts = {"decode": lambda: decode(codes)}
    pixels = parts["decode"]().clip(0, 1).permute(0, 2, 3, 1).numpy()
    differences = {
        "pixels": float(np.abs(pixels - case["pixels"]).max()),
        "of deviation": float(pixels.std()),
    }
    if encode:
        parts["encode"] = lambda: encode(images)
        found = parts["encode"]().numpy().reshape(case["found"].shape)
        differences["other codes"] = int((found != case["found"]).sum())
    print(json.dumps(differences), flush=True)
    return parts


def loaded(module: Any, path: Path, prefix: str = "") -> Any:
    """The module with its tensors of a file, all that it has but buffers."""
    from safetensors.torch import load_file

    tensors = {
        key.removeprefix(prefix): x
        for key, x in load_file(path).items()
        if key.startswith(prefix)
    }
    missing, unknown = module.load_state_dict(tensors, strict=False)
    own = {key for key, _ in module.named_parameters()}
    assert not unknown and not own & set(missing), (missing, unknown)
    return module.eval()


def cogview(folder: Path):
    """vqvae/api.py's network, with its normalisation of pixels."""
    import torch
    from vqvae.vqvae_zc import VQVAE

    sizes = {"n_res_block": 0, "n_res_channel": 32, "embed_dim": 256, "n_embed": 8192}
    net = loaded(VQVAE(channel=512, stride=6, **sizes), folder / FILES["cogview"])
    mean = torch.tensor([0.79093, 0.76271, 0.75340])[:, None, None]
    std = torch.tensor([0.30379, 0.32279, 0.32800])[:, None, None]
    return (
        lambda codes: net.decode_code(codes) * std + mean,
        lambda images: net.encode((images - mean) / std)[2],
        [net],
    )


def vqgan(folder: Path, multipliers: list[int], side: int, num_codes: int):
    """taming's modules; those of f8 as ru-dalle puts them together, without noise."""
    import torch
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2

    sizes = {"ch": 128, "out_ch": 3, "ch_mult": multipliers, "num_res_blocks": 2}
    sizes |= {"attn_resolutions": [side], "in_channels": 3, "resolution": 256}
    net, gumbel = torch.nn.Module(), side == 32
    net.encoder = Encoder(**sizes, z_channels=256, double_z=False)
    net.decoder = Decoder(**sizes, z_channels=256)
    net.quant_conv, net.post_quant_conv = (torch.nn.Conv2d(256, 256, 1) for _ in "12")
    if gumbel:
        net.quantize = GumbelQuantize(256, 256, num_codes)
    else:
        net.quantize = VectorQuantizer2(num_codes, 256, 0.25, sane_index_shape=True)
    loaded(net, folder / FILES["vqgan"])
    table = net.quantize.embed if gumbel else net.quantize.embedding

    def encode(images):
        z = net.quant_conv(net.encoder(2 * images - 1))
        return net.quantize.proj(z).argmax(1) if gumbel else net.quantize(z)[2][2]

    def decode(codes):
        z = table(codes).permute(0, 3, 1, 2)
        return (net.decoder(net.post_quant_conv(z)) + 1) / 2

    return decode, encode, [net]


def openai_dvae(folder: Path):
    """The two modules, and one-hot codes as OpenAI's notebook gives them."""
    import torch
    from dall_e.decoder import Decoder
    from dall_e.encoder import Encoder
    from dall_e.utils import map_pixels, unmap_pixels

    encoder = loaded(Encoder(), folder / "encoder.safetensors")
    decoder = loaded(Decoder(), folder / "decoder.safetensors")

    def decode(codes):
        hot = torch.nn.functional.one_hot(codes, 8192).permute(0, 3, 1, 2).float()
        return unmap_pixels(torch.sigmoid(decoder(hot)[:, :3]))

    return decode, lambda x: encoder(map_pixels(x)).argmax(1), [encoder, decoder]


def llamagen(folder: Path):
    """VQ-16 of LlamaGen."""
    from vq_model import VQ_16

    net = loaded(
        VQ_16(codebook_size=16384, codebook_embed_dim=8), folder / FILES["llamagen"]
    )

    def decode(codes):
        shape = len(codes), 8, *codes.shape[1:]
        return (net.decode_code(codes.reshape(-1), shape) + 1) / 2

    return decode, lambda images: net.encode(2 * images - 1)[2][2], [net]


def min_dalle(folder: Path):
    """Its decoder, with its scaling of pixels undone."""
    import torch
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    net = loaded(VQGanDetokenizer(), folder / FILES["dalle_mini"])

    def decode(codes):
        # It draws the images of several codes as one large square.
        rows = [net(False, each.reshape(1, -1)) for each in codes]
        return torch.stack(rows).permute(0, 3, 1, 2) / 255

    return decode, None, [net]


PEERS = {
    "cogview": cogview,
    "vqgan": lambda folder: vqgan(folder, [1, 1, 2, 2, 4], 16, 16384),
    "rudalle": lambda folder: vqgan(folder, [1, 1, 2, 4], 32, 8192),
    "dalle": openai_dvae,
    "llamagen": llamagen,
    "dalle_mini": min_dalle,
}


def serve(args: argparse.Namespace) -> None:
    """Makes a network; then each part that is asked for is answered by what it took.

    That is seconds by the clock, and of processor time.
    """
    name, folder = args.names[0], Path(args.folder)
    if args.serve == "cogjax":
        parts = ours(name, folder, args.batch)
        print("{}", flush=True)
    else:
        sys.path.append(str(Path(args.clones) / CLONES[name]))
        parts = peer(name, folder, args.serve == "channels_last")
    for line in sys.stdin:
        part = parts[line.strip()]
        start, used = time.perf_counter(), time.process_time()
        part()
        print(time.perf_counter() - start, time.process_time() - used, flush=True)


def start(args: argparse.Namespace, program: str, name: str, folder: str):
    """(a process that serves, what its network differs by), when it is ready."""
    python = sys.executable if program == "cogjax" else args.peer
    command = [python, __file__, args.clones, "--names", name, "--serve", program]
    command += ["--folder", folder, f"--batch={args.batch}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    for line in process.stdout:
        if line.startswith("{"):  # Public modules print their sizes.
            return process, json.loads(line)
    raise SystemExit(f"{program} of {name} ended early")


def measure(args: argparse.Namespace, name: str) -> None:
    """Lets the three take turns, the first one of each unmeasured, and prints."""
    with tempfile.TemporaryDirectory() as folder:
        programs = {}
        for program in ("cogjax", "torch", "channels_last"):
            programs[program], differences = start(args, program, name, folder)
            if differences:
                print(f"{name}: {program} differs from ours: {differences}", flush=True)
        for part in ("decode",) if name == "dalle_mini" else ("decode", "encode"):
            found = {program: [] for program in programs}
            for i in range(1 + args.runs):
                for program, process in programs.items():
                    process.stdin.write(part + "\n")
                    process.stdin.flush()
                    took = [float(x) for x in process.stdout.readline().split()]
                    if i:
                        found[program].append(took)
            report(f"{name} {part}", found, args.batch)
        for process in programs.values():
            process.stdin.close()


def report(what: str, found: dict[str, list[list[float]]], batch: int) -> None:
    """Prints medians and ranges for an image, and the ratio to the faster peer."""
    for i, by in enumerate(("by the clock", "of processor time")):
        each = {name: [run[i] / batch for run in runs] for name, runs in found.items()}
        medians = {name: statistics.median(times) for name, times in each.items()}
        words = ", ".join(
            f"{name} {medians[name]:.3f} ({min(times):.3f} to {max(times):.3f})"
            for name, times in each.items()
        )
        best = min(("torch", "channels_last"), key=medians.get)
        ratios = sorted(
            theirs / own for own, theirs in zip(each["cogjax"], each[best], strict=True)
        )
        ratio = medians[best] / medians["cogjax"]
        print(
            f"{what}, seconds {by}: {words}; ratio {ratio:.2f} (in turn "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


def main() -> None:
    """Measures the networks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clones", help="folder with the clones of the public code")
    parser.add_argument("--peer", default=sys.executable, help="Python with torch")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--runs", type=int, default=5, help="that are measured")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args)
        return
    for name in args.names:
        measure(args, name)


if __name__ == "__main__":
    main()
