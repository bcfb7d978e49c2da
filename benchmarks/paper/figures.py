"""The paper's figures 18 and 19 as bars: speed and size of a network, pruned in three ways."""

from __future__ import annotations

from pathlib import Path

from published import TARGETS

KERNELS = ("original", "traditional", "optimized", "Scalpel")
# Okabe and Ito's colours, which every kind of colour vision tells apart; hatches say it again.
COLORS = dict(zip(KERNELS, ("#999999", "#56B4E9", "#0072B2", "#D55E00"), strict=True))
HATCHES = dict(zip(KERNELS, ("", "//", "..", ""), strict=True))
FIGURES = {
    "figure18": ("ratio", "times as fast as the original", "{:.3g}x"),
    "figure19": ("size_ratio", "size of the weights, % of the original's", "{:.3g}"),
}


def draw(rows: list[dict], name: str, path: Path) -> None:
    """Writes one figure; rows as in <name>.json."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    key, label, form = FIGURES[name]
    targets = [target for target in TARGETS if any(row["target"] == target for row in rows)]
    most = max(len({row["case"] for row in rows if row["target"] == t}) for t in targets)
    size = (2.2 * most, 0.5 + 3 * len(targets))
    figure, panels = pyplot.subplots(len(targets), figsize=size, dpi=120, squeeze=False)
    for axes, target in zip(panels[:, 0], targets, strict=True):
        own = [row for row in rows if row["target"] == target]
        cases = list(dict.fromkeys(row["case"] for row in own))
        for row in own:
            kernel = row["kernel"]
            place = cases.index(row["case"]) + 0.2 * (KERNELS.index(kernel) - 1.5)
            value = row[key] * (100 if key == "size_ratio" else 1)
            style = {"color": COLORS[kernel], "hatch": HATCHES[kernel], "edgecolor": "white"}
            axes.bar(place, value, 0.19, **style)
            axes.text(place, value, form.format(value), ha="center", va="bottom", fontsize=7)
        axes.set_xticks(range(len(cases)), cases, fontsize=9)
        axes.set_xlim(-0.6, most - 0.4)
        axes.set(title=TARGETS[target], yscale="log", ylabel=label)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.axhline(100 if key == "size_ratio" else 1, color="grey", lw=0.8)
        axes.margins(y=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    bars = [
        pyplot.Rectangle((0, 0), 1, 1, fc=COLORS[k], ec="white", hatch=HATCHES[k]) for k in KERNELS
    ]
    figure.legend(bars, KERNELS, ncols=4, loc="upper center", frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
