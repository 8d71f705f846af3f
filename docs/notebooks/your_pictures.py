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
# # Your own pictures
#
# A folder of images, each with a text file of the same name beside it, becomes a model.
# So that this notebook needs nothing, it draws the pictures itself: flags in two
# colours. Put your own folder in the place of `flags`.

# %%
import itertools
from pathlib import Path

from PIL import Image, ImageDraw

folder = Path("flags")
folder.mkdir(exist_ok=True)
colours = ["red", "blue", "green", "yellow", "black", "white"]
for one, other in itertools.permutations(colours, 2):
    picture = Image.new("RGB", (96, 96), one)
    ImageDraw.Draw(picture).rectangle((0, 48, 96, 96), fill=other)
    picture.save(folder / f"{one}-{other}.png")
    (folder / f"{one}-{other}.txt").write_text(f"flag of {one} and {other}\n")
len(list(folder.glob("*.png")))

# %% [markdown]
# Thirty steps take two or three minutes of a CPU core: enough for colours, too few for
# flags. Leave `--steps` out for the whole recipe, 200 steps for so few images.
# `--dry-run` says what it would do.

# %%
# !cogjax finetune flags --out tuned --steps 30 --overwrite

# %% [markdown]
# The run's page has the losses, the sample grids over time, and where the time went.

# %%
from IPython.display import HTML

HTML(Path("tuned-run/report.html").read_text(encoding="utf-8"))

# %%
import cogjax

tuned = cogjax.load("tuned")
result = tuned.generate("flag of red and blue", num_images=4, seed=0)
result

# %% [markdown]
# Against the model that it began with: how well each reads one of the pictures.

# %%
before, picture = cogjax.load("emoji"), folder / "red-blue.png"
losses = [m.score(picture, "flag of red and blue").item() for m in (before, tuned)]
assert losses[1] < losses[0]
losses
