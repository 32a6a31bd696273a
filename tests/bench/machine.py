"""The machine that is measured on: what it is, what it can do at most, and what a work costs at least."""
import json
import os
import platform
import subprocess

import daemon


def cpu_name():
    """As the kernel names it, with family and model: makers sell different cores by one name."""
    facts = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    if "model name" not in facts:
        return platform.machine()
    return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"


# ---- limits ----

class Limits:
    """limits.c, running: what the machine can do in this moment."""

    def __init__(self, program, threads):
        self.process = subprocess.Popen([program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def ask(self, what):
        """"read": bytes a second; "touch": of memory new to the process; "multiply" and "tiles": floating-point
        operations of vdpbf16ps and tdpbf16ps; 0 where the CPU cannot."""
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline() or 0)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


# ---- what a work costs at least ----

def config_of(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        return json.load(f)


def head_width(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def operations(config, tokens):
    """Floating-point operations of a prefill that reads the last row of logits, without the thin ones.
    After the last layer's attention one row is enough; its attention itself is counted whole."""
    hidden, heads, width = config["hidden_size"], config["num_attention_heads"], head_width(config)
    kept = width * (heads + 2 * config["num_key_value_heads"])
    rest = hidden * (width * heads + 3 * config["intermediate_size"])
    attention = 2 * heads * width * tokens * (tokens + 1) / 2
    layers = config["num_hidden_layers"] * (hidden * kept * tokens + rest * tokens + attention)
    return 2 * (layers - rest * (tokens - 1) + hidden * config["vocab_size"])


def checkpoint_bytes(folder):
    return sum(os.path.getsize(f) for f in daemon.checkpoint_files(folder))


def weight_bytes(config, folder):
    """That a decode step reads: the checkpoint, less an embedding that is not the head."""
    table = 2 * config["vocab_size"] * config["hidden_size"]
    return checkpoint_bytes(folder) - (0 if config.get("tie_word_embeddings") else table)


def bytes_read(config, folder, kept):
    """By a decode step after so many tokens: weights, keys and values."""
    keys = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head_width(config) * kept
    return weight_bytes(config, folder) + keys


# ---- processes ----

def peak_bytes(pid):
    """The most memory that a process has had resident, mapped files included."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


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
        self.start, self.before = os.times().elapsed, busy_seconds(self.pids)

    def share(self):
        everyone, mine = (b - a for a, b in zip(self.before, busy_seconds(self.pids)))
        return max(0.0, (everyone - mine) / ((os.times().elapsed - self.start or 1) * os.cpu_count()))
