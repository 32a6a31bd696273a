"""What the hardware does, and what compute-sanitizer says of the kernels."""
import os
import re
import shutil
import time

import report

# Of test_cuda_ops: kernels with barriers, warp primitives and shared memory, small ones first.
SANITIZED = ["test_rms_norm", "test_softmax", "test_matmul_qk"]
TOOLS = ["memcheck", "racecheck", "synccheck"]
SECONDS = 80  # of all of them
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


def sanitizer_row(name, status, text):
    """status None: it was stopped."""
    found = [int(a or b) for a, b in FOUND.findall(text)]
    if sum(found):
        return report.row("sanitizer", name, "failed", note="\n".join(text.strip().splitlines()[-20:]))
    if status is None:
        return report.row("sanitizer", name, "skipped", note="out of time; nothing found until then")
    if status or not found:
        return report.row("sanitizer", name, "failed", note=f"ended with status {status}: {text.strip()[-800:]}")
    if "[  PASSED  ] 1 test(s)" not in text:
        return report.row("sanitizer", name, "failed", note=f"the test did not pass: {text.strip()[-800:]}")
    return report.row("sanitizer", name, "equal", note="no errors")


def sanitizer(settings):
    program = find_sanitizer()
    if not program:
        yield report.row("sanitizer", "compute-sanitizer", "skipped", note="no such program here")
        return
    started = time.monotonic()
    for tool, test in ((tool, test) for test in SANITIZED for tool in TOOLS):
        left = SECONDS - (time.monotonic() - started)
        if left < 1:
            yield report.row("sanitizer", f"{tool} {test}", "skipped", note="out of time")
            continue
        status, out, _ = report.run([program, "--tool", tool, "--error-exitcode", "9",
                                       os.path.join(settings.build, "tests/kernels/test_cuda_ops"), test], left, merged=True)
        yield sanitizer_row(f"{tool} {test}", status, out)
