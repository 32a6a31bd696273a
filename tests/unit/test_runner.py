"""tests/run.py reads counts that cannot be better than what happened."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import run  # noqa: E402

GOOD = "1..3\nok 1 - a\ntext of a test ok 2 - b\nnot ok 3 # SKIP c\n# ok - group\n"


@pytest.mark.parametrize("status, text, counts", [
    (0, GOOD, (2, 0, 1)),
    (0, GOOD + GOOD, (4, 0, 2)),
    (1, GOOD, (2, 1, 1)),  # a leak found at the end
    (None, GOOD, (2, 1, 1)),  # hangs at the end
    (1, "1..2\nok 1 - a\nnot ok 2 - b\n# 0x1 != 0x2\n", (1, 1, 0)),
    (-6, "1..3\nok 1 - a\n", (1, 2, 0)),  # dies in the second
    (0, "1..3\nok 1 - a\n", (1, 2, 0)),  # exit(0) in the second
    (0, "", (0, 1, 0)), (-11, "", (0, 1, 0)), (0, "all is well\n", (0, 1, 0)),
    (1, "1..2\nnot ok 0 - g [  FAILED  ] GROUP SETUP\n", (0, 3, 0)),
])
def test_tap(status, text, counts):
    c = run.tap_counts(status, text)
    assert (c.passed, c.failed, c.skipped) == counts


@pytest.mark.parametrize("status, xml, counts", [
    (0, '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="2"/></testsuites>', (3, 0, 2)),
    (1, '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="0"/></testsuites>', (3, 2, 0)),
    (3, '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="0"/></testsuites>', (5, 1, 0)),
    (5, '<testsuites><testsuite tests="0" failures="0" errors="0" skipped="0"/></testsuites>', (0, 0, 0)),
    (-9, "", (0, 1, 0)), (0, "<testsuites>", (0, 1, 0))])
def test_junit(tmp_path, status, xml, counts):
    (tmp_path / "x.xml").write_text(xml)
    c = run.junit_counts(status, tmp_path / "x.xml")
    assert (c.passed, c.failed, c.skipped) == counts


def test_a_runner_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 1)
    status, text = run.run(["sh", "-c", "echo begun; sleep 60 & sleep 60"], dict(os.environ))
    assert status is None and text == "begun\n"
