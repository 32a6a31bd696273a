"""samebit: PyTorch's own bits of any value inside a model, and where a port leaves them.

    import samebit
    daemon = samebit.Client("http://127.0.0.1:8642")
    theirs = daemon.trace(tokens=[504, 3575, 282])
    mine = samebit.capture(my_port, [504, 3575, 282])        # whatever my_port taps, or its modules give
    samebit.assert_same_bits(mine["layers.0.q"], theirs["model.layers.0.self_attn.q_proj"])
    print(daemon.diagnose(mine))
"""
from samebit.bits import assert_same_bits, differing
from samebit.capturing import capture, tap
from samebit.client import Client, SamebitError
from samebit.files import load, save

__version__ = "0.1.0"
__all__ = ["Client", "SamebitError", "assert_same_bits", "capture", "differing", "load", "save", "tap"]
