"""Tests that exist for every device, run on this one: cmocka programs, HTTP tests and golden digests."""
import json
import os
import re
import subprocess
import sys

import report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "tests", "check_gpu")
UNITS = ["kernels/test_cuda_backend", "kernels/test_cuda_cublas", "kernels/test_cuda_group", "unit/test_cuda_engine"]
UNIT_SECONDS = 50
# Padding, batches, chunks, replaced values and several streams are among them.
# A folder at a time, as each has a conftest of its own.
HTTP = ["http/test_cuda.py http/test_together.py", "cuda/test_same_bits.py", "http/test_trace.py http/test_attention.py",
        "parity/test_golden.py"]
RAN = re.compile(r"^\[ RUN      \] (\w+)$")
ENDED = re.compile(r"^\[ *(OK|FAILED|SKIPPED) *\] (\w+)$")


class Cmocka:
    """The tests of a cmocka program, told from its lines as they come."""

    def __init__(self):
        self.name, self.said = None, []

    def feed(self, line):
        """None, or (test, "OK" | "FAILED" | "SKIPPED", what it had said)."""
        if match := RAN.match(line):
            self.name, self.said = match[1], []
        elif (match := ENDED.match(line)) and match[2] == self.name:
            self.name = None
            return match[2], match[1], self.said
        elif self.name and not line.startswith("[  ERROR"):  # where in the test's source
            self.said.append(line.strip())
        return None


def environment(settings, **more):
    """What the tests find: see tests/run.py."""
    import models

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CMOCKA_"))}
    return kept | {"SAMEBIT_BUILD": settings.build, "SAMEBITD": os.path.join(settings.build, "samebitd"),
                   "SAMEBIT": os.path.join(settings.build, "samebit"), "SAMEBIT_TINY": models.made_folder(),
                   "PYTHONDONTWRITEBYTECODE": "1"} | more


# ---- cmocka ----

VERDICTS = {"OK": "equal", "FAILED": "failed", "SKIPPED": "failed"}  # on a device nothing may skip


def unit_rows(section, program, lines):
    """Rows of a program's tests, as they end."""
    parser = Cmocka()
    for line in lines:
        if ended := parser.feed(line):
            test, verdict, said = ended
            note = "skipped: no device" if verdict == "SKIPPED" else " ".join(said)[:300]
            yield report.row(section, f"{program} {test}", VERDICTS[verdict], note=note)


def units(settings):
    import models

    models.find("tiny-qwen2")
    for unit in UNITS:
        count, name = 0, os.path.basename(unit)
        with report.Program([os.path.join(settings.build, "tests", unit)], None if settings.emulated else UNIT_SECONDS,
                            environment(settings), merged=True) as program:
            for r in unit_rows("units", name, program.lines()):
                count += 1
                yield r
            bad = program.late or not count or program.status not in (0, 1)
            ended = "out of time" if program.late else f"ended with status {program.status}"
        if bad:
            yield report.row("units", name, "failed", note=f"{ended}, {count} tests told")


# ---- pytest ----

def pytest_rows(settings, paths):
    """Runs tests of one folder, paths below tests/ with blanks between, and yields their rows."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_rows",
               "--rootdir", ROOT, "-o", "markers=slow: takes minutes", "-m", "not slow",
               *(os.path.join(ROOT, "tests", path) for path in paths.split())]
    child = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, pass_fds=[write],
        env=environment(settings, CHECK_GPU_ROWS=str(write), PYTHONPATH=HERE + os.pathsep + os.environ.get("PYTHONPATH", ""),
                        SAMEBIT_DEVICE="cuda:0"))
    os.close(write)
    count = 0
    with os.fdopen(read) as rows:
        for line in rows:
            count += 1
            yield json.loads(line)
    status = child.wait()
    if not count or status not in (0, 1):
        yield report.row("http", f"pytest {paths}", "failed", note=f"ended with status {status}, {count} tests told")


def http(settings):
    import models

    models.find("tiny-qwen2")
    for paths in ["http/test_cuda.py"] if settings.emulated else HTTP:
        yield from pytest_rows(settings, paths)
