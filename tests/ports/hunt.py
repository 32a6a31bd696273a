#!/usr/bin/env python3
"""The hunt: every planted mistake named, no healthy run accused.

    hunt.py --samebit build/samebit --samebitd build/samebitd --cache FOLDER [--only TEXT] [--port numpy|jax] [--section NAME] [--quick]

Sections: `faults` (each mistake alone: three layers, prefill and cached decode, dtypes), `pairs`, `healthy`, `model` (a reduced set on
SmolLM2-135M).  A case is right where `compare` finds the runs unequal, `isolate` holds no step of another layer at fault, and
`diagnose` says the sentence of that mistake and of no other.  What a dump cannot show (bf16 rounds it away) is counted, not judged.
"""
import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "tiny")]
import make_tiny  # noqa: E402
import numpy_port  # noqa: E402
from faults import ALSO, CACHED, FAULTS, NEEDS, PAIRS, applies, places  # noqa: E402

TOKENS, FED = [72, 101, 300, 900, 5, 17, 44, 3], [7, 300]
TYPES = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}
MODEL_FAULTS = ("rope_pairs", "norm_eps_outside", "kv_tiled", "scale_missing", "softmax_bf16", "mask_off_by_one", "o_proj_int8", "act_gelu",
                "gate_up_swapped", "residual_missing", "weights_of_next_layer", "cache_shifted", "cache_f8", "theta", "angles_bf16",
                "final_norm_twice", "position_stays", "norm_one_plus", "down_proj_nf4", "v_rotated")


def make_port(kind):
    if kind == "numpy":
        return numpy_port.Port
    import jax_port
    return jax_port.Port


