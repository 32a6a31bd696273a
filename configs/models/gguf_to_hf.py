#!/usr/bin/env python3
"""Turns a GGUF file into a Hugging Face folder.

    python gguf_to_hf.py IN.gguf OUT_DIR

Architectures llama, qwen2 and qwen3 with a byte-level BPE tokenizer.  Quantized tensors are
dequantized to f32 by the gguf package and rounded to bf16 (nearest, ties to even); GGUF files of
llama keep the rows of q_proj and k_proj interleaved inside each head, which is undone.  Written a
few rows at a time: memory does not grow with the model.
"""
import json
import os
import struct
import sys

import gguf
import numpy

ROWS = 1024  # dequantized at once
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "qwen3": "Qwen3ForCausalLM"}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
       "output.weight": "lm_head.weight"}
BLOCK = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
         "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # tokenizer.ggml.token_type


class Unsupported(Exception):
    """The file holds something that has no place in the folder."""


class Source:
    """The GGUF file's keys, with and without the architecture's prefix."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.architecture = self.key("general.architecture")
        if self.architecture not in ARCHITECTURES:
            raise Unsupported(f"general.architecture {self.architecture!r} is none of "
                              + ", ".join(ARCHITECTURES))

    def key(self, name, otherwise=None):
        field = self.reader.fields.get(name)
        return otherwise if field is None else field.contents()

    def of_model(self, name, otherwise=None):
        return self.key(f"{self.architecture}.{name}", otherwise)

    def need(self, name):
        value = self.of_model(name)
        if value is None:
            raise Unsupported(f"key {self.architecture}.{name} is missing")
        return value


# ---------------------------------------------------------------------------------------------
# weights

def bf16_bits(x):
    """Nearest bf16, ties to even."""
    u = numpy.ascontiguousarray(x, dtype=numpy.float32).view(numpy.uint32)
    if not numpy.isfinite(x).all():
        raise Unsupported("a weight is not finite")
    return ((u + numpy.uint32(0x7FFF) + (u >> numpy.uint32(16) & numpy.uint32(1)))
            >> numpy.uint32(16)).astype("<u2")


def name_of(tensor):
    """The checkpoint's name of a GGUF tensor."""
    if tensor in TOP:
        return TOP[tensor]
    parts = tensor.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in BLOCK and \
            parts[3] in ("weight", "bias"):
        return f"model.layers.{parts[1]}.{BLOCK[parts[2]]}.{parts[3]}"
    raise Unsupported(f"tensor {tensor!r} is not known")


def heads_interleaved(source, tensor):
    """How many heads the rows of q_proj and k_proj are interleaved in; 0 for none."""
    if source.architecture != "llama":
        return 0
    kind = tensor.split(".")[2] if tensor.startswith("blk.") else ""
    heads = source.need("attention.head_count")
    return {"attn_q": heads, "attn_k": source.of_model("attention.head_count_kv", heads)}.get(kind,
                                                                                             0)


