"""The goals, and whether what was measured meets them.  Never a reason to fail."""
import statistics

import figures

SHAPE, SMALL = "qwen2.5-0.5b-random", "smollm2-135m"
OURS = "samebit sdpa"
PEERS = ["PyTorch", "llama.cpp"]
NAMES = {SHAPE: "Qwen2.5-0.5B's shape", SMALL: "SmolLM2-135M"}


class Rows:
    """Rows by model and work."""

    def __init__(self, rows):
        self.by_name = {(r["model"], r["work"]): r for r in rows}

    def get(self, model, work):
        return self.by_name.get((model, work))


def least_ratio(others):
    """A figure: how many times better than the best of others."""
    def figure(rows, model, work):
        ratios = figures.ratios_to(rows.get(model, work), OURS, others)
        return min(ratios) if ratios else None
    return figure


def share_undisturbed(rows, model, work):
    return figures.median(rows.get(model, work), OURS)


def eight_to_one(rows, model, work):
    """The median of the ratios within a round."""
    eight, one = (rows.get(model, f"streams {n}") for n in (8, 1))
    if not all(made and OURS in made["sides"] for made in (eight, one)):
        return None
    return statistics.median(a / b for a, b in zip(*(made["sides"][OURS]["figures"] for made in (eight, one))))


def seconds(rows, model, work):
    return figures.median(rows.get(model, work), "samebit")


def of_checkpoint(rows, model, work):
    made = rows.get(model, work)
    used = figures.median(made, "samebit")
    return used and used / made["checkpoint"]


def trace_slowdown(made):
    untraced, binary = figures.median(made, "untraced"), figures.median(made, "binary")
    return binary / untraced if untraced and binary else None


def trace_speed(made):
    """Bytes a second of the binary form."""
    binary = figures.median(made, "binary")
    return 1e3 * made["bytes"]["binary"] / binary if binary else None


def trace_goal(rows, model, work):
    """At least 1 when one of the two things that are wanted is reached: speed, or little slowdown."""
    made = rows.get(model, work)
    slowdown, speed = trace_slowdown(made), trace_speed(made) if made else None
    return max(speed / 1.5e9, 1.1 / slowdown) if speed and slowdown else None


LIMIT = [figures.LIMIT]
# (what, model, work, figure, "at least" | "at most", bound)
GOALS = [
    ("decode, of what memory allows", SHAPE, "decode", least_ratio(LIMIT), "at least", 0.92),
    ("decode, x llama.cpp", SHAPE, "decode", least_ratio(["llama.cpp"]), "at least", 1.15),
    ("decode, x PyTorch", SHAPE, "decode", least_ratio(["PyTorch"]), "at least", 2.3),
    ("decode, x llama.cpp", SMALL, "decode", least_ratio(["llama.cpp"]), "at least", 1.25),
    ("decode, x PyTorch", SMALL, "decode", least_ratio(["PyTorch"]), "at least", 3.5),
    ("prefill of 512, of the multiplier", SHAPE, "prefill 512", least_ratio(LIMIT), "at least", 0.80),
    ("prefill of 2048, of the multiplier", SHAPE, "prefill 2048", least_ratio(LIMIT), "at least", 0.80),
    ("prefill of 512, x the best peer", SHAPE, "prefill 512", least_ratio(PEERS), "at least", 1.6),
    ("prefill of 2048, x the best peer", SHAPE, "prefill 2048", least_ratio(PEERS), "at least", 1.6),
    ("prefill of 16, x the best peer", SHAPE, "prefill 16", least_ratio(PEERS), "at least", 2.0),
    ("prefill of 16, x the best peer", SMALL, "prefill 16", least_ratio(PEERS), "at least", 2.0),
    ("decode while another process holds a core, of undisturbed", SHAPE, "disturbed", share_undisturbed, "at least", 0.4),
    ("decode while another process holds a core, of undisturbed", SMALL, "disturbed", share_undisturbed, "at least", 0.4),
    ("8 streams, x one", SHAPE, "streams", eight_to_one, "at least", 5),
    ("8 streams, x one", SMALL, "streams", eight_to_one, "at least", 5),
    ("binary trace of a prefill: 1.5 GB/s or at most 1.1 x untraced", SHAPE, "trace prefill", trace_goal, "at least", 1),
    ("binary trace of a decode: 1.5 GB/s or at most 1.1 x untraced", SHAPE, "trace decode", trace_goal, "at least", 1),
    ("start-up, s", SHAPE, "start-up", seconds, "at most", 1.0),
    ("peak memory, x the checkpoint", SHAPE, "memory", of_checkpoint, "at most", 1.15),
]


# Where PyTorch has AMX too: it is far faster there, and most of its prefill is not in products.
AMX_GOALS = [
    ("decode, of what memory allows", SHAPE, "decode", least_ratio(LIMIT), "at least", 0.85),
    ("prefill of 512, x PyTorch", SHAPE, "prefill 512", least_ratio(["PyTorch"]), "at least", 2.0),
    ("prefill of 2048, x PyTorch", SHAPE, "prefill 2048", least_ratio(["PyTorch"]), "at least", 2.0),
    ("prefill of 16, x PyTorch", SHAPE, "prefill 16", least_ratio(["PyTorch"]), "at least", 1.7),
    *(goal for goal in GOALS if not goal[0].startswith(("decode,", "prefill"))),
]
GOALS_OF = {"torch-cpu/amx_bf16": AMX_GOALS}


def judge(rows, numerics=None):
    """[(what, model, sense, bound, figure or None, met or None)], in the order of the goals that numerics have."""
    rows, out = Rows(rows), []
    for what, model, work, figure, sense, bound in GOALS_OF.get(numerics, GOALS):
        value = figure(rows, model, work)
        met = None if value is None else (value >= bound if sense == "at least" else value <= bound)
        out.append((what, model, sense, bound, value, met))
    return out
