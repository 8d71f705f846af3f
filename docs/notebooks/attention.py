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
# # What a sequence sees, and what it takes
#
# A sequence is text and an image of codes. Which positions may see which is said once,
# for all layers: white is seen.

# %%
import numpy as np
from PIL import Image

from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence


def picture(mask, scale=8):
    """bool [s, s] as an image: queries down, keys right, what is seen white."""
    pixels = np.uint8(255 * mask).repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(pixels)


grid = 6, 6
picture(Sequence.text_to_image(8, grid, text="all").mask())

# %% [markdown]
# Above: ERNIE-ViLG's text to image, whose text sees all of itself. Below: a column
# layer of DALL-E, whose codes see the text, and of the image their own column.

# %%
picture(Sequence.text_to_image(8, grid).mask(LayerKind("column")))

# %% [markdown]
# ## Weights
#
# That is what a layer may see. What it takes is learnt: how much each code of an apple
# took of each piece of its text, the mean over layers and heads.

# %%
import cogjax

model = cogjax.load("emoji")
image = model.generate("a red apple, 3D", num_images=1, seed=0)[0]
found = model.attention(image, "a red apple, 3D")
found

# %% [markdown]
# What one code took, framed, of those before it. And one layer alone.

# %%
found.picture(code=70)

# %%
found.picture(layer=0)

# %% [markdown]
# The weights are arrays, and what a code took sums to 1.

# %%
whole = found.over_text.sum(-1) + found.over_image.sum((-1, -2))
assert np.allclose(whole, 1, atol=1e-4)
found.over_text.shape, found.over_image.shape, found.keys

# %% [markdown]
# The other direction: where ERNIE-ViLG looks when it writes about a scene.

# %%
scenes = cogjax.load("shapes-ernie")
scene = scenes.generate("two blue squares", num_images=1, rerank=4, seed=0)[0]
scenes.attention_of_caption(scene, "two blue squares")
