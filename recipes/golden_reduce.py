"""Golden data of arg-reductions, scans and sorting. Oracle: NumPy and SciPy in float64, cast to the op's dtype.

python recipes/golden_reduce.py   (numpy 2, scipy 1)
"""

import numpy as np
from scipy import special
from golden import Golden

rng = np.random.default_rng(11)
golden = Golden()


def specials(*shape):
    """Normal numbers with NaN, infinities, signed zeros and ties among them."""
    x = rng.normal(size=shape).astype(np.float32).round(1)
    flat = x.reshape(-1)
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan, 1.5, 1.5):
        flat[rng.integers(flat.size)] = value
    return x


FLOATS = [rng.normal(size=(3, 5)).astype(np.float32), specials(4, 9), rng.integers(-3, 3, (2, 4, 5)).astype(np.float16)]
INTS = [rng.integers(-4, 4, (3, 8), np.int32), rng.integers(0, 5, (2, 7), np.uint8)]

NAMES = {np.int64: "i64", np.int32: "i32", np.uint32: "u32"}
for x in FLOATS + INTS + [rng.integers(0, 2, (3, 4)).astype(bool)]:
    for axis in range(x.ndim):
        for name, function in {"max": np.argmax, "min": np.argmin}.items():
            for keep in (False, True):
                first = function(x, axis=axis, keepdims=keep)
                last = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=keep)
                for last_wins, expected in ((False, first), (True, last)):
                    dtype = np.int32 if keep else np.int64
                    golden.case("arg_reduce", [x], expected.astype(dtype), kind=name, axis=axis, keep_dims=keep,
                                select_last=last_wins, dtype=NAMES[dtype])


def order(x, axis, descending):
    """Stable order with NaN above every number, in either direction."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Sorting the reversed row stably and reversing the result keeps ties in order.
    flipped = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(flipped, axis)


for x in FLOATS + INTS:
    for axis in range(x.ndim):
        extent = x.shape[axis]
        for k in (extent // 2, extent):
            for largest in (True, False):
                for is_sorted in (True, False) if k < extent else (True,):
                    indices = np.take(order(x, axis, largest), range(k), axis=axis)
                    if not is_sorted:
                        indices = np.sort(indices, axis=axis)
                    values = np.take_along_axis(x, indices, axis=axis)
                    golden.case("top_k", [x], [values, indices.astype(np.int32)], k=k, axis=axis, largest=largest,
                                sorted=is_sorted, dtype="i32")

for x in FLOATS + INTS:
    for axis in range(x.ndim):
        for descending in (False, True):
            indices = order(x, axis, descending)
            golden.case("sort", [x], np.take_along_axis(x, indices, axis=axis), axis=axis, descending=descending)
            golden.case("arg_sort", [x], indices.astype(np.int64), axis=axis, descending=descending, dtype="i64")
golden.write("crates/rlx-ir/tests/golden/order.rlx")
golden = Golden()


def scan(accumulate, start, x, axis, exclusive, reverse):
    """A running combination; `accumulate` gives the inclusive forward one."""
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    wide = np.flip(wide, axis) if reverse else wide
    with np.errstate(all="ignore"):
        full = accumulate(wide, axis).astype(x.dtype)
    if exclusive:
        head = np.full_like(np.take(full, [0], axis=axis), start)
        full = np.concatenate([head, np.delete(full, -1, axis=axis)], axis=axis)
    return np.flip(full, axis) if reverse else full


def scan_cases(op, accumulate, start, operands):
    for x in operands:
        for axis in range(x.ndim):
            for exclusive in (False, True):
                for reverse in (False, True):
                    first = start(x.dtype) if callable(start) else start
                    golden.case(op, [x], scan(accumulate, first, x, axis, exclusive, reverse), axis=axis,
                                exclusive=exclusive, reverse=reverse)


scan_cases("cumsum", lambda x, axis: np.cumsum(x, axis, dtype=x.dtype), 0, [FLOATS[0], FLOATS[2]] + INTS)
scan_cases("cum_prod", lambda x, axis: np.cumprod(x, axis, dtype=x.dtype), 1, [FLOATS[0], FLOATS[2]] + INTS)
lowest = lambda dtype: -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
highest = lambda dtype: np.inf if dtype.kind == "f" else np.iinfo(dtype).max
scan_cases("cum_max", np.maximum.accumulate, lowest, FLOATS + INTS)
scan_cases("cum_min", np.minimum.accumulate, highest, FLOATS + INTS)
scan_cases("cum_log_sum_exp", np.logaddexp.accumulate, -np.inf, [FLOATS[0] * 40, FLOATS[1], FLOATS[2]])
for x in [FLOATS[0] * 50, FLOATS[2], rng.normal(size=(2, 3, 4))]:
    for axis in range(x.ndim):
        golden.case("log_softmax", [x], special.log_softmax(x.astype(np.float64), axis=axis).astype(x.dtype), axis=axis)
edge = np.array([[-np.inf, -np.inf], [np.inf, 0], [np.nan, 0], [-np.inf, 0]])
golden.case("log_softmax", [edge], np.array([[np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan], [-np.inf, 0]]), axis=1)
golden.write("crates/rlx-ir/tests/golden/scan.rlx")
