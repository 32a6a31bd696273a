"""A port with a planted mistake, as `samebit isolate` and `samebit diagnose` see it: each mistake that shows is named, and no healthy
run is accused.  The ports are tests/ports."""
import json
import os
import subprocess
import sys

import ml_dtypes
import numpy
import pytest
from client_tools import DIFFERENT, SAME, TROUBLE, samebit
from conftest import BINARY, ROOT, Daemon

sys.path.insert(0, os.path.join(ROOT, "tests", "ports"))
from faults import ALSO, CACHED, FAULTS, NEEDS, applies  # noqa: E402
from numpy_port import Port  # noqa: E402

TOKENS, FED = [72, 101, 300, 900, 5, 17, 44, 3], [7, 300]


def dump(path, values, dtype="f32", fault=None):
    """bf16 as ml_dtypes writes it, but a residual that is kept in float32."""
    types = {"bf16": ml_dtypes.bfloat16, "f16": numpy.float16}

    def narrow(name, a):
        wide = fault == "residual_f32" and (name.endswith("attn_residual") or name.count(".") == 2)
        return a if name == "tokens" or dtype not in types or wide else a.astype(types[dtype])
    numpy.savez(path, **{n: narrow(n, a) for n, a in values.items()})
    return path


def ask(command, path, url, *arguments, status=None):
    done = samebit(command, path, url, "--attention", "eager", "--json", *arguments, status=status)
    return json.loads(done.text) if done.text else done.said


@pytest.fixture(scope="module")
def healthy(model):
    return {dtype: Port(model, dtype).run(TOKENS, FED) for dtype in ("f32", "bf16")}


@pytest.fixture(scope="module")
def daemons(models, url):
    """Folder and address of other models, by name."""
    started = {}

    def of(name):
        folder = os.path.join(models, name)
        if name == "tiny-qwen2":
            return folder, url
        if name not in started:
            subprocess.run([sys.executable, os.path.join(ROOT, "tests/tiny/make_tiny.py"), models, name], check=True,
                           stdout=subprocess.DEVNULL)
            started[name] = Daemon(folder)
        return folder, f"http://{started[name].host}:{started[name].port}"
    yield of
    for d in started.values():
        d.stop()


def without_tables(values):
    """Few ports keep cos and sin."""
    return {n: a for n, a in values.items() if "rotary_emb" not in n}


def shows(values, healthy, dtype, end):
    """Whether the mistake is more than rounding where it is made (what it is made of is alike, or nearly)."""
    name = next(n for n in values if n.endswith(end) and "step_" not in n)
    a, b = values[name], healthy[name]
    if a.shape != b.shape:
        return True
    seen = numpy.abs(b) < 1e30
    if dtype == "bf16":
        return (a != b).mean() > 0.08
    far = numpy.linalg.norm((a - b)[seen].astype(float)) / numpy.linalg.norm(b[seen].astype(float))
    return far > 2e-6 or bool((a != b)[~seen].any())


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_named(daemons, healthy, tmp_path, fault, dtype):
    (end, words), need = FAULTS[fault], NEEDS.get(fault, {})
    folder, url = daemons(need.get("model", "tiny-qwen2"))
    port = Port(folder, dtype, [fault], [need.get("first", 0)])
    if dtype == "f16" and need.get("dtype") != "f16" or not applies(fault, port.facts(), dtype):
        return
    tokens = [(7 * i * i + 3 * i + 72) % 1000 for i in range(need["length"])] if "length" in need else TOKENS
    padding = need.get("padding", 0)
    values = port.run(tokens, FED if fault in CACHED or dtype == "f32" and "length" not in need else [], padding)
    if fault not in CACHED and not need and not shows(values, healthy[dtype], dtype, end):
        return  # bf16 cannot tell
    found = ask("diagnose", dump(tmp_path / "d.npz", values if "rotary" in end else without_tables(values), dtype, fault),
                url, *(["--padding", padding] if padding else []), status=DIFFERENT)
    named = [(d["value"], d.get("says")) for d in found["diagnosis"]]
    assert any(end in value and says and words in says for value, says in named), named
    other = {says for _, says in named if says and not any(w in says for w in (words, *ALSO.get(fault, ())))}
    assert not other, other  # and nothing else is


