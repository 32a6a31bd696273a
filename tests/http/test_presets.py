"""`samebit compare --preset`: element by element what numpy.isclose says, live, and what torch.testing.assert_close
says, recorded:

    ~/.cache/samebit/parity-venv/bin/python tests/http/test_presets.py     records presets_torch.json
"""
import json
import os
import sys
import warnings

import numpy

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "presets_torch.json")
KINDS = ["BF16", "F16", "F32", "F64"]
COUNT = 1000
TOLERANCES = [None, (1e-2, 1e-3), (0.0, 0.0), (0.0, 1e-4)]
DEFAULTS = {"BF16": (1.6e-2, 1e-5), "F16": (1e-3, 1e-5), "F32": (1.3e-6, 1e-5), "F64": (1e-7, 1e-7)}
SPECIAL = [numpy.nan, -numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1e-7, -6e-8, 65504.0, -65504.0, 1e-5]


def bits(values, kind):
    """Rounded to a kind, as an array of the file's bytes; bf16 as U16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "BF16":
            u = values.astype(numpy.float32).view(numpy.uint32)
            rounded = ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(numpy.uint16)
            return numpy.where(numpy.isnan(values), numpy.uint16(0x7fc0), rounded).astype(numpy.uint16)
        return values.astype({"F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64}[kind])


def pair(a, b, seed, rtol, atol):
    """Numbers of all sizes, most pairs at the edge of the tolerance; every pair of special ones."""
    r = numpy.random.RandomState(seed)
    y = r.standard_normal(COUNT) * 10.0 ** r.randint(-6, 4, COUNT)
    y = bits(y, b)
    near = (y.astype(numpy.uint32) << 16).view(numpy.float32) if b == "BF16" else y
    near = near.astype(numpy.float64)
    x = near + (atol + rtol * abs(near)) * r.choice([-1, 1], COUNT) * (1 + r.choice([0, 1e-7, 1e-4, 3e-3, .1], COUNT) * r.standard_normal(COUNT))
    x = bits(x, a)
    n = len(SPECIAL)
    x[:n * n] = bits(numpy.repeat(SPECIAL, n), a)
    y[:n * n] = bits(numpy.tile(SPECIAL, n), b)
    return x, y


def cases():
    """Name -> kinds, tolerances (None: the preset's own), equal_nan, arrays."""
    seed = 0
    for a in KINDS:
        for b in KINDS:
            for i, given in enumerate(TOLERANCES):
                seed += 1
                edge = given or (max(DEFAULTS[a][0], DEFAULTS[b][0]), max(DEFAULTS[a][1], DEFAULTS[b][1]))
                for equal_nan in (False, True):
                    yield f"{a}-{b}-{i}-{equal_nan}", a, b, given, equal_nan, *pair(a, b, seed, *edge)


def record():
    import torch

    def tensor(array, kind):
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16) if kind == "BF16" else torch.from_numpy(array)

    def is_close(x, y, **how):
        try:
            torch.testing.assert_close(x, y, check_dtype=False, **how)
        except AssertionError:
            return 0
        return 1

    out = {"torch": torch.__version__}
    for name, a, b, given, equal_nan, x, y in cases():
        how = {"equal_nan": equal_nan} | ({"rtol": given[0], "atol": given[1]} if given else {})
        x, y = tensor(x, a), tensor(y, b)
        out[name] = numpy.packbits([is_close(x[i:i + 1], y[i:i + 1], **how) for i in range(COUNT)]).tobytes().hex()
    with open(RECORDED, "w", encoding="utf-8") as file:
        json.dump(out, file, indent=0)


if __name__ == "__main__":
    sys.exit(record())

import ml_dtypes  # noqa: E402
import pytest  # noqa: E402
from client_tools import DIFFERENT, SAME, TROUBLE, compare, samebit, write  # noqa: E402


def options(given, equal_nan):
    return [*(["--rtol", repr(given[0]), "--atol", repr(given[1])] if given else []), *(["--equal-nan"] if equal_nan else [])]


