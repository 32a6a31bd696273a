"""A checkpoint with one infinite weight, tests/cases/field/num_inf_weight_nan_bits: from there on every value is NaN, of other bits
than PyTorch's.  Equal by default, different with --nan-bits."""
import hashlib
import json
import os

import numpy
import pytest

from client_tools import DIFFERENT, SAME, compare, samebit, write
from conftest import BINARY, ROOT, Daemon

CASE = os.path.join(ROOT, "tests", "cases", "field", "num_inf_weight_nan_bits")
VALUES = ["lm_head", "step_1/lm_head", "step_2/lm_head"]


@pytest.fixture(scope="module")
def served():
    d = Daemon(CASE, None, ("--attention", "eager"))
    yield d
    d.stop()


@pytest.fixture(scope="module")
def torchs(tmp_path_factory):
    """PyTorch's values, as a dump: every logit is 0xffff there, which the digests vouch for."""
    with open(os.path.join(CASE, "expected.json"), encoding="utf-8") as f:
        want = json.load(f)
    logits = {name: numpy.full((1 if "step" in name else len(want["ids"]), 320), 0xFFFF, numpy.uint16) for name in VALUES}
    for name, bits in logits.items():
        assert hashlib.sha256(bits.tobytes()).hexdigest() == want[f"sha256 {name}"]
    tensors = {name: ("BF16", bits) for name, bits in logits.items()}
    tensors["tokens"] = ("I64", numpy.array(want["tokens fed and chosen"], numpy.int64))
    return write(tmp_path_factory.mktemp("torch") / "torch.safetensors", tensors)


def test_nan_chooses_as_in_pytorch(served, torchs):
    with open(os.path.join(CASE, "expected.json"), encoding="utf-8") as f:
        want = json.load(f)
    reply = served.post("/v1/generate", {"tokens": want["ids"], "max_tokens": 1, "stop_at_eos": False}).json
    assert reply["tokens"] == [want["argmax of the last row"]]


def test_nans_of_other_bits_are_equal_unless_asked(served, torchs, tmp_path):
    """Against the daemon, against its trace in a file, and either way round."""
    with open(os.path.join(CASE, "expected.json"), encoding="utf-8") as f:
        ids = json.load(f)["ids"]
    reply = served.trace(["lm_head"], accept=BINARY, tokens=ids, steps=2)
    other = sum(int((reply.tensors[name] != 0xFFFF).sum()) for name in VALUES)
    assert other > 0
    kept = tmp_path / "trace.safetensors"
    kept.write_bytes(reply.body)
    for sides in ((torchs, served.url), (served.url, torchs), (torchs, kept), (kept, torchs)):
        report, _ = compare(*sides, status=SAME)
        assert (report["values"], report["elements_differing"], report["nan_of_other_bits"]) == (4, 0, other)
        report, _ = compare(*sides, "--nan-bits", status=DIFFERENT)
        assert (report["elements_differing"], report["nan_of_other_bits"], report["first_divergence"]) == (other, other, "lm_head")
        text = samebit("compare", *sides, status=SAME).text
        assert f"{other:,} NaN of other bits" in text
