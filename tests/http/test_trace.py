"""POST /v1/trace: what comes out, in which form, and what replacing does."""
import hashlib
import json
import struct

import numpy
import pytest
import safetensors.numpy
from conftest import BINARY, JSON, TOKENS

L0 = "model.layers.0."


def bits(values):
    """bf16 bits of nested lists of numbers, "NaN", "Infinity", "-Infinity"."""
    if isinstance(values, list):
        return numpy.array([bits(v) for v in values], dtype=numpy.uint16)
    f = struct.unpack("<I", struct.pack("<f", float(values)))[0]
    assert f & 0xFFFF == 0 or f != f, f"{values} is no bf16"
    return numpy.uint16(f >> 16)


def names_in_order(daemon, attention="sdpa"):
    return [v["name"] for v in daemon.get(f"/v1/values?attention={attention}").json["values"]]


def safetensors_body(request, tensors):
    """Written by hand, so that the metadata is ours and bf16 needs no package."""
    header, data = {"__metadata__": {"request": json.dumps(request)}}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_binary_opens_with_the_safetensors_package(daemon):
    reply = daemon.trace(["*"], BINARY, steps=2, attention="eager")
    assert reply.headers["Content-Type"] == BINARY
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    tensors = reply.tensors
    names = names_in_order(daemon, "eager")
    for prefix in ("", "step_1/", "step_2/"):
        assert all(prefix + name in tensors for name in names)
    assert len(tensors) == 3 * len(names) + 1
    assert tensors["tokens"].dtype == numpy.int64 and tensors["tokens"].tolist()[:8] == TOKENS
    assert tensors["lm_head"].shape == (8, 1024) and tensors["step_2/lm_head"].shape == (1, 1024)
    assert tensors[L0 + "self_attn.weights"].shape == (4, 8, 8)
    assert tensors["step_2/" + L0 + "self_attn.weights"].shape == (4, 1, 10)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_binary_is_in_execution_order_without_holes(daemon, attention):
    body = daemon.trace(["*"], BINARY, steps=1, attention=attention).body
    size = int.from_bytes(body[:8], "little")
    header = json.loads(body[8:8 + size])
    header.pop("__metadata__")
    names, at = names_in_order(daemon, attention), 0
    assert list(header) == names + ["step_1/" + name for name in names] + ["tokens"]
    for entry in header.values():
        assert entry["data_offsets"][0] == at
        at = entry["data_offsets"][1]
    assert 8 + size + at == len(body) and size % 8 == 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_json_has_the_bits_of_binary(daemon, attention):
    for positions in ("all", "last", [1, 4]):
        fields = {"steps": 2, "positions": positions, "attention": attention}
        tensors = daemon.trace(["*"], BINARY, **fields).tensors
        reply = daemon.trace(["*"], JSON, **fields)
        assert reply.headers["Content-Type"] == JSON
        found = reply.json
        assert list(found["values"]) == [name for name in tensors if name != "tokens"] or \
            set(found["values"]) == set(tensors) - {"tokens"}
        for name, value in found["values"].items():
            assert value["dtype"] == "BF16" and tuple(value["shape"]) == tensors[name].shape, name
            assert numpy.array_equal(bits(value["data"]), tensors[name]), name
        assert found["tokens"] == tensors["tokens"].tolist()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_digest_is_the_sha256_of_the_binary_bytes(daemon, attention):
    tensors = daemon.trace(["*"], BINARY, steps=1, attention=attention).tensors
    found = daemon.trace(["*"], JSON, steps=1, attention=attention, format="digest").json
    assert set(found["values"]) == set(tensors) - {"tokens"}
    for name, value in found["values"].items():
        assert value == {"dtype": "BF16", "shape": list(tensors[name].shape),
                         "sha256": hashlib.sha256(tensors[name].tobytes()).hexdigest()}


def test_every_reply_states_what_made_it(daemon):
    model = daemon.get("/v1/model").json
    keys = ["model", "family", "weights", "numerics", "attention", "device", "isa", "threads", "host", "version"]
    assert model["model"] == "tiny-qwen2" and model["attention"] == "sdpa" and len(model["weights"]) == 64
    assert model["numerics"] == "torch-cpu/avx512_bf16"
    metadata = daemon.trace(["logits"], BINARY).metadata
    replies = [daemon.trace(["logits"]).json, daemon.trace(["logits"], format="digest").json,
               daemon.post("/v1/logits", {"tokens": TOKENS}).json,
               daemon.post("/v1/generate", {"tokens": TOKENS}).json,
               daemon.post("/v1/tokenize", {"text": "a"}).json,
               daemon.post("/v1/detokenize", {"tokens": [1]}).json, daemon.get("/v1/values").json]
    for key in keys:
        assert metadata[key] == str(model[key])
        assert all(reply[key] == model[key] for reply in replies), key


