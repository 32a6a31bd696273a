#!/usr/bin/env python3
"""What only a GPU can tell: samebit on it against PyTorch on it, and against the CPU; see `make check-gpu`.

    check_gpu.py --build build/cuda --out build/check_gpu.json [--only SECTION,...] [--seconds N]
    check_gpu.py --build build/emulated --out FILE --emulated

Sections run by worth, the most telling first, each in a process of its own with a limit of its own: one that
fails or hangs is reported and the others go on.  A row is shown, and the report is written, the moment that
it is known, so whoever is stopped has all rows until then.  --emulated runs those parts that need no GPU on
small models; PyTorch then computes on the CPU, whose bits torch-cuda does not promise, so these rows are
info.  The exit status is 1 when promised bits differ or a section failed.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
for folder in ("tests/bench", "tests/kernels", "tests/parity"):
    sys.path.insert(0, os.path.join(ROOT, folder))

import report  # noqa: E402
import yardstick  # noqa: E402

ALL_SECONDS = 520
LEAST_SECONDS = 3  # with less a section is not begun
MADE = ("qwen2.5-0.5b-random", "smollm2-135m-random")  # beside the first sections


def section_of(module, function):
    """Loaded when it runs: one that cannot be loaded fails alone."""
    def run(settings):
        return getattr(__import__(module), function)(settings)
    return run


# name: (function(settings) that yields rows, seconds), by worth
SECTIONS = {
    "yardstick": (section_of("yardstick", "yardstick"), 45),
    "tiny": (section_of("check_models", "tiny"), 75),
    "units": (section_of("programs", "units"), 60),
    "ops": (section_of("check_ops", "ops"), 90),
    "models": (section_of("check_models", "shapes"), 130),
    "speed": (section_of("speed", "speed"), 110),
    "http": (section_of("programs", "http"), 100),
    "gemm": (section_of("check_gemm", "gemm"), 60),
    "hardware": (section_of("hardware", "approximations"), 15),
    "sanitizer": (section_of("hardware", "sanitizer"), 90),
}
EMULATED = ("yardstick", "tiny", "units", "ops", "http")
SLOWER = 10  # so many times is the emulator
HARMLESS = ("speed",)


def run_section(settings):
    """In the process of a section: its rows on standard output, where nothing else may come."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        for r in SECTIONS[settings.section][0](settings):
            out.write(json.dumps(r) + "\n")
            out.flush()
    return 0


def child(settings, section):
    return [sys.executable, os.path.abspath(__file__), "--build", settings.build, "--section", section,
            *["--emulated"] * settings.emulated]


# ---- the report as it grows ----

class Report:
    """Rows and facts so far; what is added is shown and written at once."""

    def __init__(self, path, facts):
        self.path, self.facts, self.rows = path, facts, []
        self.facts["seconds"] = {}

    def add(self, r):
        if "facts" in r:
            self.facts |= r["facts"]
            print("".join(f"{key}: {value}\n" for key, value in r["facts"].items()), flush=True)
        else:
            self.rows.append(r)
            print("\n".join(report.lines_of(r)), flush=True)
        self.write()

    def took(self, section, seconds):
        self.facts["seconds"][section] = round(seconds, 1)
        self.write()

    def write(self):
        report.write(self.path, self.facts, self.rows)


def make_models():
    """The process that makes the random models; those who need them wait for it."""
    import models

    return subprocess.Popen([sys.executable, models.MAKE_TINY, models.made_folder(), *MADE], start_new_session=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def about(settings):
    """What can be told before PyTorch is asked."""
    facts = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "programs": settings.build}
    try:
        with open(os.path.join(settings.build, "about"), encoding="utf-8") as file:
            facts |= dict(line.rstrip("\n").split("=", 1) for line in file)
    except OSError:
        pass
    return facts


def check(settings):
    found = Report(settings.out, about(settings))
    maker = make_models() if settings.models else None
    try:
        for name in settings.only or (EMULATED if settings.emulated else SECTIONS):
            run_one(settings, found, name, maker)
    finally:
        if maker:
            report.end_group(maker.pid)
            maker.wait()
    print(f"\n{settings.out}: {time.time() - settings.started:.0f} s\n{report.closing(found.rows)}")
    return report.exit_status(found.rows)


def left(settings):
    return settings.seconds - (time.time() - settings.started)


def run_one(settings, found, name, maker):
    if maker and name in ("models", "speed"):
        wait_for_models(settings, found, maker)
    seconds = min(SECTIONS[name][1] * (SLOWER if settings.emulated else 1), left(settings))
    if seconds < LEAST_SECONDS:
        return found.add(report.row(name, "section", "skipped", note="no time is left"))
    if not found.rows:
        print(f"\n{report.HEADING}")
    began = time.monotonic()
    for r in report.streamed(name, child(settings, name), seconds, name in HARMLESS):
        found.add(r)
        if name == "yardstick":  # an interrupted one has told what it took
            found.took(name, time.monotonic() - began)
    found.took(name, time.monotonic() - began)


def wait_for_models(settings, found, maker):
    try:
        maker.wait(max(0.0, left(settings) - LEAST_SECONDS))
    except subprocess.TimeoutExpired:
        pass


# ---- the command ----

def names(text):
    given = text.split(",")
    unknown = [n for n in given if n not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    return given


def settings_of(arguments):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/cuda", help="the folder of a build with CUDA")
    p.add_argument("--out", default="build/check_gpu.json")
    p.add_argument("--only", type=names, help="sections, comma separated")
    p.add_argument("--seconds", type=float, default=ALL_SECONDS, help=f"of all sections together ({ALL_SECONDS})")
    p.add_argument("--emulated", action="store_true", help="what can be run without a GPU")
    p.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)  # seconds since 1970
    p.add_argument("--section", help=argparse.SUPPRESS)
    settings = p.parse_args(arguments)
    settings.build = os.path.abspath(settings.build)
    settings.device = "cpu" if settings.emulated else "cuda"  # PyTorch's
    wanted = settings.only or SECTIONS
    settings.models = not settings.emulated and ("models" in wanted or "speed" in wanted)
    return settings


def promises(settings):
    """Whether torch-cuda's rows promise PyTorch's bits."""
    import torch

    return not settings.emulated and yardstick.promised(torch.__version__, torch.version.cuda or "",
                                                        yardstick.version("transformers"))


def main(arguments=None):
    settings = settings_of(arguments)
    settings.promised = lambda: promises(settings)
    os.environ["SAMEBITD"] = os.path.join(settings.build, "samebitd")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the section too
    return run_section(settings) if settings.section else check(settings)


if __name__ == "__main__":
    sys.exit(main())
