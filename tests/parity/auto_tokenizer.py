"""What AutoTokenizer of the installed transformers gives, as JSON: run with a Python that has transformers.

    python auto_tokenizer.py < {"folders": [..], "texts": [..]} > [{"ids": [..], "decoded": [..]} or {"error": ".."}, ..]"""
import json
import os
import sys
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
warnings.simplefilter("ignore")


def ask(folder, texts):
    from transformers import AutoTokenizer
    try:
        t = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    ids = [t(text).input_ids for text in texts]
    return {"class": type(t).__name__, "ids": ids, "plain": [t(text, add_special_tokens=False).input_ids for text in texts],
            "decoded": [t.decode(i, clean_up_tokenization_spaces=False) for i in ids]}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    json.dump([ask(folder, request["texts"]) for folder in request["folders"]], sys.stdout)
