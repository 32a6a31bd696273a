"""Text in, logits out: a Llama 2 in small with a SentencePiece tokenizer, against transformers called without an option.

Live under torch-cpu/avx2, which every CPU that runs PyTorch's AVX2 kernels can show."""
import json
import os
import shutil
import subprocess
import sys

import numpy
import pytest

from conftest import BINARY, ROOT, Daemon

sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))
import reference  # noqa: E402
import tokenizers_corpus  # noqa: E402

CACHE = os.environ.get("SAMEBIT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "samebit")
PYTHON = os.path.join(os.environ.get("SAMEBIT_PARITY_VENV", os.path.join(CACHE, "parity-venv")), "bin", "python")
NUMERICS = "torch-cpu/avx2"
LLAMA2 = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}


@pytest.mark.parametrize("case, config", [("tok_sentencepiece_prepend", LLAMA2), ("tok_sentencepiece_metaspace", None)])
def test_equal(case, config, tmp_path):
    if not os.path.exists(PYTHON):
        pytest.skip("no parity environment: make parity installs it")
    folder = str(tmp_path / "model")
    shutil.copytree(os.path.join(ROOT, "tests", "cases", "field", case), folder)
    if config:
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
    texts = [t for _, t in tokenizers_corpus.fixed() if 0 < len(t.encode()) < 120 and "\0" not in t][:16]
    done = subprocess.run([PYTHON, os.path.join(ROOT, "tests", "parity", "text_logits.py"), folder], input=json.dumps(texts).encode(),
                          stdout=subprocess.PIPE, env=reference.environment(NUMERICS), timeout=300, check=True)
    d = Daemon(folder, None, ("--numerics", NUMERICS, *(("--tokenizer", "auto") if config else ())))
    try:
        for text, want in zip(texts, json.loads(done.stdout)):
            assert d.post("/v1/tokenize", {"text": text}).json["tokens"] == want["ids"], text
            found = d.post("/v1/trace", {"prompt": text, "values": ["lm_head"]}, Accept=BINARY).tensors["lm_head"]
            wanted = numpy.frombuffer(bytes.fromhex(want["logits"]), numpy.uint16).reshape(found.shape)
            assert (found != wanted).sum() == 0, text
    finally:
        d.stop()
