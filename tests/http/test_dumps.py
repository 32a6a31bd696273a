"""Dumps as people write them: `samebit compare DUMP URL` understands the files, the names and the layouts.

Every dump is a trace of the daemon in another dress, so that all bits must be equal once it is understood.
"""
import io
import json
import os
import subprocess
import zipfile

import ml_dtypes
import numpy
import pytest
from client_tools import DIFFERENT, SAME, SAMEBIT, TROUBLE, compare, samebit, widen, write
from conftest import BINARY

TOKENS = [72, 101, 300, 900, 5]
LAYER = "model.layers.1."


@pytest.fixture(scope="module")
def trace(daemon):
    """Every value of an eager run as f32, and the tokens."""
    found = daemon.trace(["*"], accept=BINARY, tokens=TOKENS, attention="eager").tensors
    return {name: widen(array) if name != "tokens" else array for name, array in found.items()}


def dump(path, values, tokens=TOKENS):
    numpy.savez(path, **({"tokens": numpy.array(tokens)} if tokens is not None else {}), **values)
    return path


def verdicts(path, url, *arguments, status=SAME):
    report, rc = compare(path, url, "--attention", "eager", *arguments)
    assert rc == status, report["rows"]
    return {row["value"]: row["verdict"] for row in report["rows"]}, report


def heads(array, count):
    """[T, n * D] as [n, T, D]."""
    return array.reshape(array.shape[0], count, -1).transpose(1, 0, 2)


def bf16_bits(array):
    return (array.view(numpy.uint32) >> 16).astype(numpy.uint16)


NAMES = {
    "own": {"embed": "model.embed_tokens", "layers.1.ln1": LAYER + "input_layernorm", "layers.1.q": LAYER + "self_attn.q_proj",
            "layers.1.q_rot": LAYER + "self_attn.q_rope", "layers.1.attn_probs": LAYER + "self_attn.weights",
            "layers.1.attn_out": LAYER + "self_attn.o_proj", "layers.1.mlp_out": LAYER + "mlp.down_proj",
            "layers.1.out": "model.layers.1", "final_norm": "model.norm", "logits": "lm_head"},
    "transformer_lens": {"hook_embed": "model.embed_tokens", "blocks.1.hook_resid_pre": "model.layers.0",
                         "blocks.1.attn.hook_q": LAYER + "self_attn.q_proj", "blocks.1.attn.hook_rot_k": LAYER + "self_attn.k_rope",
                         "blocks.1.attn.hook_pattern": LAYER + "self_attn.weights", "blocks.1.attn.hook_z": LAYER + "self_attn.context",
                         "blocks.1.hook_attn_out": LAYER + "self_attn.o_proj", "blocks.1.hook_resid_mid": LAYER + "attn_residual",
                         "blocks.1.mlp.hook_pre_linear": LAYER + "mlp.up_proj", "blocks.1.hook_mlp_out": LAYER + "mlp.down_proj",
                         "blocks.1.hook_resid_post": "model.layers.1"},
    "llama.cpp": {"inp_embd": "model.embed_tokens", "attn_norm-1": LAYER + "input_layernorm", "Vcur-1": LAYER + "self_attn.v_proj",
                  "kq_soft_max-1": LAYER + "self_attn.weights", "kqv_out-1": LAYER + "self_attn.o_proj",
                  "ffn_inp-1": LAYER + "attn_residual", "ffn_norm-1": LAYER + "post_attention_layernorm",
                  "ffn_gate-1": LAYER + "mlp.gate_proj", "ffn_silu-1": LAYER + "mlp.act_fn", "ffn_gate_par-1": LAYER + "mlp.product",
                  "ffn_out-1": LAYER + "mlp.down_proj", "l_out-1": "model.layers.1", "result_norm": "model.norm",
                  "result_output": "lm_head"},
    "maxtext": {"params/decoder/layers_1/pre_self_attention_layer_norm/scale": LAYER + "input_layernorm",
                "params/decoder/layers_1/post_self_attention_layer_norm/scale": LAYER + "post_attention_layernorm",
                "params/decoder/layers_1/self_attention/query/kernel": LAYER + "self_attn.q_proj",
                "params/decoder/layers_1/mlp/wi_0": LAYER + "mlp.gate_proj", "params/decoder/layers_1/mlp/wo": LAYER + "mlp.down_proj",
                "params/decoder/decoder_norm/scale": "model.norm", "params/token_embedder/embedding": "model.embed_tokens"},
}


