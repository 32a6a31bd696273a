"""Folders as people have them, whose tokenizer is the matter: tests/cases/field/tok_*.

expected.json holds the values of PyTorch 2.13.0 with transformers 5.18.0 (eager, bf16, AVX512_BF16) and the ids of the
`tokenizers` package and of AutoTokenizer."""
import hashlib
import json
import os
import shutil

import pytest

from conftest import BINARY, ROOT, Daemon

CASES = os.path.join(ROOT, "tests", "cases", "field")
NAMES = ["tok_sentencepiece_prepend", "tok_sentencepiece_metaspace", "tok_none", "tok_vocab_merges_only", "tok_pad_beyond_vocab",
         "tok_class_llamafast_bytelevel"]
VALUES = ["lm_head", "step_1/lm_head", "step_2/lm_head"]


def read(name, file="expected.json"):
    with open(os.path.join(CASES, name, file), encoding="utf-8") as f:
        return json.load(f)


@pytest.fixture
def serve():
    """serve(folder, argument, ...): a daemon of the test's own."""
    running = []

    def starter(folder, *arguments):
        running.append(Daemon(folder, None, ("--attention", "eager", *arguments)))
        return running[-1]

    yield starter
    for d in running:
        d.stop()


def notices(d):
    found = d.get("/v1/model").json["notices"]
    for notice in found:
        assert notice in d.said()
    return "\n".join(found)


def digests(d, **prompt):
    """SHA-256 of the logits of the prompt and of two steps."""
    tensors = d.post("/v1/trace", {"values": VALUES, "steps": 2, **prompt}, Accept=BINARY).tensors
    return {"sha256 " + name: hashlib.sha256(tensors[name].tobytes()).hexdigest() for name in VALUES}


def ids(d, text, **fields):
    reply = d.post("/v1/tokenize", {"text": text, **fields})
    assert reply.status == 200, reply.body
    return reply.json["tokens"]


@pytest.mark.parametrize("name", NAMES)
def test_values(serve, name):
    """The ids give PyTorch's logits, with whatever tokenizer."""
    d, expected = serve(os.path.join(CASES, name)), read(name)
    found = digests(d, tokens=expected["ids"])
    assert found == {key: expected[key] for key in found}
    reply = d.post("/v1/generate", {"tokens": expected["ids"], "max_tokens": 3, "stop_at_eos": False}).json
    assert reply["tokens"][:2] == expected["tokens fed and chosen"][len(expected["ids"]):]


@pytest.mark.parametrize("name", NAMES[:2])
def test_sentencepiece(serve, name):
    """Text in, logits out: the ids of the package, and from them the values of PyTorch."""
    d, expected = serve(os.path.join(CASES, name)), read(name)
    key = next(k for k in expected if k.startswith("token ids"))
    for text, want in expected[key].items():
        assert ids(d, text) == want, text
        assert ids(d, text, add_special_tokens=False) == ids(d, text, special=False) == want[1:]
    for want, text in expected["decoded"].items():
        assert d.post("/v1/detokenize", {"tokens": json.loads(want)}).json["text"] == text
    text, want = max(expected[key].items(), key=lambda item: len(item[1]))
    assert digests(d, prompt=text) == digests(d, tokens=want)


def test_stream(serve):
    """What is streamed is what is decoded at once, also over byte tokens that are no character."""
    d = serve(os.path.join(CASES, NAMES[0]))
    lines = d.post("/v1/generate", {"prompt": "\u65e5\u672c", "max_tokens": 40, "stream": True, "stop_at_eos": False}).body.splitlines()
    tokens = [json.loads(line) for line in lines]
    whole = tokens.pop()
    assert len(tokens) == 40 and "".join(t["text"] for t in tokens) == whole["text"]
    assert whole["text"] == d.post("/v1/detokenize", {"tokens": whole["tokens"], "skip_special_tokens": True}).json["text"]


