"""What is compared besides the values of a run, and what is asked of the server for it."""
import json
import os
import tempfile

import daemon
import reference

SAMPLES = [
    "The quick brown fox jumps over the lazy dog.", "", " ", "a", "  two  spaces\tand\ta tab ",
    "def f(x):\n    return x**2  # squared\n\n\nprint(f(12345.678e-9))\r\n",
    "Zażółć gęślą jaźń, straße, naïve café, İstanbul, e\u0301 and \u00e9",
    "日本語の文章と中文句子，한국어 문장.", "שלום עולם, مرحبا بالعالم, नमस्ते दुनिया, Привет, мир!",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ☃️", "I'll we've they're IT'S don't", "1234567890 3.14159 1,000,000",
    "<|im_start|>user\nHello<|im_end|>\n", "line\n\n\n   \n\tend   ", "x" * 300, "\u00a0\u200b\ufeff\u3000end",
]


class Skip(Exception):
    """A check that does not apply here, and why."""


def verdict(check):
    """Runs a check: it returns what differs, or nothing."""
    try:
        wrong = check()
    except Skip as e:
        return {"passed": None, "text": f"skip: {e}"}
    return {"passed": not wrong, "text": wrong or "identical"}


# ---- prompts and requests ----

def prompt(model, folder, length, seed=0):
    """`length` token ids: of a text where the tokenizer knows the whole vocabulary, else a spread
    over all ids.  The same ones in every run; another seed gives others."""
    vocabulary = model.config.vocab_size
    if vocabulary > 10000:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        if len(tokenizer) > vocabulary * 9 // 10:
            with open(os.path.join(daemon.ROOT, "tests", "tiny", "text.txt"), encoding="utf-8") as file:
                ids = tokenizer(file.read()).input_ids
            return (ids * ((seed + length) // len(ids) + 1))[seed:seed + length]
    ids, state = [], 12345 + seed
    for _ in range(length):
        state = (state * 1103515245 + 12345) % 2**31
        ids.append((state >> 8) % vocabulary)
    return ids


def feed(model, folder, case, seed=0):
    """The rows of a case: {"length", "steps"}, and "chunks": [lengths], "padding": [of each row],
    each another prompt.  seed: of the first row's."""
    length, padding = case["length"], case.get("padding")
    rows = [[0] * left + prompt(model, folder, length - left, seed + row * 1000)
            for row, left in enumerate(padding or [0])]
    return reference.Feed(rows, case["steps"], padding, case.get("chunks"))


def label(case):
    """How the table names what is fed: 300, 128+100+72, 21 pad 7, 21 pad 0,5,13 (a batch)."""
    text = "+".join(map(str, case["chunks"])) if case.get("chunks") else str(case["length"])
    return text + (" pad " + ",".join(map(str, case["padding"])) if case.get("padding") else "")


def trace_fields(feed, attention, row=0):
    """The request for one row of a feed, alone."""
    fields = {"tokens": feed.rows[row], "steps": feed.steps, "values": ["*"], "positions": "all", "attention": attention}
    if feed.padding and feed.padding[row]:
        fields["padding"] = feed.padding[row]
    if len(feed.rows) > 1:
        fields["batch"] = len(feed.rows)
    if len(feed.chunks) > 1:
        fields["chunks"] = feed.chunks
    return fields


def trace_request(feed, attention, row=0, replace=None):
    """Body and content type.  replace: {(call, name): bf16 tensor}."""
    import torch

    fields = trace_fields(feed, attention, row)
    if not replace:
        return json.dumps(fields).encode(), "application/json"
    given = {feed.prefix(call) + name: ("BF16", t.shape, t.contiguous().view(torch.int16).numpy().tobytes())
             for (call, name), t in replace.items()}
    return daemon.write_tensors(given, {"request": json.dumps(fields)}), "application/octet-stream"


# ---- the checks ----

def loading(model, server, folder):
    """The server's weights are the file's, and PyTorch's are the file's."""
    import torch
    from safetensors import safe_open

    state = model.model.state_dict()
    ours, files = server.json("/v1/model")["weights"], daemon.weights_digest(folder)
    if ours != files:
        return f"the server's weights digest is {ours}, the checkpoint's {files}"
    seen = set()
    for path in daemon.checkpoint_files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                seen.add(name)
                if name not in state:
                    return f"{name}: not a parameter of PyTorch's model"
                if not reference.same_bits(file.get_tensor(name).to(torch.bfloat16), state[name]):
                    return f"{name}: PyTorch's parameter is not the checkpoint's tensor"
    for name in set(state) - seen:
        if name != "lm_head.weight" or not reference.same_bits(state[name], state["model.embed_tokens.weight"]):
            return f"{name}: a parameter that the checkpoint lacks"


def eps_key(config):
    return next((key for key in ("layer_norm_eps", "norm_epsilon", "rms_norm_eps") if hasattr(config, key)), "")


def transformers_numbers(model):
    """What transformers' config objects give its modeling code."""
    c, eos = model.config, model.model.generation_config.eos_token_id
    window = getattr(c, "sliding_window", None)
    full = getattr(c, "rope_parameters", {})
    full = full.get("full_attention", full)  # by layer type
    types = getattr(c, "layer_types", None) or ["sliding_attention"] * c.num_hidden_layers  # mistral
    return {
        "architecture": c.architectures[0], "vocab_size": c.vocab_size, "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size, "num_attention_heads": c.num_attention_heads,
        "num_key_value_heads": c.num_key_value_heads,
        "head_dim": getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
        "max_position_embeddings": c.max_position_embeddings,
        "windows": [window if kind == "sliding_attention" else None for kind in types],
        "eps": getattr(c, eps_key(c), None), "rope_theta": full.get("rope_theta"),
        "eos": eos if isinstance(eos, list) else [] if eos is None else [eos]}


def server_numbers(model, server):
    """The same of the server: from the shapes of its values where they show it."""
    info, values = server.json("/v1/model"), server.json("/v1/values?attention=eager")["values"]
    shape, text = {v["name"]: v["shape"] for v in values}, info["config"]
    f = model.family
    place = f.layers + ".{}." + f.of_op("layer", "cache_append")[0].name
    heads, _, width = shape[place.format(0)]
    keys = [shape[place.format(n)][1] for n in sorted({v["layer"] for v in values if "layer" in v})]
    rope = text.get("rope_parameters") or text
    query, = f.turned()[:1]
    inner = f.of_op("layer", "linear")[-1].inputs[0]
    return {
        "architecture": info["architecture"], "vocab_size": shape[f.section["after"][-1].name][1],
        "hidden_size": shape[f.input][1], "intermediate_size": shape[f"{f.layers}.0.{inner}"][1],
        "num_attention_heads": shape[f"{f.layers}.0.{query}"][0], "num_key_value_heads": heads,
        "head_dim": width, "max_position_embeddings": info["max_positions"],
        "windows": [None if k == "L" else int(k.removeprefix("min(L, ").removesuffix(")")) for k in keys],
        "eps": text.get(eps_key(model.config)), "rope_theta": rope.get("rope_theta"),
        "eos": info["tokenizer"]["eos"]}


def configuration(model, server):
    ours, theirs = server_numbers(model, server), transformers_numbers(model)
    return "; ".join(f"{key}: {ours[key]!r}, transformers {value!r}"
                     for key, value in theirs.items() if ours[key] != value)


def tokenization(server, folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(os.path.join(daemon.ROOT, "tests", "tiny", "text.txt"), encoding="utf-8") as file:
        texts = SAMPLES + [file.read()]
    for text in texts:
        ours, theirs = server.json("/v1/tokenize", {"text": text})["tokens"], tokenizer(text).input_ids
        if ours != theirs:
            return f"{text[:40]!r}: {ours[:12]}, transformers {theirs[:12]}"


def catalogue(model, server):
    """GET /v1/values and the reference name the same values."""
    names = set()
    model.run(reference.Feed([[1, 2, 3]]), [lambda call, name, value: names.add(name)])
    ours = [v["name"] for v in server.json(f"/v1/values?attention={model.implementation}")["values"]]
    if len(ours) != len(set(ours)):
        return "a name stands twice"
    if set(ours) != names:
        return (f"only the server has {sorted(set(ours) - names)[:4]}, "
                f"only PyTorch has {sorted(names - set(ours))[:4]}")


def proof(model, folder, cases):
    """The reference's own hooks change nothing."""
    try:
        for case in cases:
            model.prove(feed(model, folder, case))
    except reference.Refused as e:
        return str(e)


def defaults(server, folder):
    """A model loaded without any option, and a request without any: the same logits."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    if model.dtype != torch.bfloat16:
        raise Skip(f"the checkpoint is {model.dtype}, which samebit rounds to bf16")
    tokens = server.json("/v1/tokenize", {"text": "The quick brown fox jumps over the lazy dog."})["tokens"]
    with torch.no_grad():
        want = model(torch.tensor([tokens])).logits[0]
    with tempfile.NamedTemporaryFile() as file:
        server.trace({"tokens": tokens, "values": ["logits"]}, file)
        ours = daemon.Tensors(file.name)
        entry, = (e for e in ours.entries if e[0] != "tokens")
        got = torch.frombuffer(bytearray(ours.bytes(entry)), dtype=torch.bfloat16).view(entry[2])
    if not reference.same_bits(got, want):
        return f"{int((got != want).sum())} of {want.numel()} logits differ"


GENERATIONS = [
    {}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"suppress_tokens": list(range(0, 1000, 3))},
    {"begin_suppress_tokens": list(range(500))}, {"bad_words_ids": [[n] for n in range(1, 900, 2)]},
    {"forced_eos_token_id": 9}, {"sequence_bias": [[[n], 3.5] for n in range(40)]},
    {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "exponential_decay_length_penalty": [2, 1.4]},
    {"min_new_tokens": 6, "repetition_penalty": 0.8}]


def generation(model, server, folder):
    """/v1/generate against transformers' generate(): the same tokens."""
    import torch

    if model.config.model_type == "phi3" and model.config.rope_parameters["rope_type"] == "longrope":
        raise Skip("Phi-3's generate() drops its cache where a text grows past original_max_position_embeddings; not followed")
    for n in range(2 * len(GENERATIONS)):
        config, ids = GENERATIONS[n % len(GENERATIONS)], prompt(model, folder, 3 + 5 * n % 17, seed=n)
        ours = server.json("/v1/generate", {"tokens": ids, "max_tokens": 10, **config})["tokens"]
        tokens = torch.tensor([ids])
        model.forget_lengths()
        theirs = model.model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=10, do_sample=False,
                                      **config)[0, len(ids):].tolist()
        if ours != theirs:
            return f"{config}, {len(ids)} tokens: {ours}, transformers {theirs}"


def once(model, server, job):
    """The checks of a model with one attention: [(name, function)]."""
    folder = job["folder"]
    made = [("catalogue", lambda: catalogue(model, server)),
            ("bare run", lambda: proof(model, folder, job["prove"]))]
    if model.implementation != reference.ATTENTIONS[0]:
        return made
    return [("loading", lambda: loading(model, server, folder)),
            ("configuration", lambda: configuration(model, server)),
            ("tokenization", lambda: tokenization(server, folder)),
            ("defaults", lambda: defaults(server, folder)),
            ("generate", lambda: generation(model, server, folder))] + made


# ---- replaced values ----

REPLACED = {
    "eager": [(0, "model.layers.1.self_attn.o_proj"), (0, "model.layers.0.mlp.act_fn"),
              (0, "model.layers.0.self_attn.weights"), (0, "model.layers.1.self_attn.k_rope"),
              (2, "model.layers.1.self_attn.scores"), (1, "model.layers.0.input_layernorm"),
              (0, "model.embed_tokens"), (1, "lm_head")],
    "sdpa": [(0, "model.layers.0.self_attn.context"), (0, "model.layers.1.self_attn.k_rope"),
             (2, "model.layers.1.self_attn.q_rope"), (1, "model.layers.0.self_attn.context")]}


def given_tensors(model, feed):
    """A random tensor for each of REPLACED, shaped as the run gives it."""
    import torch

    shapes = {}
    model.run(feed, [lambda call, name, value: shapes.update({(call, name): value.shape})])
    generator = torch.Generator().manual_seed(7)
    return [{key: torch.randn(shapes[key], generator=generator).bfloat16()} for key in REPLACED[model.implementation]]


def only_after(before, after, name):
    """Of two trace files: nothing before the replaced value differs, and something after it does."""
    a, b = daemon.Tensors(before), daemon.Tensors(after)
    if [e[:3] for e in a.entries] != [e[:3] for e in b.entries]:
        return "the two traces hold other values"
    differ = [x[0] for x, y in zip(a.entries, b.entries) if x[0] != "tokens" and a.bytes(x) != b.bytes(y)]
    if differ[:1] != [name]:
        return f"the first value that changes is {differ[0] if differ else 'none'}"
    if len(differ) < 2:
        return "nothing after it changes"


def replacement(model, server, job, about, say, compare_run):
    """Each of REPLACED alone: PyTorch with the same tensor in a hook has the same bits everywhere."""
    for case in job["replace"]:
        fed = feed(model, job["folder"], case)
        with tempfile.NamedTemporaryFile() as plain:
            server.trace(trace_fields(fed, model.implementation), plain)
            for replace in given_tensors(model, fed):
                ((call, name), _), = replace.items()
                key = fed.prefix(call) + name
                with tempfile.NamedTemporaryFile() as changed:
                    body, content_type = trace_request(fed, model.implementation, 0, replace)
                    server.trace(body, changed, content_type)
                    wrong = only_after(plain.name, changed.name, key)
                passed, result = compare_run(model, server, fed, (), replace)
                if wrong:
                    result["problems"].append(f"replacing {key}: {wrong}")
                say("row", **about, prompt=label(case), steps=case["steps"], replaced=key,
                    passed=passed and not wrong, **result)
