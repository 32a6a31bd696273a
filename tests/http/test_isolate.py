"""Numerics `ideal` and POST /v1/isolate: each step computed alone, on the values of another program."""
import json
import os
import struct
import sys

import ml_dtypes
import numpy
import pytest
from client_tools import widen
from conftest import BINARY, ROOT, Daemon, Reply

sys.path.insert(0, os.path.join(ROOT, "tests", "ports"))
from numpy_port import Port  # noqa: E402

TOKENS = [72, 101, 300, 900, 5, 17]
TYPES = {"float32": "F32", "float64": "F64", "uint16": "BF16"}


def arrays(reply):
    """f32 of BF16; F64 as it is."""
    assert reply.status == 200, reply.body
    size = int.from_bytes(reply.body[:8], "little")
    header = json.loads(reply.body[8:8 + size])
    meta = header.pop("__metadata__")
    types = {"BF16": numpy.uint16, "F64": numpy.float64, "I64": numpy.int64}
    out = {}
    for name, e in header.items():
        begin, end = (8 + size + x for x in e["data_offsets"])
        array = numpy.frombuffer(reply.body[begin:end], types[e["dtype"]]).reshape(e["shape"])
        out[name] = widen(array) if e["dtype"] == "BF16" else array
    return out, meta


def isolate(daemon, given, values=("*",), **fields):
    header, data = {}, b""
    for name, array in given.items():
        raw = numpy.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": TYPES[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    fields.setdefault("tokens", TOKENS)
    fields.setdefault("attention", "eager")
    header["__metadata__"] = {"request": json.dumps({"values": list(values), **fields})}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return daemon.post("/v1/isolate", struct.pack("<Q", len(text)) + text + data, Content_Type=BINARY, Accept=BINARY)


def trace(daemon, **fields):
    values, meta = arrays(daemon.trace(["*"], accept=BINARY, **({"tokens": TOKENS, "attention": "eager"} | fields)))
    return {n: v for n, v in values.items() if n != "tokens"}, meta


def distance(a, b):
    seen = numpy.abs(b) < 1e30
    return numpy.linalg.norm((a - b)[seen]) / numpy.linalg.norm(b[seen])


@pytest.fixture(scope="module", params=["tiny-qwen2", "tiny-qwen3", "tiny-llama", "tiny-qwen2-sliding"])
def any_model(request, models):
    folder = os.path.join(models, request.param)
    if not os.path.isdir(folder):
        pytest.skip(f"skip: no {request.param} here")
    d = Daemon(folder)
    yield d, folder
    d.stop()


def test_ideal_is_what_numpy_gives_in_binary64(any_model):
    daemon, folder = any_model
    if "sliding" in folder:
        pytest.skip("skip: the port has no window")
    ideal, meta = trace(daemon, numerics="ideal", tokens=TOKENS, steps=2)
    assert meta["numerics"] == "ideal"
    fed = arrays(daemon.trace([], accept=BINARY, tokens=TOKENS, steps=2, numerics="ideal"))[0]["tokens"][len(TOKENS):]
    port = Port(folder, "f64").run(TOKENS, fed)
    assert set(port) == set(ideal) | {"tokens"}
    far = {n: distance(port[n], ideal[n]) for n in ideal}
    assert max(far.values()) < 1e-6, far  # angles are products in binary32 there
    sdpa, _ = trace(daemon, numerics="ideal", attention="sdpa", tokens=TOKENS)
    assert distance(sdpa["lm_head"], ideal["lm_head"]) < 1e-14


def test_pytorchs_own_values_are_no_fault(any_model):
    daemon, _ = any_model
    for fields in ({}, {"attention": "sdpa"}, {"padding": 2}, {"chunks": [3, 1, 2]}, {"batch": 3}):
        given, _ = trace(daemon, **fields)
        bits = {n: (v.view(numpy.uint32) >> 16).astype(numpy.uint16) for n, v in given.items()}
        found, meta = arrays(isolate(daemon, bits, **fields))
        assert meta["numerics"] == "torch-cpu/avx512_bf16"
        assert all((found[n].view(numpy.uint32) == given[n].view(numpy.uint32)).all() for n in given), fields
        ideal, _ = arrays(isolate(daemon, given, numerics="ideal", **fields))
        assert max(distance(given[n], ideal[n]) for n in given if "masked" not in n) < 0.004, fields


