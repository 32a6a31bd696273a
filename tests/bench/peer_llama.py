"""llama.cpp as bench.py measures it, through its C interface as PyPI's llama-cpp-python binds it.

    peer_llama.py FILE.gguf THREADS CONTEXT

Speaks as peer.py says.  CONTEXT: the most tokens of a sequence.  All else is llama.cpp's own
default: flash attention where it has it, keys and values in f16, 512 tokens a batch.
"""
import ctypes
import importlib.metadata
import sys

import llama_cpp.llama_cpp as llama
import numpy
import peer

STREAM_CONTEXT = 256  # tokens of each of several sequences
MOST_STREAMS = 16


class Trouble(Exception):
    pass


@llama.llama_log_callback
def _silent(level, text, user):
    pass


class Model:
    def __init__(self, path, threads, context):
        llama.llama_log_set(_silent, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not self.model:
            raise Trouble(f"llama.cpp does not load {path}")
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.threads = threads
        self.alone = self._context(context, 1)
        self.together = None

    def _context(self, tokens, sequences):
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max = tokens * sequences, sequences
        params.n_threads = params.n_threads_batch = self.threads
        made = llama.llama_init_from_model(self.model, params)
        if not made:
            raise Trouble("llama.cpp makes no context")
        return made

    def several(self):
        """A context for several sequences, made when it is first needed."""
        self.together = self.together or self._context(STREAM_CONTEXT, MOST_STREAMS)
        return self.together

    def next_tokens(self, context, rows):
        """What a greedy reader takes from these rows of the batch."""
        return [int(numpy.ctypeslib.as_array(llama.llama_get_logits_ith(context, r), (self.vocabulary,)).argmax())
                for r in rows]


def run_batch(context, entries):
    """entries: (token, position, sequence, whether its logits are read)."""
    batch = llama.llama_batch_init(len(entries), 0, 1)
    try:
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, read) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, read
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama.llama_decode(context, batch):
            raise Trouble("llama_decode failed")
    finally:
        llama.llama_batch_free(batch)


def prefill(model, context, prompts):
    llama.llama_memory_clear(llama.llama_get_memory(context), False)
    last = len(prompts[0]) - 1
    run_batch(context, [(t, i, s, i == last) for s, prompt in enumerate(prompts) for i, t in enumerate(prompt)])
    return model.next_tokens(context, [(s + 1) * (last + 1) - 1 for s in range(len(prompts))])


def decode(model, context, tokens, position, steps):
    for i in range(steps):
        run_batch(context, [(t, position + i, s, True) for s, t in enumerate(tokens)])
        tokens = model.next_tokens(context, range(len(tokens)))
    return tokens


def measure_prefill(model, tokens):
    return peer.timed(lambda: prefill(model, model.alone, [tokens]))[0]


def measure_decode(model, tokens, steps):
    following = prefill(model, model.alone, [tokens])
    return peer.timed(lambda: decode(model, model.alone, following, len(tokens), steps))[0]


def measure_streams(model, prompts, steps):
    context = model.several() if len(prompts) > 1 else model.alone
    return peer.timed(lambda: decode(model, context, prefill(model, context, prompts), len(prompts[0]), steps))[0]


def main():
    path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    loading, model = peer.timed(lambda: Model(path, threads, context))
    peer.converse({"version": importlib.metadata.version("llama_cpp_python"), "loading": loading}, {
        "prefill": lambda ask: measure_prefill(model, ask["tokens"]),
        "decode": lambda ask: measure_decode(model, ask["tokens"], ask["steps"]),
        "streams": lambda ask: measure_streams(model, ask["prompts"], ask["steps"])})


if __name__ == "__main__":
    main()
