"""Whole forwards, value by value: torch-cpu's numerics on the GPU against the CPU, torch-cuda against transformers."""
import os

import checks
import daemon
import live
import models
import reference
import report

MODELS = ["smollm2-135m", "qwen2.5-0.5b-random"]
SMALL = ["tiny-qwen2", "tiny-llama-biases"]  # what the emulator is given
NUMERICS = "torch-cpu/avx512_bf16"
LENGTHS = [1, 5, 37, 64]
STEPS = 2
THREADS = len(os.sched_getaffinity(0))  # of the CPU


def digests(server, tokens, attention):
    reply = server.json("/v1/trace", {"tokens": tokens, "steps": STEPS, "values": ["*"], "attention": attention,
                                      "format": "digest"})
    return {name: (value["sha256"], value["shape"]) for name, value in reply["values"].items()}


def elements(shape):
    n = 1
    for extent in shape:
        n *= extent
    return n


def digest_row(name, want, got):
    """Values are compared whole: `differing` counts the elements of the values that differ."""
    wrong = [value for value in want if got.get(value) != want[value]]
    lost = sorted(set(got) - set(want))
    note = f"{len(want)} values"
    if wrong or lost:
        note += f"; {len(wrong)} differ, first {(wrong + lost)[0]}"
    differing = sum(elements(want[value][1]) for value in wrong) + len(lost)
    return report.compared("models", name, differing, sum(elements(shape) for _, shape in want.values()), note)


def on_both(settings, model, folder, attention):
    with daemon.Daemon(folder, NUMERICS, THREADS) as cpu, daemon.Daemon(folder, NUMERICS, 0, device="cuda:0") as cuda:
        for length in LENGTHS:
            tokens = [(i * 7919 + 13) % 250 for i in range(length)]
            yield digest_row(f"{model} {NUMERICS} {attention} {length} tokens", digests(cpu, tokens, attention),
                             digests(cuda, tokens, attention))


def traced_row(name, result, promised):
    note = f"{result['values']} values"
    if result["found"]:
        first = result["found"][0]
        note += f"; {result['differing_values']} differ, first {first['name']}{first['index']}: " \
                f"{first['server']!r}, PyTorch {first['pytorch']!r}"
    if result["problems"] and promised:
        return report.row("models", name, "failed", result["differing"], result["elements"],
                          f"{note}; {'; '.join(result['problems'])}")
    return report.compared("models", name, result["differing"], result["elements"], note, promised)


def with_pytorch(settings, model, folder, attention):
    torch_model = reference.Reference(folder, attention, settings.device)
    with daemon.Daemon(folder, "torch-cuda", 0, device="cuda:0") as server:
        for length in LENGTHS:
            feed = checks.feed(torch_model, folder, {"length": length, "steps": STEPS})
            _, result = live.compare_run(torch_model, server, feed)
            yield traced_row(f"{model} torch-cuda {attention} {length} tokens", result, not settings.emulated)


PARTS = [(NUMERICS, on_both, attention) for attention in reference.ATTENTIONS] + [("torch-cuda", with_pytorch, "eager")]


def models_section(settings):
    for name in SMALL if settings.emulated else MODELS:
        folder, why = models.find(name)
        if not folder:
            yield report.row("models", name, "skipped", note=why)
            continue
        for numerics, part, attention in PARTS:
            try:
                yield from part(settings, name, folder, attention)
            except Exception as e:  # the other parts say more
                yield report.row("models", f"{name} {numerics} {attention}", "failed", note=f"{type(e).__name__}: {e}")
