"""The attention of a run, prompts in chunks, left padding: chosen by the request, stated in the reply."""
import json

import numpy
import pytest
from conftest import BINARY, TOKENS

L0 = "model.layers.0."
ONLY_EAGER = ["self_attn.scores", "self_attn.scaled", "self_attn.masked", "self_attn.weights"]
BOTH = pytest.mark.parametrize("attention", ["eager", "sdpa"])


def names(daemon, attention):
    return [v["name"] for v in daemon.get(f"/v1/values?attention={attention}").json["values"]]


# ---- choosing ----

def test_the_catalogue_of_each(daemon):
    eager, sdpa = names(daemon, "eager"), names(daemon, "sdpa")
    assert [n for n in eager if n in sdpa] == sdpa
    assert set(eager) - set(sdpa) == {f"model.layers.{i}.{name}" for i in (0, 1) for name in ONLY_EAGER}


def test_the_model_page_lists_both(daemon, start):
    found = daemon.get("/v1/model").json
    assert found["attention"] == "sdpa" and found["attentions"] == ["eager", "sdpa"]
    assert found["steps"] == len(names(daemon, "sdpa"))
    d = start({}, "--attention", "eager")
    found = d.get("/v1/model").json
    assert found["attention"] == "eager" and found["attentions"] == ["eager", "sdpa"]
    assert found["steps"] == len(names(daemon, "eager"))
    assert ", attention eager, " in d.line
    body = {"tokens": TOKENS, "values": ["*"], "format": "digest"}
    for attention in ("eager", "sdpa"):
        one, two = (x.post("/v1/trace", body | {"attention": attention}).json for x in (d, daemon))
        assert one["values"] == two["values"] and one["attention"] == two["attention"] == attention
    assert d.post("/v1/trace", body).json["attention"] == "eager"
    assert d.post("/v1/trace", body | {"values": ["attn_weights"]}).status == 200
    assert d.get("/v1/values").json == d.get("/v1/values?attention=eager").json


@BOTH
def test_every_reply_states_the_runs(daemon, attention):
    fields = {"tokens": TOKENS, "attention": attention}
    assert daemon.trace(["logits"], attention=attention).json["attention"] == attention
    assert daemon.trace(["logits"], BINARY, attention=attention).metadata["attention"] == attention
    assert daemon.post("/v1/logits", fields).json["attention"] == attention
    assert daemon.post("/v1/logits", fields | {"top_k": 1}).json["attention"] == attention
    assert daemon.post("/v1/logits", fields, Accept=BINARY).metadata["attention"] == attention
    assert daemon.post("/v1/generate", fields).json["attention"] == attention
    last = daemon.post("/v1/generate", fields | {"stream": True}).body.splitlines()[-1]
    assert json.loads(last)["attention"] == attention


@BOTH
def test_logits_and_generation_are_those_of_the_trace(daemon, attention):
    fields = {"tokens": TOKENS, "attention": attention}
    traced = daemon.trace(["logits"], BINARY, attention=attention, steps=3).tensors
    logits = daemon.post("/v1/logits", fields | {"positions": "all"}, Accept=BINARY).tensors["logits"]
    assert numpy.array_equal(logits, traced["lm_head"])
    found = daemon.post("/v1/generate", fields | {"max_tokens": 4, "stop_at_eos": False}).json
    assert found["tokens"][:3] == traced["tokens"].tolist()[8:]


def test_the_default_is_sdpa_and_null_is_no_choice(daemon):
    chosen = daemon.trace(["*"], attention="sdpa", format="digest").json["values"]
    assert daemon.trace(["*"], format="digest").json["values"] == chosen
    assert daemon.trace(["*"], attention=None, format="digest").json["values"] == chosen


def test_the_two_part_in_the_attention(daemon):
    """Over so many keys they cannot agree by chance; before the first context nothing differs."""
    fields = {"tokens": [i * 7 % 1000 for i in range(120)], "format": "digest"}
    eager, sdpa = (daemon.trace(["*"], attention=a, **fields).json["values"] for a in ("eager", "sdpa"))
    order = names(daemon, "sdpa")
    at = order.index(L0 + "self_attn.context")
    assert all(eager[name] == sdpa[name] for name in order[:at])
    assert eager[order[at]] != sdpa[order[at]] and eager["lm_head"] != sdpa["lm_head"]


# ---- values that only one has ----

@pytest.mark.parametrize("name", [
    L0 + "self_attn.weights", "model.layers.1.self_attn.scores", L0 + "self_attn.scaled", L0 + "self_attn.masked",
    "attn_weights", "layer_1.attn_weights", "layer_0_attn_weights", "*.self_attn.weights", "layer_?.attn_weights",
    "model.layers.[01].self_attn.scores", "step_1/attn_weights", "step_*/*.self_attn.weights"])
