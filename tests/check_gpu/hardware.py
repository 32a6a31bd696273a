"""What the hardware does, and what compute-sanitizer says of the kernels."""
import json
import os
import re
import shutil
import sys
import time

import report

# Of test_cuda_ops: kernels with barriers, warp primitives and shared memory, small ones first.
SANITIZED = ["test_rms_norm", "test_softmax", "test_matmul_qk", "test_sdpa"]
TOOLS = ["memcheck", "racecheck", "synccheck"]
SECONDS = 85  # of all of them
DAEMON_SECONDS = 25  # of one of them
REQUEST = {"tokens": [1, 2, 3, 4, 5], "steps": 2, "values": ["*"], "attention": "eager", "format": "digest"}
FOUND = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")


def probe_rows(text):
    """Rows of what probe.cu printed."""
    for line in text.splitlines():
        name, differing, elements, note = line.split("\t")
        yield report.row("hardware", name, "info", int(differing), int(elements), note)


def approximations(settings):
    status, out, err = report.run([os.path.join(settings.build, "tests/check_gpu/probe")], 50)
    yield from probe_rows(out)
    if status:
        raise RuntimeError(f"probe ended with status {status}: {err.strip()}")


def find_sanitizer():
    """The program, or None: in PATH, or beside the nvcc that is in PATH."""
    nvcc = shutil.which("nvcc")
    beside = os.path.join(os.path.dirname(os.path.realpath(nvcc)), "compute-sanitizer") if nvcc else None
    places = ["compute-sanitizer", beside, "/usr/local/cuda/bin/compute-sanitizer"]
    return next((found for place in places if place and (found := shutil.which(place))), None)


def sanitizer_row(name, status, text, passed="[  PASSED  ] 1 test(s)"):
    """status None: it was stopped.  passed: what the text of a program that did its work holds."""
    found = [int(a or b) for a, b in FOUND.findall(text)]
    if sum(found):
        return report.row("sanitizer", name, "failed", note="\n".join(text.strip().splitlines()[-20:]))
    if status is None:
        return report.row("sanitizer", name, "skipped", note="out of time; nothing found until then")
    if status or not found:
        return report.row("sanitizer", name, "failed", note=f"ended with status {status}: {text.strip()[-800:]}")
    if passed not in text:
        return report.row("sanitizer", name, "failed", note=f"it did not do its work: {text.strip()[-800:]}")
    return report.row("sanitizer", name, "equal", note="no errors")


def on_a_test(settings, program, tool, test, seconds):
    command = [program, "--tool", tool, "--error-exitcode", "9", os.path.join(settings.build, "tests/kernels/test_cuda_ops"), test]
    status, out, _ = report.run(command, seconds, merged=True)
    return sanitizer_row(f"{tool} {test}", status, out)


def on_the_daemon(settings, program, tool, numerics, seconds):
    """The daemon with a tiny model answers a request and is stopped, all under the tool."""
    import models

    folder, why = models.find("tiny-qwen2")
    if not folder:
        return report.row("sanitizer", f"{tool} samebitd {numerics}", "skipped", note=why)
    command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "one_request.py"), folder, numerics,
               json.dumps(REQUEST), program, "--tool", tool, "--error-exitcode", "9"]
    status, out, _ = report.run(command, seconds, merged=True)
    return sanitizer_row(f"{tool} samebitd {numerics}", status, out, "answered:")


def sanitizer(settings):
    program = find_sanitizer()
    if not program:
        yield report.row("sanitizer", "compute-sanitizer", "skipped", note="no such program here")
        return
    until = time.monotonic() + SECONDS
    cases = [(on_the_daemon, "memcheck", "torch-cpu/avx512_bf16"), (on_a_test, "memcheck", SANITIZED[0]),
             (on_the_daemon, "memcheck", "torch-cuda")]
    cases += [(on_a_test, tool, test) for test in SANITIZED for tool in TOOLS if (tool, test) != ("memcheck", SANITIZED[0])]
    cases += [(on_the_daemon, tool, "torch-cpu/avx512_bf16") for tool in TOOLS[1:]]
    for case, tool, what in cases:
        left = until - time.monotonic()
        if left < 1:
            yield report.row("sanitizer", f"{tool} {what}", "skipped", note="out of time")
        else:
            yield case(settings, program, tool, what, min(left, DAEMON_SECONDS) if case is on_the_daemon else left)
