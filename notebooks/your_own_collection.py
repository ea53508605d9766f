# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own collection
#
# You have a folder of pictures, and you want to find things in it by describing them. Four steps: build an index, ask,
# say what was right, and let the index learn from it.
#
# To run this notebook on your photographs, change one line: `photos = "~/Pictures"`. As it stands, it takes a few
# photographs that come with installed Python packages, and a folder of drawings, because drawings let us check every
# answer.

# %%
import json
import logging
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.core.regions import pairwise_iou
from retrieval_grounding.search.draw import draw_boxes

logging.disable(logging.WARNING)
plt.rcParams["figure.dpi"] = 80
ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "scripts" / "drawn").is_dir())
sys.path.insert(0, str(ROOT / "scripts"))

from drawn.refer import draw_refer  # noqa: E402

work = Path(tempfile.mkdtemp())
draw_refer(work, images=36, per_image=8, seed=11)
photos = [work / "train2014", *demo_photographs()]

# %% [markdown]
# ## Build
#
# The models come with the package, so nothing is downloaded. Building takes a fraction of a second per picture on one
# core, and is done once: run it again, and only new or changed files are looked at. Stop it whenever you like.

# %%
index = rg.build(photos, work / "index", options=rg.BuildOptions(progress=False))
report = index.build_report
print(f"{len(index)} pictures, {index.info()['regions']} regions; skipped: {len(report.skipped)}")
again = rg.build(photos, work / "index", options=rg.BuildOptions(progress=False))
print(
    f"the second time: {again.build_report.unchanged} unchanged, {again.build_report.added} added"
)

# %% [markdown]
# ## Ask
#
# A query returns regions, not just pictures: each hit has a box and two probabilities, that the picture shows what you
# describe, and that this box is it.

# %%
GREEN, RED = (20, 170, 60), (230, 30, 90)


def show(hits, color=GREEN, columns=4):
    rows = max(1, -(-len(hits) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.8 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, hit in zip(axes.flat, hits):
        ax.imshow(draw_boxes(rg.load_image(hit.image), [(hit.box, color)]))
        ax.set_title(f"{hit.phrase}\nin image {hit.image_probability:.0%}", fontsize=9)
    figure.tight_layout()
    plt.show()


answers = index.query(["a bus", "a tie", "a chinese temple", "a flower"], top=1)
show([hits[0] for hits in answers])

# %% [markdown]
# Phrases can be precise: the color and the thing must fit the same region. In Jupyter, `index.query(...)` at the end of
# a cell shows its pictures by itself.

# %%
show(index.query("a green bottle", top=4))

# %% [markdown]
# And a query can say what it does *not* want. Several photographs show a man; without ties, one of them is left.

# %%
show(index.query("a man", top=3) + index.query(rg.Query.parse("a man -tie"), top=1))

# %% [markdown]
# ## Say what was right
#
# A thumb up or down for a hit is kept in the index, with the box that you mean if the one found is not good. Here, a
# program plays the user: it knows what each phrase about a drawing means, so it can judge every answer.

# %%
refs = work / "refcocog" / "refs(umd).p"
asked = rg.read_expressions(refs, splits=["train"])
truth = {}
for e in asked:
    truth.setdefault(e.phrase, []).append((e.image.split("_")[2], e.box))
for phrase, places in truth.items():
    for hit in index.query(phrase, top=3):
        right = [box for number, box in places if number in hit.image]
        if not right:
            continue  # the user looks for one picture, and says nothing about others
        best = max(right, key=lambda box: pairwise_iou([box], [hit.box])[0, 0])
        if pairwise_iou([best], [hit.box])[0, 0] >= 0.5:
            index.feedback.add(hit, "up")
        else:
            index.feedback.add(hit, "up", box=best)  # drawn by hand, so to say
print(f"{len(index.feedback)} thumbs")

# %% [markdown]
# ## Learn
#
# The thumbs are expressions with boxes, so they can train the matcher. `train` starts from the matcher in use, compares
# the result on pictures that it held out, and keeps the old one unless the new one is clearly better. You cannot break an
# index by training. A few dozen thumbs are few, so read the line that says what was decided, and why.

# %%
thumbs = work / "thumbs.jsonl"
lines = [json.dumps(e.as_dict()) for e in index.feedback.entries() if e.verdict == "up"]
thumbs.write_text("\n".join(lines))
fit = index.train(
    thumbs, name="mine", options=rg.TrainingOptions(epochs=12, batch_size=40, progress=False)
)
print(fit)
print(fit.reason or "the index answers by the new matcher now")
pd.DataFrame(
    [
        {"compared with": c.name, "mean IoU": c.other_mean_iou, "new": c.mean_iou,
         "gain": f"{c.gain.value:+.3f} [{c.gain.low:+.3f}, {c.gain.high:+.3f}]"}
        for c in fit.comparisons
    ]
).round(3)  # fmt: skip

# %% [markdown]
# ## Measure
#
# The held-out tenth of a small collection is small, so its interval is wide. If you have more expressions, evaluate on
# pictures that nobody gave a thumb: here, the splits `val` and `test`.

# %%
figures = index.evaluate(
    refs, splits=["val", "test"], matchers=["bundled", "mine"], gallery=60
).figures
pd.DataFrame(
    {
        name: {"mean IoU": f.mean_iou.value, "Acc@0.5": f.accuracy.value}
        for name, f in figures.items()
    }
).T.round(3)

# %% [markdown]
# ## Keep it
#
# An index is a folder: copy it, back it up, open it anywhere with the same version of the package.
#
# ```console
# $ retrieval-grounding build ~/Pictures --index indexes/pictures      # again, whenever there is something new
# $ retrieval-grounding query indexes/pictures "a dog in the snow" --open
# $ retrieval-grounding verify indexes/pictures                        # every byte
# $ retrieval-grounding matcher list indexes/pictures
# ```