@pytest.mark.parametrize("kind", NAMES)
def test_names(trace, url, tmp_path, kind):
    path = dump(tmp_path / "d.npz", {name: trace[value] for name, value in NAMES[kind].items()})
    found, report = verdicts(path, url)
    assert found == {"tokens": "equal"} | {value: "equal" for value in NAMES[kind].values()}
    assert {r["how"] for r in report["understanding"]} == {"exact", "name"}


def test_hidden_states(trace, url, tmp_path):
    layers = 1 + max(int(name.split(".")[2]) for name in trace if name.startswith("model.layers."))
    states = [trace["model.embed_tokens"], *(trace[f"model.layers.{i}"] for i in range(layers - 1)), trace["model.norm"]]
    found, _ = verdicts(dump(tmp_path / "d.npz", {f"hidden_states.{i}": s[None] for i, s in enumerate(states)}), url)
    assert set(found.values()) == {"equal"} and "model.norm" in found and f"model.layers.{layers - 1}" not in found


def padded(array, axes, before, after):
    return numpy.pad(array, [(before, after) if a in axes else (0, 0) for a in range(array.ndim)], constant_values=7)


def pairs(array):
    """Halves to neighbours, as GPT-J and llama.cpp keep them."""
    return array.reshape(*array.shape[:-1], 2, -1).swapaxes(-1, -2).reshape(array.shape)


