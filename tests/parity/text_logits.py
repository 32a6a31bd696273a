"""Logits of texts by transformers without an option: AutoTokenizer, AutoModelForCausalLM, nothing else.

    python text_logits.py FOLDER < [texts] > [{"ids": [..], "logits": hexadecimal bf16}, ..]"""
import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")


def main(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    rows = []
    for text in json.load(sys.stdin):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(ids).logits[0]
        rows.append({"ids": ids[0].tolist(), "logits": logits.contiguous().view(torch.uint16).numpy().tobytes().hex()})
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
