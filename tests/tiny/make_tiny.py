#!/usr/bin/env python3
"""Makes small random models, and those of Qwen2.5-0.5B's and SmolLM2-135M's shapes, as Hugging Face folders.

    python3 tests/tiny/make_tiny.py OUT_DIR [name ...]      all small ones without names
    python3 tests/tiny/make_tiny.py --list

Needs numpy, not torch.  Every weight is a function of the model's name, the tensor's name and the
element's index (splitmix64 and integer sums, then one multiplication in f64), so the files are the
same bytes everywhere.  A folder that is complete already is left as it is; one appears by rename.
"""
import json
import os
import shutil
import struct
import sys
import tempfile

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 1 << 18  # elements made at once
FORMAT = 1  # raise when the content changes: folders of another format are made anew

# ---------------------------------------------------------------------------------------------
# numbers

U64 = numpy.uint64


def seed_of(*names):
    """FNV-1a of the names, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in "/".join(names).encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def splitmix64(seed, first, count):
    """The hashes of elements first .. first + count - 1."""
    start = (seed + (first + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = numpy.arange(count, dtype=U64)
    z *= U64(0x9E3779B97F4A7C15)
    z += U64(start)
    z ^= z >> U64(30)
    z *= U64(0xBF58476D1CE4E5B9)
    z ^= z >> U64(27)
    z *= U64(0x94D049BB133111EB)
    z ^= z >> U64(31)
    return z


def bell(z, std):
    """Bell-shaped f32 of mean 0: the sum of the hash's four 16-bit lanes."""
    lanes = z.view(numpy.uint16).reshape(-1, 4).sum(axis=1, dtype=numpy.int32)
    unit = std * 3.0**0.5 / 65536.0
    return ((lanes - 131070) * numpy.float64(unit)).astype(numpy.float32)


def uniform(z, low, high):
    """f32 in [low, high): the hash's upper 24 bits."""
    return (low + (z >> U64(40)) * numpy.float64((high - low) / 2**24)).astype(numpy.float32)


def bf16_bits(x):
    """Nearest bf16, ties to even; finite x."""
    u = x.view(numpy.uint32)
    return ((u + numpy.uint32(0x7FFF) + (u >> numpy.uint32(16) & numpy.uint32(1)))
            >> numpy.uint32(16)).astype(numpy.uint16)


def f32_bits(x):
    """Every fifth value is moved to lie exactly between two bf16 values."""
    u = x.view(numpy.uint32).copy()
    u[::5] = (u[::5] & numpy.uint32(0xFFFF0000)) | numpy.uint32(0x8000)
    return u


STORED = {  # dtype of config.json: name in the file, bytes, f32 -> bits
    "bfloat16": ("BF16", 2, bf16_bits),
    "float16": ("F16", 2, lambda x: x.astype(numpy.float16)),
    "float32": ("F32", 4, f32_bits),
}


def fill(file, seed, count, make, bits):
    for first in range(0, count, CHUNK):
        z = splitmix64(seed, first, min(CHUNK, count - first))
        file.write(bits(make(z)).tobytes())


# ---------------------------------------------------------------------------------------------
# tensors of a model

