"""A plugin of pytest: each test's row the moment that it has ended, as JSON to the file descriptor CHECK_GPU_ROWS."""
import json
import os

import report

OUT = os.fdopen(int(os.environ["CHECK_GPU_ROWS"]), "w") if "CHECK_GPU_ROWS" in os.environ else None


def row_of(test):
    """A report of pytest's as a row; None where it tells nothing."""
    if test.when == "call" and test.passed:
        return report.row("http", test.nodeid.removeprefix("tests/"), "equal", note=f"{test.duration:.1f} s")
    if test.skipped:
        why = test.longrepr[2] if isinstance(test.longrepr, tuple) else str(test.longrepr)
        return report.row("http", test.nodeid.removeprefix("tests/"), "skipped", note=why.removeprefix("Skipped: "))
    if test.failed:
        return report.row("http", test.nodeid.removeprefix("tests/"), "failed",
                          note=f"{test.when}: {str(test.longrepr)[-report.SAID:]}")
    return None


def pytest_runtest_logreport(report):
    found = row_of(report)
    if OUT and found:
        OUT.write(json.dumps(found) + "\n")
        OUT.flush()
