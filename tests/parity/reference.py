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


def module_values(model):
    """Names of the modules whose output is a value of the same name."""
    kinds = ("input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj",
             "self_attn.v_proj", "self_attn.q_norm", "self_attn.k_norm", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.act_fn", "mlp.down_proj")
    known = dict(model.named_modules(remove_duplicate=False))
    names = ["model.embed_tokens", "model.norm", "lm_head"]
    for n in range(model.config.num_hidden_layers):
        names += [f"model.layers.{n}"] + [f"model.layers.{n}.{k}" for k in kinds]
    return {name: known[name] for name in names if name in known}


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
        self.eager = self.modeling.eager_attention_forward
        self.rotate = self.modeling.apply_rotary_pos_emb
        self.sdpa = self.modeling.ALL_ATTENTION_FUNCTIONS["sdpa"]
        self.config = self.model.config
        self.on_values = self.replace = None
        self.call, self.attention = 0, ""

    # ---- what a run hands out ----

    def _give(self, name, value):
        """Hands out each row of the batch; returns what replaces the value, or None."""
        given = self.replace.get((self.call, name))
        if given is not None:
            self.replaced.add((self.call, name))
            value = given.unsqueeze(0).view(value.shape)
        for row, on_value in enumerate(self.on_values):  # the rotary tables are one for all rows
            on_value(self.call, name, value[row if value.shape[0] > 1 else 0])
        return value if given is not None else None

    def _hook_module(self, name):
        return lambda module, args, out: self._give(name, out)

    def _hook_rotary(self, module, args, out):
        self._give("model.rotary_emb.cos", out[0])
        self._give("model.rotary_emb.sin", out[1])

    def _hook_input(self, name):
        def hook(module, args):
            given = self._give(name, args[0])
            if given is not None:
                raise Refused(f"{name}: the reference cannot replace this value")
        return hook

    def _enter_attention(self, name):
        def hook(module, args, kwargs):
            self.attention = name + "."
        return hook

    def _rotary(self, q, k, cos, sin, *rest, **more):
        rotated = list(self.rotate(q, k, cos, sin, *rest, **more))
        for i, part in enumerate(("q_rope", "k_rope")):
            given = self._give(self.attention + part, rotated[i])
            rotated[i] = rotated[i] if given is None else given
        return tuple(rotated)

    def _give_cache(self, key, value):
        """The cache holds these two: what came instead of them would be gone at the next step."""
        for part, kept in (("keys", key), ("values", value)):
            if self._give(self.attention + part, kept) is not None:
                raise Refused(f"{self.attention}{part}: the reference cannot replace this value")

    def _attend_sdpa(self, module, query, key, value, *rest, **more):
        """sdpa_attention_forward, called as the model calls it."""
        self._give_cache(key, value)
        output, none = self.sdpa(module, query, key, value, *rest, **more)
        given = self._give(self.attention + "context", output.reshape(*output.shape[:2], -1))
        return output if given is None else given.view(output.shape), none

    def _attend(self, module, query, key, value, attention_mask, scaling, dropout=0.0, **more):
        """eager_attention_forward, and its lines one by one."""
        t = self.torch
        output, weights = self.eager(module, query, key, value, attention_mask, scaling,
                                     dropout=dropout, **more)
        if attention_mask is None:
            raise Refused("eager attention without a mask: `masked` has no reference")
        before = len(self.replaced)

        def line(part, x):
            given = self._give(self.attention + part, x)
            return x if given is None else given

        self._give_cache(key, value)
        groups = module.num_key_value_groups
        s = line("scores", t.matmul(query, self.modeling.repeat_kv(key, groups).transpose(2, 3)))
        s = line("scaled", s * scaling)
        s = line("masked", s + attention_mask)
        p = t.nn.functional.softmax(s, dim=-1, dtype=t.float32).to(query.dtype)
        p = line("weights", p)
        c = t.matmul(p, self.modeling.repeat_kv(value, groups)).transpose(1, 2).contiguous()
        flat = c.reshape(*c.shape[:2], -1)
        c = line("context", flat).view(c.shape)
        if len(self.replaced) == before and not (same_bits(c, output) and same_bits(p, weights)):
            raise Refused(f"{self.attention}: the lines give other bits than eager_attention_forward")
        return c, p

    def _hooks(self):
        made = [m.register_forward_hook(self._hook_module(n)) for n, m in module_values(self.model).items()]
        made.append(self.model.model.rotary_emb.register_forward_hook(self._hook_rotary))
        for n, layer in enumerate(self.model.model.layers):
            p = f"model.layers.{n}."
            made.append(layer.self_attn.register_forward_pre_hook(
                self._enter_attention(p + "self_attn"), with_kwargs=True))
            made.append(layer.post_attention_layernorm.register_forward_pre_hook(
                self._hook_input(p + "attn_residual")))
            made.append(layer.mlp.down_proj.register_forward_pre_hook(self._hook_input(p + "mlp.product")))
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
        self.modeling.apply_rotary_pos_emb = self._rotary
        try:
            fed = self._calls(feed)
        finally:
            self.modeling.eager_attention_forward = self.eager
            del self.modeling.ALL_ATTENTION_FUNCTIONS["sdpa"]  # ours; transformers' own is behind it
            self.modeling.apply_rotary_pos_emb = self.rotate
            for hook in hooks:
                hook.remove()
        if self.replaced != set(self.replace):
            raise Refused(f"never reached: {sorted(set(self.replace) - self.replaced)}")
        return fed

    def forget_lengths(self):
        """A dynamic rope remembers the longest call since the model was loaded, until a short one comes; the
        reference is a model that has just been loaded."""
        rope = self.model.model.rotary_emb
        rope.register_buffer("inv_freq", rope.original_inv_freq.clone(), persistent=False)
        rope.max_seq_len_cached = rope.original_max_seq_len

    def prove(self, feed):
        """Runs the bare model, without any of this file's hooks, and demands that a run with them
        has the bits of all it returns: logits, hidden states and, where it has them, attention
        weights.  Returns how many elements were compared."""
        bare, elements = {}, 0
        eager = self.implementation == "eager"

        def after(call, out):
            for n, h in enumerate(out.hidden_states[:-1]):
                bare[call, f"model.layers.{n - 1}" if n else "model.embed_tokens"] = h
            for n, w in enumerate(out.attentions if eager else []):
                bare[call, f"model.layers.{n}.self_attn.weights"] = w
            bare[call, "model.norm"] = out.hidden_states[-1]
            bare[call, "lm_head"] = out.logits

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
