"""Writes tests/cases/tokenizer: small tokenizers, a corpus, and what the `tokenizers` package makes of it.

    python tests/parity/make_tokenizer_cases.py

tests/unit/test_tokenizer.c checks our ids against these without any Python."""
import json
import os

import tokenizers

import tokenizers_corpus
import tokenizers_made

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cases", "tokenizer")
RANKS = 800  # of Qwen2's; with the merges among them they are closed


def golden(path, texts):
    reference = tokenizers.Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    rows = []
    for name, text in texts:
        ids = reference.encode(text, add_special_tokens=True).ids
        rows.append({"name": name, "ids": ids, "decoded": reference.decode(ids, skip_special_tokens=False),
                     "skipped": reference.decode(ids, skip_special_tokens=True)})
    for row, (_, text) in zip(rows, texts):  # most decode to the text itself, or to it behind something
        for key in ("decoded", "skipped"):
            if row[key] == text:
                del row[key]
            elif row[key].endswith(text):
                row[key] = {"before": row[key][:len(row[key]) - len(text)]}
    return rows


def main():
    words = tokenizers_made.vocabulary(RANKS)
    texts = tokenizers_corpus.fixed()
    with open(os.path.join(FOLDER, "corpus.json"), "w", encoding="utf-8") as file:
        json.dump([{"name": n, "text": t} for n, t in texts], file, indent=0, ensure_ascii=False)
    for kind in tokenizers_made.KINDS:
        path = os.path.join(FOLDER, kind)
        tokenizers_made.write(path, tokenizers_made.build(kind, words))
        with open(os.path.join(path, "golden.json"), "w", encoding="utf-8") as file:
            file.write("[\n" + ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in golden(path, texts)) + "\n]\n")


if __name__ == "__main__":
    main()