def test_aliases_are_listed(daemon):
    asked = ["layer_0.attn_output", "attn_output", "logits", L0 + "mlp.down_proj", "layer_1_final"]
    want = {"layer_0.attn_output": [L0 + "self_attn.o_proj"], "attn_output": [L0 + "self_attn.o_proj"],
            "logits": ["lm_head"], "layer_1_final": ["model.layers.1"]}
    reply = daemon.trace(asked)
    assert reply.json["aliases"] == want
    assert json.loads(daemon.trace(asked, BINARY).metadata["aliases"]) == want
    assert sorted(reply.json["values"]) == sorted([L0 + "self_attn.o_proj", L0 + "mlp.down_proj", "lm_head",
                                                   "model.layers.1"])


def test_globs_and_steps(daemon):
    assert set(daemon.trace(["model.layers.*.mlp.down_proj"], steps=1).json["values"]) == {
        prefix + f"model.layers.{i}.mlp.down_proj" for prefix in ("", "step_1/") for i in (0, 1)}
    assert set(daemon.trace(["step_2/logits"], steps=3).json["values"]) == {"step_2/lm_head"}
    assert set(daemon.trace(["step_[13]/logits"], steps=3).json["values"]) == {"step_1/lm_head",
                                                                              "step_3/lm_head"}
    assert daemon.trace([], steps=2).json["values"] == {}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_positions_are_rows_of_all(daemon, attention):
    whole = daemon.trace(["*"], BINARY, attention=attention).tensors
    last = daemon.trace(["*"], BINARY, attention=attention, positions="last").tensors
    some = daemon.trace(["*"], BINARY, attention=attention, positions=[0, 3, 7]).tensors
    for value in daemon.get(f"/v1/values?attention={attention}").json["values"]:
        name = value["name"]
        if "T" in value["shape"]:
            axis = value["shape"].index("T")
        else:
            assert "L" in value["shape_text"], value
            axis = 1
        assert numpy.array_equal(last[name], whole[name].take([7], axis)), name
        assert numpy.array_equal(some[name], whole[name].take([0, 3, 7], axis)), name


def test_steps_feed_the_greedy_token(daemon):
    tensors = daemon.trace(["logits"], BINARY, steps=3).tensors

    def best(name):
        scores = (tensors[name][-1].astype(numpy.uint32) << 16).view(numpy.float32)
        return int(numpy.argmax(scores))

    assert tensors["tokens"].tolist() == TOKENS + [best("lm_head"), best("step_1/lm_head"), best("step_2/lm_head")]


def test_the_whole_prompt_equals_its_steps(daemon):
    """A cached step's row is the row that the prefill of the longer prompt has, where no product's order
    depends on the number of rows: the embedding."""
    tensors = daemon.trace(["model.embed_tokens"], BINARY, steps=2).tensors
    longer = daemon.trace(["model.embed_tokens"], BINARY, tokens=tensors["tokens"].tolist()).tensors
    assert numpy.array_equal(longer["model.embed_tokens"][8:9], tensors["step_1/model.embed_tokens"])


def test_prompt_text_is_tokenized(daemon):
    text = "Hello, world! Caf\u00e9 \U0001f600"
    ids = daemon.post("/v1/tokenize", {"text": text}).json["tokens"]
    by_text = daemon.post("/v1/trace", {"prompt": text, "values": ["*"], "format": "digest"}).json
    assert by_text["prompt_tokens"] == ids
    assert by_text["values"] == daemon.trace(["*"], tokens=ids, format="digest").json["values"]


# ---- forms and Accept ----