@pytest.mark.parametrize("files, says", [
    ([], "has no tokenizer.json; make one with"),
    (["tokenizer.model"], "has no tokenizer.json (tokenizer.model is not read); make one with"),
    (["tekken.json"], "(tekken.json is not read)"),
    (["vocab.json"], "(vocab.json is not read)"),
])
def test_none(serve, tmp_path, files, says):
    shutil.copytree(os.path.join(CASES, "tok_none"), tmp_path / "model")
    for file in files:
        (tmp_path / "model" / file).write_bytes(b"\n\x07x")
    without(serve(str(tmp_path / "model")), says)


@pytest.mark.parametrize("content, says", [
    ("{", "tokenizer.json: line 1"),
    ('{"model": {"type": "WordPiece"}}', 'model: "WordPiece" is not supported, only BPE and Unigram'),
    ('{"normalizer": {"type": "New"}, "model": {}}', 'normalizer: "New" is not supported'),
    ('{"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}}', '"dropout" makes ids random'),
])
def test_unusable(serve, tmp_path, content, says):
    shutil.copytree(os.path.join(CASES, "tok_none"), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(content)
    without(serve(str(tmp_path / "model")), says)


def without(d, says):
    """A daemon without a tokenizer: it says so, serves ids, and refuses text with the reason."""
    assert says in notices(d) and "only token ids are served" in notices(d)
    assert d.get("/v1/model").json["tokenizer"]["ids"] == "none"
    for path, body, param in [("/v1/generate", {"prompt": "a"}, "prompt"), ("/v1/logits", {"prompt": "a"}, "prompt"),
                              ("/v1/trace", {"prompt": "a", "values": ["logits"]}, "prompt"), ("/v1/tokenize", {"text": "a"}, "text"),
                              ("/v1/detokenize", {"tokens": [1]}, "tokens")]:
        status, found, message = d.post(path, body).error
        assert (status, found) == (400, param) and "without a tokenizer" in message and says in message
    reply = d.post("/v1/generate", {"tokens": [5, 17], "max_tokens": 2}).json
    assert reply["text"] is None and reply["tokens"]
    lines = d.post("/v1/generate", {"tokens": [5, 17], "max_tokens": 2, "stream": True, "stop_at_eos": False}).body.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [None] * 3
    assert d.post("/v1/logits", {"tokens": [5, 17], "top_k": 2}).status == 200


def test_vocab_and_merges(serve):
    """The ids are those that AutoTokenizer gives: Qwen2Tokenizer's, of vocab.json and merges.txt."""
    d = serve(os.path.join(CASES, "tok_vocab_merges_only"))
    assert ids(d, "the cat") == [259, 222, 286] and ids(d, "hello world") == [258, 266, 80, 277]
    assert ids(d, "a<|endoftext|>") == [66, 300]  # a special token that the class has by default
    assert ids(d, "cafe\u0301") == ids(d, "caf\u00e9")  # it normalizes to NFC


def test_pad_beyond_vocab(serve):
    d = serve(os.path.join(CASES, "tok_pad_beyond_vocab"))
    assert "has ids up to 300, the model 0 to 299" in notices(d)
    assert ids(d, "a<pad>") == [66, 300]
    assert d.post("/v1/detokenize", {"tokens": [66, 300]}).json["text"] == "a<pad>"
    assert d.post("/v1/generate", {"prompt": "the cat", "max_tokens": 2}).status == 200
    for body in ({"prompt": "a<pad>"}, {"prompt": "a<pad>", "max_tokens": 1}):
        status, param, message = d.post("/v1/generate", body).error
        assert (status, param) == (400, "prompt") and '"<pad>", id 300' in message and "0 to 299" in message
    assert d.post("/v1/generate", {"tokens": [300]}).error[:2] == (400, "tokens[0]")


def test_class_of_auto_tokenizer(serve):
    """LlamaTokenizerFast over a byte-level file: whose ids is said, and can be chosen."""
    folder, wanted = os.path.join(CASES, "tok_class_llamafast_bytelevel"), read("tok_class_llamafast_bytelevel", "expected_ids.json")
    d = serve(folder)
    assert 'AutoTokenizer of transformers 5.18 gives other ids than tokenizer.json: for "the cat" 259 222 286 here, 259 286 there' in notices(d)
    assert d.get("/v1/model").json["tokenizer"]["ids"] == "file"
    auto = serve(folder, "--tokenizer", "auto")
    assert "tokenizer.json has others" in notices(auto) and auto.get("/v1/model").json["tokenizer"]["ids"] == "auto"
    for text, want in wanted.items():
        assert ids(d, text) == want["tokenizers package"] and ids(auto, text) == want["AutoTokenizer"], text


def test_a_late_difference_is_shown(serve):
    """The ids part at the 29th: AutoTokenizer's Qwen2 splits the digits of 12345."""
    said = notices(serve(os.path.join(CASES, "cfg_yarn")))
    assert '12345 things." ... 278 279 22 222 85 73 74 79 ... here, ... 18 19 20 21 22 222 85 73 ... there' in said


def test_tokens_of_tokenizer_config(serve, tmp_path):
    """Tokens that stand only in added_tokens_decoder are found in texts, with the next free id."""
    folder = tmp_path / "model"
    shutil.copytree(os.path.join(CASES, "tok_sentencepiece_prepend"), folder)
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {
        str(size): {"content": "<|tool|>", "special": True, **flags}, "1": {"content": "<s>", "special": True, **flags},
        str(size + 5): {"content": "hello", "special": False, **flags}}}))
    d = serve(str(folder))
    found = d.post("/v1/tokenize", {"text": "a<|tool|>hello", "special": False}).json
    assert found["tokens"][1:] == [size, size + 1] and found["pieces"][1:] == ["<|tool|>", "hello"]
    assert d.post("/v1/detokenize", {"tokens": [size, size + 1], "skip_special": True}).json["text"] == "hello"
    assert f"id {size + 5} in the file and {size + 1} here" in notices(d)


