"""Figures of several sides, taken in turn, and what is made of them: medians, spreads, ratios.

A row is what one work gave: {"model", "work", "unit", "sides": {name: {"median", "least", "most",
"figures"}}, "ratios": {"a / b": {"median", "least", "most"}}, "others"}.  A ratio says how many times
better a was than b, round by round: above 1 is better, whatever the unit.  `others` is the share of
the machine's cores that other processes took meanwhile: figures of a disturbed machine mean little.
A side that could not be measured is in "skipped": {name: why}.
"""
import statistics
import sys
import time

import daemon

PAUSE_SECONDS = 0.1  # longer than a thread of PyTorch spins before it sleeps
LESS_IS_BETTER = {"ms", "s", "MB", "ms/token"}
LIMIT = "limit"  # the side that is the machine


def spread(figures):
    return {"median": statistics.median(figures), "least": min(figures), "most": max(figures)}


def progress(text):
    """A line on the terminal that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def measure(meters, rounds, label="", warm=True):
    """{name: figures, one a round} and {name: why it has none}.

    meters: {name: function() -> figure}.  Each round asks each meter once, in turn: while one runs
    the others sleep, and what drifts with time (clocks, neighbours) meets all alike.  warm: a round
    before the first, which does not count."""
    figures, skipped = {name: [] for name in meters}, {}
    for r in range(-warm, rounds):
        for name, meter in meters.items():
            if name in skipped:
                continue
            progress(f"{label} {max(0, r) + 1}/{rounds} {name}")
            time.sleep(PAUSE_SECONDS)
            try:
                figure = meter()
            except (daemon.Trouble, OSError) as e:
                skipped[name] = str(e)
                continue
            if r >= 0 and figure:
                figures[name].append(figure)
    progress("")
    return {name: f for name, f in figures.items() if name not in skipped and f}, skipped


def better(unit, a, b):
    """How many times better a is than b."""
    return b / a if unit in LESS_IS_BETTER else a / b


def ratios_of(unit, figures):
    """Of samebit's sides to all others."""
    return {f"{a} / {b}": spread([better(unit, x, y) for x, y in zip(figures[a], figures[b])])
            for a in figures for b in figures
            if a.startswith("samebit") and not b.startswith("samebit")}


def row(model, work, unit, measured, **more):
    figures, skipped = measured
    made = {"model": model, "work": work, "unit": unit,
            "sides": {name: {**spread(f), "figures": f} for name, f in figures.items()},
            "ratios": ratios_of(unit, figures), **more}
    return {**made, "skipped": skipped} if skipped else made


def median(made, side):
    """A side's median in a row, or None."""
    found = made["sides"].get(side) if made else None
    return found and found["median"]


def ratios_to(made, side, others):
    """The medians of the ratios of a side to those whose names begin with one of others."""
    return [r["median"] for name, r in (made["ratios"].items() if made else ())
            if name.startswith(f"{side} / ") and name.split(" / ")[1].startswith(tuple(others))]