def test_faults_show(model, healthy):
    """The list is not empty talk: most mistakes are more than rounding in this checkpoint."""
    for dtype, least in (("f32", 48), ("bf16", 38)):
        seen = [f for f, (end, _) in FAULTS.items() if f in CACHED or f in NEEDS
                or shows(Port(model, dtype, [f], [0]).run(TOKENS), healthy[dtype], dtype, end)]
        assert len(seen) >= least, (dtype, len(seen), set(FAULTS) - set(seen))


@pytest.mark.parametrize("kept", ["scores context o_proj", "o_proj", "layers.0", ""])
@pytest.mark.parametrize("fault", ["kv_tiled", "kv_swapped", "gate_up_swapped"])
def test_a_mistake_made_in_several_steps_is_named_from_a_dump_that_has_none_of_them(model, url, tmp_path, fault, kept):
    """Whatever of the two the dump has: the step in between, the attention's end, or the layer's."""
    values = Port(model, "f32", [fault], [1]).run(TOKENS)
    ends = ("tokens", "embed_tokens", "layers.0", "layers.1", *kept.split())
    path = dump(tmp_path / "d.npz", {n: a for n, a in values.items() if n.endswith(ends)})
    for attention in ("eager", "sdpa") if "scores" not in kept else ("eager",):
        text = samebit("diagnose", path, url, "--attention", attention, status=DIFFERENT).text
        assert FAULTS[fault][1] in text and "unknown" not in text and "layer 1" in text, (attention, text)


@pytest.mark.parametrize("pair", [("rope_pairs", "act_gelu"), ("norm_eps_outside", "scale_twice"), ("kv_tiled", "o_proj_int8"),
                                  ("theta", "residual_missing"), ("bias_missing", "softmax_bf16"), ("mask_off_by_one", "up_proj_f16")])
def test_pairs(model, url, tmp_path, pair):
    values = Port(model, "f32", pair, [1]).run(TOKENS)
    found = ask("diagnose", dump(tmp_path / "d.npz", without_tables(values)), url, status=DIFFERENT)
    says = [d.get("says") or "" for d in found["diagnosis"]]
    assert all(any(FAULTS[f][1] in s for s in says) for f in pair), says


@pytest.mark.parametrize("numerics", ["torch-cpu/avx512_bf16", "torch-cpu/avx2"])
@pytest.mark.parametrize("fields", [{}, {"attention": "sdpa"}, {"steps": 2}, {"padding": 3}, {"batch": 4}, {"chunks": [5, 3]}])
def test_pytorchs_bits_are_not_accused(models, url, tmp_path, numerics, fields):
    d = Daemon(os.path.join(models, "tiny-qwen2"), None, ("--numerics", numerics))
    reply = d.trace(["*"], accept=BINARY, tokens=TOKENS, **{"attention": "eager"} | fields)
    d.stop()
    (tmp_path / "d.safetensors").write_bytes(reply.body)
    done = samebit("diagnose", tmp_path / "d.safetensors", url, status=SAME)
    assert "no mistake" in done.text, done.text


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64"])
def test_a_healthy_port_is_not_accused(model, url, tmp_path, dtype):
    for fed in ([], FED):
        values = Port(model, dtype).run(TOKENS, fed)
        for kept in (values, without_tables(values), {n: a for n, a in values.items() if n.count(".") < 4},
                     {n: a for n, a in values.items() if "proj" in n or n == "tokens"}):
            path = dump(tmp_path / "d.npz", kept, dtype)
            found = ask("diagnose", path, url, status=SAME)
            assert found["diagnosis"] == [] and {v["verdict"] for v in found["values"]} <= {"equal", "rounding"}, (dtype, len(kept))


def test_a_sparse_dump_names_the_layer_and_often_the_step(model, url, tmp_path):
    values = Port(model, "f32", ["act_gelu"], [1]).run(TOKENS)
    values = {n: a for n, a in values.items() if n in ("tokens", "model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head")}
    path = dump(tmp_path / "d.npz", values)
    done = samebit("isolate", path, url, status=DIFFERENT)
    assert "model.layers.1 *" in done.text and "1 beyond rounding" in done.text and "computed forward" in done.text
    assert "layer 1 mlp.act_fn: the activation is GELU (erf)" in samebit("diagnose", path, url, status=DIFFERENT).text
    values = Port(model, "f32", ["rope_pairs"], [1]).run(TOKENS)
    kept = ("layernorm", "v_proj", "weights", "o_proj", "layers.0", "embed_tokens", "tokens")
    path = dump(tmp_path / "d.npz", {n: a for n, a in values.items() if n.endswith(kept)})
    assert "layer 1 self_attn.q_rope: the port rotates interleaved pairs" in samebit("diagnose", path, url, status=DIFFERENT).text


