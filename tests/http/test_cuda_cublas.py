"""A whole forward through the daemon on an emulated GPU asks cuBLAS what PyTorch's own does: one layer of
Qwen2.5-0.5B's and of Llama-3.2-1B's shape, prompts and cached decode.  See tests/kernels/traces/README.md."""
import gzip
import json
import os
import shutil
import struct

import pytest
from conftest import ROOT, SAMEBITD, Daemon

TRACES = os.path.join(ROOT, "tests/kernels/traces")
COMMON = {"num_hidden_layers": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "hidden_act": "silu",
          "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "rope_theta": 10000.0}
QWEN = COMMON | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896,
                 "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
                 "use_sliding_window": False, "sliding_window": None, "max_window_layers": 28}
LLAMA = COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
                  "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
                  "head_dim": 64, "attention_bias": False, "mlp_bias": False}

pytestmark = pytest.mark.skipif("emulated" not in SAMEBITD.split(os.sep), reason="no build with CUDA=emulated")


def weight_shapes(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q, kv = config["num_attention_heads"] * 64, config["num_key_value_heads"] * 64
    layer = "model.layers.0."
    shapes = {"model.embed_tokens": [config["vocab_size"], hidden], "model.norm": [hidden]}
    for name, out, into in [("self_attn.q_proj", q, hidden), ("self_attn.k_proj", kv, hidden),
                            ("self_attn.v_proj", kv, hidden), ("self_attn.o_proj", hidden, q),
                            ("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden),
                            ("mlp.down_proj", hidden, inner)]:
        shapes[layer + name] = [out, into]
    for name in ("input_layernorm", "post_attention_layernorm"):
        shapes[layer + name] = [hidden]
    tensors = {name + ".weight": shape for name, shape in shapes.items()}
    if config["model_type"] == "qwen2":
        tensors |= {f"{layer}self_attn.{name}_proj.bias": [size] for name, size in (("q", q), ("k", kv), ("v", kv))}
    return tensors


def make_model(folder, config, tokenizer):
    """Zeros, which take no room in the file system."""
    header, end = {}, 0
    for name, shape in weight_shapes(config).items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, folder)


def recorded(name):
    """Prompt lengths, and the calls.  aten_rotary makes the rotary table's products itself (cublasSgemm, k = 1)."""
    with gzip.open(os.path.join(TRACES, name + ".txt.gz"), "rt") as file:
        lines = file.read().splitlines()
    return ([int(line.split("=")[-1]) for line in lines if line.startswith("==== prefill")],
            [line for line in lines if line.startswith("B ") and not line.startswith("B cublasSgemm ")])


@pytest.mark.parametrize("name, config", [("qwen2_0.5b_1_2_128", QWEN), ("qwen2_0.5b_37", QWEN),
                                          ("llama3.2_1b_1_64", LLAMA)])
def test_calls(tmp_path, model, name, config):
    make_model(tmp_path, config, os.path.join(model, "tokenizer.json"))
    lengths, wanted = recorded(name)
    log = tmp_path / "calls"
    daemon = Daemon(str(tmp_path), arguments=["--device", "cuda:0", "--numerics", "torch-cuda", "--attention", "eager"],
                    environment={"SAMEBIT_CUBLAS_LOG": str(log), "SAMEBIT_CUBLAS_COMPUTE": "0"})
    try:
        for length in lengths:
            reply = daemon.post("/v1/trace", {"tokens": [1] * length, "values": ["final_norm"], "steps": 1})
            assert reply.status == 200, reply.body
    finally:
        daemon.stop()
    assert log.read_text().splitlines() == wanted
