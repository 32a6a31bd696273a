#!/usr/bin/env python3
"""What only a GPU can tell: samebit on it against PyTorch on it, and against the CPU; see `make check-gpu`.

    check_gpu.py --build build/cuda --out build/check_gpu.json [--only SECTION,...]
    check_gpu.py --build build/emulated --out FILE --emulated

Sections are hardware, ops, gemm, models, sanitizer, speed, each a process of its own: one that
fails or hangs is reported and the others go on.  --emulated runs those parts that need no GPU on
small models; PyTorch then computes on the CPU, whose bits torch-cuda does not promise, so these rows
are info.  The exit status is 1 when promised bits differ or a section failed.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
for folder in ("tests/bench", "tests/kernels", "tests/parity"):
    sys.path.insert(0, os.path.join(ROOT, folder))

import report  # noqa: E402

ALL_SECONDS = 590


def about(settings):
    """Facts of the machine; no rows, so that a GPU that does not start fails here first."""
    import importlib.metadata

    import torch

    if settings.emulated:
        facts = {"gpu": "emulated"}
    else:
        if not torch.version.cuda:
            raise RuntimeError(f"torch {torch.__version__} is not built for CUDA")
        gpu = torch.cuda.get_device_properties(0)
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                                capture_output=True, text=True).stdout.split()
        facts = {"gpu": gpu.name, "multiprocessors": gpu.multi_processor_count, "capability": f"{gpu.major}.{gpu.minor}",
                 "memory_bytes": gpu.total_memory, "driver": driver[0] if driver else ""}
    try:
        facts["torch_cublas"] = importlib.metadata.version("nvidia-cublas")
    except importlib.metadata.PackageNotFoundError:
        facts["torch_cublas"] = ""
    yield {**facts, "torch": torch.__version__, "torch_cuda": torch.version.cuda or "",
           "transformers": importlib.metadata.version("transformers"), "samebit_libraries": linked(settings.build)}


def linked(build):
    """Which CUDA libraries samebitd runs with."""
    text = subprocess.run(["ldd", os.path.join(build, "samebitd")], capture_output=True, text=True).stdout
    paths = [line.split("=>")[1].split("(")[0].strip() for line in text.splitlines()
             if "=>" in line and ("cublas" in line or "cudart" in line)]
    return [os.path.realpath(path) for path in paths]


def section_of(module, function):
    """Loaded when it runs: one that cannot be loaded fails alone."""
    def run(settings):
        return getattr(__import__(module), function)(settings)
    return run


# name: (function(settings) that yields rows, seconds)
SECTIONS = {
    "hardware": (section_of("hardware", "approximations"), 60),
    "ops": (section_of("check_ops", "ops"), 240),
    "gemm": (section_of("check_gemm", "gemm"), 150),
    "models": (section_of("check_models", "models_section"), 240),
    "sanitizer": (section_of("hardware", "sanitizer"), 90),
    "speed": (section_of("speed", "speed"), 120),
}
EMULATED = ("ops", "models")
HARMLESS = ("speed",)


def run_section(settings):
    """In the process of a section: its rows on standard output, where nothing else may come."""
    function = about if settings.section == "about" else SECTIONS[settings.section][0]
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        for r in function(settings):
            out.write(json.dumps(r) + "\n")
            out.flush()
    return 0


def child(settings, section):
    return [sys.executable, os.path.abspath(__file__), "--build", settings.build, "--section", section,
            *["--emulated"] * settings.emulated]


def facts_and_rows(settings):
    status, out, err = report.run(child(settings, "about"), 120)
    facts = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if status == 0:
        return {**facts, **json.loads(out)}, []
    return facts, [report.row("about", "PyTorch on the GPU", "failed", note=err.strip()[-report.SAID:])]


def show(rows):
    for r in rows:
        print("\n".join(report.lines_of(r)), flush=True)


def make_models():
    """Made or fetched before the clock starts; one that cannot be had is reported by its section."""
    import check_models
    import models

    for name in check_models.MODELS:
        models.find(name)


def check(settings):
    if not settings.emulated:
        make_models()
    started = time.monotonic()
    facts, rows = facts_and_rows(settings)
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"\n{report.HEADING}")
    show(rows)
    for name in settings.only or (EMULATED if settings.emulated else SECTIONS):
        left = ALL_SECONDS - (time.monotonic() - started)
        seconds = min(SECTIONS[name][1], left) if not settings.emulated else SECTIONS[name][1]
        found = report.isolated(name, child(settings, name), seconds, name in HARMLESS)
        show(found)
        rows += found
        report.write(settings.out, facts, rows)
    print(f"\n{settings.out}: {time.monotonic() - started:.0f} s\n{report.closing(rows)}")
    return report.exit_status(rows)


def names(text):
    given = text.split(",")
    unknown = [n for n in given if n not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    return given


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/cuda", help="the folder of a build with CUDA")
    p.add_argument("--out", default="build/check_gpu.json")
    p.add_argument("--only", type=names, help="sections, comma separated")
    p.add_argument("--emulated", action="store_true", help="what can be run without a GPU")
    p.add_argument("--section", help=argparse.SUPPRESS)
    settings = p.parse_args(arguments)
    settings.build = os.path.abspath(settings.build)
    settings.device = "cpu" if settings.emulated else "cuda"  # PyTorch's
    os.environ["SAMEBITD"] = os.path.join(settings.build, "samebitd")
    return run_section(settings) if settings.section else check(settings)


if __name__ == "__main__":
    sys.exit(main())
