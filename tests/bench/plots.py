#!/usr/bin/env python3
"""Draws how cost grows, from a report of bench.py, as small SVG files.

    python plots.py REPORT.json FOLDER
"""
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "samebit", "svg.fonttype": "none", "font.size": 9})
from matplotlib import pyplot  # noqa: E402

COLOURS = {"samebit": "#0b6e4f", "PyTorch": "#d1495b", "llama.cpp": "#30638e"}


def streams_row(rows, model):
    """A growth row of the works "streams N"."""
    points = {}
    for r in rows:
        if r["model"] == model and r["work"].startswith("streams "):
            for side, s in r["sides"].items():
                points.setdefault(side, []).append([int(r["work"].split()[1]), s["median"]])
    return {"model": model, "work": "growth streams", "x": "streams at once", "unit": "tokens/s", "points": points}


def draw(row, path):
    figure, axes = pyplot.subplots(figsize=(4.6, 3.0))
    for side, points in row["points"].items():
        axes.plot(*zip(*points), marker="o", markersize=3, label=side, color=COLOURS.get(side.split()[0]))
    axes.set(xlabel=row["x"], ylabel=row["unit"], ylim=(0, None), xlim=(0, None), title=row["model"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        rows = json.load(f)["rows"]
    drawn = [r for r in rows if "points" in r]
    drawn += [streams_row(rows, m) for m in sorted({r["model"] for r in rows if r["work"].startswith("streams ")})]
    os.makedirs(sys.argv[2], exist_ok=True)
    for row in drawn:
        path = os.path.join(sys.argv[2], f"{row['model']}-{row['work'].split()[1]}.svg")
        draw(row, path)
        print(path)


if __name__ == "__main__":
    main()
