"""mirror_lines.py: the cited lines are right, and a wrong one is noticed.  `make parity` asks the
first too, with the transformers that it installs."""
import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mirror_lines import FAMILIES, faults, source  # noqa: E402


def read(path):
    with open(path, encoding="utf-8") as file:
        family = json.load(file)
    try:
        return family, source(family)
    except LookupError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("path", FAMILIES, ids=os.path.basename)
def test_lines(path):
    found = faults(*read(path))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FAMILIES, ids=os.path.basename)
def test_a_wrong_line_is_noticed(path):
    family, text = read(path)
    lines = family["mirror"]["lines"]
    for name, given in list(lines.items()):
        for attention, line in (given if isinstance(given, dict) else {None: given}).items():
            for wrong in (0, line + 1, line - 1, len(text) + 1):
                lines[name] = given | {attention: wrong} if attention else wrong
                assert faults(family, text), f"{name}: line {wrong} passed for {line}"
        lines[name] = given


def test_there_are_families():
    assert len(FAMILIES) >= 4