@pytest.mark.parametrize("name", ["tiny-qwen3-yarn", "tiny-llama-dynamic", "tiny-llama-longrope"])
def test_scaled_ropes_are_no_fault(models, name):
    """Beyond the length from which their frequencies are others, and with a factor on cos and sin."""
    folder = os.path.join(models, name)
    if not os.path.isdir(folder):
        pytest.skip(f"skip: no {name} here")
    d = Daemon(folder)
    given, _ = trace(d, tokens=TOKENS * 3)
    ideal, _ = trace(d, tokens=TOKENS * 3, numerics="ideal")
    assert max(distance(given[n], ideal[n]) for n in given if "rotary" in n) < 0.004
    found, _ = arrays(isolate(d, given, tokens=TOKENS * 3, numerics="ideal"))
    assert max(distance(given[n], found[n]) for n in given if "masked" not in n) < 0.004
    text = "cos(angles(positions, inv_freq))"  # but for yarn's and longrope's factor
    again, _ = arrays(isolate(d, {}, ["model.rotary_emb.cos"], tokens=TOKENS * 3, numerics="ideal",
                              formulas={"model.rotary_emb.cos": text}))
    part = ideal["model.rotary_emb.cos"] / again["model.rotary_emb.cos"]
    assert numpy.abs(part / part[0, 0] - 1).max() < 1e-4
    d.stop()


def test_decode_steps_are_fed_what_they_were(any_model):
    daemon, folder = any_model
    if "sliding" in folder:
        pytest.skip("skip: the port has no window")
    given = Port(folder, "f32").run(TOKENS, [7, 300, 2])
    tokens = given.pop("tokens").tolist()
    found, _ = arrays(isolate(daemon, given, numerics="ideal", tokens=tokens, steps=3))
    assert found.pop("tokens").tolist() == tokens and set(found) == set(given)
    assert max(distance(given[n], found[n]) for n in given) < 1e-6


def test_only_the_faulty_step_differs(any_model):
    daemon, folder = any_model
    given = Port(folder, "f32", ["rope_pairs"], [1]).run(TOKENS)
    del given["tokens"]
    if "sliding" in folder:
        return
    found, _ = arrays(isolate(daemon, given, numerics="ideal"))
    far = {n: distance(given[n], found[n]) for n in given}
    assert {n for n in far if far[n] > 1e-6} == {f"model.layers.1.self_attn.{x}_rope" for x in "qk"}, far
    # what the dump lacks is computed forward from what it has
    sparse = {n: given[n] for n in given if n.startswith("model.layers.") and n.count(".") == 2}
    found, _ = arrays(isolate(daemon, sparse, list(sparse), numerics="ideal"))
    far = {n: distance(sparse[n], found[n]) for n in sparse}
    assert {n for n in far if far[n] > 1e-6} == {"model.layers.1"}, far


def test_f64_is_taken_unrounded(daemon, model):
    given = Port(model, "f64").run(TOKENS)
    del given["tokens"]
    found, _ = arrays(isolate(daemon, given, numerics="ideal"))
    assert all(found[n].dtype == numpy.float64 for n in given)
    assert max(distance(given[n], found[n]) for n in given if "rotary" not in n) < 1e-14


def test_formulas(daemon, model):
    given = Port(model, "f64").run(TOKENS)
    del given["tokens"]
    same = {
        "model.layers.0.input_layernorm": "w * (x * rsqrt(mean(x * x) + eps))",
        "model.layers.0.self_attn.q_proj": "linear(x, w) + b",
        "model.layers.1.self_attn.k_rope": "heads(x, G) * y + halves(heads(x, G)) * z",
        "model.layers.1.self_attn.scores": "matmul(x, transpose(repeat(y, H / G)))",
        "model.layers.1.self_attn.weights": "softmax(model.layers.1.self_attn.masked)",
        "model.layers.1.self_attn.masked": "windowed(masked(x, 0, 0 - 3.3895313892515355e38), T, 0)",
        "model.layers.1.self_attn.context": "flat(matmul(x, repeat(y, H / G)))",
        "model.layers.0.mlp.act_fn": "x * sigmoid(x)",
        "model.layers.1": "attn_residual + mlp.down_proj",
        "model.layers.0.mlp.up_proj": "linear(x, mlp.up_proj.weight)",
        "model.norm": "w * x / sqrt(square(x) * 0 + mean(x * x) + eps)",
        "lm_head": "linear(x, w)",
    }
    plain, _ = arrays(isolate(daemon, given, list(same), numerics="ideal"))
    found, _ = arrays(isolate(daemon, given, list(same), numerics="ideal", formulas=same))
    for name in same:
        assert distance(found[name], plain[name]) < 1e-14, name
    other = {"model.layers.0.mlp.act_fn": "bf16(x)", "model.layers.0.mlp.product": "f16(x) + 0",
             "model.layers.0.mlp.gate_proj": "linear(tf32(x), tf32(w))",
             "model.layers.0.self_attn.masked": "windowed(masked(x * 0, 0 - 1, 1), 3, 2)"}
    found, _ = arrays(isolate(daemon, given, list(other), numerics="ideal", formulas=other))
    x = given["model.layers.0.mlp.gate_proj"]
    assert (found["model.layers.0.mlp.act_fn"] == x.astype(ml_dtypes.bfloat16).astype(float)).all()
    apart = numpy.arange(len(TOKENS))[:, None] - numpy.arange(len(TOKENS))  # of a query and a key
    assert (found["model.layers.0.self_attn.masked"] == numpy.where(apart >= 3, 2, numpy.where(apart < 1, 1, 0))).all()
    x = given["model.layers.0.mlp.act_fn"]
    assert (found["model.layers.0.mlp.product"] == x.astype(numpy.float16).astype(float)).all()