def test_too_few_values_to_name_a_step(model, url, tmp_path):
    """Nothing is tried where the mistake may be in any layer: the port that it would explain says so too."""
    values = Port(model, "f32", ["act_gelu"], [1]).run(TOKENS)
    path = dump(tmp_path / "d.npz", {n: values[n] for n in ("tokens", "lm_head")})
    found = ask("diagnose", path, url, status=DIFFERENT)["diagnosis"]
    assert [(d["value"], d["hypothesis"], d["nearest"]) for d in found] == [("lm_head", None, [])]
    text = samebit("diagnose", path, url, status=DIFFERENT).text
    assert "the dump holds only lm_head; dump layer outputs to name a step" in text
    path = dump(tmp_path / "d.npz", {n: values[n] for n in ("tokens", "model.embed_tokens", "lm_head")})
    text = samebit("diagnose", path, url, status=DIFFERENT).text
    assert "steps before it; dump layer outputs" in text


def test_an_unknown_mistake_is_called_unknown(model, url, tmp_path):
    values = Port(model, "f32").run(TOKENS)
    values["model.layers.1.mlp.act_fn"] = numpy.sin(values["model.layers.1.mlp.act_fn"] * 3).astype(numpy.float32)
    done = samebit("diagnose", dump(tmp_path / "d.npz", values), url, status=DIFFERENT)
    assert "layer 1 mlp.act_fn: unknown mistake" in done.text and "nearest: " in done.text
    values["model.layers.1.mlp.act_fn"] = Port(model, "f32").run(TOKENS)["model.layers.1.mlp.act_fn"] * numpy.float32(1.5)
    done = samebit("diagnose", dump(tmp_path / "d.npz", values), url, status=DIFFERENT)
    assert "layer 1 mlp.act_fn: the port's value is 1.5 times what it should be" in done.text
    values["model.layers.1.mlp.act_fn"][0, 0] = numpy.nan
    samebit("diagnose", dump(tmp_path / "d.npz", values), url, status=DIFFERENT)


def test_ones_own_hypotheses(model, url, tmp_path):
    values = Port(model, "f32").run(TOKENS)
    name = "model.layers.1.mlp.act_fn"
    values[name] = numpy.sin(values["model.layers.1.mlp.gate_proj"].astype(numpy.float64)).astype(numpy.float32)
    path, own = dump(tmp_path / "d.npz", values), tmp_path / "own.json"
    own.write_text(json.dumps([{"name": "sine", "op": "silu", "says": "the activation is a sine", "formula": "sin(x)"}]))
    assert "layer 1 mlp.act_fn: the activation is a sine" in samebit("diagnose", path, url, "--hypotheses", own, status=DIFFERENT).text
    own.write_text("{}")
    assert str(own) in samebit("diagnose", path, url, "--hypotheses", own, status=TROUBLE).said


def test_the_hypotheses(daemon):
    rows = daemon.get("/v1/hypotheses").json["hypotheses"]
    assert len(rows) > 100 and len({r["name"] for r in rows}) == len(rows)
    assert all(set(r) <= {"name", "op", "rows", "values", "says", "formula", "loose", "with", "wide"} for r in rows)


@pytest.mark.parametrize("arguments", [(), ("d.npz",), ("http://127.0.0.1:9", "http://127.0.0.1:9"), ("a.npz", "b.npz")])
def test_what_is_asked_for(arguments):
    assert "a dump and the address" in samebit("isolate", *arguments, status=TROUBLE).said


def test_decode_steps_need_their_tokens(model, url, tmp_path):
    values = Port(model, "f32").run(TOKENS, FED)
    del values["tokens"]
    path = dump(tmp_path / "d.npz", values)
    assert "tokens that they were fed" in samebit("isolate", path, url, "--tokens", str(TOKENS), "--steps", "2", status=TROUBLE).said
