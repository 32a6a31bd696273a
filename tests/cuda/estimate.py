#!/usr/bin/env python3
"""What a model costs on a GPU, without one: launches, bytes and multiply-adds, and the time that they would take.

    estimate.py [SHAPE ...] [--numerics NAME] [--past N] [--prefill N]     of a build with CUDA=emulated (SAMEBITD)

SHAPE is qwen2.5-0.5b or smollm2-135m; the model has zeros for weights.  Launches and their blocks come from the log
of a run whose kernels do not compute; each is given the operations that it does, in the order of the catalogue of
values, and these their bytes (weights, keys and values, inputs and outputs, each once for a launch) and
multiply-adds.  A launch takes

    its share of the fixed cost + the longer of bytes / bandwidth and operations / multiplier,

both of which it has in proportion to its blocks where these are fewer than the multiprocessors.  The model knows
nothing of caches, of latency inside a kernel or of how well it hides loads, so it says what a change of launches,
blocks or bytes is worth and is no promise of a speed.
"""
import argparse
import collections
import json
import os
import re
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "parity")]

import daemon  # noqa: E402
import models  # noqa: E402
import traffic  # noqa: E402

# An H100 SXM, of what is announced what is reached: HBM3, FFMA of f32.
BANDWIDTH = 3.0e12  # bytes per second
MULTIPLIER = 60e12  # operations per second, a multiply-add being two
MULTIPROCESSORS = 132
LAUNCH = 2e-6  # seconds, of a launch
NODE = 1e-6  # of one inside a graph
DECODED = 128  # tokens, for the host's time

COMMON = {"tie_word_embeddings": True, "hidden_act": "silu", "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}
SHAPES = {
    "qwen2.5-0.5b": COMMON | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 24},
    "smollm2-135m": COMMON | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
        "rms_norm_eps": 1e-5, "rope_theta": 1e5, "attention_bias": False, "mlp_bias": False, "rope_scaling": None},
}

# ---- a model of zeros ----


def elements(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def weight_shapes(config):
    """{tensor: shape}"""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    width = hidden // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, out, into in [("self_attn.q_proj", q, hidden), ("self_attn.k_proj", kv, hidden),
                                ("self_attn.v_proj", kv, hidden), ("self_attn.o_proj", hidden, q),
                                ("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden),
                                ("mlp.down_proj", hidden, inner)]:
            shapes[f"{at}{name}.weight"] = [out, into]
            if config["model_type"] == "qwen2" and name[10:] in ("q_proj", "k_proj", "v_proj"):
                shapes[f"{at}{name}.bias"] = [out]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}{name}.weight"] = [hidden]
    return shapes


