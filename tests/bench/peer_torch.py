"""PyTorch as bench.py measures it: one model, loaded as transformers loads it, with each attention.

    peer_torch.py FOLDER THREADS ATTENTION,...

Speaks as peer.py says; each ask also names its "attention".
"""
import sys

import peer
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def load(folder, attention):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=attention).eval()


def prefill(model, prompts):
    """The cache, and a next token for each of the prompts, which are equally long."""
    out = model(torch.tensor(prompts), use_cache=True, logits_to_keep=1)
    return out.past_key_values, out.logits[:, -1].argmax(-1)


def decode(model, cache, tokens, steps):
    for _ in range(steps):
        out = model(tokens.view(-1, 1), past_key_values=cache, use_cache=True)
        cache, tokens = out.past_key_values, out.logits[:, -1].argmax(-1)
    return tokens.tolist()


def measure_prefill(model, tokens):
    return peer.timed(lambda: prefill(model, [tokens])[1].item())[0]


def measure_decode(model, tokens, steps):
    cache, following = prefill(model, [tokens])
    return peer.timed(lambda: decode(model, cache, following, steps))[0]


def measure_streams(model, prompts, steps):
    return peer.timed(lambda: decode(model, *prefill(model, prompts), steps))[0]


def main():
    folder, threads, attentions = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    loading, models = peer.timed(lambda: {a: load(folder, a) for a in attentions})

    def model(ask):
        return models[ask["attention"]]

    with torch.inference_mode():
        peer.converse({"version": torch.__version__, "loading": loading}, {
            "prefill": lambda ask: measure_prefill(model(ask), ask["tokens"]),
            "decode": lambda ask: measure_decode(model(ask), ask["tokens"], ask["steps"]),
            "streams": lambda ask: measure_streams(model(ask), ask["prompts"], ask["steps"])})


if __name__ == "__main__":
    main()
