"""Sampling 1024 tokens by `transformers` Llama with a static cache, beside cogjax.

The same width, depth, heads and codes as `cogjax bench decode --size reference`, f32,
random weights, the same prompt length. In an environment of its own:

    python -m venv peer && peer/bin/pip install torch transformers
    peer/bin/python experiments/bench/llama_decode.py --cogjax PYTHON_WITH_COGJAX

Runs alternate between the two, each in a fresh process with the same allocator setting;
prints medians and the ratio for batch 1 and batch 8.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT, IMAGE, WIDTH, DEPTH, HEADS, IDS = 64, 1024, 512, 8, 8, 8192


def peer(batch: int) -> float:
    """Tokens a second of one whole run after a short one that warms up."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    torch.manual_seed(0)
    # A gated MLP of 2/3 the width has as many weights as a plain one.
    config = LlamaConfig(
        vocab_size=IDS,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH * 2 // 3,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        max_position_embeddings=TEXT + IMAGE,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, IDS, (batch, TEXT))

    def run(count: int) -> float:
        cache = StaticCache(config=config, max_cache_len=TEXT + IMAGE)
        start = time.perf_counter()
        with torch.no_grad():
            out = model.generate(
                ids,
                past_key_values=cache,
                do_sample=True,
                top_k=0,
                min_new_tokens=count,
                max_new_tokens=count,
            )
        assert out.shape[1] == TEXT + count
        return time.perf_counter() - start

    run(8)
    return batch * IMAGE / run(IMAGE)


def ours(python: str, batch: int) -> float:
    """Tokens a second of `cogjax bench decode`, median of its own runs."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "bench.json"
        words = f"bench decode --batch {batch} --runs 1 --json {report}"
        code = "import sys; from cogjax.cli import main; sys.exit(main())"
        subprocess.run(
            [python, "-c", code, *words.split()], check=True, stdout=subprocess.DEVNULL
        )
        return json.loads(report.read_text())["tokens_per_second"]


def main() -> None:
    """Alternates the two and prints one line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cogjax", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only-peer", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_peer:
        print(peer(args.only_peer))
        return
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    for batch in args.batch:
        found = {"llama": [], "cogjax": []}
        for _ in range(args.runs):
            words = [sys.executable, __file__, "--only-peer", str(batch)]
            run = subprocess.run(words, check=True, capture_output=True, text=True)
            found["llama"].append(float(run.stdout.split()[-1]))
            found["cogjax"].append(ours(args.cogjax, batch))
        rates = {name: statistics.median(rate) for name, rate in found.items()}
        ratio = rates["cogjax"] / rates["llama"]
        print(
            f"batch {batch}: Llama {rates['llama']:.1f}, cogjax "
            f"{rates['cogjax']:.1f} tokens/s, ratio {ratio:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
