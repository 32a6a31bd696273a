"""One process of the live comparison: one numerics, one model after the other.

Reads a plan from standard input (JSON) and writes one JSON object a line to standard output:
    {"kind": "row", ...}      one run: every value of prefill and steps, bit by bit
    {"kind": "check", ...}    what is compared besides: loading, configuration, tokenization, ...
It is a process of its own because PyTorch chooses its arithmetic when it is loaded.
"""
import contextlib
import http.client
import json
import sys
import tempfile
import traceback

import checks
import daemon
import hosts
import reference

REPORTED = 8  # differing values that a row names


def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)


def bf16_numbers(bits):
    import numpy

    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


class Comparison:
    """Compares the values of a row of a reference run, as they come, with a trace file."""

    def __init__(self, path, feed, watch=()):
        import numpy

        self.numpy, self.feed = numpy, feed
        self.file = daemon.Tensors(path)
        self.data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
        self.left = {e[0]: (i, e) for i, e in enumerate(self.file.entries)}
        self.watch = set(watch)
        self.values = self.elements = self.differing = 0
        self.watched, self.found, self.problems = {}, [], []

    def bits(self, entry):
        return self.data[entry[3]:entry[4]].view(self.numpy.uint16)

    def on_value(self, call, name, value):
        import torch

        key = self.feed.prefix(call) + name
        order, entry = self.left.pop(key, (0, None))
        if entry is None:
            return self.problems.append(f"{key}: the server's trace lacks it")
        if entry[1] != "BF16" or entry[2] != tuple(value.shape) or value.dtype != torch.bfloat16:
            return self.problems.append(f"{key}: {entry[1]} {list(entry[2])}, PyTorch {value.dtype} {list(value.shape)}")
        want = value.cpu().contiguous().view(torch.int16).numpy().view(self.numpy.uint16).reshape(-1)
        self._compare(order, key, entry, self.bits(entry), want)

    def _compare(self, order, key, entry, got, want):
        n = self.numpy
        self.values += 1
        self.elements += want.size
        if bool(((want & 0x7FFF) > 0x7F80).any()):
            self.problems.append(f"{key}: PyTorch's own value holds NaN")
        equal = n.array_equal(got, want)
        if key in self.watch:
            far = 0.0 if equal else float(n.abs(bf16_numbers(got) - bf16_numbers(want)).max())
            self.watched[key] = [far, 0 if equal else int((got != want).sum()), want.size]
        if equal:
            return
        wrong = n.flatnonzero(got != want)
        self.differing += wrong.size
        at = int(wrong[0])
        self.found.append({
            "order": order, "name": key, "differing": int(wrong.size), "of": int(want.size),
            "index": [int(i) for i in n.unravel_index(at, entry[2])],
            "server": float(bf16_numbers(got[at:at + 1])[0]),
            "pytorch": float(bf16_numbers(want[at:at + 1])[0])})

    def finish(self, fed):
        """fed: the tokens of the reference, with the one that would come next."""
        _, entry = self.left.pop("tokens", (0, None))
        tokens = None if entry is None else self.data[entry[3]:entry[4]].view(self.numpy.int64).tolist()
        if tokens != fed[:-1]:
            self.problems.append(f"tokens: {tokens and tokens[-8:]}, PyTorch {fed[:-1][-8:]}")
        self.problems += [f"{name}: no reference for it" for name in self.left]
        self.found.sort(key=lambda f: f["order"])
        return not self.found and not self.problems

    def result(self):
        return {"values": self.values, "elements": self.elements, "differing": self.differing,
                "differing_values": len(self.found), "found": self.found[:REPORTED],
                "problems": self.problems[:REPORTED], "watched": self.watched}


def joined(results):
    """The rows of a batch as one result."""
    out = results[0]
    for row, more in enumerate(results[1:], 1):
        for key in ("values", "elements", "differing", "differing_values"):
            out[key] += more[key]
        out["found"] += [{**f, "name": f"row {row}: {f['name']}"} for f in more["found"]]
        out["problems"] += [f"row {row}: {text}" for text in more["problems"]]
    return out


def compare_run(model, server, feed, watch=(), replace=None):
    """One reference run against one traced run for each of its rows.  replace: {(call, name): tensor}."""
    with contextlib.ExitStack() as stack:
        comparisons = []
        for row in range(len(feed.rows)):
            file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".safetensors"))
            body, content_type = checks.trace_request(feed, model.implementation, row, replace)
            server.trace(body, file, content_type)
            comparisons.append(Comparison(file.name, feed, watch))
        fed = model.run(feed, [c.on_value for c in comparisons], replace)
        passed = [c.finish(tokens) for c, tokens in zip(comparisons, fed)]
        for c in comparisons:
            del c.data
    return all(passed), joined([c.result() for c in comparisons])


def run_threads(model, numerics, job, threads):
    """All cases of a model with one attention and number of threads."""
    about = {"model": job["model"], "numerics": numerics, "attention": model.implementation, "threads": threads}
    first = threads == hosts.threads_of(numerics, job["threads"])[0]
    with daemon.Daemon(job["folder"], numerics, threads) as server:
        for name, check in (checks.once(model, server, job) if first and job["once"] else []):
            say("check", **about, name=name, **checks.verdict(check))
        for case in job["cases" if first else "fewer"][model.implementation]:
            feed = checks.feed(model, job["folder"], case)
            passed, result = compare_run(model, server, feed, job["watch"])
            say("row", **about, prompt=checks.label(case), steps=case["steps"], passed=passed, **result)
        if job["replace"]:
            checks.replacement(model, server, job, about, say, compare_run)


def run_model(numerics, job):
    import torch

    for attention in job["attentions"]:
        if attention not in hosts.attentions(numerics):
            continue
        model = reference.Reference(job["folder"], attention)
        for threads in hosts.threads_of(numerics, job["threads"]):
            torch.set_num_threads(threads)
            run_threads(model, numerics, job, threads)


def main():
    plan = json.load(sys.stdin)
    try:
        reference.check_numerics(plan["numerics"])
        for job in plan["jobs"]:
            try:
                run_model(plan["numerics"], job)
            except (daemon.Trouble, reference.Refused, http.client.HTTPException, OSError) as e:
                say("check", model=job["model"], numerics=plan["numerics"], attention="", threads=0,
                    name="run", passed=False, text=f"{type(e).__name__}: {e}")
    except reference.Refused as e:
        say("check", model="-", numerics=plan["numerics"], attention="", threads=0, name="numerics", passed=False, text=str(e))
    except Exception:
        traceback.print_exc()
        return 1
    say("end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
