#!/usr/bin/env python3
"""Measures samebitd, PyTorch and llama.cpp side by side, and the machine's limits; see `make bench`.

    bench.py [--only MODEL,...] [--work NAME,...] [--attention NAME,...] [--rounds N] [--quick]
             [--threads N] [--limits PROGRAM] [--out FILE [--update]] [--list]
    bench.py --table FILE [--into README.md]      the report as Markdown, or put between the marks there

Every round measures each side once, in turn, the limits too; ratios are taken within a round.
samebitd is asked over HTTP; PyTorch (transformers) and llama.cpp, in processes of their own, are
called directly, and timed without the start of Python, loading and one warming run.

Nothing here can fail for being slow.  What cannot be measured says `skip:` and why.
"""
import argparse
import contextlib
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "parity"))

import daemon  # noqa: E402
import goals  # noqa: E402
import growth  # noqa: E402
import hosts  # noqa: E402
import machine  # noqa: E402
import models  # noqa: E402
import reference  # noqa: E402
import sides  # noqa: E402
import tables  # noqa: E402
import works  # noqa: E402

MODELS = [goals.SMALL, goals.SHAPE]
WORKS = {**works.WORKS, **growth.GROWTH}
ALONE = {"start-up", "memory", "growth layers", "growth threads"}  # nothing else runs meanwhile


class Report:
    """What is known so far; update: it begins with what the file has, and replaces row by row."""

    def __init__(self, path, update, facts):
        self.path, self.content = path, {"rows": []}
        if update and path and os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                self.content = json.load(f)
        self.content.update(facts)

    def about(self, **versions):
        self.content.setdefault("versions", {}).update(versions)

    def add(self, row):
        same = (row["model"], row["work"])
        rows = self.content["rows"]
        at = next((i for i, r in enumerate(rows) if (r["model"], r["work"]) == same), len(rows))
        rows[at:at + 1] = [row]
        print("\n".join(tables.lines_of(row)), flush=True)

    def write(self):
        if self.path:
            with open(self.path, "w", encoding="utf-8") as f:
                json.dump(self.content, f, indent=1)
                f.write("\n")


def gguf_of(scene, settings):
    """The file that llama.cpp runs, or None, having said why."""
    why = settings.llama.why
    if not why:
        try:
            return settings.llama.file_of(scene.name, scene.folder)
        except daemon.Trouble as e:
            why = str(e)
    print(f"llama.cpp: skip: {why}")
    return None


def open_peer(stack, name, opener):
    """A peer that is closed with the stack, or None, having said why."""
    try:
        return stack.enter_context(opener())
    except (daemon.Trouble, OSError) as e:
        print(f"{name}: skip: {e}")
        return None


@contextlib.contextmanager
def all_running(scene, settings, report):
    """The scene with its sides, for as long as this lasts."""
    with contextlib.ExitStack() as stack:
        scene.server = stack.enter_context(daemon.Daemon(scene.folder, scene.numerics, settings.threads))
        scene.sides = [sides.Samebit(scene.server, a) for a in settings.attention]
        torch = open_peer(stack, "PyTorch", lambda: sides.open_torch(
            settings.torch_python, scene.folder, settings.threads, settings.attention))
        if torch:
            report.about(PyTorch=torch.facts["version"])
            scene.sides += [sides.PeerSide(torch, f"PyTorch {a}", attention=a) for a in settings.attention]
        llama = scene.gguf and open_peer(stack, "llama.cpp", lambda: sides.open_llama(
            settings.llama.python, scene.gguf, settings.threads, works.CONTEXT))
        if llama:
            report.about(**{"llama-cpp-python": llama.facts["version"]})
            scene.sides.append(sides.PeerSide(llama, "llama.cpp"))
        yield


def do_works(scene, names, report):
    for name in names:
        if name in growth.GROWTH and scene.name != goals.SHAPE:
            continue
        for row in WORKS[name](scene):
            report.add(row)
        report.write()


