"""PyTorch as bench.py measures it: one model, loaded as transformers loads it, with each attention.

Reads a JSON object a line, {"attention": ..., "work": "prefill" | "decode", "tokens": [...], "steps":
n}, answers each with {"seconds": ...}: of the prefill, or of the n cached steps after it.  Between
two lines it sleeps.
"""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def load(folder, attention):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=attention).eval()


def measure(model, work, tokens, steps):
    ids = torch.tensor([tokens])
    start = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    token = out.logits[0, -1].argmax()
    if work == "prefill":
        return time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(steps):
        out = model(token.view(1, 1), past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[0, -1].argmax()
    return time.perf_counter() - start


def main():
    folder, threads, attentions = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    models = {a: load(folder, a) for a in attentions}
    print(json.dumps({"torch": torch.__version__}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            ask = json.loads(line)
            seconds = measure(models[ask["attention"]], ask["work"], ask["tokens"], ask.get("steps", 0))
            print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