FOUR_NORMS = ("post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
PARTS = {  # what a layer of an architecture has that Llama's has not
    "phi3": {"fused_qkv": 1, "fused_gate": 1},
    "glm4": {"fused_gate": 1, "norms": ("post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm")},
    "gemma2": {"norms": FOUR_NORMS}, "gemma3_text": {"norms": FOUR_NORMS, "head_norms": 1},
    "exaone4": {"first": False, "head_norms": 1, "norms": ("post_attention_layernorm", "post_feedforward_layernorm")},
    "stablelm": {"norm_bias": 1}, "starcoder2": {"norm_bias": 1, "mlp": ("c_fc", "c_proj")},
}


def tensors(m):
    """[(name, shape, f32 of hashes)] in the order of the file."""
    c = m["config"]
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    dim = c.get("head_dim") or hidden // c["num_attention_heads"]
    q, kv = c["num_attention_heads"] * dim, c["num_key_value_heads"] * dim
    std = m["std"]
    out = []

    def weight(name, rows, columns, scale=1.0):
        out.append((name + ".weight", [rows, columns], lambda z: bell(z, std * scale)))

    def bias(name, size, spread):
        out.append((name + ".bias", [size], lambda z: bell(z, spread)))

    def norm(name, size):
        out.append((name + ".weight", [size], lambda z: uniform(z, 0.5, 1.5)))
        if "norm_bias" in PARTS.get(c["model_type"], {}):
            bias(name, size, 0.3)

    weight("model.embed_tokens", c["vocab_size"], hidden)
    parts = PARTS.get(c["model_type"], {})
    for n in range(c["num_hidden_layers"]):
        p = f"model.layers.{n}."
        if parts.get("first", True):
            norm(p + "input_layernorm", hidden)
        # queries and keys a little larger, so that attention is far from uniform
        for name, rows, scale, spread in (
                (("qkv_proj", q + 2 * kv, 1.5, 1.0),) if "fused_qkv" in parts else
                (("q_proj", q, 1.5, 1.0), ("k_proj", kv, 1.5, 2.0), ("v_proj", kv, 1.0, 0.1))):
            weight(p + "self_attn." + name, rows, hidden, scale)
            if m["biases"]:
                bias(p + "self_attn." + name, rows, spread)
        weight(p + "self_attn.o_proj", hidden, q)
        if m["biases"] == "all":
            bias(p + "self_attn.o_proj", hidden, 0.1)
        if c["model_type"] == "qwen3" or "head_norms" in parts:
            norm(p + "self_attn.q_norm", dim)
            norm(p + "self_attn.k_norm", dim)
        for name in parts.get("norms", ("post_attention_layernorm",)):
            norm(p + name, hidden)
        if "mlp" in parts:
            for name, rows, columns in zip(parts["mlp"], (inner, hidden), (hidden, inner)):
                weight(p + "mlp." + name, rows, columns)
                bias(p + "mlp." + name, rows, 0.1)
            continue
        for name, rows, columns in ((("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner))
                                    if "fused_gate" in parts else
                                    (("gate_proj", inner, hidden), ("up_proj", inner, hidden),
                                     ("down_proj", hidden, inner))):
            weight(p + "mlp." + name, rows, columns)
            if m["biases"] == "all":
                bias(p + "mlp." + name, rows, 0.1)
    norm("model.norm", hidden)
    if not c["tie_word_embeddings"]:
        weight("lm_head", c["vocab_size"], hidden)
    return out


def write_safetensors(path, model, specs, dtype):
    name_in_file, width, bits = STORED[dtype]
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in specs:
        end = at + width * int(numpy.prod(shape))
        header[name] = {"dtype": name_in_file, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, make in specs:
            fill(file, seed_of(model, name), int(numpy.prod(shape)), make, bits)
    return at


def write_weights(folder, name, m):
    specs, dtype, shards = tensors(m), m["dtype"], m["shards"]
    seed = m["seed"] or name
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), seed, specs, dtype)
        return
    total, where = 0, {}
    for i in range(shards):
        part = specs[i * len(specs) // shards:(i + 1) * len(specs) // shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        total += write_safetensors(os.path.join(folder, file), seed, part, dtype)
        where.update({spec[0]: file for spec in part})
    dump(folder, "model.safetensors.index.json",
         {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})


# ---------------------------------------------------------------------------------------------
# tokenizer: the same 1024 ids with each family's way of cutting text

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def byte_level(use_regex=False, trim_offsets=False):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": trim_offsets,
            "use_regex": use_regex}


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        byte_level()]}


