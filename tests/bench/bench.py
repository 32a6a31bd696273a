#!/usr/bin/env python3
"""Measures samebitd and PyTorch side by side and prints a table of medians; see also `make bench`.

    bench.py [--only MODEL,...] [--work NAME,...] [--attention NAME,...] [--rounds N] [--threads N] [--limits PROGRAM] [--out FILE]

Every round measures each side once, in turn: while one runs the others sleep, and what drifts with
time (clocks, neighbours) meets all alike.  Ratios are taken within a round.  samebitd is asked over
HTTP; PyTorch (transformers, in a process of its own) is called directly, and timed without the
start of Python, loading and one warming run.

Nothing here can fail for being slow.  `others` is the share of the machine's cores that other
processes took while a work was measured: figures of a disturbed machine mean little.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "parity"))

import daemon  # noqa: E402
import models  # noqa: E402
import reference  # noqa: E402

MODELS = ["smollm2-135m", "qwen2.5-0.5b-random"]
ATTENTIONS = ["sdpa", "eager"]
PAUSE_SECONDS = 0.1  # longer than a thread of PyTorch spins before it sleeps
DECODE = {"prompt": 16, "few": 2, "more": 34}

# name: (kind, tokens of the prompt, rounds).  A work's figure is tokens per second.
WORKS = {
    "prefill 16": ("prefill", 16, 15),
    "prefill 512": ("prefill", 512, 9),
    "prefill 2048": ("prefill", 2048, 5),
    "decode": ("decode", DECODE["prompt"], 9),
}


# ---- sides: seconds(kind, tokens) -> (seconds, tokens they stand for) ----

class Samebit:
    def __init__(self, server, attention):
        self.server, self.name, self.attention = server, f"samebit {attention}", attention
        self.pid = server.process.pid

    def _seconds(self, path, body):
        start = time.perf_counter()
        self.server.json(path, {**body, "attention": self.attention})
        return time.perf_counter() - start

    def seconds(self, kind, tokens):
        if kind == "prefill":
            return self._seconds("/v1/logits", {"tokens": tokens, "positions": "last", "top_k": 1}), len(tokens)
        few, more = (self._seconds("/v1/generate", {"tokens": tokens, "max_tokens": n, "stop_at_eos": False})
                     for n in (DECODE["few"], DECODE["more"]))
        return more - few, DECODE["more"] - DECODE["few"]


class PyTorch:
    """One process with the models of all attentions; a side for each of them."""

    def __init__(self, folder, threads, attentions):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "peer.py"), folder, str(threads), ",".join(attentions)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
        self.version = self.answer()["torch"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise daemon.Trouble(f"peer.py ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self.answer()["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


class PyTorchSide:
    def __init__(self, peer, attention):
        self.peer, self.name, self.attention = peer, f"PyTorch {attention}", attention
        self.pid = peer.process.pid

    def seconds(self, kind, tokens):
        steps = DECODE["more"] - DECODE["few"]
        taken = self.peer.ask(attention=self.attention, work=kind, tokens=tokens, steps=steps)
        return taken, len(tokens) if kind == "prefill" else steps


# ---- the machine ----

def busy_seconds(pids):
    """Seconds of processor time taken since boot by all, and by these processes."""
    tick = os.sysconf("SC_CLK_TCK")
    with open("/proc/stat") as f:
        fields = [int(n) for n in f.readline().split()[1:]]
    everyone = sum(fields[i] for i in (0, 1, 2, 5, 6, 7))
    mine = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        mine += int(fields[11]) + int(fields[12])
    return everyone / tick, mine / tick


class Others:
    """The share of all cores that is taken by processes other than these."""

    def __init__(self, pids):
        self.pids = {os.getpid(), *pids}
        self.start, self.before = time.monotonic(), busy_seconds(self.pids)

    def share(self):
        everyone, mine = (b - a for a, b in zip(self.before, busy_seconds(self.pids)))
        return max(0.0, (everyone - mine) / ((time.monotonic() - self.start) * os.cpu_count()))


def cpu_name():
    with open("/proc/cpuinfo") as f:
        return next((s.split(":", 1)[1].strip() for s in f if s.startswith("model name")), platform.machine())


def limits_of(program, threads):
    if not program:
        return None
    done = subprocess.run([program, str(threads)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# ---- what a work costs at least ----

def operations(config, kind, tokens):
    """Floating-point operations of a prefill that reads the last row of logits, without the thin ones."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    kept = width * (heads + 2 * config["num_key_value_heads"])
    per_token = hidden * (kept + width * heads + 3 * config["intermediate_size"])
    attention = 2 * heads * width * tokens * (tokens + 1) / 2
    layers = config["num_hidden_layers"] * (per_token * tokens + attention)
    return 2 * (layers + hidden * config["vocab_size"])


def bytes_read(config, folder, kind):
    """Bytes of weights that a decode step reads: the checkpoint, less an embedding that is not the head."""
    total = sum(os.path.getsize(f) for f in daemon.checkpoint_files(folder))
    table = 2 * config["vocab_size"] * config["hidden_size"]
    return total if config.get("tie_word_embeddings") else total - table


def limit_of(config, folder, kind, tokens, limits):
    """Tokens per second that the machine's limits allow, or None."""
    if not limits:
        return None
    if kind == "decode":
        return limits["read_bytes_per_s"] / bytes_read(config, folder, kind)
    flop = limits["bf16_flop_per_s"]
    return tokens * flop / operations(config, kind, tokens) if flop else None


