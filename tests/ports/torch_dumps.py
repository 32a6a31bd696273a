#!/usr/bin/env python3
"""Healthy runs of transformers, as dumps: torch_dumps.py MODEL OUT [--more]

PyTorch in bf16, f32 and f16, sdpa and eager, with one thread and with several.  Values are the outputs of modules.
"""
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

TOKENS = [72, 101, 300, 900, 5, 17, 44, 3, 250, 6, 71, 12]


def dump(model, path):
    values = {"tokens": torch.tensor(TOKENS)}
    hooks = [m.register_forward_hook(lambda _, a, out, name=name: values.update({name: out.clone()} if torch.is_tensor(out) else {}))
             for name, m in model.named_modules() if name]
    with torch.no_grad():
        model(torch.tensor([TOKENS]))
    for h in hooks:
        h.remove()
    save_file(values, path)


def main():
    folder, out = sys.argv[1:3]
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32), ("f16", torch.float16)):
        for attention in ("eager", "sdpa"):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention).to(dtype).eval()
            for threads in (1, 2):
                torch.set_num_threads(threads)
                dump(model, os.path.join(out, f"torch {name} {attention} threads {threads}.safetensors"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
