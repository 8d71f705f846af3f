# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A pod without a pod
#
# How much memory and time would CogView's 4 billion parameters take on 128 chips? No
# accelerator is needed to ask. `--estimate` counts from shapes, in seconds; without it
# the step is compiled for the pod (`pip install '.[plan]'`), which takes minutes and is
# exact about memory.

# %%
# !cogjax plan --config cogview/paper --topology v5p:4x4x8 --estimate --json plan.json --overwrite

# %%
import json
from pathlib import Path

plan = json.loads(Path("plan.json").read_text())
plan

# %% [markdown]
# Other meshes are a flag away: four ways of tensor parallelism, say.

# %%
# !cogjax plan --config cogview/paper --topology v5p:4x4x8 --estimate --config.mesh.tensor=4

# %% [markdown]
# And generating 32 images at once, on 16 smaller chips.

# %%
# !cogjax plan --config cogview/paper --topology v5e:4x4 --sampling 32 --estimate