# ---- measuring ----

def prompt_of(tokens, vocabulary):
    return [(i * 7919 + 13) % min(vocabulary, 32000) for i in range(tokens)]


def spread(figures):
    return {"median": statistics.median(figures), "least": min(figures), "most": max(figures)}


def measure(sides, kind, tokens, rounds):
    """A list of tokens per second for each side, in the order of rounds."""
    figures = [[] for _ in sides]
    for r in range(rounds + 1):
        for figure, side in zip(figures, sides):
            time.sleep(PAUSE_SECONDS)
            seconds, count = side.seconds(kind, tokens)
            if r:  # the first round warms up
                figure.append(count / seconds)
    return figures


def measure_work(name, sides, model, limits, rounds):
    kind, tokens, usual = WORKS[name]
    others = Others([s.pid for s in sides])
    figures = measure(sides, kind, prompt_of(tokens, model["config"]["vocab_size"]), rounds or usual)
    row = {"model": model["name"], "work": name, "others": others.share(),
           "limit": limit_of(model["config"], model["folder"], kind, tokens, limits), "sides": {}}
    for side, figure in zip(sides, figures):
        row["sides"][side.name] = {**spread(figure), "figures": figure}
    row["ratios"] = {
        f"{a.name} / {b.name}": spread([x / y for x, y in zip(figures[i], figures[j])])
        for i, a in enumerate(sides) for j, b in enumerate(sides)
        if isinstance(a, Samebit) and isinstance(b, PyTorchSide) and a.attention == b.attention}
    return row


def measure_model(name, arguments, limits, report):
    folder, why = models.find(name)
    if not folder:
        print(f"{name}: skip: {why}")
        return
    numerics = next((n for n in reference.NUMERICS if not reference.why_not(n)), None)
    if not numerics:
        print(f"{name}: skip: {reference.why_not(reference.NUMERICS[-1])}")
        return
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        model = {"name": name, "folder": folder, "config": json.load(f)}
    with daemon.Daemon(folder, numerics, arguments.threads) as server, PyTorch(folder, arguments.threads, arguments.attention) as peer:
        report.about(torch=peer.version)
        sides = [made for a in arguments.attention for made in (Samebit(server, a), PyTorchSide(peer, a))]
        for work in arguments.work:
            report.add(measure_work(work, sides, model, limits, arguments.rounds))


# ---- the report ----

class Report:
    def __init__(self, threads, attentions, limits):
        self.attentions = attentions
        self.facts = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": threads, "limits": limits,
                      "date": time.strftime("%Y-%m-%d", time.gmtime()), "load": os.getloadavg()[0]}
        self.rows, self.model = [], None
        print(f"{self.facts['cpu']}, {threads} threads, load {self.facts['load']:.2f} before the run")
        if limits:
            print(f"limits: {limits['read_bytes_per_s'] / 1e9:.1f} GB/s read, "
                  f"{limits['bf16_flop_per_s'] / 1e9:.0f} GFLOP/s of vdpbf16ps")
        print("tokens/s, median (least-most); ratio to PyTorch with the same attention")

    def about(self, **facts):
        self.facts.update(facts)

    def add(self, row):
        self.rows.append(row)
        if row["model"] != self.model:
            self.model = row["model"]
            print(f"\n{self.model:<16}" + "".join(f"{name:>27}" for name in row["sides"]) +
                  "".join(f"{'ratio ' + a:>21}" for a in self.attentions) + f"{'of limit':>10}{'others':>8}")
        cells = (f"{s['median']:.4g} ({s['least']:.4g}-{s['most']:.4g})" for s in row["sides"].values())
        ratios = (f"{r['median']:.2f} ({r['least']:.2f}-{r['most']:.2f})" for r in row["ratios"].values())
        best = next(iter(row["sides"].values()))["median"]
        share = f"{best / row['limit']:.0%}" if row["limit"] else ""
        print(f"{row['work']:<16}" + "".join(f"{c:>27}" for c in cells) + "".join(f"{r:>21}" for r in ratios) +
              f"{share:>10}{row['others']:>8.0%}", flush=True)

    def write(self, path):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({**self.facts, "rows": self.rows}, f, indent=1)
            f.write("\n")
        print(f"\n{path}")


def listed(known):
    def split(text):
        names = text.split(",")
        unknown = [n for n in names if n not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names
    return split


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", type=listed(MODELS), default=MODELS, help="names of models, comma separated")
    p.add_argument("--work", type=listed(list(WORKS)), default=list(WORKS), help="comma separated")
    p.add_argument("--attention", type=listed(ATTENTIONS), default=ATTENTIONS, help="comma separated")
    p.add_argument("--rounds", type=int, default=0, help="of each work (0: as many as its length allows)")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--limits", help="the program that measures the machine's limits")
    p.add_argument("--out", help="where the figures go, as JSON")
    arguments = p.parse_args()
    limits = limits_of(arguments.limits, arguments.threads)
    report = Report(arguments.threads, arguments.attention, limits)
    for name in arguments.only:
        measure_model(name, arguments, limits, report)
    if arguments.out:
        report.write(arguments.out)


if __name__ == "__main__":
    main()