def make_model(folder, config):
    """Zeros, which take no room in the file system; the tokenizer is a tiny model's."""
    header, end = {}, 0
    for name, shape in weight_shapes(config).items():
        size = 2 * elements(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    tiny, why = models.find("tiny-qwen2")
    if not tiny:
        raise daemon.Trouble(why)
    os.symlink(os.path.join(tiny, "tokenizer.json"), os.path.join(folder, "tokenizer.json"))


# ---- what a launch does ----

# Kernels that do several operations; all others do one.
GROUPS = {"few_add_kernel": ["linear", "add"], "few_gated_kernel": ["linear", "linear", "silu", "mul"],
          "rope_append_kernel": ["rope", "rope", "cache_append", "cache_append"]}
LINEARS = "few_linears_kernel"  # as many as read one input
NOTHING = ("gather_kernel", "argmax")  # of the values' own: they hand out what there is
COPIED = "rotary"  # rows of a table of the host's
LINE = re.compile(r"launch (\S+) (\d+)x(\d+)x(\d+) ")


class Launch:
    """A kernel, how many blocks, and the steps that it does."""

    def __init__(self, kernel, blocks, steps):
        self.kernel, self.blocks, self.steps = kernel, blocks, steps

    def label(self):
        return " + ".join(s["op"] for s in self.steps) or self.kernel.split("<")[0]


def steps_of(kernel, left):
    """How many of the steps that are left, in order, a kernel does."""
    if kernel == LINEARS:
        same = [s["op"] == "linear" and s["inputs"] == left[0]["inputs"] for s in left]
        return same.index(False) if False in same else len(same)
    wanted = GROUPS.get(kernel)
    if wanted and [s["op"] for s in left[:len(wanted)]] != wanted:
        raise ValueError(f"{kernel} at {left[0]['name']}: {' '.join(s['op'] for s in left[:len(wanted)])}")
    return len(wanted) if wanted else 1


def assign(lines, values):
    """Launches of one call of the model, in order.  ValueError: they do not do its values."""
    left, launches = [v for v in values if v["op"] != COPIED], []
    for match in filter(None, map(LINE.match, lines)):
        kernel, blocks = match[1].split("<")[0], int(match[2]) * int(match[3]) * int(match[4])
        if kernel in NOTHING:
            launches.append(Launch(kernel, blocks, []))
            continue
        if not left:
            raise ValueError(f"{kernel}: all values are there already")
        count = steps_of(kernel, left)
        launches.append(Launch(kernel, blocks, left[:count]))
        left = left[count:]
    if left:
        raise ValueError(f"no launch for {left[0]['name']}")
    return launches


# ---- what it costs ----

class Call:
    """One call of the model: so many tokens after so many, the last row of which is asked for."""

    def __init__(self, values, tensors, past, tokens):
        self.made, self.tensors, self.past, self.tokens = {v["name"]: v for v in values}, tensors, past, tokens
        # After the last attention only one row is wanted.
        last = max(i for i, v in enumerate(values) if v["op"] in traffic.ATTENDS)
        self.tail = {v["name"] for v in values[last + 1:]}

    def elements(self, value):
        rows = 1 if value["name"] in self.tail else self.tokens
        return traffic.count(value["shape"], self.past + self.tokens, rows)

    def reads(self, step, inside):
        """Bytes of keys and values, and of other inputs from outside the launch."""
        kept = other = 0
        for name in step["inputs"]:
            source = self.made.get(name)
            if source is None:  # tokens
                other += 8 * self.tokens
            elif source["op"] == "cache_append":
                kept += 2 * self.elements(source)
            elif name not in inside:
                # what is read of an input has the rows of what is made of it
                rows = 1 if step["name"] in self.tail and name not in self.tail else None
                other += 2 * (self.elements(source) if rows is None else traffic.count(source["shape"], self.past, 1))
        return kept, other

    def multiply_adds(self, step):
        if step["op"] == "linear":
            weight = self.tensors.get(step["name"] + ".weight") or self.tensors["model.embed_tokens.weight"]
            return self.elements(step) * weight[1]
        if step["op"] not in traffic.ATTENDS:
            return 0
        seen = self.past + (self.tokens + 1) / 2  # keys of a row, on average
        width = next(self.made[n]["shape"][2] for n in step["inputs"] if self.made[n]["op"] == "cache_append")
        heads = self.made[step["inputs"][0]]["shape"][0]
        return heads * self.tokens * seen * width * (2 if step["op"] == "sdpa" else 1)

    def cost(self, launch):
        """(least bytes: weights, keys and values; all bytes; multiply-adds)"""
        inside = {s["name"] for s in launch.steps}
        read = {n for s in launch.steps for n in s["inputs"]}
        least = total = work = 0
        for i, s in enumerate(launch.steps):
            weights = 2 * traffic.weight_elements(s, self.tensors)
            kept, other = self.reads(s, inside)
            if s["op"] == "embedding":  # the rows that it takes
                weights = 2 * self.elements(s)
            appended = 2 * 2 * traffic.count(s["shape"], self.tokens, self.tokens) if s["op"] == "cache_append" else 0
            written = 0 if s["name"] in read and launch.kernel != LINEARS else 2 * self.elements(s)
            least += weights + kept
            total += weights + kept + (appended or other + written)
            work += self.multiply_adds(s)
        return least, total, work


def seconds_of(total, work, blocks, fixed):
    """How long a launch takes."""
    share = min(1.0, blocks / MULTIPROCESSORS)
    return fixed + max(total / (BANDWIDTH * share), 2 * work / (MULTIPLIER * share))


def table_of(call, launches):
    """{label: [launches, bytes, multiply-adds, seconds outside a graph, inside, least bytes]}"""
    rows = collections.defaultdict(lambda: [0, 0, 0, 0.0, 0.0, 0])
    for launch in launches:
        least, total, work = call.cost(launch)
        row = rows[launch.label()]
        for i, more in enumerate((1, total, work, seconds_of(total, work, launch.blocks, LAUNCH),
                                  seconds_of(total, work, launch.blocks, NODE), least)):
            row[i] += more
    return rows


# ---- running ----

def lines_of_call(path, tokens):
    """The log's lines from the last upload of so many tokens on."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return lines[max(i for i, line in enumerate(lines) if line == f"copy host-to-device {8 * tokens}"):]


def processor_seconds(pid):
    """That a process has taken, threads that have ended included."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def host_seconds(server, past):
    """Of the processor's time, for a decoded token, with kernels that do not compute."""
    taken = []
    for count in (1, 1, DECODED + 1):  # the first one warms up
        start = processor_seconds(server.process.pid)
        server.json("/v1/generate", {"tokens": [1] * past, "max_tokens": count, "stop_at_eos": False})
        taken.append(processor_seconds(server.process.pid) - start)
    return max(0.0, taken[2] - taken[1]) / DECODED


def measure(folder, numerics, past, prefill):
    """The calls of a decode step and of a prefill, their launches, and the host's seconds a token."""
    idle = {"SAMEBIT_EMULATED_COMPUTE": "0"}
    with tempfile.TemporaryDirectory() as work:
        log = os.path.join(work, "log")
        with daemon.Daemon(folder, numerics, 1, device="cuda:0", environment=idle | {"SAMEBIT_EMULATED_LOG": log}) as server:
            values = server.json("/v1/values?attention=sdpa")["values"]
            server.json("/v1/generate", {"tokens": [1] * past, "max_tokens": 3, "stop_at_eos": False})
            decode = assign(lines_of_call(log, 1), values)
            server.json("/v1/logits", {"tokens": [1] * prefill, "positions": "last", "top_k": 1})
            first = assign(lines_of_call(log, prefill), values)
        with daemon.Daemon(folder, numerics, 1, device="cuda:0", environment=idle) as server:
            host = host_seconds(server, past)
    tensors = traffic.parameters(folder)
    return [("decode", Call(values, tensors, past, 1), decode), ("prefill", Call(values, tensors, 0, prefill), first)], host


def show(name, kind, call, launches):
    rows = table_of(call, launches)
    sums = [sum(column) for column in zip(*rows.values())]
    print(f"\n{name}, {kind} of {call.tokens} after {call.past}: {int(sums[0])} launches")
    print(f"  {'operations':44} {'launches':>8} {'MB':>9} {'GFLOP':>8} {'us':>9} {'us in a graph':>13}")
    for label, row in sorted(rows.items(), key=lambda r: -r[1][3]) + [("all", sums)]:
        print(f"  {label:44} {row[0]:8} {row[1] / 1e6:9.2f} {2 * row[2] / 1e9:8.2f} {row[3] * 1e6:9.1f} {row[4] * 1e6:13.1f}")
    for where, taken in (("outside a graph", sums[3]), ("inside", sums[4])):
        print(f"  {where}: {call.tokens / taken:,.0f} tokens/s, {sums[5] / BANDWIDTH / taken:.2f} of the bandwidth, "
              f"{2 * sums[2] / MULTIPLIER / taken:.2f} of the multiplier")
    print(f"  bytes: {sums[1] / sums[5]:.4f} of the least (weights, keys and values once)")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shapes", nargs="*", default=[])
    p.add_argument("--numerics", default="torch-cpu/avx512_bf16")
    p.add_argument("--past", type=int, default=512)
    p.add_argument("--prefill", type=int, default=512)
    a = p.parse_args()
    print(f"assumed: {BANDWIDTH / 1e12:.1f} TB/s, {MULTIPLIER / 1e12:.0f} TFLOP/s, {MULTIPROCESSORS} multiprocessors, "
          f"{LAUNCH * 1e6:.0f} us a launch, {NODE * 1e6:.0f} us a node of a graph; {a.numerics}, sdpa")
    for name in a.shapes or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            make_model(folder, SHAPES[name])
            calls, host = measure(folder, a.numerics, a.past, a.prefill)
            for kind, call, launches in calls:
                show(name, kind, call, launches)
            print(f"  host: {host * 1e6:.0f} us of the processor a decoded token, the emulator's own bookkeeping included")


if __name__ == "__main__":
    main()
