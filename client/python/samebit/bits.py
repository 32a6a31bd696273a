"""Equal means equal bits: -0 and +0 differ; NaNs are equal whatever their bits, unless nan_bits."""
from typing import Any, Mapping, Union

import numpy as np

from samebit.arrays import to_numpy


def _places(a: Any, b: Any, nan_bits: bool) -> np.ndarray:
    a, b = to_numpy(a), to_numpy(b)
    if a.shape != b.shape:
        raise AssertionError(f"shapes differ: {a.shape} and {b.shape}")
    if a.dtype != b.dtype:  # by value; bfloat16 and float16 are widened without loss
        a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    places = a.view(unsigned) != b.view(unsigned)
    if not nan_bits and a.dtype.kind not in "iub":
        places &= ~(np.isnan(a) & np.isnan(b))
    return places


def differing(a: Any, b: Any, nan_bits: bool = False) -> int:
    """How many elements have other bits.  AssertionError where the shapes differ."""
    return int(_places(a, b, nan_bits).sum())


def assert_same_bits(a: Union[Any, Mapping[str, Any]], b: Union[Any, Mapping[str, Any]], nan_bits: bool = False) -> None:
    """Of two arrays, or of two dictionaries of them with the same names.  The error says where, and how many."""
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        if not (isinstance(a, Mapping) and isinstance(b, Mapping)) or set(a) != set(b):
            raise AssertionError(f"only in one: {sorted(set(a) ^ set(b))}")
        for name in a:
            try:
                assert_same_bits(a[name], b[name], nan_bits)
            except AssertionError as e:
                raise AssertionError(f"{name}: {e}") from None
        return
    places = _places(a, b, nan_bits)
    if places.any():
        at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(places)))
        x, y = np.atleast_1d(to_numpy(a))[at], np.atleast_1d(to_numpy(b))[at]
        raise AssertionError(f"{int(places.sum())} of {places.size} elements differ, first at {list(at)}: {x!r} and {y!r}")
