#!/usr/bin/env python3
"""What golden/ holds of each numerics, as the Markdown table of tests/README.md: values whose digest is compared, by
attention, model shape and PyTorch's threads."""
import collections
import glob
import json
import os

import reference

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = {"tiny-wide": "tiny-wide", "smollm2-135m": "SmolLM2-135M", "qwen2.5-0.5b-random": "Qwen2.5-0.5B"}
COLUMNS = ["tiny", *SHAPES.values()]


def values_of(whole, part):
    return len(whole["values"]) * sum(len(run["calls"]) for run in part["runs"] + part["sweeps"])


def count():
    """{(numerics, attention, threads): {shape: values}}; threads "any" where bits depend on none."""
    found = collections.defaultdict(collections.Counter)
    for path in sorted(glob.glob(os.path.join(HERE, "golden", "**", "*.json"), recursive=True)):
        attention, shape = path.split(os.sep)[-2], SHAPES.get(os.path.basename(path)[:-5], "tiny")
        with open(path, encoding="utf-8") as file:
            whole = json.load(file)
        for key, part in whole["numerics"].items():
            numerics, _, threads = key.partition(" threads=")
            threads = threads if numerics in reference.OF_THREADS else "any"
            found[numerics, attention, threads][shape] += values_of(whole, part)
    return found


def table():
    found = count()
    rows = ["| numerics | attention | torch's threads | " + " | ".join(COLUMNS) + " |", "| --- " * (3 + len(COLUMNS)) + "|"]
    order = sorted(found, key=lambda k: (reference.NUMERICS.index(k[0]), k[1], k[2]))
    for key in order:
        rows.append(f"| `{key[0]}` | {key[1]} | {key[2]} | " + " | ".join(f"{found[key][c]:,}" if found[key][c] else "" for c in COLUMNS) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
