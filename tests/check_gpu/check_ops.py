"""Every operation: torch-cpu's numerics on cuda:0 against the CPU, torch-cuda against PyTorch on the same GPU."""
import os
import re

import programs
import report

COUNTED = re.compile(r"^[\w ]+: (\d+) cases, (\d+) runs, (\d+) elements, 0 differing$")
DIFFERS = re.compile(r"(\d+) of (\d+) elements differ")
SECONDS = 60  # of test_cuda_ops
FEW = "r"  # what the operations that the emulator is given begin with


def operations():
    """Names of ops.def, in its order."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "kernels/ops.def"), encoding="utf-8") as file:
        return re.findall(r"^OP\((\w+),", file.read(), re.M)


def row_of(test, verdict, said):
    """Of a test of test_cuda_ops and what it said."""
    name, note = f"torch-cpu {test.removeprefix('test_')}", " ".join(said)[:300]
    if verdict == "OK":
        counts = next(filter(None, map(COUNTED.match, said)), None)
        if not counts:
            return report.row("ops", name, "failed", note="it counted nothing")
        return report.row("ops", name, "equal", 0, int(counts[3]), f"{counts[1]} cases")
    if verdict == "SKIPPED":
        return report.row("ops", name, "failed", note="skipped: no device")
    match = DIFFERS.search(note)
    return report.row("ops", name, "differs", match[1], match[2], note) if match else report.row("ops", name, "failed", note=note)


def cpu_rows(lines, ending, names):
    """A row for each operation of these, as its test ends; one that did not report has failed.
    ending: called after the last line, says how the program ended."""
    parser, told, skip = programs.Cmocka(), set(), ""
    for line in lines:
        skip = line if line.startswith("skip: ") else skip
        if ended := parser.feed(line):
            told.add(ended[0])
            yield row_of(*ended)
    for name in names:
        if f"test_{name}" not in told:
            yield report.row("ops", f"torch-cpu {name}", "failed", note=f"no result; test_cuda_ops {ending()} {skip}".strip())


def ops(settings):
    command, names = [os.path.join(settings.build, "tests/kernels/test_cuda_ops")], operations() + ["large_products"]
    if settings.emulated:
        command, names = command + [f"test_{FEW}*"], [name for name in names if name.startswith(FEW)]
    with report.Program(command, None if settings.emulated else SECONDS, programs.environment(settings), merged=True) as program:
        yield from cpu_rows(program.lines(), lambda: "ran out of time" if program.late else f"ended with status {program.status}",
                            names)
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
