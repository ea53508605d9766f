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
# # From YOLO and CLIP to grounding
#
# “The second red cup from the left.” You know at once which one is meant. How can a program know?
#
# Two famous networks each know a part of the answer. **YOLO** looks at a picture and says where the things are, in
# boxes. **CLIP** looks at a picture and at a text and says how well they fit together. This notebook puts the two
# together, step by step, looks at where the combination fails, and mends what can be mended with a small network that
# trains in seconds.
#
# Everything here is small on purpose: a few dozen drawn pictures, and models that run on a laptop. The drawings have one
# great advantage over photographs: we know exactly what every phrase means.

# %%
import logging
import re
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import retrieval_grounding as rg
from retrieval_grounding.search.draw import draw_boxes

logging.disable(logging.WARNING)
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})
ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "scripts" / "drawn").is_dir())
sys.path.insert(0, str(ROOT / "scripts"))

from drawn.refer import draw_refer  # noqa: E402

work = Path(tempfile.mkdtemp())
draw_refer(work, images=60, per_image=10, seed=5)
refs = work / "refcocog" / "refs(umd).p"
expressions = rg.read_expressions(refs)
print(expressions)

# %% [markdown]
# ## The data
#
# Each picture has several things of one kind, and each phrase singles out one of them. That is the form of the
# well-known data sets RefCOCO, RefCOCO+ and RefCOCOg, and our drawings are stored in the very files that these use
# (`refs(umd).p`, `instances.json`).

# %%
GREEN, RED, BLUE = (20, 170, 60), (230, 30, 90), (40, 90, 230)


def picture_of(name):
    number = re.search(r"\d{12}", name)[0]
    return rg.load_image(work / "train2014" / f"COCO_train2014_{number}.jpg")


def show(pictures, titles, columns=3):
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 3.1 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, title in zip(axes.flat, pictures, titles):
        ax.imshow(picture)
        ax.set_title(title, fontsize=9)
    figure.tight_layout()
    plt.show()


some = [e for e in expressions if "second" in e.phrase or "next to" in e.phrase][:40:8][:3]
show([draw_boxes(picture_of(e.image), [(e.box, GREEN)]) for e in some], [e.phrase for e in some])

# %% [markdown]
# ## Step 1: boxes
#
# `rg.build` runs the detector and the encoder over every picture, once, and stores what they say. Nothing else in this
# notebook will look at a pixel again, except to draw. Here are all the boxes of one picture.

# %%
index = rg.build(work / "train2014", work / "index", options=rg.BuildOptions(progress=False))
example = some[0]
image = picture_of(example.image)
regions = rg.load_detector("nano").detect([image])[0]
show(
    [draw_boxes(image, [(tuple(box), BLUE) for box in regions.boxes[1:].tolist()])],
    [f"{len(regions) - 1} boxes for {example.image[:27]}"],
    columns=1,
)
pd.DataFrame(
    {
        "label": regions.labels,
        "score": regions.scores.round(2),
        "box": regions.boxes.astype(int).tolist(),
    }
).head(8)

# %% [markdown]
# The labels are guesses, often wrong: the detector was trained on photographs, not on drawings. The *boxes* are what
# matters. The first region is always the whole picture.
#
# How good must the boxes be? If no box lies on the thing that is meant, whatever comes later is lost. The best that any
# choice among the boxes could reach is called the **oracle**. We measure the overlap of two boxes by their
# **intersection over union** (IoU): 1 if they are the same, 0 if they do not touch.

# %% [markdown]
# ## Step 2: similarity
#
# CLIP has cut out every box and turned it into a vector of length one; it turns a phrase into such a vector, too. The
# cosine between the two says how well they fit. So the simplest program that grounds phrases is this: *take the box with
# the highest cosine.*

# %%
encoder = index.encoder
vectors = encoder.encode_regions([image], [regions])
phrases = [example.phrase, "a cup", "a bowl", "a red thing", "a green thing"]
cosines = encoder.encode_phrases(phrases) @ vectors.T
figure, ax = plt.subplots(figsize=(9, 2.6))
shown = ax.imshow(cosines, cmap="viridis", aspect="auto")
ax.set_yticks(range(len(phrases)), phrases)
ax.set_xlabel("region (0 is the whole picture)")
figure.colorbar(shown, label="cosine")
plt.show()

# %% [markdown]
# The rows for simple words have clear favorites. The row of the full phrase looks much like that of its noun: CLIP sees
# one box at a time, and a box does not know whether it is the *second from the left*. It is a bag of words. No better
# CLIP will change that, because the information is not in the box.
#
# ## Step 3: a matcher
#
# What is missing is the other boxes. A **matcher** scores all boxes of a picture together. The library has two kinds,
# and comparing them is instructive.
#
# * **concat** is the obvious idea, and the one of the course project that this library grew from: put the vector of the
#   box, the vector of the phrase and the coordinates one after the other, and train a small classifier (right box or
#   not). It must learn from scratch what CLIP already knows, namely when a text fits a picture.
# * **residual** starts from what CLIP knows: `score = scale · cosine + bias + f`, where `f` begins as zero. Before
#   training it *is* the cosine; training only adds to it. And `f` sees what the cosine cannot: where the box is, how it
#   ranks among its rivals from left to right and by size, its color, its neighbors, and the words in their order.
#
# Both learn from the stored vectors, so training takes seconds.