def begin_of_text(id_, content):
    """Llama 3's: the first id of every text."""
    special = {"SpecialToken": {"id": content, "type_id": 0}}

    def sequence(name):
        return {"Sequence": {"id": name, "type_id": 0 if name == "A" else 1}}

    return {"type": "Sequence", "processors": [byte_level(trim_offsets=True), {
        "type": "TemplateProcessing", "single": [special, sequence("A")],
        "pair": [special, sequence("A"),
                 {"SpecialToken": {"id": content, "type_id": 1}}, sequence("B")],
        "special_tokens": {content: {"id": content, "ids": [id_], "tokens": [content]}}}]}


CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
KINDS = {  # special tokens, normalizer, pre-tokenizer, post-processor, ignore_merges
    "qwen2": (CHATML, {"type": "NFC"}, split(QWEN2), byte_level(), False),
    "smollm": (CHATML, None, {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, byte_level(use_regex=True)]}, None, False),
    "gpt2": (CHATML, None, byte_level(use_regex=True), None, False),
    "llama3": (["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], None, split(LLAMA3),
               "begin_of_text", True),
}


def byte_characters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]


def write_tokenizer(folder, kind, context):
    specials, normalizer, pre, post, ignore_merges = KINDS[kind]
    with open(os.path.join(HERE, "merges.txt"), encoding="utf-8") as file:
        merges = [line.rstrip("\n").split(" ") for line in file]
    tokens = byte_characters() + ["".join(pair) for pair in merges]
    added = [{"id": len(tokens) + i, "content": content, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True}
             for i, content in enumerate(specials)]
    if post == "begin_of_text":
        post = begin_of_text(len(tokens), specials[0])
    dump(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}})
    dump(folder, "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"}
                                 for a in added},
        "bos_token": specials[0], "eos_token": specials[2], "pad_token": specials[0],
        "unk_token": None, "model_max_length": context})
    return len(tokens)


# ---------------------------------------------------------------------------------------------
# the models

def model(architecture, tokenizer, std=0.1, dtype="bfloat16", shards=1, biases=None, seed=None,
          classic=True, **config):
    """A model's description; config overrides the defaults of the small ones."""
    kind = architecture[:-len("ForCausalLM")].lower()
    kind = {"gemma3": "gemma3_text", "seedoss": "seed_oss"}.get(kind, kind)
    c = {"architectures": [architecture], "model_type": kind, "attention_dropout": 0.0,
         "hidden_act": "silu", "hidden_size": 64, "initializer_range": std,
         "intermediate_size": 176, "max_position_embeddings": 2048, "num_attention_heads": 4,
         "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
         "tie_word_embeddings": False, "use_cache": True, "vocab_size": 1024,
         "bos_token_id": 1021, "eos_token_id": 1023, "pad_token_id": 1021}
    if classic:  # as transformers 4 writes config.json
        c |= {"torch_dtype": dtype, "transformers_version": "4.40.1", "rope_theta": 10000.0}
    else:  # as transformers 5 does
        c |= {"dtype": dtype, "transformers_version": "5.18.0"}
    if kind in ("qwen2", "seed_oss", "glm4"):
        biases = "qkv"
    if kind in ("qwen2", "qwen3"):
        c |= {"rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": None,
              "max_window_layers": 2}
    if kind in ("llama", "qwen3"):
        c |= {"attention_bias": False}
    if kind == "llama":
        c |= {"rms_norm_eps": 1e-5, "mlp_bias": False, "rope_scaling": None}
    return {"config": c | config, "tokenizer": tokenizer, "std": std, "dtype": dtype,
            "shards": shards, "biases": biases, "seed": seed}


