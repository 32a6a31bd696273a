"""The source lines that configs/families/*.json cite are the lines of transformers that compute the
rows.  Needs transformers of the cited version, but runs nothing of it."""
import glob
import importlib.util
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAMILIES = sorted(glob.glob(os.path.join(ROOT, "configs", "families", "*.json")))

# What the line of a row must show, by op; {last} is the last part of the row's name.
SHOWS = {
    "embedding": r"= self\.{last}\(",
    "linear": r"self\.{last}\(",
    "rms_norm": r"self\.{last}\(",
    "layer_norm": r"self\.{last}\(",
    "silu": r"self\.{last}\((self\.gate_proj\(|gate\))",
    "gelu_tanh": r"self\.{last}\((self\.gate_proj\(|hidden_states\))",
    "mul": r"self\.act_fn\(.*\) \* self\.up_proj\(|up_states \* self\.activation_fn\(gate\)",
    "rotary": r"^ *{last} = emb\.{last}\(\) \* (self\.)?attention_scaling",
    "rope": r"^ *{last}_embed = (torch\.cat\(\[)?\({last}(_rot)? \* cos\) \+ \(rotate_half\({last}(_rot)?\) \* sin\)",
    "cache_append": r"= past_key_values\.update\(key_states, value_states, self\.layer_idx\)",
    "matmul_qk": r"torch\.matmul\(query, key_states\.transpose\(2, 3\)\)",
    "scale": r"torch\.matmul\(query, .*\) \* scaling",
    "causal_mask": r"attn_weights \+ attention_mask",
    "softmax": r"attn_weights = nn\.functional\.softmax\(attn_weights, dim=-1, dtype=torch\.float32\)",
    "matmul_pv": r"torch\.matmul\(attn_weights, value_states\)",
    "sdpa": r"attn_output, attn_weights = attention_interface\(",
    "add": r"(hidden_states|residual) = residual \+ "
           r"(hidden_states|self_attn_output|mlp_output|self\.resid_\w+_dropout\(hidden_states\))( +#.*| \* .*)?$",
}

# Rows whose line shows something else than others of their op.
SHOWS_OF = {
    "inputs_embeds": r"inputs_embeds = inputs_embeds \* self\.embedding_multiplier",
    "self_attn.residual": r"residual \+ hidden_states \* self\.residual_multiplier",
    "mlp.residual": r"residual \+ hidden_states \* self\.residual_multiplier",
    "self_attn.q": r"query_states = qkv\[", "self_attn.k": r"key_states = qkv\[", "self_attn.v": r"value_states = qkv\[",
    "mlp.gate": r"gate, up_states = up_states\.chunk\(2", "mlp.up": r"gate, up_states = up_states\.chunk\(2",
    "self_attn.cap_in": r"attn_weights / softcap", "self_attn.cap_tanh": r"torch\.tanh\(attn_weights\)",
    "self_attn.capped": r"attn_weights \* softcap",
    "logits_in": r"logits / self\.config\.final_logit_softcapping", "logits_tanh": r"torch\.tanh\(logits\)",
    "logits": r"logits / self\.config\.logits_scaling|logits \* self\.(config\.final_logit_softcapping|logit_scale)",
}


def pattern(name, op):
    last = name.split(".")[-1].removesuffix("_rope")
    return (SHOWS_OF[name] if name in SHOWS_OF else SHOWS[op]).replace("{last}", last)


def source(family):
    """The lines of the file that the family cites; LookupError where that transformers is not here."""
    spec = importlib.util.find_spec("transformers")
    if spec is None:
        raise LookupError("transformers is not installed")
    folder = os.path.dirname(spec.origin)
    with open(os.path.join(folder, "__init__.py"), encoding="utf-8") as file:
        version = re.search(r'^__version__ = "(.*)"', file.read(), re.M).group(1)
    if version != family["mirror"]["transformers"]:
        raise LookupError(f"transformers is {version}, cited is {family['mirror']['transformers']}")
    with open(os.path.join(folder, family["mirror"]["file"]), encoding="utf-8") as file:
        return file.read().split("\n")


def rows(family, attention):
    for section in ("before", "layer", "after"):
        for row in family[section]:
            yield from family["attention"][attention] if row == "attention" else [row]


def faults(family, text):
    """Rows whose line is missing, outside the file, or shows something else."""
    lines, out = family["mirror"]["lines"], []
    for attention in family["attention"]:
        for name, op, *_ in rows(family, attention):
            line = lines.get(name, 0)
            line = line[attention] if isinstance(line, dict) else line
            if not 0 < line <= len(text):
                out.append(f"{name}: no line {line}")
            elif not re.search(pattern(name, op), text[line - 1]):
                out.append(f"{name}: line {line} is {text[line - 1].strip()!r}")
    # what reads alike in a layer stands in its order: the sums, and what they are made of
    order = [lines[row[0]] for row in family["layer"] if row[1] == "add" or row[0].endswith(".residual")]
    sums = [text[line - 1].count(" + ") for line in order if 0 < line <= len(text)]
    if order != sorted(order) or any(a == b and " * " not in text[a - 1] and n < 2 for a, b, n in zip(order, order[1:], sums)):
        out.append(f"the layer's lines are out of order: {order}")
    return out


def checks():
    """(family, what is wrong with its lines) of every family file."""
    for path in FAMILIES:
        with open(path, encoding="utf-8") as file:
            family = json.load(file)
        yield os.path.basename(path).removesuffix(".json"), faults(family, source(family))