@pytest.mark.parametrize("config, says", [
    ("{", "AutoTokenizer of transformers fails on this folder"), ("[]", "tokenizer_config.json: not a JSON object"),
    ('{"split_special_tokens": true}', "looks for no special tokens in a text (split_special_tokens"),
    ('{"additional_special_tokens": ["<|z|>"]}', 'other ids than tokenizer.json: for "the <|z|> cat"'),
    ('{"extra_special_tokens": {"z_token": "<|z|>"}}', 'other ids than tokenizer.json: for "the <|z|> cat"'),
    ('{"model_max_length": 1000000000000000019884624838656, "pad_token": "<|z|>"}', 'other ids than tokenizer.json: for "the <|z|> cat"'),
    ('{"model_max_length": NaN}', "")])
def test_what_auto_tokenizer_makes_of_tokenizer_config(serve, tmp_path, config, says):
    """It is said where AutoTokenizer fails, and where it gives other ids, if only for one more special token."""
    shutil.copytree(os.path.join(CASES, NAMES[0]), tmp_path / "model", copy_function=shutil.copyfile)
    (tmp_path / "model" / "tokenizer_config.json").write_text(config)
    found = notices(serve(str(tmp_path / "model")))
    assert says in found and (says or "AutoTokenizer" not in found)


def test_two_names(serve):
    d = serve(os.path.join(CASES, NAMES[0]))
    with_bos = ids(d, "the cat")
    for fields in ({"special": False}, {"add_special_tokens": False}, {"special": False, "add_special_tokens": False}):
        assert ids(d, "the cat", **fields) == with_bos[1:]
        assert d.post("/v1/generate", {"prompt": "the cat", **fields, "max_tokens": 1}).json["prompt_tokens"] == with_bos[1:]
    assert d.post("/v1/tokenize", {"text": "a", "special": True, "add_special_tokens": False}).error[:2] == (400, "add_special_tokens")
    assert d.post("/v1/detokenize", {"tokens": [1], "skip_special": True, "skip_special_tokens": False}).error[:2] == \
        (400, "skip_special_tokens")
    for name in ("skip_special", "skip_special_tokens"):
        assert d.post("/v1/detokenize", {"tokens": [1, 299], name: True}).json["text"] == "a"