def verdicts(tmp_path, preset, which):
    """Case -> whether each element is close, by `--by position`; one run for all cases of the same options."""
    found, groups = {}, {}
    for case in which:
        groups.setdefault((case[3], case[4]), []).append(case)
    for (given, equal_nan), some in groups.items():
        one = write(tmp_path / "a", {c[0]: (c[1], c[5][:, None]) for c in some})
        two = write(tmp_path / "b", {c[0]: (c[2], c[6][:, None]) for c in some})
        report, rc = compare(one, two, "--preset", preset, "--by", "position", *options(given, equal_nan))
        rows = {row["value"]: row for row in report["rows"]}
        for case in some:
            row = rows[case[0]]
            found[case[0]] = close = numpy.array([not p["failing"] for p in row["positions"]])
            assert row["failing"] == COUNT - close.sum() == (report["elements_failing"] if len(some) == 1 else row["failing"])
            assert row["verdict"] == ("differs" if row["failing"] else "close")
            assert row.get("first_failing") == ([int(numpy.argmin(close)), 0] if row["failing"] else None)
        assert report["elements_failing"] == sum(row["failing"] for row in report["rows"])
        assert rc == (DIFFERENT if report["elements_failing"] else SAME) and report["preset"] == preset
    return found


def test_assert_close_is_torchs(tmp_path):
    with open(RECORDED, encoding="utf-8") as file:
        want = json.load(file)
    apart, compared = {}, 0
    for name, close in verdicts(tmp_path, "assert_close", list(cases())).items():
        mask = numpy.unpackbits(numpy.frombuffer(bytes.fromhex(want[name]), numpy.uint8))[:COUNT].astype(bool)
        assert 0 < mask.sum() < COUNT
        compared += COUNT
        if (mask != close).any():
            apart[name] = numpy.flatnonzero(mask != close).tolist()
    assert compared == 128 * COUNT and apart == {}


def test_allclose_is_numpys(tmp_path):
    def array(x, kind):
        return x.view(ml_dtypes.bfloat16) if kind == "BF16" else x

    apart, all_cases = {}, list(cases())
    found = verdicts(tmp_path, "allclose", all_cases)
    for name, a, b, given, equal_nan, x, y in all_cases:
        how = {"rtol": given[0], "atol": given[1]} if given else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mask = numpy.isclose(array(x, a), array(y, b), equal_nan=equal_nan, **how)
            assert numpy.allclose(array(x, a)[mask], array(y, b)[mask], equal_nan=equal_nan, **how)
        if (mask != found[name]).any():
            apart[name] = numpy.flatnonzero(mask != found[name]).tolist()
    assert len(found) == 128 and apart == {}


def test_ids_have_to_be_equal(tmp_path):
    x = numpy.float32([[1, 2, 3]])
    one = write(tmp_path / "a", {"tokens": ("I64", numpy.array([100000, 5])), "x": ("F32", x)})
    two = write(tmp_path / "b", {"tokens": ("I64", numpy.array([100001, 5])), "x": ("F32", x)})
    report, rc = compare(one, two, "--preset", "allclose")
    assert rc == DIFFERENT and {r["value"]: r["verdict"] for r in report["rows"]} == {"tokens": "differs", "x": "equal"}


def test_what_is_said(tmp_path):
    x = numpy.float32([[1, 2, 3]])
    one, two = write(tmp_path / "a", {"x": ("F32", x)}), write(tmp_path / "b", {"x": ("F32", x * numpy.float32(1 + 1e-6))})
    assert "close by assert_close: 1 of 1 values, 0 of 3 elements are not" in samebit("compare", one, two, "--preset", "assert_close", status=SAME).text
    text = samebit("compare", one, two, "--preset", "allclose", "--rtol", "1e-9", "--atol", "0", status=DIFFERENT).text
    assert "not close by allclose: 1 of 1 values, 3 of 3 elements are not" in text
    nan = write(tmp_path / "n", {"x": ("F32", x * numpy.float32("nan"))})
    samebit("compare", nan, nan, "--preset", "bits", status=SAME)
    samebit("compare", nan, nan, "--preset", "assert_close", status=DIFFERENT)
    samebit("compare", nan, nan, "--preset", "assert_close", "--equal-nan", status=SAME)


@pytest.mark.parametrize("wrong", [("--preset", "close"), ("--rtol", "1e-3"), ("--preset", "assert_close", "--rtol", "1e-3"),
                                   ("--preset", "allclose", "--atol", "-1"), ("--preset", "allclose", "--rtol", "nan"),
                                   ("--preset", "allclose", "--rtol", "1x"), ("--by", "column"), ("--by", "position,rows")])
def test_wrong_options(tmp_path, wrong):
    one = write(tmp_path / "a", {"x": ("F32", numpy.float32([1]))})
    assert wrong[-2] in samebit("compare", one, one, *wrong, status=TROUBLE).said or "--rtol" in wrong
