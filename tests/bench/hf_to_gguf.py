#!/usr/bin/env python3
"""Writes a Hugging Face folder of bf16 weights as the GGUF file that llama.cpp runs.

    python hf_to_gguf.py FOLDER OUT.gguf

Architectures llama and qwen2, without rope scaling.  The matrices keep their bits; vectors become
f32, as llama.cpp wants them.  There is no tokenizer in the file: bench.py speaks in token ids.
"""
import json
import os
import struct
import sys

import gguf
import numpy

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


class Unsupported(Exception):
    """The folder holds something that has no place in the file."""


def checkpoint_tensors(folder):
    """{name: (dtype, shape, memory of its bytes)} of all files."""
    index, files = os.path.join(folder, "model.safetensors.index.json"), ["model.safetensors"]
    if os.path.exists(index):
        with open(index, encoding="utf-8") as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
    found = {}
    for name in files:
        data = numpy.memmap(os.path.join(folder, name), mode="r", dtype=numpy.uint8)
        size, = struct.unpack("<Q", data[:8].tobytes())
        header = json.loads(data[8:8 + size].tobytes())
        header.pop("__metadata__", None)
        for tensor, entry in header.items():
            first, end = entry["data_offsets"]
            found[tensor] = entry["dtype"], entry["shape"], data[8 + size + first:8 + size + end]
    return found


def interleaved(rows, heads):
    """llama.cpp rotates neighbours where Hugging Face rotates halves: rows of q_proj and k_proj of
    the llama architecture change places inside each head."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def heads_to_interleave(config, name):
    """In how many heads the rows of this tensor are interleaved; 0 for none."""
    if config["model_type"] != "llama":
        return 0
    if ".q_proj." in name:
        return config["num_attention_heads"]
    return config["num_key_value_heads"] if ".k_proj." in name else 0


def add_config(writer, config):
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")


def add_tensor(writer, config, name, theirs, tensor):
    dtype, shape, data = tensor
    if dtype != "BF16":
        raise Unsupported(f"{name} is {dtype}, not BF16")
    bits = data.view("<u2").reshape(shape)
    heads = heads_to_interleave(config, name)
    if heads:
        bits = interleaved(bits, heads)
    if len(shape) == 1:
        writer.add_tensor(theirs, (bits.astype(numpy.uint32) << 16).view(numpy.float32))
    else:
        rows = numpy.ascontiguousarray(bits).view(numpy.uint8)
        writer.add_tensor(theirs, rows, raw_dtype=gguf.GGMLQuantizationType.BF16)


def convert(folder, out):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    kind = config["model_type"]
    if kind not in ARCHITECTURES or config.get("rope_scaling"):
        raise Unsupported(f"model_type {kind}, rope_scaling {config.get('rope_scaling')}")
    writer = gguf.GGUFWriter(out, kind)
    add_config(writer, config)
    names = gguf.get_tensor_name_map(ARCHITECTURES[kind], config["num_hidden_layers"])
    for name, tensor in checkpoint_tensors(folder).items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise Unsupported(f"tensor {name}")
        if not (config.get("tie_word_embeddings") and theirs == "output.weight"):
            add_tensor(writer, config, name, theirs, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    part = sys.argv[2] + ".part"
    try:
        convert(sys.argv[1], part)
        os.replace(part, sys.argv[2])
    except Unsupported as e:
        sys.exit(f"hf_to_gguf.py: {sys.argv[1]}: {e}")
    finally:
        if os.path.exists(part):
            os.remove(part)


if __name__ == "__main__":
    main()
