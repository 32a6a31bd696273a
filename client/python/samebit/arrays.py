"""Arrays of whatever library as numpy's; bfloat16 is ml_dtypes'."""
from typing import Any, Dict, Mapping

import ml_dtypes
import numpy as np

Arrays = Dict[str, np.ndarray]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TO_NUMPY = {"BF16": BFLOAT16, "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8"),
            "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"), "U16": np.dtype("<u2"),
            "U32": np.dtype("<u4"), "U64": np.dtype("<u8"), "BOOL": np.dtype("?")}
FROM_NUMPY = {dtype: name for name, dtype in TO_NUMPY.items()}


def to_numpy(x: Any) -> np.ndarray:
    """Of a torch tensor (any device), a jax array, or what numpy takes.  No value changes."""
    if type(x).__module__.split(".")[0] == "torch":
        x = x.detach().cpu()
        if str(x.dtype) == "torch.bfloat16":
            import torch
            return x.contiguous().view(torch.uint16).numpy().view(BFLOAT16)
        return x.numpy()
    return np.asarray(x)


def to_arrays(values: Mapping[str, Any]) -> Arrays:
    return {name: to_numpy(x) for name, x in values.items()}
