"""Logits, generation, the tokenizer's routes."""
import json

import numpy
import pytest
from conftest import BINARY, JSON, TOKENS

NDJSON = "application/x-ndjson"


def floats(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def test_logits_are_those_of_a_trace(daemon):
    whole = daemon.trace(["logits"], BINARY).tensors["lm_head"]
    for positions, rows in (("last", [7]), ("all", list(range(8))), ([0, 5], [0, 5]), (None, [7])):
        body = {"tokens": TOKENS} | ({"positions": positions} if positions else {})
        reply = daemon.post("/v1/logits", body).json
        assert reply["positions"] == rows and reply["prompt_tokens"] == TOKENS
        assert reply["logits"]["shape"] == [len(rows), 1024]
        assert numpy.array_equal(numpy.array(reply["logits"]["data"], numpy.float32), floats(whole[rows]))
        binary = daemon.post("/v1/logits", body, Accept=BINARY)
        assert numpy.array_equal(binary.tensors["logits"], whole[rows])
        assert json.loads(binary.metadata["positions"]) == rows


def test_top_k(daemon):
    whole = floats(daemon.trace(["logits"], BINARY).tensors["lm_head"])
    reply = daemon.post("/v1/logits", {"tokens": TOKENS, "positions": "all", "top_k": 1000}).json
    for row, found in zip(whole, reply["top_k"], strict=True):
        order = sorted(range(1024), key=lambda i: (-row[i], i))[:1000]
        assert [t["id"] for t in found] == order
        assert [numpy.float32(t["logit"]) for t in found] == [row[i] for i in order]
        exact = row.astype(numpy.float64)
        exact -= exact.max() + numpy.log(numpy.exp(exact - exact.max()).sum())
        for t in found:
            assert abs(t["logprob"] - exact[t["id"]]) < 1e-5
            assert float(numpy.float32(t["logprob"])) == pytest.approx(t["logprob"], rel=1e-7)
        for t in found[:20]:
            assert t["token"] == daemon.post("/v1/detokenize", {"tokens": [t["id"]]}).json["text"]
            if "bytes" in t:
                assert "\ufffd" in t["token"]
                assert bytes(t["bytes"]).decode(errors="replace") == t["token"]


def test_top_k_is_json_only(daemon):
    body = {"tokens": TOKENS, "top_k": 2}
    assert daemon.post("/v1/logits", body, Accept=BINARY).error[:2] == (400, "top_k")
    assert daemon.post("/v1/logits", body | {"format": "digest"}).error[:2] == (400, "top_k")


def generate(daemon, **fields):
    reply = daemon.post("/v1/generate", {"tokens": TOKENS, "stop_at_eos": False, **fields})
    assert reply.status == 200, reply.body
    return reply


def test_generation_is_greedy(daemon):
    found = generate(daemon, max_tokens=12).json
    traced = daemon.trace(["step_11/logits"], BINARY, steps=11).tensors
    assert found["tokens"][:11] == traced["tokens"].tolist()[8:]
    assert found["tokens"][11] == int(numpy.argmax(floats(traced["step_11/lm_head"][0])))
    assert found["reason"] == "length" and found["prompt_tokens"] == TOKENS
    assert found["text"] == daemon.post("/v1/detokenize",
                                        {"tokens": found["tokens"], "skip_special": True}).json["text"]


def test_one_token(daemon):
    found = generate(daemon, max_tokens=1).json
    assert found["tokens"] == generate(daemon, max_tokens=3).json["tokens"][:1]


def test_default_length(daemon):
    assert len(generate(daemon).json["tokens"]) == 32


def test_a_stream_has_whole_characters(daemon):
    reply = generate(daemon, max_tokens=60, stream=True)
    assert reply.headers["Content-Type"] == NDJSON
    lines = [json.loads(line) for line in reply.body.decode("utf-8").splitlines()]
    last = lines.pop()
    assert last["done"] is True and last["reason"] == "length" and len(lines) == 60
    assert [line["token"] for line in lines] == last["tokens"]
    assert "".join(line["text"] for line in lines) == last["text"]
    whole = generate(daemon, max_tokens=60).json
    assert whole["text"] == last["text"] and whole["tokens"] == last["tokens"]


def test_a_stream_comes_token_by_token(start):
    """The first line is there long before the last."""
    d = start()
    connection = d.connect()
    body = json.dumps({"tokens": TOKENS, "max_tokens": 1500, "stream": True, "stop_at_eos": False})
    connection.request("POST", "/v1/generate", body, {"Content-Type": JSON})
    response = connection.getresponse()
    first = json.loads(response.readline())
    assert set(first) == {"token", "text"}
    assert "POST /v1/generate" not in d.said()  # its line is written when it is over
    rest = response.read().splitlines()
    assert len(rest) == 1500 and json.loads(rest[-1])["done"]
    connection.close()


def test_stopping_at_eos(daemon, models, tmp_path):
    """The model again, told that its fourth token ends a text."""
    import shutil

    from conftest import Daemon
    tokens = generate(daemon, max_tokens=8).json["tokens"]
    folder = tmp_path / "tiny-qwen2"
    shutil.copytree(f"{models}/tiny-qwen2", folder)
    path = folder / "generation_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(config | {"eos_token_id": [tokens[3]]}))
    d = Daemon(str(folder))
    try:
        want = tokens[:tokens.index(tokens[3]) + 1]
        found = d.post("/v1/generate", {"tokens": TOKENS, "max_tokens": 8}).json
        assert found["tokens"] == want and found["reason"] == "eos"
        assert generate(d, max_tokens=8).json["tokens"] == tokens
        assert d.get("/v1/model").json["tokenizer"]["eos"] == [tokens[3]]
    finally:
        d.stop()


@pytest.mark.parametrize("accept, stream, status", [
    (JSON, False, 200), (NDJSON, True, 200), ("*/*", True, 200), (JSON, True, 200),
    (BINARY, False, 406), (BINARY, True, 406), ("text/plain", True, 406)])
def test_accept_of_generate(daemon, accept, stream, status):
    body = {"tokens": TOKENS, "max_tokens": 1, "stream": stream}
    assert daemon.post("/v1/generate", body, Accept=accept).status == status


TEXTS = ["Hello, world", "", "na\u00efve caf\u00e9 \U0001f469\u200d\U0001f680", "tab\tnewline\n  spaces  ",
         "\u0645\u0631\u062d\u0628\u0627 \u4f60\u597d", "NUL \0 and \x7f", '"quoted\\"', "1234567890"]


@pytest.mark.parametrize("text", TEXTS)
def test_tokenize_and_back(daemon, text):
    found = daemon.post("/v1/tokenize", {"text": text}).json
    assert len(found["pieces"]) == len(found["tokens"])
    assert daemon.post("/v1/detokenize", {"tokens": found["tokens"], "skip_special": True}).json["text"] == text
    plain = daemon.post("/v1/tokenize", {"text": text, "special": False}).json["tokens"]
    assert [t for t in found["tokens"] if t in plain] == plain


def test_pieces_are_those_of_the_vocabulary(daemon):
    assert daemon.post("/v1/tokenize", {"text": " a", "special": False}).json["pieces"][0].startswith("\u0120")


@pytest.mark.parametrize("path, body, param", [
    ("/v1/tokenize", {}, "text"), ("/v1/tokenize", {"text": 5}, "text"), ("/v1/tokenize", {"text": None}, "text"),
    ("/v1/tokenize", {"text": "a", "special": 1}, "special"), ("/v1/tokenize", {"text": "a", "x": 1}, "x"),
    ("/v1/detokenize", {}, "tokens"), ("/v1/detokenize", {"tokens": 5}, "tokens"),
    ("/v1/detokenize", {"tokens": ["a"]}, "tokens[0]"), ("/v1/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
    ("/v1/detokenize", {"tokens": [10**6]}, "tokens[0]"), ("/v1/detokenize", {"tokens": [1.0]}, "tokens[0]"),
    ("/v1/detokenize", {"tokens": [1], "skip_special": "yes"}, "skip_special"),
    ("/v1/logits", {"tokens": [1], "top_k": 0}, "top_k"), ("/v1/logits", {"tokens": [1], "top_k": 1001}, "top_k"),
    ("/v1/logits", {"tokens": [1], "values": []}, "values"),
    ("/v1/logits", {"tokens": [1], "positions": [1]}, "positions[0]"),
    ("/v1/generate", {"tokens": [1], "max_tokens": 0}, "max_tokens"),
    ("/v1/generate", {"tokens": [1], "stream": 1}, "stream"),
    ("/v1/generate", {"tokens": [1], "steps": 1}, "steps"),
])
def test_bad_fields(daemon, path, body, param):
    assert daemon.post(path, body).error[:2] == (400, param)
