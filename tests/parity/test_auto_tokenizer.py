"""`--tokenizer auto` against AutoTokenizer.from_pretrained of transformers: ids, decodes, and whether a difference is noticed.

Skipped where the parity environment (make parity) is not installed."""
import json
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_tokenizer  # noqa: E402
import tokenizers_corpus  # noqa: E402
import tokenizers_made as made  # noqa: E402
import tokenizers_pieces as pieces  # noqa: E402

PYTHON = os.path.join(os.environ.get("SAMEBIT_PARITY_VENV", os.path.join(made.CACHE, "parity-venv")), "bin", "python")
ADDED = {"content": "<|tool|>", "special": True, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
LLAMA = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def byte(kind="gpt2"):
    return lambda words: made.build(kind, words)


def piece(kind="llama2"):
    return lambda words: pieces.build(kind, words)


def no_post(maker):
    return lambda words: maker(words) | {"post_processor": None}


# name: (model_type, tokenizer.json or None: vocab.json and merges.txt, tokenizer_config.json or None, special_tokens_map.json)
CASES = {
    "llama, no class": ("llama", piece(), None),
    "llama, generic": ("llama", piece(), {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "pad_token": "<pad>"}),
    "llama, its class": ("llama", piece(), LLAMA),
    "llama, its class over Metaspace": ("llama", piece("metaspace-first"), LLAMA | {"legacy": False}),
    "llama, legacy": ("llama", piece(), LLAMA | {"legacy": True}),
    "llama, no prefix": ("llama", piece(), LLAMA | {"add_prefix_space": False}),
    "llama, add_bos_token over a file": ("llama", no_post(piece()), LLAMA | {"add_bos_token": True}),
    "llama, its class over bytes": ("llama", byte("llama3"), LLAMA | {"add_bos_token": False}),
    "llama, added_tokens_decoder": ("llama", piece(), LLAMA | {"added_tokens_decoder": {"1": ADDED | {"content": "<s>"}, "9999": ADDED}}),
    "llama, generic, added_tokens_decoder": ("llama", piece(), {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {"9999": ADDED}}),
    "llama, map": ("llama", piece(), {"tokenizer_class": "PreTrainedTokenizerFast"}, {"pad_token": "[PAD]", "eos_token": ADDED}),
    "mistral, llama's class": ("mistral", piece(), LLAMA),
    "qwen2, its class": ("qwen2", byte("qwen2"), {"tokenizer_class": "Qwen2Tokenizer"}),
    "qwen2, no class": ("qwen2", byte("qwen2"), None),
    "qwen2, llama's class": ("qwen2", byte("llama3"), LLAMA | {"bos_token": "<|begin_of_text|>"}),
    "qwen2, generic over another pattern": ("qwen2", byte("gpt2"), {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "qwen2, prefix space": ("qwen2", byte("qwen2"), {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}),
    "qwen3, generic": ("qwen3", byte("gpt2"), {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "qwen3, its class": ("qwen3", byte("llama3"), {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|eot_id|>"}),
    "llama, gpt2's class": ("llama", byte("llama3"), {"tokenizer_class": "GPT2Tokenizer"}),
    "llama, gpt2's class, prefix": ("llama", byte("gpt2"), {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}),
    "llama, neox's class": ("llama", byte("llama3"), {"tokenizer_class": "GPTNeoXTokenizerFast"}),
    "llama, gemma's class": ("llama", piece(), {"tokenizer_class": "GemmaTokenizer"}),
    "llama, codellama's class": ("llama", piece(), {"tokenizer_class": "CodeLlamaTokenizer"}),
    "llama, cohere's class": ("llama", byte("qwen2"), {"tokenizer_class": "CohereTokenizerFast"}),
    "qwen2 of vocab and merges": ("qwen2", None, {"tokenizer_class": "Qwen2Tokenizer"}),
    "qwen2 of vocab and merges, no class": ("qwen2", None, None),
    "gpt2 of vocab and merges": ("llama", None, {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "!"}),
}


def write(folder, words, model_type, maker, config, special=None):
    os.makedirs(folder)
    files = {"config.json": {"model_type": model_type}, "tokenizer_config.json": config, "special_tokens_map.json": special}
    if maker:
        files["tokenizer.json"] = maker(words)
    else:
        files["vocab.json"] = words[0]
        with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in words[1]))
    for name, content in files.items():
        if content is not None:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                json.dump(content, f)


@pytest.fixture(scope="module")
def texts():
    return [t for _, t in tokenizers_corpus.fixed() if len(t) < 400] + tokenizers_corpus.generated(150) + tokenizers_corpus.edges(300)


@pytest.fixture(scope="module")
def answers(tmp_path_factory, texts):
    """name -> (folder, what AutoTokenizer gives)."""
    if not os.path.exists(PYTHON):
        pytest.skip("no parity environment: make parity installs it")
    root, words = tmp_path_factory.mktemp("auto"), made.vocabulary(3000)
    folders = {name: str(root / str(i)) for i, name in enumerate(CASES)}
    for name, case in CASES.items():
        write(folders[name], words, *case)
    done = subprocess.run([PYTHON, os.path.join(os.path.dirname(os.path.abspath(__file__)), "auto_tokenizer.py")], timeout=600,
                          input=json.dumps({"folders": list(folders.values()), "texts": texts}).encode(), stdout=subprocess.PIPE, check=True)
    return {name: (folder, found) for (name, folder), found in zip(folders.items(), json.loads(done.stdout))}


@pytest.mark.parametrize("name", CASES)
def test_ids(answers, texts, name):
    folder, want = answers[name]
    assert "error" not in want, want
    for special, key in ((1, "ids"), (0, "plain")):
        got = test_tokenizer.ask(folder, [(b"e", special, t.encode()) for t in texts], arguments=["auto"])
        wrong = [(t, g, w) for t, g, w in zip(texts, got, want[key]) if g != w]
        assert not wrong, f"{len(wrong)} of {len(texts)} {key}: {ascii(wrong[0])[:500]}"
    got = test_tokenizer.ask(folder, [(b"d", 0, ids) for ids in want["ids"]], arguments=["auto"])
    wrong = [(w, g) for g, w in zip(got, want["decoded"]) if g != w.encode()]
    assert not wrong, f"{len(wrong)} decodes: {ascii(wrong[0])[:500]}"
