"""Dumps in odd layouts: each a trace of the daemon in another dress, so that all bits must be equal once it is understood."""
import json

import numpy
import pytest
from client_tools import DIFFERENT, SAME, TROUBLE, compare, samebit, widen
from conftest import BINARY

TOKENS = [72, 101, 300, 900, 5, 17, 44]
T = len(TOKENS)
LAYER = "model.layers.1."
Q, K, V, KEYS, VALUES, WEIGHTS = (LAYER + f"self_attn.{x}" for x in ("q_proj", "k_proj", "v_proj", "keys", "values", "weights"))
GATE, UP, DOWN = (LAYER + f"mlp.{x}_proj" for x in ("gate", "up", "down"))


@pytest.fixture(scope="module")
def trace(daemon):
    found = daemon.trace(["*"], accept=BINARY, tokens=TOKENS, attention="eager").tensors
    return {name: widen(array) for name, array in found.items() if name != "tokens"}


def layers(t):
    return 1 + max(int(name.split(".")[2]) for name in t if name.startswith("model.layers."))


def stacked(t, name):
    return numpy.stack([t[f"model.layers.{i}{name}"] for i in range(layers(t))])


def states(t):
    return numpy.stack([t["model.embed_tokens"], *(t[f"model.layers.{i}"] for i in range(layers(t) - 1)), t["model.norm"]])


def heads(t):
    return t[LAYER + "self_attn.q_rope"].shape[0], t[LAYER + "self_attn.k_rope"].shape[0], t[LAYER + "self_attn.q_rope"].shape[2]


def apart(t, name):
    return t[name].reshape(T, -1, heads(t)[2])


def groups(t):
    _, kv, d = heads(t)
    return numpy.concatenate([t[n].reshape(T, kv, -1, d) for n in (Q, K, V)], 2)


