"""The reference: a Hugging Face model run by PyTorch, with every named value of a run handed out.

The model itself is untouched: its own modules, its own attention, its own cache.  Values that are
a module's output come from hooks.  Values inside the eager attention are computed a second time,
one line of eager_attention_forward after the other; the last of them must have the bits that
eager_attention_forward returned, or the run ends.  sdpa has no values inside: its output is what
transformers' own sdpa_attention_forward returns.

Names and shapes are those of the server: Hugging Face's own without the batch of one.  Nothing
is kept: a value is given to the callback and dropped.
"""
import sys

from family_rows import INSIDE, compute, family_of
from hosts import HOSTS, OF_THREADS, cpu_flags, environment, why_not  # noqa: F401

NUMERICS = list(HOSTS)
ATTENTIONS = ["sdpa", "eager"]


class Refused(Exception):
    """The reference cannot be trusted here."""


# What is left of 2**24 and 511 ones, in order, and -2**24: one chain loses every 1, other orders keep more.
LEFT = {"avx512_bf16": 0, "avx2": 504, "amx_bf16": 496, "avx512": 256}


def check_numerics(numerics):
    """Refuses a process in which PyTorch does not compute that numerics.  (What MKL does in sdpa is not asked: samebit
    numerics --python does.)"""
    import torch

    kind = numerics.split("/")[1].split(",")[0]
    wanted = "AVX2" if kind == "avx2" else "AVX512"
    got = torch.backends.cpu.get_cpu_capability()
    if got != wanted:
        raise Refused(f"{numerics}: PyTorch runs with CPU capability {got}, not {wanted}")
    x = torch.ones(2, 512, dtype=torch.bfloat16)
    w = torch.ones(64, 512, dtype=torch.bfloat16)
    w[:, 0] = 2.0**24
    left = torch.nn.functional.linear(x, w, torch.full((64,), -(2.0**24), dtype=torch.bfloat16))
    if not bool((left == LEFT[kind]).all()):
        raise Refused(f"{numerics}: PyTorch's matrix product is another: the sum left {left[0, 0]}, not {LEFT[kind]}")


def same_bits(a, b):
    import torch

    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().view(torch.int16), b.contiguous().view(torch.int16))


class Feed:
    """What a run is fed: rows of token ids, one length for all (a batch), the prompt in calls of
    `chunks` tokens (None: one call), then decode steps.  padding: how many first tokens of each row
    are left padding, told to the model by an attention_mask; None: it gets no mask."""

    def __init__(self, rows, steps=0, padding=None, chunks=None):
        self.rows, self.steps, self.padding = [list(row) for row in rows], steps, padding
        self.chunks = chunks or [len(self.rows[0])]
        self.calls = len(self.chunks) + steps

    def prefix(self, call):
        """What stands before the names of a call in a trace."""
        if call >= len(self.chunks):
            return f"step_{call - len(self.chunks) + 1}/"
        return f"chunk_{call + 1}/" if len(self.chunks) > 1 else ""

    def span(self, call):
        """First token of a call, and the one after its last."""
        start = sum(self.chunks[:call]) + max(0, call - len(self.chunks))
        return start, start + (self.chunks[call] if call < len(self.chunks) else 1)

    def mask(self, end):
        """The attention_mask of the first `end` tokens; None where there is none."""
        if self.padding is None:
            return None
        return [[int(i >= padding) for i in range(end)] for padding in self.padding]


