"""How fast, against what the memory allows and against PyTorch on the same GPU.  Nothing here can fail for being slow."""
import json
import os
import tempfile
import time

import bench
import daemon
import models
import reference
import report
import torch

MODELS = ["smollm2-135m", "qwen2.5-0.5b-random"]
SIDES = [("torch-cuda", "eager"), ("torch-cpu/avx512_bf16", "sdpa")]
WORKS = [("decode", "decode", 16), ("prefill 512", "prefill", 512), ("prefill 2048", "prefill", 2048)]
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


def bytes_per_token(config, folder):
    """What a decode step reads at least: the weights, and keys and values of the tokens before it."""
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    kept = bench.DECODE["prompt"] + bench.DECODE["more"] // 2
    keys = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * width * kept
    return bench.bytes_read(config, folder, "decode") + keys


class PyTorchSide:
    """transformers on the GPU, as bench.measure asks a side."""

    def __init__(self, folder, attention):
        self.model = reference.Reference(folder, attention, DEVICE).model
        self.name = f"PyTorch {attention}"

    def seconds(self, kind, tokens):
        with torch.inference_mode():
            torch.cuda.synchronize()
            start = time.perf_counter()
            out = self.model(torch.tensor([tokens], device=DEVICE), use_cache=True, logits_to_keep=1)
            token = int(out.logits[0, -1].argmax())
            if kind == "prefill":
                return time.perf_counter() - start, len(tokens)
            start, steps = time.perf_counter(), bench.DECODE["more"] - bench.DECODE["few"]
            for _ in range(steps):
                ids = torch.tensor([[token]], device=DEVICE)
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
                token = int(out.logits[0, -1].argmax())
            return time.perf_counter() - start, steps


def work_rows(name, config, folder, bandwidth, numerics, attention, server):
    sides = [bench.Samebit(server, attention), PyTorchSide(folder, attention)]
    for label, kind, length in WORKS:
        ours, theirs = (max(f) for f in bench.measure(sides, kind, bench.prompt_of(length, config["vocab_size"]), ROUNDS))
        note = f"{ours:.0f} tokens/s, PyTorch {theirs:.0f}, ratio {ours / theirs:.2f}"
        if kind == "decode":
            limit = bandwidth / bytes_per_token(config, folder)
            note += f"; {ours / limit:.0%} of the {limit:.0f} that memory allows, PyTorch {theirs / limit:.0%}"
        yield info(f"{name} {label} {numerics} {attention}", note)


def tracing_row(name, numerics, attention, server):
    """A run of 64 tokens and 8 steps with every value of the layers handed out, and with none."""
    body = {"tokens": [(i * 7919 + 13) % 250 for i in range(64)], "steps": 8, "attention": attention}
    taken = []
    for values in (["lm_head"], ["model.layers.*"]):
        best = float("inf")
        for _ in range(ROUNDS):
            with tempfile.TemporaryFile() as file:
                start = time.perf_counter()
                server.trace({**body, "values": values, "positions": "last" if values == ["lm_head"] else "all"}, file)
                best = min(best, time.perf_counter() - start)
                size = file.tell()
        taken.append((best, size))
    (none, _), (every, size) = taken
    return info(f"{name} tracing {numerics} {attention}",
                f"{every * 1e3:.1f} ms with all values of the layers ({size / 1e6:.1f} MB), {none * 1e3:.1f} ms without")


def speed(settings):
    bandwidth = copy_bandwidth()
    yield info("copy inside the device", f"{bandwidth / 1e9:.0f} GB/s, read and written")
    for name in MODELS:
        folder, why = models.find(name)
        if not folder:
            yield report.row("speed", name, "skipped", note=why)
            continue
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        for numerics, attention in SIDES:
            with daemon.Daemon(folder, numerics, 0, device="cuda:0") as server:
                yield from work_rows(name, config, folder, bandwidth, numerics, attention, server)
                yield tracing_row(name, numerics, attention, server)