def measure_model(name, settings, limits, report):
    folder, why = models.find(name)
    if not folder:
        print(f"{name}: skip: {why}")
        return
    scene = works.Scene(name, folder, settings, limits)
    scene.numerics = hosts.own()
    print(f"\n{name}, numerics {scene.numerics}")
    scene.gguf = gguf_of(scene, settings)
    together = [w for w in settings.work if w not in ALONE]
    if together:
        with all_running(scene, settings, report):
            do_works(scene, together, report)
    scene.sides = []
    do_works(scene, [w for w in settings.work if w in ALONE], report)


def measure_limits(settings):
    """The running program of limits and what it says now; (None, None) without one."""
    if not settings.limits:
        return None, None
    limits = machine.Limits(settings.limits, settings.threads)
    now = {what: max(limits.ask(what) for _ in range(3)) for what in ("read", "multiply", "tiles")}
    print(f"limits: {tables.limits_text(now)}")
    if not now["tiles"]:
        print("skip: tdpbf16ps: this CPU has no AMX, or Linux does not let it be used")
    return limits, now


def listed(known):
    """An argument that names some of known, or beginnings of them ("growth")."""
    def split(text):
        found = [k for k in known if any(k == n or k.startswith(n + " ") for n in text.split(","))]
        unknown = [n for n in text.split(",") if not any(k == n or k.startswith(n + " ") for k in known)]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return found
    return split


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", type=listed(MODELS), default=MODELS, help="names of models, comma separated")
    p.add_argument("--work", type=listed(list(WORKS)), default=list(WORKS), help="comma separated; a first word names all with it")
    p.add_argument("--attention", type=listed(reference.ATTENTIONS), default=reference.ATTENTIONS, help="comma separated")
    p.add_argument("--rounds", type=int, default=0, help="of each work (0: as many as its length allows)")
    p.add_argument("--quick", action="store_true", help="two rounds of each, fewer sizes")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--limits", help="the program that measures the machine's limits")
    p.add_argument("--llama", default="", help="the Python that has llama-cpp-python, or skip:REASON")
    p.add_argument("--torch-python", help="the Python that has PyTorch (this one)")
    p.add_argument("--out", help="where the figures go, as JSON")
    p.add_argument("--update", action="store_true", help="keep what the file of --out has of other works")
    p.add_argument("--table", metavar="FILE", help="print that report as Markdown, measure nothing")
    p.add_argument("--into", metavar="FILE", help="put what --table gives into that file")
    p.add_argument("--list", action="store_true", help="print the names of the works")
    return p.parse_args()


def show_table(path, into):
    with open(path, encoding="utf-8") as f:
        report = json.load(f)
    if not into:
        print(tables.document(report), end="")
        return
    with open(into, encoding="utf-8") as f:
        text = tables.put_into(f.read(), report)
    with open(into, "w", encoding="utf-8") as f:
        f.write(text)


def main():
    settings = arguments()
    if settings.list:
        print("\n".join(WORKS))
        return
    if settings.table:
        show_table(settings.table, settings.into)
        return
    why = settings.llama.removeprefix("skip:") if settings.llama.startswith("skip:") else "" if settings.llama else "no --llama"
    settings.llama = sides.Llama(settings.llama, why, daemon.cache_folder())
    print(f"{machine.cpu_name()}, {settings.threads} threads, load {os.getloadavg()[0]:.2f} before the run\n"
          "median (least to most); ratio: how many times better samebit is, round by round")
    limits, now = measure_limits(settings)
    report = Report(settings.out, settings.update, {
        "cpu": machine.cpu_name(), "cores": os.cpu_count(), "threads": settings.threads, "limits": now, "numerics": hosts.own(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "load": os.getloadavg()[0]})
    for name in settings.only:
        measure_model(name, settings, limits, report)
    if limits:
        limits.close()
    print("\n" + tables.goals_table(report.content["rows"], unmeasured=False, numerics=report.content.get("numerics")))
    if settings.out:
        report.write()
        print(settings.out)


if __name__ == "__main__":
    main()
