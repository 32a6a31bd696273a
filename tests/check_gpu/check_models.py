"""Whole forwards, value by value: torch-cpu's numerics on the GPU against the CPU, torch-cuda against transformers."""
import os

import checks
import daemon
import live
import models
import reference
import report

TINY = ["tiny-qwen2", "tiny-llama-biases", "tiny-qwen3", "tiny-mistral", "tiny-wide"]
SMALL = ["tiny-qwen2"]  # what the emulator is given
# Random ones of real shapes are made on the way; the real one is compared where it is there already.
SHAPES = ["qwen2.5-0.5b-random", "smollm2-135m-random", "smollm2-135m"]
NUMERICS = "torch-cpu/avx512_bf16"
TINY_LENGTHS = [1, 5, 37]
LENGTHS = [1, 2, 5, 17, 64, 300]
STEPS = 2
THREADS = len(os.sched_getaffinity(0))  # of the CPU


class Divergence:
    """The first value that differed of all runs of a model under one numerics; runs go from short to long."""

    def __init__(self):
        self.first, self.runs = "", 0

    def see(self, run, name):
        """name: of the first value that differs in this run; "": none does."""
        self.runs += 1
        if name and not self.first:
            self.first = f"{name} ({run})"

    def row(self, section, label):
        """What is to be looked at next: information beside the rows that count."""
        note = self.first or ("none" if self.runs else "nothing was compared")
        return report.row(section, f"{label} first divergence", "info", note=note)


def digests(server, tokens, attention):
    reply = server.json("/v1/trace", {"tokens": tokens, "steps": STEPS, "values": ["*"], "attention": attention,
                                      "format": "digest"})
    return {name: (value["sha256"], value["shape"]) for name, value in reply["values"].items()}


def elements(shape):
    n = 1
    for extent in shape:
        n *= extent
    return n


def wrong_values(want, got):
    """Names in the order of execution; those that `want` lacks at the end."""
    return [value for value in want if got.get(value) != want[value]] + sorted(set(got) - set(want))


def digest_row(section, name, want, got):
    """Values are compared whole: `differing` counts the elements of the values that differ."""
    wrong = wrong_values(want, got)
    note = f"{len(want)} values"
    if wrong:
        note += f"; {len(wrong)} differ, first {wrong[0]}"
    differing = sum(elements(want[value][1]) if value in want else 1 for value in wrong)
    return report.compared(section, name, differing, sum(elements(shape) for _, shape in want.values()), note)


def on_both(settings, run, folder, attention):
    """Yields (label, row, first value that differs) for each length."""
    with daemon.Daemon(folder, NUMERICS, THREADS) as cpu, daemon.Daemon(folder, NUMERICS, 0, device="cuda:0") as cuda:
        for length in run.lengths:
            tokens = [(i * 7919 + 13) % 250 for i in range(length)]
            want, got = digests(cpu, tokens, attention), digests(cuda, tokens, attention)
            label = f"{run.model} {NUMERICS} {attention} {length} tokens"
            yield label, digest_row(run.section, label, want, got), (wrong_values(want, got) or [""])[0]


def traced_row(section, name, result, promised):
    note = f"{result['values']} values"
    if result["found"]:
        first = result["found"][0]
        note += f"; {result['differing_values']} differ, first {first['name']}{first['index']}: " \
                f"{first['server']!r}, PyTorch {first['pytorch']!r}"
    if result["problems"] and promised:
        return report.row(section, name, "failed", result["differing"], result["elements"],
                          f"{note}; {'; '.join(result['problems'])}")
    return report.compared(section, name, result["differing"], result["elements"], note, promised)


def with_pytorch(settings, run, folder, attention):
    torch_model = reference.Reference(folder, attention, settings.device)
    with daemon.Daemon(folder, "torch-cuda", 0, device="cuda:0") as server:
        for length in run.lengths:
            feed = checks.feed(torch_model, folder, {"length": length, "steps": STEPS})
            _, result = live.compare_run(torch_model, server, feed)
            label = f"{run.model} torch-cuda {attention} {length} tokens"
            yield label, traced_row(run.section, label, result, settings.promised()), \
                result["found"][0]["name"] if result["found"] else ""


# torch-cuda first: it is what only a GPU can tell.
PARTS = [("torch-cuda", with_pytorch, "eager")] + [(NUMERICS, on_both, attention) for attention in reference.ATTENTIONS]


class Run:
    def __init__(self, section, model, lengths):
        self.section, self.model, self.lengths = section, model, lengths


def tiny(settings):
    for name in SMALL if settings.emulated else TINY:
        yield from compare_model(settings, Run("tiny", name, TINY_LENGTHS))


def shapes(settings):
    for name in SHAPES:
        yield from compare_model(settings, Run("models", name, LENGTHS))


def compare_model(settings, run):
    folder, why = models.find(run.model, fetch=False)
    if not folder:
        yield report.row(run.section, run.model, "skipped", note=why)
        return
    for numerics, part, attention in PARTS:
        label, seen = f"{run.model} {numerics} {attention}", Divergence()
        try:
            for name, row, first in part(settings, run, folder, attention):
                seen.see(name, first)
                yield row
        except Exception as e:  # the other parts say more
            yield report.row(run.section, label, "failed", note=f"{type(e).__name__}: {e}")
        yield seen.row(run.section, label)
