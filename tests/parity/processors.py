"""The logits processors against transformers' own, bit by bit.

    python tests/parity/processors.py BUILD/tests/unit/tool_scores [CASES]

Random logits with ties and infinities (without ties under top_p), random texts that repeat themselves, and random configurations
of one to all processors: the scores and the greedy choice are compared with what transformers'
_get_logits_processor makes of the same.
"""
import json
import random
import subprocess
import sys

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

EOS = [2, 7]


def some_ids(r, size, most):
    return [r.randrange(size) for _ in range(r.randint(1, most))]


def some_config(r, size, ids, sampling):
    """Fields of generation_config, a few of them."""
    def part_of_text(n):
        at = r.randrange(max(1, len(ids) - n))
        return ids[at:at + n] or [1]

    choices = {
        "repetition_penalty": lambda: r.choice([0.5, 1.05, 1.1, 1.3, 2.0]),
        "no_repeat_ngram_size": lambda: r.randint(1, 4),
        "bad_words_ids": lambda: [part_of_text(r.randint(1, 3)) + some_ids(r, size, 1) for _ in range(3)] + [[2], [5]],
        "sequence_bias": lambda: [[list(k), float(r.uniform(-4, 4))] for k in
                                  {tuple(ids[-1:] + [r.randrange(size)]), (r.randrange(size),), (3, 4, 5)}],
        "min_length": lambda: r.randint(1, 2 * len(ids)),
        "min_new_tokens": lambda: r.randint(0, 8),
        "forced_bos_token_id": lambda: r.randrange(size),
        "forced_eos_token_id": lambda: r.choice([r.randrange(size), some_ids(r, size, 3)]),
        "remove_invalid_values": lambda: True,
        "exponential_decay_length_penalty": lambda: [r.randint(0, 3), r.uniform(1.0, 1.3)],
        "suppress_tokens": lambda: some_ids(r, size, 5),
        "begin_suppress_tokens": lambda: some_ids(r, size, 5),
    }
    warpers = {
        "temperature": lambda: r.choice([0.3, 0.7, 1.7]), "top_k": lambda: r.choice([0, 1, 5, 50, 10000]),
        "top_p": lambda: r.choice([0.1, 0.5, 0.8, 0.95, 1.0]), "min_p": lambda: r.choice([0.0, 0.05, 0.3]),
    }
    names = r.sample(sorted(choices), r.choice([0, 1, 1, 2, 3, len(choices)]))
    if any(name.startswith("forced") for name in names):  # transformers refuses to force what it suppresses
        names = [name for name in names if not name.endswith("suppress_tokens")]
    config = {name: choices[name]() for name in names} if size > max(EOS) else {}
    if sampling:
        config.update({"do_sample": True, "top_k": 0}, **{name: warpers[name]() for name in r.sample(sorted(warpers), r.randint(1, 4))})
    return config


def case(r, size):
    ids = some_ids(r, size, 40)
    ids += ids[:len(ids) // 2]
    prompt = r.choice([len(ids), max(1, len(ids) - 3)])
    config = some_config(r, size, ids, r.random() < 0.5)
    if "top_p" in config:  # among equal scores torch.sort's order is its own
        config = {k: v for k, v in config.items() if not k.startswith(("forced", "remove"))}
        bits = r.sample(range(0x3C00, 0x4180), size)
        logits = torch.tensor([b - 0x8000 * r.randint(0, 1) for b in bits], dtype=torch.int16).view(torch.bfloat16)
    else:
        logits = torch.tensor([r.gauss(0, 4) for _ in range(size)]).bfloat16()
        if r.random() < 0.3:
            logits[r.randrange(size)] = r.choice([float("inf"), -float("inf"), float(logits.max())])
    return {"config": config, "eos": EOS, "prompt": prompt, "ids": ids,
            "max_new_tokens": r.choice([len(ids) - prompt + 1, 20]), "vocab_size": size}, logits


def theirs(model, request, logits):
    """Scores as _sample has them, with the choice where it is greedy."""
    config = GenerationConfig(**request["config"], eos_token_id=EOS,
                              max_length=request["prompt"] + request["max_new_tokens"])
    if request["config"].get("min_new_tokens") is not None:
        config.min_length = request["prompt"] + config.min_new_tokens  # _prepare_generated_length
    config._eos_token_tensor = torch.tensor(EOS)
    processors = model._get_logits_processor(config, input_ids_seq_length=request["prompt"])
    scores = processors(torch.tensor([request["ids"]]), logits.float()[None])[0]
    return scores, None if request["config"].get("do_sample") else int(scores.argmax())


def main(tool, cases=2000):
    r = random.Random(7)
    size = 300
    model = LlamaForCausalLM(LlamaConfig(vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=1))
    wide = "avx512_bf16" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "avx2"
    child = subprocess.Popen([tool, "torch-cpu/" + wide], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wrong = 0
    for n in range(int(cases)):
        request, logits = case(r, size if n % 4 else r.randint(8, 40))
        child.stdin.write(json.dumps(request).encode() + b"\n" + logits.view(torch.int16).numpy().tobytes())
        child.stdin.flush()
        answer = child.stdout.read(4 * request["vocab_size"] + 8)
        if len(answer) < 8:
            sys.exit(f"{tool} refused {request}")
        got = torch.frombuffer(bytearray(answer[:-8]), dtype=torch.float32)
        token = int.from_bytes(answer[-8:], "little")
        want, chosen = theirs(model, request, logits)
        if not torch.equal(got.view(torch.int32), want.view(torch.int32)) or chosen not in (None, token):
            wrong += 1
            if wrong < 6:
                at = (got.view(torch.int32) != want.view(torch.int32)).nonzero().flatten().tolist()
                print(request["config"], "differs at", at[:5], got[at[:5]].tolist(), want[at[:5]].tolist(), token, chosen)
    child.stdin.close()
    print(f"{cases} cases, {wrong} differing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