QWEN, LLAMA = "Qwen2ForCausalLM", "LlamaForCausalLM"
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
MODELS = {
    "tiny-qwen2": model(QWEN, "qwen2", tie_word_embeddings=True),
    "tiny-qwen2-untied": model(QWEN, "qwen2"),
    # tiny-qwen2 itself, cut in three files
    "tiny-qwen2-sharded": model(QWEN, "qwen2", seed="tiny-qwen2", shards=3,
                                tie_word_embeddings=True),
    "tiny-qwen2-sliding": model(QWEN, "qwen2", num_hidden_layers=3, use_sliding_window=True,
                                sliding_window=8, max_window_layers=1, tie_word_embeddings=True),
    "tiny-llama": model(LLAMA, "smollm"),
    "tiny-llama-biases": model(LLAMA, "smollm", biases="all", attention_bias=True, mlp_bias=True),
    "tiny-llama-f16": model(LLAMA, "smollm", dtype="float16"),
    "tiny-llama-f32": model(LLAMA, "smollm", dtype="float32", tie_word_embeddings=True),
    "tiny-llama3-rope": model(LLAMA, "llama3", rope_theta=500000.0, rope_scaling=LLAMA3_ROPE,
                              tie_word_embeddings=True),
    # the same weights and rope, in the newer layout of config.json
    "tiny-llama3-rope-v5": model(LLAMA, "llama3", seed="tiny-llama3-rope", classic=False,
                                 rope_parameters=LLAMA3_ROPE | {"rope_theta": 500000.0},
                                 tie_word_embeddings=True),
    "tiny-qwen3-yarn": model("Qwen3ForCausalLM", "qwen2", head_dim=32, tie_word_embeddings=True,
                             rope_scaling={"rope_type": "yarn", "factor": 4.0,
                                           "original_max_position_embeddings": 512}),
    # calls of more than 8 positions take other frequencies
    "tiny-llama-dynamic": model(LLAMA, "smollm", max_position_embeddings=8,
                                rope_scaling={"type": "dynamic", "factor": 2.0}),
    "tiny-llama-longrope": model(LLAMA, "smollm", tie_word_embeddings=True, rope_scaling={
        "rope_type": "longrope", "original_max_position_embeddings": 8,
        "attention_factor": 1.1902380714238083, "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.8, 2.0, 2.2],
        "long_factor": [1.0, 1.5, 2.5, 4.0, 8.0, 16.0, 32.0, 40.0]}),
    "tiny-qwen3": model("Qwen3ForCausalLM", "qwen2", head_dim=32, tie_word_embeddings=True),
    "tiny-mistral": model("MistralForCausalLM", "gpt2", head_dim=32, sliding_window=8,
                          rms_norm_eps=1e-5),
    "tiny-gemma": model("GemmaForCausalLM", "gpt2", head_dim=32, hidden_act="gelu_pytorch_tanh",
                        attention_bias=False, tie_word_embeddings=True),
    # 192: halves of a call are whole vectors, so that no thread leaves elements of gelu over (kernels/ops.h)
    "tiny-gemma2": model("Gemma2ForCausalLM", "gpt2", std=0.2, head_dim=32, intermediate_size=192, num_hidden_layers=3, sliding_window=8,
                         hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, attn_logit_softcapping=20.0,
                         final_logit_softcapping=10.0, tie_word_embeddings=True),
    "tiny-gemma3": model("Gemma3ForCausalLM", "gpt2", head_dim=32, num_hidden_layers=3, sliding_window=8,
                         sliding_window_pattern=3, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24,
                         rope_theta=1000000.0, rope_local_base_freq=10000.0, tie_word_embeddings=True),
    "tiny-granite": model("GraniteForCausalLM", "gpt2", embedding_multiplier=12.0, residual_multiplier=0.22,
                          attention_multiplier=0.0625, logits_scaling=8.0, attention_bias=False, mlp_bias=False,
                          tie_word_embeddings=True),
    "tiny-smollm3": model("SmolLM3ForCausalLM", "llama3", num_hidden_layers=4, rope_theta=2000000.0,
                          tie_word_embeddings=True),
    "tiny-seed-oss": model("SeedOssForCausalLM", "gpt2", head_dim=32, attention_bias=True, attention_out_bias=False,
                           mlp_bias=False),
    "tiny-ministral": model("MinistralForCausalLM", "gpt2", head_dim=32, num_hidden_layers=3, sliding_window=8,
                            layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "tiny-exaone4": model("Exaone4ForCausalLM", "gpt2", num_hidden_layers=4, sliding_window=8, sliding_window_pattern=4),
    "tiny-phi3": model("Phi3ForCausalLM", "gpt2", sliding_window=8, rms_norm_eps=1e-5),
    "tiny-phi4-mini": model("Phi3ForCausalLM", "gpt2", head_dim=32, partial_rotary_factor=0.75, tie_word_embeddings=True,
                            original_max_position_embeddings=8, num_attention_heads=2, num_key_value_heads=1,
                            rope_scaling={
                                "type": "longrope",
                                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.8, 2.0, 2.2, 2.3, 2.5, 2.6, 3.0],
                                "long_factor": [1.0, 1.5, 2.5, 4.0, 8.0, 16.0, 32.0, 40.0, 41.0, 42.5, 44.0, 48.0]}),
    "tiny-glm4": model("Glm4ForCausalLM", "gpt2", head_dim=32, partial_rotary_factor=0.5, attention_bias=True),
    "tiny-stablelm": model("StableLmForCausalLM", "gpt2", biases="qkv", head_dim=16, partial_rotary_factor=0.25,
                           layer_norm_eps=1e-5, use_qkv_bias=True),
    "tiny-starcoder2": model("Starcoder2ForCausalLM", "gpt2", biases="all", hidden_act="gelu_pytorch_tanh", use_bias=True,
                             norm_epsilon=1e-5, sliding_window=8, tie_word_embeddings=True),
    # sums over more than 1024 elements, of lengths that are no multiples of 64
    "tiny-wide": model(QWEN, "qwen2", hidden_size=96, intermediate_size=2080,
                       num_attention_heads=6, num_key_value_heads=3, tie_word_embeddings=True),
    # what the hunt's ports are tried on: three layers, a head of its own; as many K/V heads as query heads
    "hunt-qwen2": model(QWEN, "qwen2", num_hidden_layers=3),
    "hunt-qwen2-mha": model(QWEN, "qwen2", num_hidden_layers=3, num_key_value_heads=4, tie_word_embeddings=True),
    "qwen2.5-0.5b-random": model(
        QWEN, "qwen2", std=0.02, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, vocab_size=151936, max_window_layers=24,
        max_position_embeddings=32768, sliding_window=32768, tie_word_embeddings=True),
    "smollm2-135m-random": model(
        LLAMA, "smollm", std=0.04, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, vocab_size=49152, rope_theta=100000.0,
        max_position_embeddings=8192, tie_word_embeddings=True),
}
SMALL = [name for name in MODELS if name.startswith("tiny-")]


