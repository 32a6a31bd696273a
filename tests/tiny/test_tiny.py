"""The makers of the tiny models give the same bytes everywhere."""
import hashlib
import json
import os
import subprocess
import sys

import ml_dtypes  # noqa: F401  adds bfloat16 to numpy
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

DIGESTS = {
    "tiny-qwen2": "57bcaf6b030732eb",
    "tiny-llama3-rope": "56c10fa247bba543",
    "tiny-llama-f16": "f1823376384d71c2",
    "tiny-llama-f32": "4cc6bdb5c3fff22d",
    "tiny-wide": "87dd04fb53aed4fd"}

HERE = os.path.dirname(os.path.abspath(__file__))
MAKER = os.path.join(HERE, "make_tiny.py")


def make(out, *names):
    return subprocess.run([sys.executable, MAKER, str(out), *names], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", name="made")
def all_made(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny")
    done = make(out)
    assert done.returncode == 0, done.stderr
    return out


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_merges_are_what_the_text_gives():
    done = subprocess.run([sys.executable, os.path.join(HERE, "train_bpe.py"), "--check"], check=False)
    assert done.returncode == 0


def test_bytes(made):
    """Goldens rest on these: another generator means recording them anew."""
    got = {name: digest(made / name / "model.safetensors") for name in DIGESTS}
    assert got == DIGESTS


def test_folders_are_whole(made):
    listed = subprocess.run([sys.executable, MAKER, "--list"], capture_output=True, text=True, check=True)
    names = [n for n in listed.stdout.split() if n.startswith("tiny-")]
    assert sorted(os.listdir(made)) == sorted(names) and len(names) == 29
    for name in names:
        folder = made / name
        config = json.load(open(folder / "config.json"))
        assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() == config["vocab_size"]
        assert (folder / "tokenizer_config.json").exists() and (folder / "generation_config.json").exists()


def test_shards_hold_the_same_weights(made):
    whole = safe_open(made / "tiny-qwen2" / "model.safetensors", "np")
    where = json.load(open(made / "tiny-qwen2-sharded" / "model.safetensors.index.json"))["weight_map"]
    assert len(set(where.values())) == 3 and set(where) == set(whole.keys())
    for name, file in where.items():
        part = safe_open(made / "tiny-qwen2-sharded" / file, "np")
        assert part.get_tensor(name).tobytes() == whole.get_tensor(name).tobytes()


def test_again(made):
    assert "there already" in make(made, "tiny-qwen2").stdout
    assert "no model 'tiny-x'" in make(made, "tiny-x").stderr
    (made / "tiny-wide" / ".complete").unlink()
    assert make(made, "tiny-wide").returncode == 0
    assert (made / "tiny-wide" / ".complete").exists()