# %%
options = rg.TrainingOptions(epochs=8, batch_size=48, progress=False)
course = index.train(
    refs, kind="concat", name="concat", splits=["train"], options=options,
    first_sentence_only=True, one_object_per_image=True,
)  # fmt: skip
residual = index.train(refs, name="residual", splits=["train"], options=options)
for fit in (course, residual):
    print(fit)
    print(fit.reason or "in use from now on")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, fit in (("concat", course), ("residual", residual)):
    epochs = [epoch.number for epoch in fit.history.epochs]
    axes[0].plot(epochs, [epoch.loss for epoch in fit.history.epochs], label=name)
    axes[1].plot(epochs, [epoch.mean_iou for epoch in fit.history.epochs], label=name)
axes[0].set(xlabel="epoch", ylabel="training loss")
axes[1].set(xlabel="epoch", ylabel="mean IoU, held out")
axes[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# `train` never makes an index worse: it compares the new matcher with the one in use and with plain cosine on pictures
# that were held out, and installs it only if it wins.
#
# ## Step 4: measuring
#
# Now to pictures that no training has seen: the splits `val` and `test`. Brackets are 95% intervals. They resample whole
# pictures, since ten phrases about one picture are not ten independent facts.

# %%
report = index.evaluate(
    refs, splits=["val", "test"], matchers=["bundled", "concat", "residual"], gallery=120
)
rows = {
    name: {
        "mean IoU": f"{f.mean_iou.value:.3f} [{f.mean_iou.low:.3f}, {f.mean_iou.high:.3f}]",
        "Acc@0.5": f"{f.accuracy.value:.3f}",
        "R@1 among all pictures": f"{f.image_recall[1].value:.3f}" if f.image_recall else "",
    }
    for name, f in report.figures.items()
}
pd.DataFrame(rows).T

# %% [markdown]
# *largest box* is what you get without reading the phrase. *oracle* is what a perfect choice among the boxes would get.
# Everything interesting happens between the two.
#
# ## Step 5: where is it lost?
#
# A wrong answer has one of two causes, and they are mended in different ways:
#
# 1. **No box was good.** Then the loss is 1 − oracle: take a better detector, or more boxes.
# 2. **A good box was there, and another one was chosen.** Then the loss is oracle − result: take a better encoder or
#    matcher.

# %%
oracle = report.figures["oracle"].mean_iou.value
names = ["cosine", "cosine+label", "bundled", "concat", "residual"]
means = np.array([report.figures[name].mean_iou.value for name in names])
figure, ax = plt.subplots(figsize=(9, 2.8))
ax.barh(names, means, color="#1b9e77", label="reached")
ax.barh(names, oracle - means, left=means, color="#d95f02", label="lost by the choice")
ax.barh(names, [1 - oracle] * len(names), left=oracle, color="#7570b3", label="lost by the boxes")
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="IoU")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncol=3, frameon=False)
plt.show()

# %% [markdown]
# The boxes are hardly the problem here. The choice is. Which phrases does it get wrong? We know what every phrase is
# about, so we can ask.

# %%
KINDS = {
    "relation": "next to", "order": "from the", "place": "on the", "size": "largest|smallest",
}  # fmt: skip


def kind_of(phrase):
    found = [kind for kind, pattern in KINDS.items() if re.search(pattern, phrase)]
    return (
        "order + relation" if found[:2] == ["relation", "order"] else (found or ["name, color"])[0]
    )


frame = report.to_frame()
frame["kind"] = frame["phrase"].map(kind_of)
table = frame.pivot_table("iou", index="kind", columns="matcher")[names]
table["phrases"] = frame.groupby("kind").size() // frame["matcher"].nunique()
table.sort_values("cosine", ascending=False).round(2)

# %% [markdown]
# This is the whole story in one table. Names and colors are in the box, and cosine reads them. Size, place, order and
# relations are *between* boxes, and cosine can only guess. From a few dozen pictures, the residual matcher has learned
# sizes and places, and relations in part; to count from the left, it needs more examples. The concat classifier has to
# learn names and colors again, and does not get that far.
#
# The mean hides that answers are mostly all or nothing. The histogram of IoU has two heaps: the right thing, or another.

# %%
figure, ax = plt.subplots(figsize=(9, 2.6))
bins = np.linspace(0, 1, 21)
for name, color in (("cosine", "#7570b3"), ("residual", "#1b9e77")):
    ax.hist(frame.loc[frame["matcher"] == name, "iou"], bins, alpha=0.6, label=name, color=color)