def dump(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def make(out, name):
    """Makes OUT/NAME unless it is there; returns whether it was made."""
    m, target = MODELS[name], os.path.join(out, name)
    marker = os.path.join(target, ".complete")
    if os.path.exists(marker) and open(marker, encoding="utf-8").read() == f"{FORMAT}\n":
        return False
    os.makedirs(out, exist_ok=True)
    work = tempfile.mkdtemp(prefix=f".{name}-", dir=out)
    try:
        os.chmod(work, 0o755)
        c = m["config"]
        write_weights(work, name, m)
        write_tokenizer(work, m["tokenizer"], c["max_position_embeddings"])
        dump(work, "config.json", c)
        dump(work, "generation_config.json",
             {k: c[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
             | {"do_sample": False, "transformers_version": c["transformers_version"]})
        with open(os.path.join(work, ".complete"), "w", encoding="utf-8") as file:
            file.write(f"{FORMAT}\n")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if os.path.exists(marker):  # another process was quicker
            return False
        raise
    return True


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(MODELS))
        return 0
    if not arguments or arguments[0].startswith("-"):
        return __doc__
    names = arguments[1:] or SMALL
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        return f"make_tiny.py: no model {unknown[0]!r}; there are {', '.join(MODELS)}"
    for name in names:
        made = make(arguments[0], name)
        print(f"{os.path.join(arguments[0], name)}{'' if made else ' (there already)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
