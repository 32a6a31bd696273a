"""How fast, against what the memory allows and against PyTorch on the same GPU.  Nothing here can fail for being slow."""
import itertools
import tempfile
import time

import daemon
import figures
import machine
import models
import reference
import report
import sides
import torch
import works

MODELS = ["qwen2.5-0.5b-random", "smollm2-135m-random"]
SIDES = [("torch-cuda", "eager"), ("torch-cpu/avx512_bf16", "sdpa")]
WORKS = [("decode", "decode", 16), ("prefill 512", "prefill", 512), ("prefill 2048", "prefill", 2048)]
STEPS = 32  # of a decode
ROUNDS = 3
COPIED = 1 << 30  # bytes
DEVICE = "cuda"


def info(name, note):
    return report.row("speed", name, "info", note=note)


def copy_bandwidth():
    """Bytes per second, read and written, of the best of some copies inside the device."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=DEVICE)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * COPIED / best


class PyTorchSide:
    """transformers on the GPU, asked as sides.py says."""

    def __init__(self, folder, attention, rows):
        """rows: of logits that a prefill computes; 0: all."""
        self.model = reference.Reference(folder, attention, DEVICE).model
        self.name, self.rows = f"PyTorch {attention}", rows

    def _prefill(self, tokens):
        out = self.model(torch.tensor([tokens], device=DEVICE), use_cache=True, logits_to_keep=self.rows)
        return out, int(out.logits[0, -1].argmax())

    def prefill(self, tokens):
        with torch.inference_mode():
            torch.cuda.synchronize()
            start = time.perf_counter()
            self._prefill(tokens)
            return time.perf_counter() - start

    def decode(self, tokens, steps):
        with torch.inference_mode():
            out, token = self._prefill(tokens)
            start = time.perf_counter()
            for _ in range(steps):
                ids = torch.tensor([[token]], device=DEVICE)
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
                token = int(out.logits[0, -1].argmax())
            return time.perf_counter() - start


def rate(side, kind, tokens):
    """Tokens per second."""
    return len(tokens) / side.prefill(tokens) if kind == "prefill" else STEPS / side.decode(tokens, STEPS)


def work_row(label, kind, length, both, vocabulary, limit):
    """limit: tokens per second that the memory allows a decode."""
    prompts = (works.prompt_of(length, n, vocabulary) for n in itertools.count(1))
    taken, skipped = figures.measure({n: lambda s=s: rate(s, kind, next(prompts)) for n, s in both.items()}, ROUNDS)
    if skipped:
        return info(label, f"not measured: {skipped}")
    ours, theirs = max(taken["samebit"]), max(taken["PyTorch"])
    note = f"{ours:.0f} tokens/s, PyTorch {theirs:.0f}, ratio {ours / theirs:.2f}"
    if kind == "decode":
        note += f"; {ours / limit:.0%} of the {limit:.0f} that memory allows, PyTorch {theirs / limit:.0%}"
    return info(label, note)


def work_rows(name, config, folder, bandwidth, numerics, attention, server):
    """What is not measured does not keep the rest from it."""
    # torch-cuda computes every row of logits, whose sizes decide cuBLAS's choice; so does PyTorch beside it.
    both = {"samebit": sides.Samebit(server, attention),
            "PyTorch": PyTorchSide(folder, attention, 0 if numerics == "torch-cuda" else 1)}
    for label, kind, length in WORKS:
        limit = bandwidth / machine.bytes_read(config, folder, length + STEPS / 2)
        yield guarded(f"{name} {label} {numerics} {attention}",
                      lambda label: work_row(label, kind, length, both, config["vocab_size"], limit))


def guarded(label, measure):
    """The row that measure(label) gives, or one that says what went wrong."""
    try:
        return measure(label)
    except Exception as e:
        return info(label, f"not measured: {type(e).__name__}: {e}")


def tracing_row(label, attention, server):
    """A run of 64 tokens and 8 steps with every value of the layers handed out, and with none."""
    body, numbers, taken = {"steps": 8, "attention": attention}, itertools.count(1), []
    for values in (["lm_head"], ["model.layers.*"]):
        best = float("inf")
        for _ in range(ROUNDS):
            with tempfile.TemporaryFile() as file:
                tokens = works.prompt_of(64, next(numbers), 250)
                start = time.perf_counter()
                server.trace({**body, "tokens": tokens, "values": values,
                              "positions": "last" if values == ["lm_head"] else "all"}, file)
                best = min(best, time.perf_counter() - start)
                size = file.tell()
        taken.append((best, size))
    (none, _), (every, size) = taken
    return info(label, f"{every * 1e3:.1f} ms with all values of the layers ({size / 1e6:.1f} MB), {none * 1e3:.1f} ms without")


def model_rows(name, folder, bandwidth, numerics, attention):
    config = machine.config_of(folder)
    with daemon.Daemon(folder, numerics, 0, device="cuda:0") as server:
        yield from work_rows(name, config, folder, bandwidth, numerics, attention, server)
        yield guarded(f"{name} tracing {numerics} {attention}", lambda label: tracing_row(label, attention, server))


def speed(settings):
    bandwidth = copy_bandwidth()
    yield info("copy inside the device", f"{bandwidth / 1e9:.0f} GB/s, read and written")
    for name in MODELS:
        folder, why = models.find(name)
        if not folder:
            yield report.row("speed", name, "skipped", note=why)
            continue
        for numerics, attention in SIDES:
            try:
                yield from model_rows(name, folder, bandwidth, numerics, attention)
            except Exception as e:
                yield info(f"{name} {numerics} {attention}", f"not measured: {type(e).__name__}: {e}")
