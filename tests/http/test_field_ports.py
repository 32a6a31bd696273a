"""Dumps of other people's ports, as they sent them: tests/cases/field/port_*, of SmolLM2-135M with the prompt 504,3575,282 (the batch
has one more).  One port in numpy made most of them; its rotation turns interleaved pairs, where Hugging Face turns halves.

No file holds PyTorch's bits but of the embedding: what is tested is that the files are understood, and what is said of them."""
import json
import os
import sys

import pytest

from client_tools import DIFFERENT, SAME, TROUBLE, compare, samebit
from conftest import ROOT, Daemon

sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))
import models as kept  # noqa: E402

CASES = os.path.join(ROOT, "tests", "cases", "field")
LAYER, ATTENTION = "model.layers.0.", "model.layers.0.self_attn."
TURNED = [ATTENTION + "q_rope", ATTENTION + "k_rope"]
TOKENS = ("--tokens", "504,3575,282")
OWN = {"embed": "model.embed_tokens", "layers.0.ln1": LAYER + "input_layernorm", "layers.0.q": ATTENTION + "q_proj",
       "layers.0.k": ATTENTION + "k_proj", "layers.0.v": ATTENTION + "v_proj", "layers.0.q_rot": ATTENTION + "q_rope",
       "layers.0.k_rot": ATTENTION + "k_rope", "layers.0.attn_probs": ATTENTION + "weights",
       "layers.0.attn_out": ATTENTION + "o_proj", "layers.0.resid1": LAYER + "attn_residual",
       "layers.0.mlp_out": LAYER + "mlp.down_proj", "layers.0.out": "model.layers.0"}


@pytest.fixture(scope="module")
def url():
    folder, why = kept.find("smollm2-135m", fetch=False)
    if not folder:
        pytest.skip(f"skip: {why}")
    d = Daemon(folder, None, ("--attention", "eager"))
    yield d.url
    d.stop()


def port(name):
    return os.path.join(CASES, name if "." in name else f"port_{name}.safetensors")


def rows_of(url, name, *arguments, status=DIFFERENT):
    report, _ = compare(port(name), url, *arguments, status=status)
    return {row["value"]: row for row in report["rows"]}, report


def numbers(rows):
    """What was counted of each value, but for what only one report says of the tokens."""
    return {name: {key: value for key, value in row.items() if key not in ("a", "b")} for name, row in rows.items() if name != "tokens"}


@pytest.fixture(scope="module")
def wrong_rope(url):
    return rows_of(url, "wrong_rope_f32")


def test_rounding_and_the_mistake_look_different(wrong_rope):
    rows, report = wrong_rope
    assert (rows["tokens"]["verdict"], rows["model.embed_tokens"]["verdict"]) == ("equal", "equal")
    assert report["first_divergence"] == LAYER + "input_layernorm"  # by rounding alone
    for name in ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        assert rows[LAYER + name]["max_abs"] < 2e-2 and 0.99999 < rows[LAYER + name]["cosine"] < 1
    for name in TURNED:
        assert rows[name]["max_abs"] > 2 and rows[name]["cosine"] < 0.98


@pytest.mark.parametrize("name, arguments", [("wrong_rope_f32", ()), ("own_names", ()), ("port_dump.npz", TOKENS)])
def test_the_mistake_is_named(url, name, arguments):
    found = json.loads(samebit("isolate", port(name), url, *arguments, "--json", status=DIFFERENT).text)
    assert {v["value"] for v in found["values"] if v["verdict"] == "beyond rounding"} == set(TURNED)
    assert len(found["values"]) == len(OWN)
    found = json.loads(samebit("diagnose", port(name), url, *arguments, "--json", status=DIFFERENT).text)
    assert {(d["value"], d["says"]) for d in found["diagnosis"]} == {
        (value, "the port rotates interleaved pairs; Hugging Face rotates halves") for value in TURNED}


def test_numpys_npz_with_the_ports_names(url, wrong_rope):
    said = samebit("compare", port("port_dump.npz"), url, status=TROUBLE).said
    assert "port_dump.npz: does not say which ids it was made of" in said and "--tokens" in said
    rows, report = rows_of(url, "port_dump.npz", *TOKENS)
    assert {r["name"]: r["value"] for r in report["understanding"]} == OWN
    assert numbers(rows) == numbers(wrong_rope[0])


def test_the_ports_names(url, wrong_rope, tmp_path):
    rows, report = rows_of(url, "own_names", "--save-map", tmp_path / "map.json")
    assert {r["name"]: r["value"] for r in report["understanding"] if r["name"] != "tokens"} == OWN
    assert numbers(rows) == numbers(wrong_rope[0])
    saved = json.loads((tmp_path / "map.json").read_text())
    assert saved == {"tokens": "tokens"} | OWN
    (tmp_path / "map.json").write_text(json.dumps(saved | {"layers.0.q": ATTENTION + "o_proj", "layers.0.attn_out": ATTENTION + "q_proj"}))
    rows, _ = rows_of(url, "own_names", "--map", tmp_path / "map.json")  # a map goes before what is guessed
    assert rows[ATTENTION + "q_proj"]["cosine"] < 0.9


def test_hidden_states(url, wrong_rope):
    rows, report = rows_of(url, "hidden_states")
    assert {r["name"]: r["value"] for r in report["understanding"] if r["name"] != "tokens"} == {
        "hidden_states.0": "model.embed_tokens", "hidden_states.1": "model.layers.0"}
    assert numbers(rows) == {name: row for name, row in numbers(wrong_rope[0]).items() if name in rows}


@pytest.mark.parametrize("name", ["tokens_i32", "f64"])
def test_values_that_are_equal(url, name):
    rows, report = rows_of(url, name, status=SAME)
    assert {value: row["verdict"] for value, row in rows.items()} == {"tokens": "equal", "model.embed_tokens": "equal"}
    assert (report["elements"], report["elements_differing"]) == (3 + 3 * 576, 0)


def test_heads_last(url):
    """q_proj is [T, heads, 64] in the file and [T, 576] here, q_rope [T, heads, 64] and [heads, T, 64]."""
    rows, _ = rows_of(url, "layout_thd")
    for name in ("q_proj", "q_rope"):
        assert rows[ATTENTION + name]["elements"] == 3 * 576 and rows[ATTENTION + name]["cosine"] > 0.99999


def test_a_batch_is_compared_row_by_row(url):
    text = samebit("compare", port("batch_of_two"), url, status=SAME).text
    for row in (0, 1):
        assert f"row {row} of a batch of 2" in text
    assert text.count("equal bits: 2 values, 1,731 elements, 0 differing") == 2


@pytest.mark.parametrize("arguments", [(), ("--positions", "last")])
def test_logits_of_the_last_row(url, arguments):
    """They are PyTorch's of an F32 run, rounded to bf16."""
    rows, _ = rows_of(url, "last_logits", *arguments)
    assert rows["tokens"]["verdict"] == "equal"
    assert rows["lm_head"]["elements"] == 49152 and 0.9999 < rows["lm_head"]["cosine"] < 1


def test_a_list_of_ids_as_python_prints_it(url):
    with open(port("cli_tokens_brackets.json"), encoding="utf-8") as f:
        ids = json.load(f)["tokens"]
    assert ids == "[504,3575]"
    want = samebit("logits", "--tokens", "504,3575", url=url, status=SAME).text
    assert want == samebit("logits", "--tokens", ids, url=url, status=SAME).text
    assert want == samebit("logits", "--tokens", str(json.loads(ids)), url=url, status=SAME).text
