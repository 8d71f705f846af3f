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
# # First images
#
# `emoji` is in the package: 12 MB, 288 things, five styles. Name a thing and a style,
# in English or Chinese.

# %%
import cogjax

model = cogjax.load("emoji")
model

# %% [markdown]
# The first call compiles, which takes some seconds. Image `i` of a seed does not depend
# on what is generated beside it.

# %%
result = model.generate(["a red apple, 3D", "一只猫的线稿"], num_images=4, seed=0)
result

# %% [markdown]
# Several candidates, of which the two stay that the model itself describes best. The
# number is the caption loss in nats a token: lower is better.

# %%
tigers = model.generate("flat illustration of a tiger", num_images=2, rerank=8, seed=1)
tigers

# %% [markdown]
# The same weights read an image.

# %%
model.caption(tigers.images)

# %%
texts = ["flat illustration of a tiger", "flat illustration of a tomato"]
scores = model.score([tigers[0]] * 2, texts)
assert scores[0] < scores[1]
dict(zip(texts, scores.tolist(), strict=True))

# %% [markdown]
# An image is 12 x 12 codes. Half of them stay, the others are sampled anew.

# %%
rows = model.shape[0]
keep = [[row < rows // 2] * model.shape[1] for row in range(rows)]
model.generate("a red apple, 3D", 4, image=result[0], keep=keep)

# %% [markdown]
# `save` writes a PNG an image, `grid.png` and `generation.json`. A path is an image,
# too.

# %%
folder = result.save("first-images")
model.caption(folder / "a-red-apple-3d-1.png")