@pytest.mark.parametrize("accept, form, status, kind", [
    (None, None, 200, JSON), ("*/*", None, 200, JSON), ("application/*", None, 200, JSON),
    (JSON, None, 200, JSON), (BINARY, None, 200, BINARY),
    ("application/vnd.safetensors", None, 200, "application/vnd.safetensors"),
    ("application/x-safetensors", "binary", 200, "application/x-safetensors"),
    ("application/json;q=0.2, application/octet-stream;q=0.9", None, 200, BINARY),
    ("application/json;q=0.9, application/octet-stream;q=0.2", None, 200, JSON),
    ("application/octet-stream;q=0, */*", None, 200, JSON),
    ("text/html, application/*;q=0.1", "binary", 200, BINARY),
    (None, "binary", 200, BINARY), (None, "json", 200, JSON), (None, "digest", 200, JSON),
    ("text/html", None, 406, "Accept"), ("application/json;q=0", None, 406, "Accept"),
    (BINARY, "json", 400, "format"), (JSON, "binary", 400, "format"), (BINARY, "digest", 400, "format"),
    ("text/html", "json", 400, "format"), (None, "xml", 400, "format"),
    ("nonsense", None, 400, "Accept"), ("application/json;q=2", None, 400, "Accept"),
])
def test_forms(daemon, accept, form, status, kind):
    body = {"tokens": TOKENS, "values": ["logits"]} | ({"format": form} if form else {})
    reply = daemon.request("POST", "/v1/trace", body, {"Accept": accept} if accept else {})
    assert reply.status == status, reply.body
    if status == 200:
        assert reply.headers["Content-Type"] == kind
        assert reply.json if kind == JSON else reply.tensors
    else:
        assert reply.error[1] == kind


# ---- replacing ----

def changed_names(daemon, before, after):
    return {name for name in names_in_order(daemon) if not numpy.array_equal(before[name], after[name])}


@pytest.mark.parametrize("name", ["model.layers.0.mlp.down_proj", "layer_1.normalized_input",
                                  "model.embed_tokens", "lm_head"])
def test_a_replaced_value_changes_what_follows_and_nothing_before(daemon, name):
    before = daemon.trace(["*"], BINARY).tensors
    path = next(v["name"] for v in daemon.get("/v1/values").json["values"]
                if name in [v["name"], *v["aliases"]])
    values = numpy.arange(before[path].size, dtype=numpy.float64).reshape(before[path].shape) % 7 - 3
    after = daemon.trace(["*"], BINARY, replace={name: values.tolist()}).tensors
    order = names_in_order(daemon)
    assert numpy.array_equal(after[path], bits(values.tolist()))
    changed = changed_names(daemon, before, after)
    assert changed and changed <= set(order[order.index(path):])
    if path != order[-1]:
        assert order[-1] in changed


def test_replacing_with_the_same_bits_changes_nothing(daemon):
    before = daemon.trace(["*"], steps=1).json
    same = {name: before["values"][name]["data"] for name in
            [L0 + "self_attn.q_rope", "model.layers.1.mlp.act_fn", "step_1/" + L0 + "self_attn.o_proj"]}
    assert daemon.trace(["*"], steps=1, replace=same).json["values"] == before["values"]


def test_a_step_can_be_replaced(daemon):
    name = "step_2/model.layers.0.mlp.down_proj"
    before = daemon.trace(["*"], BINARY, steps=3).tensors
    after = daemon.trace(["*"], BINARY, steps=3, replace={name: [[1.5] * 64]}).tensors
    assert (after[name] == bits(1.5)).all()
    for key in before:
        if not key.startswith(("step_2/", "step_3/", "tokens")):
            assert numpy.array_equal(before[key], after[key]), key
    assert not numpy.array_equal(before["step_2/lm_head"], after["step_2/lm_head"])


def test_numbers_are_rounded_once(daemon):
    """Halfway between two bf16, and a hair beside it, which an f32 between would lose."""
    cases = {1.00390625: 0x3F80, 1.01171875: 0x3F82, 1.00390625 + 2**-40: 0x3F81, 1.00390625 - 2**-40: 0x3F80,
             -1.00390625 - 2**-40: 0xBF81, 1e39: 0x7F80, -1e39: 0xFF80, 1e-50: 0, -0.0: 0x8000, 3: 0x4040,
             9.183549615799121e-41: 0x0001, 16842752: 0x4B80, 72340172838076673: 0x5B81,
             "NaN": 0x7FC0, "Infinity": 0x7F80, "-Infinity": 0xFF80}
    row = list(cases) + [0] * (64 - len(cases))
    after = daemon.trace([L0 + "input_layernorm"], BINARY, tokens=[5],
                         replace={L0 + "input_layernorm": [row]}).tensors[L0 + "input_layernorm"]
    assert [hex(b) for b in after[0, :len(cases)].tolist()] == [hex(b) for b in cases.values()]
    text = daemon.trace([L0 + "input_layernorm"], tokens=[5], replace={L0 + "input_layernorm": [row]}).json
    data = text["values"][L0 + "input_layernorm"]["data"][0]
    assert data[13:16] == ["NaN", "Infinity", "-Infinity"] and str(data[8]) == "-0.0"
    assert numpy.array_equal(bits([data]), after)


