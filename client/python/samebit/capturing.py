"""Values of a program as it runs: of a torch module by its modules' outputs, of anything else by what it taps."""
import contextvars
from typing import Any, Callable, Dict, Optional

import numpy as np

from samebit.arrays import Arrays, to_numpy

_taken: "contextvars.ContextVar[Optional[Dict[str, Any]]]" = contextvars.ContextVar("samebit", default=None)


def tap(name: str, x: Any) -> Any:
    """Keeps x under that name while capture() runs, and returns it.  Inside jax.jit too."""
    taken = _taken.get()
    if taken is None:
        return x
    if type(x).__name__.endswith("Tracer"):
        import jax
        jax.debug.callback(lambda value: taken.__setitem__(name, np.asarray(value)), x)
    else:
        taken[name] = to_numpy(x).copy()
    return x


def _hook_all(module: Any, taken: Dict[str, Any]) -> list:
    def hook(name: str) -> Callable:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, (tuple, list)) else output
            if hasattr(output, "detach"):
                taken[name] = to_numpy(output).copy()
        return keep
    return [m.register_forward_hook(hook(name)) for name, m in module.named_modules() if name]


def capture(program: Any, *inputs: Any, **named: Any) -> Arrays:
    """Runs program(*inputs, **named) and returns what it showed: the outputs of all modules of a torch module (the names are
    Hugging Face's), the intermediates of a flax module (inputs: variables, then its arguments), and whatever it taps."""
    taken: Dict[str, Any] = {}
    token = _taken.set(taken)
    hooks = _hook_all(program, taken) if hasattr(program, "register_forward_hook") else []
    try:
        if hasattr(program, "apply") and hasattr(program, "bind"):  # flax.linen
            _, state = program.apply(*inputs, capture_intermediates=True, mutable=["intermediates"], **named)
            _keep_tree("", state["intermediates"], taken)
        else:
            result = program(*inputs, **named)
            if hasattr(result, "logits") and hasattr(result.logits, "shape"):
                taken.setdefault("lm_head", to_numpy(result.logits))
        _wait(taken)
    finally:
        for h in hooks:
            h.remove()
        _taken.reset(token)
    _keep_ids(inputs, named, taken)
    return taken


def _wait(taken: Dict[str, Any]) -> None:
    """Callbacks of jax come when they come."""
    import sys
    if "jax" in sys.modules:
        sys.modules["jax"].effects_barrier()


def _keep_tree(name: str, tree: Any, taken: Dict[str, Any]) -> None:
    if isinstance(tree, dict) or hasattr(tree, "items"):
        for key, value in tree.items():
            _keep_tree(f"{name}.{key}" if name else str(key), value, taken)
    elif isinstance(tree, (tuple, list)):
        _keep_tree(name, tree[-1] if tree else None, taken)
    elif hasattr(tree, "shape"):
        taken[name[:-len(".__call__")] if name.endswith(".__call__") else name] = np.asarray(tree)


def _keep_ids(inputs: tuple, named: Dict[str, Any], taken: Dict[str, Any]) -> None:
    """The token ids: `input_ids`, or the first input that is a list or an array of whole numbers."""
    for x in [named.get("input_ids"), named.get("tokens"), *inputs]:
        if x is None or isinstance(x, (str, dict)):
            continue
        try:
            ids = to_numpy(x)
        except (TypeError, ValueError):
            continue
        if ids.dtype.kind in "iu" and ids.ndim in (1, 2):
            taken.setdefault("tokens", ids)
            return
