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
# # Four systems side by side
#
# Three of the four papers have a small trained model in the package, of one world:
# scenes of coloured shapes. They read the same prompts.

# %%
import cogjax

PROMPTS = ["two blue squares", "a red circle"]
names = {"CogView": "shapes", "ERNIE-ViLG": "shapes-ernie", "DALL-E": "shapes-dalle"}
models = {paper: cogjax.load(name) for paper, name in names.items()}
drawn = {
    paper: model.generate(PROMPTS, num_images=4, seed=0)
    for paper, model in models.items()
}

# %%
drawn["CogView"]

# %%
drawn["ERNIE-ViLG"]

# %%
drawn["DALL-E"]

# %% [markdown]
# What they are: one decoder over text and codes each, with layers of other kinds.

# %%
for paper, model in models.items():
    config = model.model["transformer"].config
    kinds = ", ".join(kind.name for kind in config.layer_kinds)
    print(f"{paper}: {config.depth} layers ({kinds}), {model.shape} codes")

# %% [markdown]
# Two of them read images as well, and ERNIE-ViLG's model answers questions.

# %%
image = drawn["ERNIE-ViLG"][0]
{paper: models[paper].caption(image) for paper in ("CogView", "ERNIE-ViLG")}

# %%
models["ERNIE-ViLG"].ask(image, "how many squares are there?")

# %% [markdown]
# The fourth, Imagen, generates pixels by diffusion and has no trained model here. The
# base of the paper's size, planned for 128 chips that are not here:

# %% language="sh"
# cogjax plan --config imagen/paper:base --topology v5p:4x4x8 --estimate
