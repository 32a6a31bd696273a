"""client/python: the package, against samebitd."""
import os
import subprocess
import sys

import ml_dtypes
import numpy
import pytest
from client_tools import SAMEBIT
from conftest import ROOT

sys.path[:0] = [os.path.join(ROOT, "client", "python"), os.path.join(ROOT, "tests", "ports")]
import samebit  # noqa: E402
from numpy_port import Port  # noqa: E402

TOKENS = [72, 101, 300, 900, 5]
BF16 = numpy.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def client(daemon):
    return samebit.Client(f"http://{daemon.host}:{daemon.port}")


def test_values(client):
    run = client.trace(tokens=TOKENS, attention="eager", steps=1)
    assert run["lm_head"].dtype == BF16 and run["tokens"].tolist()[:5] == TOKENS and "step_1/lm_head" in run
    assert (client.logits(tokens=TOKENS, attention="eager", positions="all") == run["lm_head"]).all()
    names = [v["name"] for v in client.values("eager")]
    assert set(names) == {n for n in run if "/" not in n and n != "tokens"} and client.values(layer=0, glob="*q_proj*")
    assert client.model()["config"]["num_hidden_layers"] == 2 and client.tokenize("a")
    other = client.trace(tokens=TOKENS, values=["lm_head"], replace={"model.norm": run["model.norm"] * 0})
    assert not other["lm_head"].astype(float).any()
    assert client.trace(prompt="hello", values=[])["tokens"].size


def test_errors(client):
    with pytest.raises(samebit.SamebitError, match="no value") as e:
        client.trace(tokens=TOKENS, values=["zzz"])
    assert e.value.status == 400 and e.value.param == "values[0]"
    with pytest.raises(samebit.SamebitError, match="cannot reach"):
        samebit.Client("http://127.0.0.1:9").model()


def test_tokens_and_sockets(start, tmp_path, monkeypatch):
    """As the program `samebit` does it: what the environment says of who asks, and unix:PATH."""
    token = "0123456789abcdef-alice"
    (tmp_path / "tokens").write_text(f"alice {token}\n")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "mine").write_text(token + "\n")
    d = start(None, "--token-file", str(tmp_path / "tokens"), "--listen", f"unix:{tmp_path}/s")
    asks = samebit.Client(f"unix:{tmp_path}/s")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("SAMEBIT_TOKEN", "SAMEBIT_TOKEN_FILE", "SAMEBIT_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(samebit.SamebitError) as e:
        asks.model()
    assert e.value.status == 401
    monkeypatch.setenv("SAMEBIT_TOKEN_FILE", str(tmp_path / "mine"))
    assert asks.tokenize("a") and asks.trace(tokens=TOKENS, values=["lm_head"])["lm_head"].size
    monkeypatch.setenv("SAMEBIT_TOKEN", "wrong-0123456789abcdef")
    with pytest.raises(samebit.SamebitError, match="not known"):
        asks.model()
    monkeypatch.delenv("SAMEBIT_TOKEN")
    (tmp_path / "mine").write_text("")
    with pytest.raises(samebit.SamebitError, match="no token"):
        asks.model()
    assert d.process.poll() is None


def test_isolate_and_diagnose(client, model):
    mine = Port(model, "f32", ["act_gelu"], [1]).run(TOKENS)
    found = client.isolate(mine, numerics="ideal", attention="eager")
    far = [n for n in mine if n not in ("tokens",) and "masked" not in n
           and numpy.linalg.norm(found[n] - mine[n]) > 1e-5 * numpy.linalg.norm(found[n])]
    assert far == ["model.layers.1.mlp.act_fn"]
    said = client.diagnose(mine, "--attention", "eager", program=SAMEBIT)["diagnosis"]
    assert [d["says"] for d in said] == ["the activation is GELU (erf); this model has SiLU"]
    with pytest.raises(samebit.SamebitError):
        client.diagnose({"x": numpy.zeros(3)}, program=SAMEBIT)


def test_taps(client, model):
    def port(tokens):
        values = Port(model, "f32").run(tokens)
        samebit.tap("layers.0.q", values["model.layers.0.self_attn.q_proj"])
        return samebit.tap("logits", values["lm_head"])

    assert samebit.tap("outside", 3) == 3
    mine = samebit.capture(port, TOKENS)
    assert set(mine) == {"layers.0.q", "logits", "tokens"} and mine["tokens"].tolist() == TOKENS
    assert client.diagnose(mine, program=SAMEBIT)["diagnosis"] == []


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_files(tmp_path, ending):
    values = {"a": numpy.arange(6, dtype=BF16).reshape(2, 3), "b.c": numpy.arange(3.0), "tokens": numpy.array([1, 2], numpy.int32),
              "f": numpy.asfortranarray(numpy.arange(6, dtype=numpy.float32).reshape(2, 3)), "big": numpy.arange(3, dtype=">f4")}
    path = str(tmp_path / ("x" + ending))
    samebit.save(path, values)
    back = samebit.load(path)
    assert back["a"].dtype == BF16
    samebit.assert_same_bits({n: v.astype(v.dtype.newbyteorder("=")) if v.dtype != BF16 else v for n, v in values.items()},
                             {n: v.astype(v.dtype.newbyteorder("=")) if v.dtype != BF16 else v for n, v in back.items()})
    other = str(tmp_path / "y.safetensors")
    done = subprocess.run([sys.executable, "-m", "samebit", "convert", path, other], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.path.join(ROOT, "client", "python")}, check=False)
    assert done.returncode == 0, done.stderr
    assert set(samebit.load(other)) == set(values)
    for bad in ("x.txt", "x"):
        with pytest.raises(ValueError):
            samebit.save(str(tmp_path / bad), values)


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch", reason="skip: no torch here")
    torch.save({"a": {"b": torch.ones(2, dtype=torch.bfloat16)}, "l": [torch.zeros(1)]}, tmp_path / "x.pt")
    back = samebit.load(str(tmp_path / "x.pt"))
    assert set(back) == {"a.b", "l.0"} and back["a.b"].dtype == BF16
    samebit.save(str(tmp_path / "y.pt"), back)
    samebit.assert_same_bits(samebit.load(str(tmp_path / "y.pt")), back)


def test_same_bits():
    a = numpy.array([0.0, 1.0, numpy.nan], numpy.float32)
    samebit.assert_same_bits(a, a.copy())
    samebit.assert_same_bits(a[:2].astype(BF16), a[:2])
    assert samebit.differing(a, -a) == 2 and samebit.differing(a, -a, nan_bits=True) == 3
    with pytest.raises(AssertionError, match=r"x: 1 of 3 elements differ, first at \[1\]"):
        samebit.assert_same_bits({"x": a}, {"x": a + numpy.array([0, 1, 0], numpy.float32)})
    with pytest.raises(AssertionError, match="shapes"):
        samebit.assert_same_bits(a, a[:2])
    with pytest.raises(AssertionError, match="only in one"):
        samebit.assert_same_bits({"x": a}, {"y": a})