Q, K, V = (LAYER + f"self_attn.{x}" for x in ("q_proj", "k_proj", "v_proj"))
ROPE, WEIGHTS = LAYER + "self_attn.q_rope", LAYER + "self_attn.weights"
LAYOUTS = {
    "heads last": (ROPE, lambda a: a.transpose(1, 0, 2)),
    "heads last, flat": (ROPE, lambda a: a.transpose(1, 0, 2).reshape(a.shape[1], -1)),
    "heads first": (Q, lambda a, t: heads(a, t[ROPE].shape[0])),
    "heads apart": (Q, lambda a, t: a.reshape(len(a), t[ROPE].shape[0], -1)),
    "transposed": (LAYER + "mlp.up_proj", lambda a: a.T),
    "batch of one": (ROPE, lambda a: a[None]),
    "more axes of one": (ROPE, lambda a: a[None, None, None]),
    "Fortran": (LAYER + "mlp.up_proj", lambda a: numpy.asfortranarray(a)),
    "big-endian": (Q, lambda a: a.astype(">f4")),
    "padded right": (Q, lambda a: padded(a, (0,), 0, 3)),
    "padded left": (Q, lambda a: padded(a, (0,), 3, 0)),
    "scores padded": (WEIGHTS, lambda a: padded(a, (1, 2), 0, 2)),
    "vocabulary padded": ("lm_head", lambda a: padded(a, (1,), 0, 24)),
    "last row": ("lm_head", lambda a: a[-1:]),
    "last row without its axis": ("lm_head", lambda a: a[-1]),
    "pairs": (ROPE, pairs),
    "pairs, heads last": (ROPE, lambda a: pairs(a).transpose(1, 0, 2)),
    "f64": (Q, lambda a: a.astype(numpy.float64)),
    "bf16": (Q, lambda a: a.astype(ml_dtypes.bfloat16)),
    "bits of bf16": (Q, bf16_bits),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(trace, url, tmp_path, kind):
    name, change = LAYOUTS[kind]
    value = change(trace[name], trace) if change.__code__.co_argcount == 2 else change(trace[name])
    found, report = verdicts(dump(tmp_path / "d.npz", {name: value}), url)
    assert found == {"tokens": "equal", name: "equal"}
    if kind.startswith("pairs"):
        assert "side by side" in report["understanding"][-1]["layout"]
    if "padded" in kind or "last row" in kind:
        assert report["understanding"][-1]["layout"]


def test_a_wrong_rotation_is_no_layout(trace, url, tmp_path):
    """Only the part that turns is interleaved: its input is not, so nothing explains the difference away."""
    wrong = trace[ROPE].copy()
    wrong[:, 1:] = pairs(wrong)[:, 1:] * 0.5
    found, _ = verdicts(dump(tmp_path / "d.npz", {ROPE: wrong}), url, status=DIFFERENT)
    assert found[ROPE] == "differs"


def test_fused(trace, url, tmp_path):
    values = {"layers.1.qkv_proj": numpy.concatenate([trace[n] for n in (Q, K, V)], 1),
              "layers.1.gate_up_proj": numpy.concatenate([trace[LAYER + "mlp.gate_proj"], trace[LAYER + "mlp.up_proj"]], 1)[None]}
    found, _ = verdicts(dump(tmp_path / "d.npz", values), url)
    assert found == dict.fromkeys(["tokens", Q, K, V, LAYER + "mlp.gate_proj", LAYER + "mlp.up_proj"], "equal")


def test_by_numbers_and_not_at_all(trace, url, tmp_path):
    values = {"thing_a": trace[LAYER + "post_attention_layernorm"] * numpy.float32(1.001), "thing_b": trace["lm_head"],
              "noise": numpy.random.default_rng(0).standard_normal(trace[Q].shape).astype(numpy.float32),
              "odd": numpy.ones((2, 3, 7), numpy.float32), "flags": numpy.array([True, False])}
    path = dump(tmp_path / "d.npz", values)
    found, report = verdicts(path, url, "--common", status=DIFFERENT)
    assert found == {"tokens": "equal", LAYER + "post_attention_layernorm": "differs", "lm_head": "equal"}
    rows = {r["name"]: r for r in report["understanding"]}
    assert rows["thing_a"]["how"] == "numbers" and 0.0005 < rows["thing_a"]["distance"] < 0.002
    assert rows["noise"]["value"] is None and len(rows["noise"]["nearest"]) == 3 and rows["odd"]["nearest"] == []
    text = samebit("compare", path, url, status=DIFFERENT).text
    assert "note: noise is none of the model's values; nearest model" in text and "thing_b is lm_head, by its numbers" in text
    assert "flags" in text and "not read" in text


@pytest.fixture(scope="module")
def by_default(daemon):
    """As `trace`, of the daemon's default attention."""
    reply = daemon.trace(["*"], accept=BINARY, tokens=TOKENS)
    assert reply.tensors and reply.metadata["attention"] == "sdpa"
    return {name: widen(array) for name, array in reply.tensors.items() if name != "tokens"}


@pytest.mark.parametrize("name", ["foo", "loss", "attention_mask"])
def test_an_unknown_name_changes_nothing_else(by_default, url, tmp_path, name):
    path = dump(tmp_path / "d.npz", by_default | {name: numpy.float32([7, 8, 9])})
    report, rc = compare(path, url)
    assert rc == DIFFERENT and {r["verdict"] for r in report["rows"] if r["value"] != name} == {"equal"}
    text = samebit("compare", path, url, status=DIFFERENT).text
    assert f"note: {name} is none of the model's values" in text and "eager is asked for" not in text
    said = samebit("isolate", path, url, status=SAME).text
    assert f"{len(by_default)} equal to PyTorch's bits, 0 rounding" in said


@pytest.mark.parametrize("more", [{}, {"foo": numpy.zeros(3, numpy.float32)}])
def test_a_name_that_only_eager_has(trace, url, tmp_path, more):
    path = dump(tmp_path / "d.npz", {"layers.1.attn_probs": trace[WEIGHTS], "lm_head": trace["lm_head"]} | more)
    report, _ = compare(path, url)
    assert {r["value"]: r["verdict"] for r in report["rows"] if r["value"] in (WEIGHTS, "lm_head")} == {WEIGHTS: "equal", "lm_head": "equal"}
    text = samebit("compare", path, url).text
    assert text.count("note: attention eager is asked for: only it has layers.1.attn_probs\n") == 1


def test_a_trace_says_how_it_was_asked(daemon, url, tmp_path):
    for fields in ({"padding": 2, "position_ids": "mask"}, {"padding": 2}, {"chunks": [2, 3]}, {"batch": 2}):
        reply = daemon.trace(["*"], accept=BINARY, tokens=TOKENS, steps=1, **fields)
        (tmp_path / "own.safetensors").write_bytes(reply.body)
        assert "0 differing" in samebit("compare", tmp_path / "own.safetensors", url, status=SAME).text, fields
        said = samebit("isolate", tmp_path / "own.safetensors", url, status=SAME).text
        assert "0 rounding" in said and "0 beyond" in said, (fields, said)


@pytest.mark.parametrize("name", ["lm_head", "logits"])
def test_what_cannot_be_read_is_not_equal(by_default, url, tmp_path, name):
    arrays = {"complex": by_default["lm_head"].astype(numpy.complex64), "strings": numpy.array(["a", "b"]),
              "objects": numpy.array([None, 1], dtype=object), "records": numpy.zeros(3, [("x", "<f4"), ("y", "<i8")])}
    paths = {kind: dump(tmp_path / f"{kind}.npz", {"model.norm": by_default["model.norm"], name: array}) for kind, array in arrays.items()}
    paths["float8"] = write(tmp_path / "f.safetensors", {
        "tokens": ("I64", numpy.array(TOKENS)), "model.norm": ("F32", by_default["model.norm"]),
        name: ("F8_E4M3", by_default["lm_head"].astype(numpy.uint8))})
    own = tmp_path / "own.safetensors"
    samebit("trace", "--tokens", str(TOKENS), "-o", own, url=url, status=SAME)
    for kind, path in paths.items():
        for other in (url, own):
            found = {r["value"]: r["verdict"] for r in compare(path, other, "--common")[0]["rows"]}
            assert found == {"tokens": "equal", "model.norm": "equal", "lm_head": "dtype"}, (kind, other)
            assert compare(path, other, "--common")[1] == DIFFERENT
        text = samebit("compare", path, url, status=DIFFERENT).text
        assert "note: lm_head is not read: it is " in text and "equal bits:" not in text
    assert "it is F8_E4M3" in text and "?" not in text
    only = dump(tmp_path / "only.npz", {name: arrays["complex"]})
    assert {r["value"]: r["verdict"] for r in compare(only, url)[0]["rows"]} == {"tokens": "equal", "lm_head": "dtype"}


def test_only_tokens_are_no_comparison(url, tmp_path):
    for more in ({}, {"said": numpy.array(["hi"])}):
        path = dump(tmp_path / "d.npz", more)
        assert "no value in common but the tokens" in samebit("compare", path, url, status=TROUBLE).said


def test_a_value_under_two_names(trace, url, tmp_path):
    """As hooks on every module give them: model.layers.1.mlp is its down_proj, which has a hook too."""
    down = LAYER + "mlp.down_proj"
    for names in ((LAYER + "mlp", down), (down, LAYER + "mlp"), ("layers.1.mlp_out", down, LAYER + "mlp")):
        found, _ = verdicts(dump(tmp_path / "d.npz", {n: trace[down] for n in names}), url)
        assert found == {"tokens": "equal", down: "equal"}


def test_a_map(trace, url, tmp_path):
    path = dump(tmp_path / "d.npz", {"a1x": trace[Q], "b": trace["lm_head"] + 1})
    given = tmp_path / "map.json"
    given.write_text(json.dumps({r"a([0-9]+)x": r"model.layers.\1.self_attn.q_proj", "b": "lm_head"}))
    saved = tmp_path / "saved.json"
    found, _ = verdicts(path, url, "--map", given, "--save-map", saved, status=DIFFERENT)
    assert found == {"tokens": "equal", Q: "equal", "lm_head": "differs"}
    assert json.loads(saved.read_text()) == {"tokens": "tokens", "a1x": Q, "b": "lm_head"}
    verdicts(path, url, "--map", saved, status=DIFFERENT)
    for bad in ("[1]", "{", '{"a": 1}'):
        given.write_text(bad)
        assert str(given) in samebit("compare", path, url, "--map", given, status=TROUBLE).said


def test_a_maps_keys(trace, url, tmp_path):
    path = dump(tmp_path / "d.npz", {"q(": trace[Q], "lm_head": trace["lm_head"]})
    given = tmp_path / "map.json"
    for key in ("(", "[a", "q(x"):
        given.write_text(json.dumps({"q(": Q, key: Q}))
        for command in ("compare", "isolate"):
            said = samebit(command, path, url, "--map", given, status=TROUBLE).said
            assert f'{given}: "{key}" is no regular expression' in said
    given.write_text(json.dumps({"q(": Q, "layers.*": Q, "lm_.*": "lm_head"}))
    text = samebit("compare", path, url, "--map", given, "--attention", "eager", status=SAME).text
    assert text.count("of the map fits no name of the dump") == 1 and 'note: "layers.*" of the map' in text


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_token_ids_under_two_names(trace, url, tmp_path, kind):
    path = tmp_path / f"d.{kind}"
    for other, status in ((TOKENS, SAME), (TOKENS[:-1], TROUBLE), (TOKENS[:-1] + [6], TROUBLE)):
        if kind == "npz":
            dump(path, {"input_ids": numpy.array([other], numpy.int32), "lm_head": trace["lm_head"]})
        else:
            write(path, {"tokens": ("I64", numpy.array(TOKENS)), "input_ids": ("I32", numpy.array([other], numpy.int32)),
                         "lm_head": ("F32", trace["lm_head"])})
        done = samebit("compare", path, url, "--attention", "eager", status=status)
        if status == TROUBLE:
            assert str(path) in done.said and "`tokens`" in done.said and "`input_ids`" in done.said
    assert verdicts(dump(tmp_path / "both.npz", {"input_ids": numpy.array([TOKENS]), "lm_head": trace["lm_head"]}), url)[0] == {
        "tokens": "equal", "lm_head": "equal"}


@pytest.mark.parametrize("names", [("lm_head", "model.norm"), ("logits", "final_norm")])
def test_a_shape_that_does_not_fit(trace, url, tmp_path, names):
    logits, norm = names
    path = dump(tmp_path / "d.npz", {logits: trace["lm_head"][:2], norm: trace["model.norm"]})
    found, _ = verdicts(path, url, status=DIFFERENT)
    assert found == {"tokens": "equal", "model.norm": "equal", "lm_head": "shape"}
    said = f"note: {logits}: shape [2, {trace['lm_head'].shape[1]}] does not fit lm_head"
    for command in ("compare", "isolate"):
        text = samebit(command, path, url, "--attention", "eager", status=DIFFERENT).text
        assert said in text and "none of the model's values" not in text
    assert "1 not read or of another shape, not judged" in text
    path = dump(tmp_path / "d.npz", {logits: trace["lm_head"][:2]})
    assert "has its shape" in samebit("isolate", path, url, status=TROUBLE).said


def test_nan_is_no_distance_of_nothing(trace, url, tmp_path):
    path = dump(tmp_path / "d.npz", {"foo": numpy.full_like(trace[Q], numpy.nan), "lm_head": trace["lm_head"]})
    text = samebit("compare", path, url, "--attention", "eager").text
    assert "(0)" not in text and "(no number in common)" in text
    path = dump(tmp_path / "d.npz", {"lm_head": numpy.full_like(trace["lm_head"], numpy.nan)})
    report = json.loads(samebit("isolate", path, url, "--json", "--attention", "eager", status=DIFFERENT).text)
    assert report["values"][0]["distance"] is None and report["values"][0]["verdict"] == "beyond rounding"
    assert "NaN in" in samebit("diagnose", path, url, "--attention", "eager", status=DIFFERENT).text


@pytest.mark.parametrize("ids", [numpy.int32, numpy.uint32, numpy.int64, numpy.uint16])
@pytest.mark.parametrize("name", ["tokens", "input_ids"])
def test_token_ids(trace, url, tmp_path, ids, name):
    path = dump(tmp_path / "d.npz", {name: numpy.array([TOKENS], ids), "lm_head": trace["lm_head"]}, tokens=None)
    assert verdicts(path, url)[0] == {"tokens": "equal", "lm_head": "equal"}


def test_files(trace, url, tmp_path):
    (tmp_path / "folder/layers").mkdir(parents=True)
    for name in ("model.norm", "lm_head"):
        numpy.save(tmp_path / f"folder/{name}.npy", trace[name])
    numpy.save(tmp_path / "folder/layers/1.npy", trace["model.layers.1"])
    asked = ("--tokens", str(TOKENS), "--common")
    want = dict.fromkeys(["model.norm", "lm_head", "model.layers.1"], "equal")
    assert verdicts(tmp_path / "folder", url, *asked)[0] == want
    assert verdicts(tmp_path / "folder/lm_head.npy", url, *asked)[0] == {"lm_head": "equal"}
    for kind, array in (("F64", trace["lm_head"].astype(numpy.float64)), ("U16", bf16_bits(trace["lm_head"]))):
        path = write(tmp_path / kind, {"input_ids": ("I32", numpy.array([TOKENS], numpy.int32)), "lm_head": (kind, array)})
        assert verdicts(path, url)[0] == {"tokens": "equal", "lm_head": "equal"}
    other = trace["lm_head"].astype(numpy.float64)
    other[0, 0] *= 1 + 2 ** -50
    path = write(tmp_path / "F64", {"lm_head": ("F64", other)})
    assert verdicts(path, url, *asked, status=DIFFERENT)[1]["elements_differing"] == 1


def test_a_batch(daemon, trace, url, tmp_path):
    other = [5, 9, 700, 2, 44]
    second = daemon.trace(["lm_head"], accept=BINARY, tokens=other, batch=2, attention="eager").tensors["lm_head"]
    first = daemon.trace(["lm_head"], accept=BINARY, tokens=TOKENS, batch=2, attention="eager").tensors["lm_head"]
    path = dump(tmp_path / "d.npz", {"input_ids": numpy.array([TOKENS, other]), "logits": numpy.stack([first, second])}, None)
    text = samebit("compare", path, url, "--attention", "eager", status=SAME).text
    assert "row 0 of a batch of 2" in text and "row 1 of a batch of 2" in text and text.count("equal bits: 2 values") == 2
    assert verdicts(path, url, "--row", "1")[0] == {"tokens": "equal", "lm_head": "equal"}
    assert "--row 2" in samebit("compare", path, url, "--row", "2", status=TROUBLE).said
    path = dump(tmp_path / "d.npz", {"input_ids": numpy.array([TOKENS, other]), "logits": numpy.stack([second, first])}, None)
    samebit("compare", path, url, status=DIFFERENT)


def test_traces_as_npz(url, tmp_path):
    out = tmp_path / "run.npz"
    samebit("trace", "--tokens", "72,101, 300", "--steps", "1", "-o", out, url=url, status=SAME)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    with numpy.load(out) as z:
        assert z["tokens"].tolist()[:3] == [72, 101, 300]
        assert z["step_1/lm_head"].view(ml_dtypes.bfloat16).shape[0] == 1
    assert "0 differing" in samebit("compare", out, url, status=SAME).text
    for bad in ("run.pt", "run.bin"):
        assert bad in samebit("trace", "hi", "-o", tmp_path / bad, url=url, status=TROUBLE).said
    assert len(list(tmp_path.iterdir())) == 1


def test_broken_files(tmp_path, url):
    good = io.BytesIO()
    numpy.save(good, numpy.arange(6, dtype=numpy.float32))
    good = good.getvalue()
    for n in (7, 9, 20, 60, len(good) - 1):
        (tmp_path / "x.npy").write_bytes(good[:n])
        assert "x.npy" in samebit("compare", tmp_path / "x.npy", url, "--tokens", "1", status=TROUBLE).said
    (tmp_path / "x.npy").write_bytes(good.replace(b"(6,)", b"(-6)"))
    samebit("compare", tmp_path / "x.npy", url, "--tokens", "1", status=TROUBLE)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as z:
        z.writestr("a.npy", good[:30])
    assert "x.npz" in samebit("compare", tmp_path / "x.npz", url, "--tokens", "1", status=TROUBLE).said
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:40])
    assert "x.npz" in samebit("compare", tmp_path / "x.npz", url, "--tokens", "1", status=TROUBLE).said
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as z:
        z.writestr("archive/data.pkl", b"")
    assert "samebit convert" in samebit("compare", tmp_path / "x.pt", url, "--tokens", "1", status=TROUBLE).said
    (tmp_path / "none").mkdir()
    assert "no .npy" in samebit("compare", tmp_path / "none", url, "--tokens", "1", status=TROUBLE).said