def test_every_bf16_survives_json(daemon):
    """All 65536, NaN's payload aside."""
    name, out = "model.layers.0.mlp.act_fn", []
    every = numpy.arange(65536, dtype=numpy.uint16)
    for part in every.reshape(-1, 8, 176) if 65536 % (8 * 176) == 0 else numpy.pad(
            every, (0, -65536 % (8 * 176))).reshape(-1, 8, 176):
        request = {"tokens": TOKENS, "values": [name]}
        body = safetensors_body(request, {name: ("BF16", [8, 176], part.tobytes())})
        reply = daemon.post("/v1/trace", body, Content_Type=BINARY)
        assert reply.status == 200, reply.body
        out.append(bits(reply.json["values"][name]["data"]).ravel())
    out = numpy.concatenate(out)[:65536]
    nan = (every & 0x7FFF) > 0x7F80
    assert numpy.array_equal(out[~nan], every[~nan])
    assert (((out[nan] & 0x7FFF) > 0x7F80)).all()


def test_a_safetensors_body(daemon):
    name = "model.layers.0.mlp.down_proj"
    values = (numpy.arange(8 * 64, dtype=numpy.float32).reshape(8, 64) - 256) / 64
    request = {"tokens": TOKENS, "values": ["*"], "format": "digest"}
    want = daemon.post("/v1/trace", request | {"replace": {name: values.tolist()}}).json["values"]
    raw16 = (values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
    for dtype, raw in (("F32", values.tobytes()), ("BF16", raw16), ("F16", values.astype(numpy.float16).tobytes())):
        reply = daemon.post("/v1/trace", safetensors_body(request, {name: (dtype, [8, 64], raw)}),
                            Content_Type="application/vnd.safetensors")
        assert reply.status == 200, reply.body
        assert reply.json["values"] == want, dtype
    mixed = request | {"replace": {"model.layers.1.mlp.down_proj": [[0.5] * 64] * 8}}
    both = daemon.post("/v1/trace", safetensors_body(mixed, {name: ("F32", [8, 64], values.tobytes())}),
                       Content_Type=BINARY).json["values"]
    assert both["model.layers.0"] == want["model.layers.0"] and both["lm_head"] != want["lm_head"]


def test_the_safetensors_package_can_write_a_request(daemon):
    name = "model.layers.0.mlp.down_proj"
    body = safetensors.numpy.save({name: numpy.ones((8, 64), numpy.float32)},
                                  metadata={"request": json.dumps({"tokens": TOKENS, "values": [name]})})
    found = daemon.post("/v1/trace", body, Content_Type=BINARY).json["values"][name]["data"]
    assert found == [[1.0] * 64] * 8


def F32(*shape):
    return ("F32", list(shape), b"\0" * 4 * int(numpy.prod(shape)))


GOOD = {"tokens": TOKENS, "values": ["logits"]}


@pytest.mark.parametrize("body, param", [
    (safetensors_body(GOOD | {"replace": {"lm_head": [[0]]}}, {"lm_head": F32(8, 1024)}), "lm_head"),
    (safetensors_body(GOOD, {"lm_head": F32(8, 1023)}), "replace.lm_head"),
    (safetensors_body(GOOD, {"lm_heat": F32(8, 1024)}), "replace.lm_heat"),
    (safetensors_body(GOOD, {"lm_head": ("I64", [1], b"\0" * 8)}), "lm_head"),
    (safetensors_body(GOOD, {"lm_head": ("U32", [2], b"\0" * 8)}), "lm_head"),
    (safetensors_body(GOOD, {})[:-1], "body"), (b"", "body"), (b"\0" * 8, "body"), (b"\xff" * 8, "body"),
    (b"\2\0\0\0\0\0\0\0{}", "body"), (safetensors_body([], {}), "request"),
    (safetensors_body(GOOD | {"x": 1}, {}), "x"),
])
def test_bad_safetensors_bodies(daemon, body, param):
    reply = daemon.post("/v1/trace", body, Content_Type=BINARY)
    status, found, message = reply.error
    assert status in (400, 413) and found == param, message


@pytest.mark.parametrize("value, param", [
    ([[1, 2], [3]], "replace.X[1]"), ([[1, 2], 3], "replace.X[1]"), ([[1], [[2]]], "replace.X[1][0]"),
    ([1, "nan"], "replace.X[1]"), ([1, None], "replace.X[1]"), ([], "replace.X"), ([[]], "replace.X[0]"),
    (5, "replace.X"), ("NaN", "replace.X"), ({}, "replace.X"), ([[[[[1]]]]], "replace.X"),
    ([True], "replace.X[0]"),
])
def test_bad_lists(daemon, value, param):
    reply = daemon.post("/v1/trace", GOOD | {"replace": {"X": value}})
    assert reply.error[:2] == (400, param)