@pytest.mark.parametrize("text, said", [
    ("", "expected"), ("x +", "expected"), ("(x", "')'"), ("x)", "the end"), ("nothing", "no value"), ("sqrt(x, x)", "')'"),
    ("sqrt", "no value"), ("foo(x)", "no such function"), ("linear(x, x) ", "gives"), ("mean(x)", "gives"), ("x y", "the end"),
    ("matmul(x, x)", "product"), ("1", "gives"), ("(" * 40 + "x" + ")" * 40, "too deep"), ("x" * 1200, "too long"),
    ("x" * 200, "name"), ("heads(x, 7)", "gives"), ("flat(x)", "three axes"), ("heads(T, 1)", "axes"), ("next.mlp.up_proj.weight + x", "fit"), ("1e999 * x * T %", "the end"),
    ("-" * 3000 + "x", "too long"), ("repeat(x, 1e300)", "how often"), ("shift(x, 1e300)", "how far"), ("shift(x, 0 / 0)", "how far"), ("masked(1, 1, 1)", "expected"), ("softmax(T)", "row"), ("mlp.gate_proj", "no value"),
])
def test_bad_formulas(daemon, model, text, said):
    given = {"model.embed_tokens": Port(model, "f32").run(TOKENS)["model.embed_tokens"]}
    name = "model.layers.0.input_layernorm"
    reply = isolate(daemon, given, [name], numerics="ideal", formulas={name: text})
    assert reply.error[:2] == (400, "formulas." + name) and said in reply.error[2], reply.body
    assert daemon.alive()


@pytest.mark.parametrize("text", ["frequencies(1, 4611686018427387904)", "repeat(x, 1152921504606846976)", "repeat(x, 1e15)",
                                  "mean(repeat(x, 4611686018427387904))", "x + repeat(transpose(x), 4000000)"])
def test_formulas_without_bound_are_refused(start, model, text):
    name = "model.layers.0.input_layernorm"
    d = start({"memory_bytes": 1 << 28})
    reply = isolate(d, {}, [name], numerics="ideal", formulas={name: text})
    assert reply.status == 400 and reply.error[2].startswith(name), reply.body
    assert d.alive()


def test_the_tokens_of_steps_are_among_those_given(daemon):
    for steps in (len(TOKENS), len(TOKENS) + 1, 3000):
        reply = isolate(daemon, {}, ["model.layers.0.input_layernorm"], steps=steps)
        assert reply.error[:2] == (400, "steps"), reply.body


def test_bad_requests(daemon):
    name = "model.layers.0.input_layernorm"
    for fields, param in (({"formulas": {name: "x"}}, "formulas." + name), ({"formulas": []}, "formulas"),
                          ({"formulas": {"zzz": "x"}, "numerics": "ideal"}, "formulas.zzz"), ({"formulas": {name: 1}}, "formulas"),
                          ({"numerics": "real"}, "numerics"), ({"steps": len(TOKENS)}, None), ({"positions": [0]}, "positions")):
        reply = isolate(daemon, {}, [name], **fields)
        assert reply.status == 400, fields
        assert param is None or reply.error[1] == param, reply.body
    reply = isolate(daemon, {name: numpy.zeros((2, 2), numpy.float32)}, [name])
    assert reply.error[1] == "replace." + name
    assert isinstance(reply, Reply) and daemon.alive()