def test_what_is_no_npz_is_named(tmp_path, url):
    (tmp_path / "rand.npz").write_bytes(bytes(range(200)))
    zipfile.ZipFile(tmp_path / "empty.npz", "w").close()
    for name, said in (("rand.npz", "cannot be read as .npz"), ("empty.npz", "holds no array"), ("none.npz", "No such file")):
        got = samebit("compare", tmp_path / name, url, "--tokens", "1", status=TROUBLE).said
        assert name in got and said in got
    numpy.savez(tmp_path / "d.npz", lm_head=numpy.zeros(3))
    got = samebit("compare", tmp_path / "d.npz", url, "--map", tmp_path / "nomap.json", status=TROUBLE).said
    assert "nomap.json" in got and "line" not in got
    assert "no such socket" in samebit("health", url=f"unix:{tmp_path}/nope", status=TROUBLE).said


def test_a_reader_who_has_enough(url):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        assert subprocess.run([SAMEBIT, "values", "--url", url], stdout=stdout, stderr=subprocess.PIPE, timeout=60).stderr == b""


@pytest.mark.parametrize("text", ["[72,101]", "[72, 101]", " 72, 101 ", "72,101"])
def test_lists_as_python_prints_them(url, text):
    said = samebit("logits", "--tokens", text, url=url, status=SAME).text
    assert said == samebit("logits", "--tokens", "72,101", url=url, status=SAME).text
    for bad in ("[72,101", "72,101]", "[]", "72,,101", "[72] 1", ""):
        assert "not a list" in samebit("logits", "--tokens", bad, url=url, status=TROUBLE).said