class Daemons:
    """One a model and numerics, on sockets of their own."""

    def __init__(self, program, folder):
        self.program, self.folder, self.started = program, folder, {}

    def url(self, model, *options):
        key = (model, options)
        if key not in self.started:
            path = os.path.join(self.folder, f"{len(self.started)}.sock")
            p = subprocess.Popen([self.program, "--model", model, "--listen", "unix:" + path, *options], cwd=ROOT, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert "listening" in p.stdout.readline(), f"{model}: no daemon"
            self.started[key] = p, "unix:" + path
        return self.started[key][1]

    def stop(self):
        for p, _ in self.started.values():
            p.terminate()
        for p, _ in self.started.values():
            p.wait()


class Tool:
    def __init__(self, program):
        self.program = program

    def ask(self, command, *arguments):
        """(status, JSON)"""
        done = subprocess.run([self.program, command, *map(str, arguments), "--json"], capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{command}: {done.stderr.strip()}")
        return done.returncode, json.loads(done.stdout)


def write(path, values, dtype, faults=()):
    """An .npz; a bf16 program's residual may be kept in float32."""
    def narrow(name, a):
        wide = "residual_f32" in faults and (name.endswith("attn_residual") or name.count(".") == 2)
        return a if name == "tokens" or a.dtype != np.float32 or dtype not in TYPES or wide else a.astype(TYPES[dtype])
    np.savez(path, **{n: narrow(n, a) for n, a in values.items()})


def differs(a, b, dtype):
    """Whether it is more than rounding."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if a.shape != b.shape or np.isnan(a).any():
        return True
    seen = np.abs(b) < 1e30
    if dtype != "f32":
        return (a != b).mean() > 0.08 and (a != b).sum() > 7
    return np.linalg.norm((a - b)[seen]) > 2e-6 * np.linalg.norm(b[seen]) or bool((a != b)[~seen].any())


def without_tables(values):
    """Few ports keep cos and sin: they are left out where the mistake is elsewhere."""
    return {n: a for n, a in values.items() if not n.endswith(("cos", "sin"))}


class Hunt:
    def __init__(self, o):
        self.o, self.folder = o, tempfile.TemporaryDirectory(prefix="hunt-")
        self.daemons, self.tool = Daemons(o.samebitd, self.folder.name), Tool(o.samebit)
        self.rows, self.healthy_values = [], {}

    def model(self, name):
        if name == "smollm2-135m":
            return os.path.join(self.o.cache, "models", name)
        make_tiny.make(os.path.join(self.o.cache, "tiny"), name)
        return os.path.join(self.o.cache, "tiny", name)

    def values(self, kind, model, dtype, faults, layers, tokens, fed, padding):
        return make_port(kind)(self.model(model), dtype, faults, layers).run(tokens, fed, padding)

    def shows(self, fault, model, dtype, layers, tokens, fed, padding):
        """In which calls the mistake is more than rounding, where it is made: told by the numpy port."""
        key = (model, dtype, len(tokens), len(fed), padding)
        if key not in self.healthy_values:
            self.healthy_values[key] = self.values("numpy", model, dtype, (), None, tokens, fed, padding)
        made, right = self.values("numpy", model, dtype, [fault], layers, tokens, fed, padding), self.healthy_values[key]
        end = FAULTS[fault][0]
        names = [n for n in made if n.endswith(end) and (".layers." not in n or any(f".layers.{i}." in n for i in layers))]
        first = {n.split("/")[0] if n.startswith("step_") else "": n for n in reversed(names)}.values()  # what it is made of is alike
        return {n.startswith("step_") for n in first if np.isnan(made[n]).any() == NEEDS.get(fault, {}).get("nan", False)
                and differs(made[n], right[n], dtype)}

    # ---- one case ----

    def case(self, kind, model, dtype, faults, layers):
        """Plants the faults, asks, and keeps a row of what was right."""
        need = {k: v for f in faults for k, v in NEEDS.get(f, {}).items()}
        model = need.get("model", model) if model != "smollm2-135m" else model
        if model == "smollm2-135m" and "model" in need or not all(applies(f, numpy_port.Port(self.model(model), dtype).facts(), dtype) for f in faults):
            return
        tokens = [(7 * i * i + 3 * i + 72) % 1000 for i in range(need["length"])] if "length" in need else TOKENS
        fed, padding = [] if need.get("length", 0) > 100 else FED[:1] if kind == "jax" else FED, need.get("padding", 0)
        shown = {f: self.shows(f, model, dtype, layers, tokens, fed, padding) for f in faults}
        row = {"port": kind, "model": model, "dtype": dtype, "fault": " + ".join(faults), "layers": layers}
        self.rows.append(row)
        if not all(shown.values()):
            row["result"] = "does not show"
            return
        values = self.values(kind, model, dtype, faults, layers, tokens, fed, padding)
        path = os.path.join(self.folder.name, "d.npz")
        write(path, values if any("rotary" in FAULTS[f][0] for f in faults) else without_tables(values), dtype, faults)
        wrong = self.look(path, model, faults, layers, shown, padding)
        row["result"] = "right" if not wrong else "; ".join(wrong)
        if wrong and self.o.verbose:
            print(f"  {kind} {model} {dtype} {faults} {layers}: {wrong}", flush=True)

    def look(self, path, model, faults, layers, shown, padding):
        """What is wrong with what the three commands say of a dump, in words."""
        options = [path, self.daemons.url(self.model(model)), "--attention", "eager", *(["--padding", padding] if padding else [])]
        wrong = []
        if self.tool.ask("compare", *options)[0] != 1:
            wrong.append("compare finds no difference")
        found = self.tool.ask("diagnose", *options)[1]
        beyond = [v["value"] for v in found["values"] if v["verdict"] == "beyond rounding"]
        elsewhere = [v for v in beyond for i in re.findall(r"\.layers\.(\d+)", v) if int(i) not in layers]
        if elsewhere:
            wrong.append(f"isolate: {elsewhere[0]} is at fault")
        words = [w for f in faults for w in (FAULTS[f][1], *ALSO.get(f, ()))]
        for f in faults:
            for step in shown[f]:
                if not any(FAULTS[f][0] in d["value"] and FAULTS[f][1] in (d.get("says") or "") and d["value"].startswith("step_") == step
                           for d in found["diagnosis"]):
                    wrong.append(f"{'cached decode' if step else 'prefill'}: {f} is not named")
        for d in found["diagnosis"]:
            if not any(w in (d.get("says") or "") for w in words):
                wrong.append(f"{d['value']}: {d.get('says') or 'unknown'}")
        return wrong[:3]

    # ---- sections ----

    def section_faults(self):
        for kind in self.o.port:
            for fault in FAULTS:
                if self.o.only in fault:
                    model = NEEDS.get(fault, {}).get("model", "hunt-qwen2")
                    layers = numpy_port.Port(self.model(model)).n
                    for dtype in ("f32", "bf16", "f16") if NEEDS.get(fault, {}).get("dtype") == "f16" else ("f32", "bf16"):
                        for layer in places(fault, layers)[-1:] if self.o.quick else places(fault, layers):
                            self.case(kind, "hunt-qwen2", dtype, [fault], [layer])

    def section_pairs(self):
        for kind in self.o.port:
            for pair in PAIRS:
                if any(self.o.only in f for f in pair):
                    self.case(kind, "hunt-qwen2", "f32", pair, [1])

    def section_model(self):
        for fault in MODEL_FAULTS:
            if self.o.only in fault:
                for dtype, layers in (("f32", (0, 15, 29)), ("bf16", (15,))):
                    for layer in layers if places(fault, 3) != [0] else layers[:1]:
                        self.case("numpy", "smollm2-135m", dtype, [fault], [layer])

    def not_accused(self, what, path, model, *options):
        status, found = self.tool.ask("diagnose", path, self.daemons.url(self.model(model)), *options)
        said = [f"{d['value']}: {d.get('says') or 'unknown'}" for d in found["diagnosis"]]
        said += [v["value"] for v in found["values"] if v["verdict"] == "beyond rounding"]
        self.rows.append({"port": what, "model": model, "dtype": "", "fault": "healthy", "result": "; ".join(said[:2]) or ("right" if status == 0 else "status 1")})
        if said and self.o.verbose:
            print(f"  healthy {what} {model}: {said[:4]}", flush=True)

    def section_healthy(self):
        path = os.path.join(self.folder.name, "h.npz")
        for model, tokens in (("hunt-qwen2", TOKENS), ("tiny-qwen2-sliding", TOKENS * 3), ("tiny-llama3-rope", TOKENS), ("tiny-qwen3", TOKENS),
                              ("hunt-qwen2-mha", TOKENS), ("smollm2-135m", TOKENS)):
            for kind, dtypes in (("numpy", ("f32", "bf16", "f16", "f64")), ("jax", ("f32", "bf16"))):
                for dtype in dtypes if kind in self.o.port else ():
                    if model == "smollm2-135m" and dtype in ("f16", "f64"):
                        continue
                    values = self.values(kind, model, dtype, (), None, tokens, FED[:1] if kind == "jax" else FED, 0)
                    sparse = {n: a for n, a in values.items() if re.search(r"tokens|embed|layers[._]\d+$|layer_output|norm$|logits|lm_head", n)}
                    for part, kept in (("", values), (" layers alone", sparse)):
                        write(path, kept, dtype)
                        self.not_accused(f"{kind} {dtype}{part}", path, model, "--attention", "eager")
        self.healthy_programs()

    def healthy_programs(self):
        """Other programs, each in a Python of its own: they write dumps into a folder, NAME--MODEL--ATTENTION."""
        for python, script in ((self.o.torch, "torch_dumps.py"), (self.o.llama, "llama_dumps.py")):
            if not python or not os.path.exists(python):
                print(f"skip: {script}: its Python is not installed")
                continue
            for model in ("hunt-qwen2", "tiny-qwen2-sliding", "tiny-llama3-rope", "smollm2-135m"):
                out = tempfile.mkdtemp(dir=self.folder.name)
                done = subprocess.run([python, os.path.join(HERE, script), self.model(model), out], capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"skip: {script} of {model}: {done.stderr.strip().splitlines()[-1:]}")
                for name in sorted(os.listdir(out)):
                    attention = re.findall(r"eager|sdpa", name)
                    self.not_accused(name.rsplit(".", 1)[0], os.path.join(out, name), model, *(["--attention", *attention[:1]] if attention else []))

    # ---- telling ----

    def table(self):
        counts = collections.defaultdict(collections.Counter)
        for r in self.rows:
            kind = "healthy" if r["fault"] == "healthy" else "pair" if " + " in r["fault"] else "fault"
            counts[kind, r["port"] if kind != "healthy" else "", r["model"] if kind != "healthy" else "", r["dtype"]][
                r["result"] if r["result"] in ("right", "does not show") else "wrong"] += 1
        print(f"\n{'':8} {'port':6} {'model':20} {'dtype':5} {'right':>6} {'wrong':>6} {'does not show':>14}")
        for key, c in sorted(counts.items()):
            print(f"{key[0]:8} {key[1]:6} {key[2]:20} {key[3]:5} {c['right']:6} {c['wrong']:6} {c['does not show']:14}")
        wrong = [r for r in self.rows if r["result"] not in ("right", "does not show")]
        for r in wrong:
            print(f"not right: {r['port']} {r['model']} {r['dtype']} {r['fault']} {r.get('layers', '')}: {r['result']}")
        shown = {r["fault"] for r in self.rows if r["result"] != "does not show"}
        print(f"{len(self.rows)} cases, {len(wrong)} not right; {len(shown)} different ones show"
              + ("" if not (left := {r["fault"] for r in self.rows} - shown) else f"; never: {', '.join(sorted(left))}"))
        return 1 if wrong else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("samebit", "samebitd", "cache"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--port", action="append", choices=["numpy", "jax"])
    p.add_argument("--section", action="append", choices=["faults", "pairs", "healthy", "model"])
    p.add_argument("--torch", help="a Python that has torch and transformers")
    p.add_argument("--llama", help="a Python that has llama_cpp and gguf")
    p.add_argument("--only", default="")
    p.add_argument("--quick", action="store_true", help="the last layer alone")
    p.add_argument("--verbose", action="store_true")
    o = p.parse_args()
    o.port = o.port or ["numpy", "jax"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # daemons are stopped
    hunt, start = Hunt(o), time.time()
    try:
        for section in o.section or ["faults", "pairs", "healthy", "model"]:
            getattr(hunt, "section_" + section)()
            print(f"{section}: {time.time() - start:.0f} s, {len(hunt.rows)} cases", flush=True)
    finally:
        hunt.daemons.stop()
    return hunt.table()


if __name__ == "__main__":
    sys.exit(main())
