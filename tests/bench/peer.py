"""The conversation between bench.py and a process that runs a peer: a JSON object a line.

The process first says what it is, with the seconds that loading took ("loading"), then answers each
{"work": NAME, ...} with {"seconds": n}, or {"error": why}.  Between two lines it sleeps.

    prefill   tokens                  until the next token is chosen
    decode    tokens, steps           of the steps that follow the prefill
    streams   prompts, steps          of all prompts at once, prefill and steps
"""
import json
import sys
import time


def timed(work):
    """Seconds that work() takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def converse(facts, works):
    """works: {name: function(ask) -> seconds}."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            said = {"seconds": works[ask["work"]](ask)}
        except Exception as e:  # bench.py goes on without the figure
            said = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(said), flush=True)