def straight_rows(count, heads):
    """Row r of the checkpoint is row straight_rows()[r] of the interleaved file."""
    return numpy.arange(count).reshape(heads, count // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def write_tensor(file, source, tensor):
    shape = [int(n) for n in reversed(tensor.shape)]
    if len(shape) == 1:
        file.write(bf16_bits(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).tobytes())
        return
    data = tensor.data.reshape(shape[0], -1)
    heads = heads_interleaved(source, tensor.name)
    order = straight_rows(shape[0], heads) if heads else None
    for first in range(0, shape[0], ROWS):
        rows = slice(first, first + ROWS) if order is None else order[first:first + ROWS]
        values = gguf.quants.dequantize(data[rows], tensor.tensor_type)
        if values.shape[1] != shape[1]:
            raise Unsupported(f"tensor {tensor.name}: rows of {values.shape[1]}, not {shape[1]}")
        file.write(bf16_bits(values).tobytes())


def write_weights(source, path, progress):
    """model.safetensors; returns the checkpoint's shapes by name."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor in source.reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        end = at + 2 * int(numpy.prod(shape))
        header[name_of(tensor.name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in source.reader.tensors:
            write_tensor(file, source, tensor)
            progress(file.tell(), 8 + len(text) + at)
    del header["__metadata__"]
    return {name: entry["shape"] for name, entry in header.items()}


# ---------------------------------------------------------------------------------------------
# config.json and the tokenizer

def token_ids(source):
    """bos, eos and pad by the names of config.json; None where the file has none."""
    return {f"{short}_token_id": source.key(f"tokenizer.ggml.{long}_token_id")
            for short, long in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}


def config_of(source, shapes):
    hidden, heads = source.need("embedding_length"), source.need("attention.head_count")
    head_dim = source.of_model("attention.key_length", hidden // heads)
    if source.of_model("rope.scaling.type", "none") != "none":
        raise Unsupported("rope scaling")
    if source.of_model("rope.dimension_count", head_dim) != head_dim:
        raise Unsupported("a rotation of a part of each head")
    kind = source.architecture
    config = {
        "architectures": [ARCHITECTURES[kind]], "attention_dropout": 0.0,
        "head_dim": head_dim, "hidden_act": "silu", "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": source.need("feed_forward_length"),
        "max_position_embeddings": source.need("context_length"), "model_type": kind,
        "num_attention_heads": heads, "num_hidden_layers": source.need("block_count"),
        "num_key_value_heads": source.of_model("attention.head_count_kv", heads),
        # kept as f32: the shortest decimal that gives it is the one the model was published with
        "rms_norm_eps": float(str(numpy.float32(
            source.need("attention.layer_norm_rms_epsilon")))),
        "rope_scaling": None, "rope_theta": float(source.of_model("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "lm_head.weight" not in shapes, "torch_dtype": "bfloat16",
        # without a version transformers 5 suspects an old tokenizer regex in local folders
        "transformers_version": "4.40.1", "use_cache": True,
        "vocab_size": shapes["model.embed_tokens.weight"][0], **token_ids(source)}
    if kind == "llama":
        config |= {"attention_bias": False, "mlp_bias": False}
    else:
        config |= {"use_sliding_window": False}
    return config


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}


def cutting(kind):
    """Normalizer and pre-tokenizer by tokenizer.ggml.pre."""
    if kind == "smollm":
        return None, {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level(True)]}
    if kind == "gpt-2":
        return None, byte_level(True)
    if kind == "qwen2":
        return {"type": "NFC"}, {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated",
             "invert": False}, byte_level(False)]}
    raise Unsupported(f"tokenizer.ggml.pre {kind!r}")


def tokenizer_of(source):
    """tokenizer.json and tokenizer_config.json."""
    if source.key("tokenizer.ggml.model") != "gpt2":
        raise Unsupported(f"tokenizer.ggml.model {source.key('tokenizer.ggml.model')!r}")
    if source.key("tokenizer.ggml.add_bos_token"):
        raise Unsupported("tokenizer.ggml.add_bos_token")
    tokens = source.key("tokenizer.ggml.tokens")
    kinds = source.key("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    normalizer, pre = cutting(source.key("tokenizer.ggml.pre"))
    added = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": kinds[i] == CONTROL}
             for i in range(len(tokens)) if kinds[i] in (CONTROL, USER_DEFINED)]
    merges = [merge.split(" ", 1) for merge in source.key("tokenizer.ggml.merges")]
    # UNUSED ids only pad the embedding: no token of the published tokenizer
    vocabulary = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary,
                  "merges": merges}}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"}
                                 for a in added},
        "model_max_length": source.need("context_length"),
        "chat_template": source.key("tokenizer.chat_template")}
    for short, long in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        i = source.key(f"tokenizer.ggml.{long}_token_id")
        config[f"{short}_token"] = None if i is None else tokens[i]
    return tokenizer, config


def dump(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def convert(path, folder, progress=lambda done, total: None):
    """Writes the folder's files.  Raises Unsupported, OSError, or what gguf raises."""
    source = Source(path)
    tokenizer, tokenizer_config = tokenizer_of(source)
    os.makedirs(folder, exist_ok=True)
    shapes = write_weights(source, os.path.join(folder, "model.safetensors"), progress)
    dump(folder, "config.json", config_of(source, shapes))
    dump(folder, "generation_config.json", token_ids(source) | {"do_sample": False})
    dump(folder, "tokenizer.json", tokenizer)
    dump(folder, "tokenizer_config.json", tokenizer_config)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        convert(sys.argv[1], sys.argv[2])
    except (Unsupported, OSError, ValueError) as e:
        sys.exit(f"gguf_to_hf.py: {sys.argv[1]}: {e}")