def test_what_sdpa_does_not_have(daemon, name):
    body = {"tokens": TOKENS, "values": ["logits", name], "steps": 1, "format": "digest"}
    status, param, message = daemon.post("/v1/trace", body).error
    assert (status, param) == (400, "values[1]")
    assert "eager" in message and "sdpa" in message and name.split("/")[-1] in message
    assert daemon.post("/v1/trace", body | {"attention": "eager"}).status == 200


@pytest.mark.parametrize("name", ["attn_weights", L0 + "self_attn.scores", "step_1/" + L0 + "self_attn.masked"])
def test_what_sdpa_does_not_have_cannot_be_replaced(daemon, name):
    status, param, message = daemon.post("/v1/trace", {
        "tokens": TOKENS, "values": [], "steps": 1, "replace": {name: [[[0.0] * 8] * 8] * 4}}).error
    assert (status, param) == (400, "replace." + name) and "eager" in message


def test_what_neither_has(daemon):
    for attention in ("eager", "sdpa"):
        for name in ("self_attn.weight", "layer_9.attn_weights", "model.layers.2.self_attn.weights", "*.weightz"):
            status, param, message = daemon.post("/v1/trace", {
                "tokens": TOKENS, "values": [name], "attention": attention}).error
            assert (status, param) == (400, "values[0]") and "nearest" in message, name


def test_globs_leave_out_what_is_not_there(daemon):
    found = daemon.trace(["*", L0 + "self_attn.*"], format="digest").json["values"]
    assert set(found) == set(names(daemon, "sdpa"))


def test_what_a_name_begins_with_is_nearest(daemon):
    message = daemon.post("/v1/trace", {"tokens": TOKENS, "values": ["model.embed"]}).error[2]
    assert "nearest: model.embed_tokens," in message
    message = daemon.post("/v1/trace", {"tokens": TOKENS, "values": [L0 + "mlp.d"]}).error[2]
    assert f"nearest: {L0}mlp.down_proj," in message


@pytest.mark.parametrize("path, more", [("/v1/trace", {"values": []}), ("/v1/logits", {}), ("/v1/generate", {})])
def test_unknown_ones(daemon, path, more):
    for attention in ("flash", "SDPA", "eager ", "\u00e9"):
        status, param, message = daemon.post(path, {"tokens": TOKENS, "attention": attention} | more).error
        assert (status, param) == (400, "attention") and "eager, sdpa" in message


# ---- what the head says, said again ----

@BOTH
@pytest.mark.parametrize("fields", [
    {}, {"positions": "last"}, {"positions": [1, 6]}, {"padding": 3}, {"batch": 3}, {"chunks": [5, 3]}, {"chunks": [8]},
    {"padding": 2, "chunks": [1, 3, 4], "positions": "last"}])
def test_a_trace_can_be_asked_for_again(daemon, attention, fields):
    reply = daemon.trace(["*"], BINARY, attention=attention, steps=1, **fields)
    said = reply.metadata
    positions = said["positions"]
    again = {"tokens": json.loads(said["prompt_tokens"]), "attention": said["attention"],
             "positions": positions if positions in ("all", "last") else json.loads(positions)}
    again |= {key: json.loads(said[key]) for key in ("padding", "batch", "chunks") if key in said}
    assert again == {"tokens": TOKENS, "attention": attention, "positions": "all"} | fields
    assert daemon.trace(["*"], BINARY, steps=1, **again).body == reply.body
    head = daemon.trace([], attention=attention, steps=1, **fields).json
    assert {key: head[key] for key in again if key != "tokens"} == {k: v for k, v in again.items() if k != "tokens"}
    for key in ("padding", "batch", "chunks"):
        assert (key in head) == (key in fields)


# ---- chunks ----

@BOTH
def test_one_chunk_is_the_whole_prompt(daemon, attention):
    whole = daemon.trace(["*"], attention=attention, steps=2, format="digest").json
    chunk = daemon.trace(["*"], attention=attention, steps=2, format="digest", chunks=[8]).json
    assert whole["values"] == chunk["values"] and whole["tokens"] == chunk["tokens"]