def repeat(t, array):
    return numpy.repeat(array, heads(t)[0] // heads(t)[1], 0)


# their names -> their arrays; the names of ours; a word of the note, if one is wanted
ODD = {
    "heads in groups": (lambda t: {"layers.1.query_key_value": groups(t).reshape(T, -1)}, [Q, K, V], "in groups"),
    "qkv by heads": (lambda t: {"layers.1.qkv": numpy.concatenate([apart(t, n) for n in (Q, K, V)], 1)[None]}, [Q, K, V], "fused"),
    "qkv heads first": (lambda t: {"layers.1.qkv": numpy.concatenate([apart(t, n) for n in (Q, K, V)], 1).transpose(1, 0, 2)}, [Q, K, V], "heads first"),
    "up before gate": (lambda t: {"layers.1.up_gate_proj": numpy.concatenate([t[UP], t[GATE]], 1)}, [GATE, UP], "other order"),
    "gate and up take turns": (lambda t: {"layers.1.gate_up_proj": numpy.stack([t[GATE], t[UP]], -1).reshape(T, -1)}, [GATE, UP], "take turns"),
    "gate and up on an axis": (lambda t: {"layers.1.gate_up": numpy.stack([t[GATE], t[UP]], 1)}, [GATE, UP], "fused"),
    "repeated keys": (lambda t: {"layers.1.key_states": repeat(t, t[LAYER + "self_attn.k_rope"])[None]}, [LAYER + "self_attn.k_rope"], "repeated"),
    "repeated values": (lambda t: {"layers.1.value_states": repeat(t, apart(t, V).transpose(1, 0, 2))}, [V], "repeated"),
    "layers from one": (lambda t: {f"layer{i + 1}.{n}": t[f"model.layers.{i}{m}"] for i in range(layers(t)) for n, m in (("out", ""), ("q", ".self_attn.q_proj"))},
                        [f"model.layers.{i}{m}" for i in (0, 1) for m in ("", ".self_attn.q_proj")], "counts layers from 1"),
    "past_key_values": (lambda t: {"past_key_values.1.key": t[KEYS][None], "past_key_values.1.value": t[VALUES][None]}, [KEYS, VALUES], None),
    "past_key_values by number": (lambda t: {"past_key_values.1.0": t[KEYS][None], "past_key_values.1.1": t[VALUES][None]}, [KEYS, VALUES], None),
    "hidden states in one": (lambda t: {"hidden_states": states(t)[:, None]}, ["model.embed_tokens", "model.layers.0", "model.norm"], "leading axis"),
    "attentions in one": (lambda t: {"attentions": stacked(t, ".self_attn.weights")[:, None]}, [WEIGHTS.replace("1", "0"), WEIGHTS], "leading axis"),
    "scanned layers": (lambda t: {"decoder/layers/mlp/wo": stacked(t, ".mlp.down_proj"), "decoder/layers/self_attention/query": stacked(t, ".self_attn.q_proj").reshape(layers(t), T, -1, heads(t)[2])},
                       [n.replace("1", i) for n in (DOWN, Q) for i in "01"], "leading axis"),
    "caches in one": (lambda t: {"key_cache": stacked(t, ".self_attn.keys"), "value_cache": stacked(t, ".self_attn.values").transpose(0, 2, 1, 3)},
                      [n.replace("1", i) for n in (KEYS, VALUES) for i in "01"], "leading axis"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_layouts(trace, url, tmp_path, kind):
    make, names, word = ODD[kind]
    path = tmp_path / "d.npz"
    numpy.savez(path, tokens=TOKENS, **make(trace))
    asked = (path, url, "--attention", "eager", "--save-map", tmp_path / "map.json")
    report, rc = compare(*asked)
    assert {r["value"]: r["verdict"] for r in report["rows"]} == {"tokens": "equal"} | dict.fromkeys(names, "equal") and rc == SAME
    if word:
        assert word in samebit("compare", *asked).text
    again, rc = compare(path, url, "--attention", "eager", "--map", tmp_path / "map.json")
    assert again["rows"] == report["rows"] and rc == SAME
    assert all(r["how"] in ("given", "stacked", "exact") for r in again["understanding"])
    said = samebit("isolate", path, url, "--attention", "eager", status=SAME).text
    assert f"\n{len(names)} equal to PyTorch's bits, 0 rounding, 0 beyond rounding\n" in said


@pytest.mark.parametrize("kind", ["heads in groups", "gate and up take turns", "repeated keys", "hidden states in one"])
def test_one_wrong_element_differs(trace, url, tmp_path, kind):
    make, names, _ = ODD[kind]
    theirs = make(trace)
    array = next(iter(theirs.values()))
    array.reshape(-1)[array.size // 2] *= 1.5
    numpy.savez(tmp_path / "d.npz", tokens=TOKENS, **theirs)
    report, rc = compare(tmp_path / "d.npz", url, "--attention", "eager")
    found = [r["verdict"] for r in report["rows"] if r["value"] in names]
    assert rc == DIFFERENT and (sorted(found) == ["differs"] + ["equal"] * (len(names) - 1) or found == ["shape"])


def test_a_wrong_mask_is_no_layout(trace, url, tmp_path):
    """What a query sees of itself alone is next to nothing to know a layout by."""
    wrong = trace[LAYER + "self_attn.masked"].copy()
    seen = ~numpy.eye(T, dtype=bool) & (wrong > -1e30)
    wrong[seen] += 3 * numpy.random.default_rng(0).standard_normal(int(seen.sum())).astype(numpy.float32)
    numpy.savez(tmp_path / "d.npz", **{"tokens": TOKENS, LAYER + "self_attn.masked": wrong, LAYER + "self_attn.weights": trace[WEIGHTS]})
    report, _ = compare(tmp_path / "d.npz", url, "--attention", "eager")
    row = next(r for r in report["rows"] if r["value"] == LAYER + "self_attn.masked")
    assert row["verdict"] == "differs" and row["differing"] == seen.sum()
    assert all(not r["layout"] for r in report.get("understanding") or [])


def test_left_padding_is_in_the_mask(daemon, url, tmp_path):
    tokens = [0, 0, *TOKENS]
    found = daemon.trace(["lm_head", "model.layers.0.self_attn.q_rope"], accept=BINARY, tokens=tokens, padding=2).tensors
    numpy.savez(tmp_path / "d.npz", input_ids=[tokens], attention_mask=[[0, 0] + [1] * T], logits=widen(found["lm_head"])[None],
                **{"layers.0.q_rope": widen(found["model.layers.0.self_attn.q_rope"])})
    report, _ = compare(tmp_path / "d.npz", url, "--common")
    assert {r["value"]: r["verdict"] for r in report["rows"]} == dict.fromkeys(["tokens", "lm_head", "model.layers.0.self_attn.q_rope"], "equal")
    assert "first 2 tokens are left padding" in samebit("compare", tmp_path / "d.npz", url).text


def test_nothing_understood_is_not_silent(url, tmp_path):
    numpy.savez(tmp_path / "d.npz", tokens=TOKENS, weird=numpy.zeros((3, 5)), c=numpy.zeros(3, complex), **{f"x{i}": numpy.ones((2, 9)) for i in range(4)})
    said = samebit("compare", tmp_path / "d.npz", url, status=TROUBLE).said
    assert "weird is none of the model's values" in said and "and 3 more" in said


def test_a_map_with_a_star(trace, url, tmp_path):
    numpy.savez(tmp_path / "d.npz", tokens=TOKENS, mine=stacked(trace, ".mlp.down_proj"))
    (tmp_path / "map.json").write_text(json.dumps({"mi(n)e": "model.layers.*.mlp.dow\\1_proj"}))
    report, rc = compare(tmp_path / "d.npz", url, "--map", tmp_path / "map.json", "--attention", "eager")
    assert rc == SAME and {r["value"] for r in report["rows"]} == {"tokens", DOWN, DOWN.replace("1", "0")}