class Reference:
    """One model, loaded as from_pretrained(dtype=bfloat16, attn_implementation=attention) loads it,
    and moved to a device of PyTorch's ("cpu", "cuda"), where the values that it hands out lie."""

    def __init__(self, folder, attention, device="cpu"):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation=attention).eval().to(device)
        self.device = device
        self.implementation = attention
        self.modeling = sys.modules[type(self.model).__module__]
        self.family = family_of(type(self.model).__name__, attention)
        self.modules = dict(self.model.named_modules(remove_duplicate=False))
        self.eager = self.modeling.eager_attention_forward
        self.rotate = getattr(self.modeling, "apply_rotary_pos_emb", None)
        self.sdpa = self.modeling.ALL_ATTENTION_FUNCTIONS["sdpa"]
        self.config = self.model.config
        self.on_values = self.replace = None
        self.call, self.layer, self.attention, self.turned = 0, 0, "", False
        self._plan()
        self.heads_first = self._find_heads_first()

    # ---- which value comes from where ----

    def _plan(self):
        """modules: {name: what is hooked}; made: rows that are computed here, of values that hooks gave."""
        f = self.family
        self.outputs, self.inputs, self.made, self.kept = [], {}, [], set()
        attention = {r.name for r in f.attention} | {r.name for r in f.of_op("layer", "cache_append")} | set(f.turned())
        for section in ("before", "layer", "after"):
            for prefix, layer in self._places(section):
                for row in f.section[section]:
                    if row.op == "rotary" or (section == "layer" and row.name in attention and row.op != "linear"):
                        continue
                    self._plan_row(section, prefix, layer, row)
        for _, row, layer, prefix in self.made:
            self.kept |= {self._full(row, i, prefix, layer) for i in row.inputs}

    def _places(self, section):
        if section != "layer":
            return [("", -1)]
        return [(f"{self.family.layers}.{n}.", n) for n in range(self.config.num_hidden_layers)]

    def _plan_row(self, section, prefix, layer, row):
        name = prefix + row.name if row.name != "x" else prefix[:-1]
        consumer = self.family.consumer(section, row.name, self.modules, prefix)
        if name in self.modules:
            self.outputs.append(name)
        elif consumer and row.name != "x":
            self.inputs[consumer] = name
        else:
            self.made.append((name, row, layer, prefix))

    def _full(self, row, name, prefix, layer):
        """The path of a row's input."""
        if name == "x":
            return f"{self.family.layers}.{layer - 1}" if layer > 0 else self.family.input
        before = {r.name for r in self.family.section["before"]}
        return name if not prefix or name in before else prefix + name

    # ---- what a run hands out ----

    def _give(self, name, value):
        """Hands out each row of the batch; returns what replaces the value, or None."""
        given = self.replace.get((self.call, name))
        if given is not None:
            self.replaced.add((self.call, name))
            value = given.unsqueeze(0).view(value.shape)
        for row, on_value in enumerate(self.on_values):  # the rotary tables are one for all rows
            on_value(self.call, name, value[row if value.shape[0] > 1 else 0])
        if name in self.kept:
            self.known[name] = value
            self._make()
        return value if given is not None else None

    def _make(self):
        """Computes the rows of `made` whose inputs are all known now, once."""
        for at, (name, row, layer, prefix) in enumerate(self.made):
            inputs = [self._full(row, i, prefix, layer) for i in row.inputs]
            if at not in self.done and all(i in self.known for i in inputs):
                self.done.add(at)
                made = compute(self.torch, row, [self.known[i] for i in inputs], self.config, layer)
                if self._give(name, made) is not None:
                    raise Refused(f"{name}: the reference cannot replace this value")

    def _hook_module(self, name):
        if name not in self.heads_first:
            return lambda module, args, out: self._give(name, out)

        def hook(module, args, out):
            given = self._give(name, out.transpose(1, 2))
            return None if given is None else given.transpose(1, 2)
        return hook

    def _find_heads_first(self):
        """The norms of heads that the model takes after it has put the heads first, as [n, T, D]; the
        value is [T, n, D] wherever it is taken."""
        found, tokens = set(), self.config.num_attention_heads + 1

        def watch(name):
            return lambda module, args, out: found.add(name) if out.dim() == 4 and out.shape[1] != tokens else None

        names = [prefix + r.name for prefix, _ in self._places("layer") for r in self.family.of_op("layer", "rms_norm")
                 if "width" in r.attributes]
        hooks = [self.modules[n].register_forward_hook(watch(n)) for n in names]
        if names:
            with self.torch.inference_mode():
                self.model(self.torch.zeros(1, tokens, dtype=self.torch.int64, device=self.device))
        for hook in hooks:
            hook.remove()
        return found

    def _hook_rotary(self, module, args, kwargs, out):
        names = [r.name for r in self.family.of_op("before", "rotary")]
        kind = kwargs.get("layer_type") or (args[2] if len(args) > 2 else None)
        for name, value in zip([n for n in names if not kind or kind in n], out):
            self._give(name, value)

    def _hook_input(self, name):
        def hook(module, args):
            given = self._give(name, args[0])
            if given is not None:
                raise Refused(f"{name}: the reference cannot replace this value")
        return hook

    def _enter_attention(self, prefix, layer):
        def hook(module, args, kwargs):
            self.attention, self.layer, self.turned = prefix, layer, False
        return hook

    def _rotary(self, q, k, cos, sin, *rest, **more):
        rotated = list(self.rotate(q, k, cos, sin, *rest, **more))
        if any(x.shape[-1] != self._head_dim() for x in rotated):
            return tuple(rotated)  # a part of each head; the whole ones are attention's arguments
        self.turned = True
        for i, part in enumerate(self.family.turned()):
            given = self._give(self.attention + part, rotated[i])
            rotated[i] = rotated[i] if given is None else given
        return tuple(rotated)

    def _head_dim(self):
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads

    def _give_arguments(self, query, key, value):
        """The cache holds these two: what came instead of them would be gone at the next step."""
        parts = [r.name for r in self.family.of_op("layer", "cache_append")]
        if not self.turned:
            for part, x in zip(self.family.turned(), (query, key[:, :, -query.shape[2]:])):
                if self._give(self.attention + part, x) is not None:
                    raise Refused(f"{self.attention}{part}: the reference cannot replace this value")
        for part, kept in zip(parts, (key, value)):
            if self._give(self.attention + part, kept) is not None:
                raise Refused(f"{self.attention}{part}: the reference cannot replace this value")

    def _attend_sdpa(self, module, query, key, value, *rest, **more):
        """sdpa_attention_forward, called as the model calls it."""
        self._give_arguments(query, key, value)
        output, none = self.sdpa(module, query, key, value, *rest, **more)
        given = self._give(self.attention + self.family.attention[-1].name, output.reshape(*output.shape[:2], -1))
        return output if given is None else given.view(output.shape), none

    def _attend(self, module, query, key, value, attention_mask, *rest, **more):
        """eager_attention_forward, and its lines one by one."""
        output, weights = self.eager(module, query, key, value, attention_mask, *rest, **more)
        if attention_mask is None:
            raise Refused("eager attention without a mask: `masked` has no reference")
        before = len(self.replaced)
        self._give_arguments(query, key, value)
        x = p = None
        for row in self.family.attention:
            if row.op not in INSIDE:
                raise Refused(f"{row.name}: no line of attention is {row.op}")
            if row.op == "matmul_pv":
                p = x
            x = self._line(row, x, query, key, value, attention_mask)
            given = self._give(self.attention + row.name, x)
            x = x if given is None else given
        c = x.view(output.shape)
        if len(self.replaced) == before and not (same_bits(c, output) and same_bits(p, weights)):
            raise Refused(f"{self.attention}: the lines give other bits than eager_attention_forward")
        return c, p

    def _line(self, row, x, query, key, value, attention_mask):
        t, groups = self.torch, query.shape[1] // key.shape[1]
        if row.op == "matmul_qk":
            return t.matmul(query, self._repeat(key, groups).transpose(2, 3))
        if row.op == "causal_mask":
            return x + attention_mask
        if row.op == "softmax":
            return t.nn.functional.softmax(x, dim=-1, dtype=t.float32).to(query.dtype)
        if row.op == "matmul_pv":
            c = t.matmul(x, self._repeat(value, groups)).transpose(1, 2).contiguous()
            return c.reshape(*c.shape[:2], -1)
        return compute(t, row, [x], self.config, self.layer)

    def _repeat(self, x, groups):
        return self.modeling.repeat_kv(x, groups) if groups > 1 else x

    def _hooks(self):
        made = [self.modules[n].register_forward_hook(self._hook_module(n)) for n in self.outputs]
        made += [self.modules[n].register_forward_pre_hook(self._hook_input(v)) for n, v in self.inputs.items()]
        rotary = [r.name.rpartition(".")[0] for r in self.family.of_op("before", "rotary")]
        for name in {n if n in self.modules else n.rpartition(".")[0] for n in rotary}:
            made.append(self.modules[name].register_forward_hook(self._hook_rotary, with_kwargs=True))
        attention = self.family.attention_prefix()
        for prefix, layer in self._places("layer"):
            made.append(self.modules[prefix + attention].register_forward_pre_hook(
                self._enter_attention(prefix, layer), with_kwargs=True))
        return made

    # ---- running ----

    def _calls(self, feed, after=None, **more):
        """The prompt and greedy cached decode steps.  Returns all tokens fed to each row, and the
        next."""
        t = self.torch
        fed, cache = [list(row) for row in feed.rows], None
        with t.inference_mode():
            for self.call in range(feed.calls):
                start, end = feed.span(self.call)
                self.known, self.done = {}, set()
                mask = feed.mask(end)
                if mask is not None:
                    more["attention_mask"] = t.tensor(mask, device=self.device)
                tokens = t.tensor([row[start:end] for row in fed], device=self.device)
                out = self.model(tokens, past_key_values=cache, use_cache=True, **more)
                cache = out.past_key_values
                if after:
                    after(self.call, out)
                if self.call >= len(feed.chunks) - 1:
                    for row, logits in zip(fed, out.logits):
                        row.append(int(t.argmax(logits[-1])))
        return fed

    def run(self, feed, on_values, replace=None):
        """on_values[row](call, name, tensor) gets every value of that row of the batch, in the order
        in which it is computed; calls count from 0, those of the prompt first.  replace: {(call,
        name): tensor}, for a batch of one.  Returns the tokens fed to each row and, at the end, the
        one that comes next."""
        self.on_values, self.replace, self.replaced = on_values, replace or {}, set()
        self.forget_lengths()
        hooks = self._hooks()
        self.modeling.eager_attention_forward = self._attend
        self.modeling.ALL_ATTENTION_FUNCTIONS["sdpa"] = self._attend_sdpa
        if self.rotate:
            self.modeling.apply_rotary_pos_emb = self._rotary
        try:
            fed = self._calls(feed)
        finally:
            self.modeling.eager_attention_forward = self.eager
            del self.modeling.ALL_ATTENTION_FUNCTIONS["sdpa"]  # ours; transformers' own is behind it
            if self.rotate:
                self.modeling.apply_rotary_pos_emb = self.rotate
            for hook in hooks:
                hook.remove()
        if self.replaced != set(self.replace):
            raise Refused(f"never reached: {sorted(set(self.replace) - self.replaced)}")
        return fed

    def forget_lengths(self):
        """A dynamic rope remembers the longest call since the model was loaded, until a short one comes; the
        reference is a model that has just been loaded."""
        rope = getattr(self.model.base_model, "rotary_emb", None)
        if not hasattr(rope, "original_inv_freq"):
            return
        rope.register_buffer("inv_freq", rope.original_inv_freq.clone(), persistent=False)
        rope.max_seq_len_cached = rope.original_max_seq_len

    def prove(self, feed):
        """Runs the bare model, without any of this file's hooks, and demands that a run with them
        has the bits of all it returns: logits, hidden states and, where it has them, attention
        weights.  Returns how many elements were compared."""
        bare, elements, f = {}, 0, self.family
        inside = [r.name for r in f.attention if r.op == "softmax"]
        eager = self.implementation == "eager"

        def after(call, out):
            for n, h in enumerate(out.hidden_states[:-1]):
                bare[call, f"{f.layers}.{n - 1}" if n else f.input] = h
            for n, w in enumerate(out.attentions if eager else []):
                bare[call, f"{f.layers}.{n}.{inside[0]}"] = w
            bare[call, f.section["after"][0].name] = out.hidden_states[-1]
            bare[call, f.section["after"][-1].name] = out.logits

        def on_row(row):
            def on_value(call, name, value):
                nonlocal elements
                want = bare.get((call, name))
                if want is None:
                    return
                if not same_bits(want[row], value):
                    raise Refused(f"call {call}, {name}: hooks change the reference")
                elements += value.numel()
                if row == len(feed.rows) - 1:
                    del bare[call, name]
            return on_value

        fed = self._calls(feed, after, output_hidden_states=True, output_attentions=eager)
        if self.run(feed, [on_row(row) for row in range(len(feed.rows))]) != fed or bare:
            raise Refused(f"hooks change the reference's tokens, or values are missing: {list(bare)[:3]}")
        return elements
