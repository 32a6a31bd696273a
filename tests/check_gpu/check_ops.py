"""Every operation: torch-cpu's numerics on cuda:0 against the CPU, torch-cuda against PyTorch on the same GPU."""
import os
import re

import report

RAN = re.compile(r"^\[ RUN      \] test_(\w+)$")
COUNTED = re.compile(r"^[\w ]+: (\d+) cases, (\d+) runs, (\d+) elements, 0 differing$")
DIFFERS = re.compile(r"(\d+) of (\d+) elements differ")
SECONDS = 150  # of test_cuda_ops


def operations():
    """Names of ops.def, in its order."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "kernels/ops.def"), encoding="utf-8") as file:
        return re.findall(r"^OP\((\w+),", file.read(), re.M)


def parse(text):
    """{test without test_: (verdict, differing, elements, note)} of test_cuda_ops' output."""
    found, name, said = {}, None, []
    for line in text.splitlines():
        if match := RAN.match(line):
            name, said = match[1], []
        elif name and (match := COUNTED.match(line)):
            said.append((int(match[1]), int(match[3])))
        elif name and line == f"[       OK ] test_{name}":
            counts = next((s for s in said if isinstance(s, tuple)), None)
            found[name] = ("equal", 0, counts[1], f"{counts[0]} cases") if counts else ("failed", 0, 0, "it counted nothing")
        elif name and line == f"[  SKIPPED ] test_{name}" and name not in found:
            found[name] = ("failed", 0, 0, "skipped: no device")
        elif name and line == f"[  FAILED  ] test_{name}" and name not in found:
            note = " ".join(s for s in said if isinstance(s, str))[:300]
            match = DIFFERS.search(note)
            found[name] = ("differs", int(match[1]), int(match[2]), note) if match else ("failed", 0, 0, note)
        elif name and not line.startswith("[  ERROR"):  # where in the test's source
            said.append(line.strip())
    return found


def cpu_rows(text, status):
    """A row for each operation; one that did not report has failed."""
    found = parse(text)
    skip = next((line for line in text.splitlines() if line.startswith("skip: ")), "")
    for name in operations() + ["large_products"]:
        missing = "out of time" if status is None else f"no result; test_cuda_ops ended with status {status}"
        verdict, differing, elements, note = found.get(name, ("failed", 0, 0, missing))
        yield report.row("ops", f"torch-cpu {name}", verdict, differing, elements, f"{note} {skip}".strip())


def ops(settings):
    binary = os.path.join(settings.build, "tests/kernels/test_cuda_ops")
    environment = {k: v for k, v in os.environ.items() if k != "CMOCKA_MESSAGE_OUTPUT"}
    status, out, _ = report.run([binary], None if settings.emulated else SECONDS, environment, merged=True)
    yield from cpu_rows(out, status)
    yield from torch_cuda(settings)


# ---- torch-cuda ----

def torch_cuda(settings):
    """One row an operation; what fails in one does not keep the others from running."""
    import cases

    for name, check in cases.CHECKS.items():
        try:
            yield cases.run(settings, name, check)
        except Exception as e:
            yield report.row("ops", f"torch-cuda {name}", "failed", note=f"{type(e).__name__}: {e}")