ax.set(xlabel="IoU of the chosen box", ylabel="phrases")
ax.legend()
plt.show()

# %% [markdown]
# So more training will move phrases from the left heap to the right one, and better boxes will move the right heap
# further right. Slices of any evaluation say the same for photographs, where we have no kinds:

# %%
part = {
    name: {m: round(s.mean_iou[m].value, 3) for m in names} | {"n": s.expressions}
    for name, s in report.slices.items()
}
pd.DataFrame(part).T

# %% [markdown]
# ## Step 6: does it know when it is wrong?
#
# A matcher also says how probable its answer is. If it says 70%, it should be right seven times out of ten: then its
# points lie on the diagonal. Half of the phrases below were asked of a picture that does not show what they describe, so
# there is much to be unsure about.

# %%
figure, ax = plt.subplots(figsize=(3.4, 3.2))
ax.plot([0, 1], [0, 1], color="0.7", linestyle="--")
for name in ("bundled", "residual"):
    bins_ = report.figures[name].reliability
    if bins_:
        ax.plot([b.probability for b in bins_], [b.frequency for b in bins_], "o-", label=name)
ax.set(xlabel="predicted probability", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
ax.legend()
plt.show()

# %% [markdown]
# ## Step 7: look at the worst
#
# Figures say how often; pictures say why. Here are the answers furthest behind the best box: green is the truth, red the
# answer.

# %%
worst = report.worst[:6]
show(
    [draw_boxes(rg.load_image(c.image), [(c.truth, GREEN), (c.answer, RED)]) for c in worst],
    [f"{c.phrase}\nIoU {c.iou:.2f}, best box {c.oracle:.2f}" for c in worst],
)

# %% [markdown]
# ## Step 8: what is each part worth?
#
# Take parts away, and see what is left. First the examples: train with fewer pictures.

# %%
sizes = {}
train = list(rg.read_expressions(refs, splits=["train"]))
images = sorted({re.search(r"\d{12}", e.image)[0] for e in train})
for count in (12, 24):
    few = set(images[:count])
    path = work / f"few-{count}.csv"
    pd.DataFrame(
        [(e.image, e.phrase, *e.box) for e in train if re.search(r"\d{12}", e.image)[0] in few],
        columns=["image", "expression", "x1", "y1", "x2", "y2"],
    ).to_csv(path, index=False)
    index.use_matcher("bundled")
    index.train(path, name=f"residual-{count}", options=options)
    sizes[f"residual, {count} pictures"] = f"residual-{count}"
sizes[f"residual, {len(images)} pictures"] = "residual"
ablation = index.evaluate(refs, splits=["val", "test"], matchers=list(sizes.values()), gallery=0)
shown = {"no training (cosine)": "cosine", "the label as well": "cosine+label"} | sizes
pd.DataFrame(
    {
        title: {
            "mean IoU": round(ablation.figures[name].mean_iou.value, 3),
            "gain over cosine": ""
            if ablation.figures[name].mean_iou_gain is None
            else "{0.value:+.3f} [{0.low:+.3f}, {0.high:+.3f}]".format(
                ablation.figures[name].mean_iou_gain
            ),
        }
        for title, name in shown.items()
        if name in ablation.figures
    }
).T

# %% [markdown]
# And the boxes: how does the oracle depend on their number? Boxes are sorted by the detector's score, so we can simply
# cut the list.

# %%
from retrieval_grounding.core.regions import pairwise_iou  # noqa: E402

detector = rg.load_detector("nano")
test = rg.read_expressions(refs, splits=["test"])
by_image = {}
for e in test:
    by_image.setdefault(re.search(r"\d{12}", e.image)[0], []).append(e.box)
counts = [1, 2, 5, 10, 20, 50]
recall = {count: [] for count in counts}
for number, boxes in by_image.items():
    found = detector.detect([picture_of(number)])[0].boxes[1:]
    for count in counts:
        recall[count] += (pairwise_iou(boxes, found[:count]).max(axis=1) >= 0.5).tolist()
figure, ax = plt.subplots(figsize=(5, 2.6))
ax.plot(counts, [np.mean(recall[count]) for count in counts], "o-")
ax.set(xlabel="boxes of each picture", ylabel="oracle recall@0.5", ylim=(0, 1.05))
plt.show()

# %% [markdown]
# ## What to take home
#
# * Ground in two steps: propose boxes, then choose. Each step has its own figure (oracle; choice), and mending the wrong
#   one helps nothing.
# * CLIP's cosine is a strong start for *what* a thing is, and blind to *which* of several it is. That is between boxes.
# * Add to what a big network knows, do not replace it: residual beats concat, most of all with few examples.
# * Always compare on pictures held out, with paired intervals, against the simplest thing that could work.
#
# The next notebook does this with [your own collection](your_own_collection.md); the third with
# [a published benchmark](a_benchmark_in_an_afternoon.md).