@BOTH
def test_chunks_name_their_values(daemon, attention):
    tensors = daemon.trace(["*"], BINARY, attention=attention, steps=1, chunks=[3, 1, 4]).tensors
    want = {prefix + name for prefix in ("chunk_1/", "chunk_2/", "chunk_3/", "step_1/")
            for name in names(daemon, attention)}
    assert set(tensors) == want | {"tokens"}
    assert [tensors[f"chunk_{i}/lm_head"].shape[0] for i in (1, 2, 3)] == [3, 1, 4]
    assert tensors[f"chunk_3/{L0}self_attn.keys"].shape[1] == 8
    whole = daemon.trace(["model.embed_tokens"], BINARY, attention=attention).tensors["model.embed_tokens"]
    parts = [tensors[f"chunk_{i}/model.embed_tokens"] for i in (1, 2, 3)]
    assert numpy.array_equal(numpy.concatenate(parts), whole)
    some = daemon.trace(["chunk_2/logits", "chunk_[13]/attn_output"], attention=attention, chunks=[3, 1, 4]).json
    assert set(some["values"]) == {"chunk_2/lm_head", f"chunk_1/{L0}self_attn.o_proj", f"chunk_3/{L0}self_attn.o_proj"}


@BOTH
def test_logits_of_a_prompt_in_chunks(daemon, attention):
    fields = {"tokens": TOKENS, "attention": attention, "chunks": [3, 5]}
    traced = daemon.trace(["chunk_2/logits"], BINARY, attention=attention, chunks=[3, 5]).tensors["chunk_2/lm_head"]
    reply = daemon.post("/v1/logits", fields, Accept=BINARY)
    assert numpy.array_equal(reply.tensors["logits"], traced[-1:])
    assert json.loads(reply.metadata["positions"]) == [7] and json.loads(reply.metadata["chunks"]) == [3, 5]
    top = daemon.post("/v1/logits", fields | {"top_k": 2}).json
    best = int(numpy.argmax((traced[-1].astype(numpy.uint32) << 16).view(numpy.float32)))
    assert top["top_k"][0][0]["id"] == best and top["chunks"] == [3, 5]
    for positions in ("all", [7]):
        assert daemon.post("/v1/logits", fields | {"positions": positions}).error[:2] == (400, "positions")
    one = daemon.post("/v1/logits", fields | {"chunks": [8], "positions": "all"}, Accept=BINARY).tensors["logits"]
    assert numpy.array_equal(one, daemon.trace(["logits"], BINARY, attention=attention).tensors["lm_head"])


@BOTH
def test_a_chunk_can_be_replaced(daemon, attention):
    name = "chunk_2/model.layers.0.mlp.down_proj"
    fields = {"attention": attention, "chunks": [5, 3]}
    before = daemon.trace(["*"], BINARY, **fields).tensors
    after = daemon.trace(["*"], BINARY, replace={name: [[1.5] * 64] * 3}, **fields).tensors
    assert all(numpy.array_equal(before[n], after[n]) for n in before if n.startswith("chunk_1/"))
    assert (after[name] == 0x3FC0).all()
    assert not numpy.array_equal(before["chunk_2/lm_head"], after["chunk_2/lm_head"])


# ---- padding ----

@BOTH
def test_what_stands_in_the_padding_does_not_matter(daemon, attention):
    fields = {"attention": attention, "padding": 3, "steps": 2}
    one = daemon.trace(["*"], BINARY, **fields).tensors
    two = daemon.trace(["*"], BINARY, **fields, tokens=[1, 2, 3, *TOKENS[3:]]).tensors
    plain = daemon.trace(["*"], BINARY, attention=attention, steps=2).tensors
    assert not numpy.array_equal(one["model.embed_tokens"][:3], two["model.embed_tokens"][:3])
    for name in ("lm_head", "model.norm", L0 + "self_attn.o_proj", "model.layers.1"):
        assert numpy.array_equal(one[name][3:], two[name][3:]), name
        assert numpy.array_equal(one["step_2/" + name], two["step_2/" + name]), name
    assert not numpy.array_equal(one["lm_head"][3:], plain["lm_head"][3:])


def test_a_batch_takes_the_order_of_its_rows(daemon):
    """One token's products of no more than 4096 terms are added in another order than those of 64 rows."""
    fields = {"attention": "sdpa", "steps": 24}
    plain = daemon.trace(["*"], BINARY, **fields).tensors
    one = daemon.trace(["*"], BINARY, batch=1, **fields).tensors
    many = daemon.trace(["*"], BINARY, batch=64, **fields).tensors
    assert all(numpy.array_equal(plain[name], one[name]) for name in plain)
    assert numpy.array_equal(plain["lm_head"], many["lm_head"])
    assert any(not numpy.array_equal(plain[name], many[name]) for name in plain)


def test_generate_takes_neither(daemon):
    for field, value in (("padding", 1), ("batch", 2), ("chunks", [8])):
        assert daemon.post("/v1/generate", {"tokens": TOKENS, field: value}).error[:2] == (400, field)
