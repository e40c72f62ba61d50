"""Golden data of the indexing ops. Oracle: NumPy (take, fancy indexing, ufunc.at).

python recipes/golden_index.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(13)
golden = Golden()


def numbers(dtype, *shape):
    return (rng.normal(size=shape) * 40).astype(dtype)


SCATTER = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}

for axis in range(3):
    for dtype, index_dtype in [(np.float32, np.int64), (np.int8, np.int32), (np.float16, np.uint32)]:
        table = numbers(dtype, 3, 4, 5)
        indices = rng.integers(0, table.shape[axis], (2, 3)).astype(index_dtype)
        golden.case("gather", [table, indices], np.take(table, indices, axis), axis=axis)
table = numbers(np.float32, 3, 4)
golden.case("gather", [table, np.array(2)], table[2], axis=0)
golden.case("gather", [table, np.zeros((0,), np.int64)], table[:, :0], axis=1)


def scatter_nd(base, indices, updates, kind):
    """Lead coordinates one by one, in row-major order."""
    out = base.copy()
    for lead in np.ndindex(*indices.shape[:-1]):
        at = tuple(indices[lead])
        with np.errstate(all="ignore"):
            out[at] = updates[lead] if kind == "none" else SCATTER[kind](out[at], updates[lead])
    return out


for kind in ["none", *SCATTER]:
    for dtype in [np.int32, np.uint8, np.float64]:
        base = numbers(dtype, 4, 3)
        indices = rng.integers(0, 4, (5, 1))
        updates = numbers(dtype, 5, 3)
        golden.case("scatter_nd", [base, indices, updates], scatter_nd(base, indices, updates, kind), kind=kind)
        indices = rng.integers(0, 3, (2, 3, 2)).astype(np.int32)
        updates = numbers(dtype, 2, 3)
        golden.case("scatter_nd", [base, indices, updates], scatter_nd(base, indices, updates, kind), kind=kind)
    nan = np.array([1, np.nan, 3], np.float32)
    indices, updates = np.array([[0], [1], [2]]), np.array([np.nan, 1, 2], np.float32)
    golden.case("scatter_nd", [nan, indices, updates], scatter_nd(nan, indices, updates, kind), kind=kind)

base, update = numbers(np.float32, 5, 2, 6), numbers(np.float32, 2, 2, 3)
expected = base.copy()
expected[3:5, :, 1:4] = update
golden.case("dynamic_update_slice", [base, update, np.array([3, 1])], expected, axes=[0, 2])
expected = base.copy()
expected[:2] = base[2:4]
golden.case("dynamic_update_slice", [base, base[2:4], np.array([0], np.uint32)], expected, axes=[0])

for axis in (1, 2):
    state = numbers(np.float32, 3, 6, 5)
    update = numbers(np.float32, 3, 2, 5) if axis == 1 else numbers(np.float32, 3, 6, 2)
    positions = np.array([0, 3, 2], np.int32)
    expected = state.copy()
    for row, position in enumerate(positions):
        np.moveaxis(expected, axis, 1)[row, position:position + 2] = np.moveaxis(update, axis, 1)[row]
    golden.case("kv_append", [state, update, positions], expected, axis=axis)

for axis in range(3):
    for dtype, index_dtype in [(np.float32, np.int64), (np.uint8, np.uint32)]:
        table = numbers(dtype, 3, 4, 5)
        shape = [3, 4, 5]
        shape[axis] = 7
        indices = rng.integers(0, table.shape[axis], shape).astype(index_dtype)
        golden.case("gather_elements", [table, indices], np.take_along_axis(table, indices, axis), axis=axis)
        smaller = indices[:2, :2, :3]
        expected = np.take_along_axis(table, indices, axis)[:2, :2, :3]
        golden.case("gather_elements", [table, smaller], expected, axis=axis)

table = numbers(np.float32, 2, 3, 4)
indices = rng.integers(0, 2, (5, 2))
golden.case("gather_nd", [table, indices], table[tuple(indices.T)], batch_dims=0)
indices = rng.integers(0, 2, (2, 2, 3)).astype(np.int32)
golden.case("gather_nd", [table, indices], table[tuple(np.moveaxis(indices, -1, 0))], batch_dims=0)
indices = rng.integers(0, 3, (2, 6, 1))
expected = np.stack([t[i[:, 0]] for t, i in zip(table, indices)])
golden.case("gather_nd", [table, indices], expected, batch_dims=1)
indices = rng.integers(0, 3, (2, 2))
expected = np.stack([t[tuple(i)] for t, i in zip(table, indices)])
golden.case("gather_nd", [table, indices], expected, batch_dims=1)

for axis in range(3):
    for dtype in [np.float64, np.int16]:
        base = numbers(dtype, 3, 4, 5)
        indices = rng.integers(0, base.shape[axis], (2, 3))
        updates = numbers(dtype, *np.take(base, indices, axis).shape)
        expected = np.moveaxis(base, axis, 0).copy()
        np.add.at(expected, indices, np.moveaxis(updates, [axis, axis + 1], [0, 1]))
        golden.case("scatter_add", [base, indices, updates], np.moveaxis(expected, 0, axis), axis=axis)

for kind in ["none", *SCATTER]:
    for axis in range(2):
        base = numbers(np.float64, 4, 3)
        indices = rng.integers(0, base.shape[axis], (3, 2)).astype(np.int32)
        updates = numbers(np.float64, 3, 2)
        expected = base.copy()
        for at in np.ndindex(3, 2):
            to = list(at)
            to[axis] = indices[at]
            to = tuple(to)
            expected[to] = updates[at] if kind == "none" else SCATTER[kind](expected[to], updates[at])
        golden.case("scatter_elements", [base, indices, updates], expected, axis=axis, kind=kind)

x = numbers(np.float32, 5, 3, 6)
golden.case("dynamic_slice", [x, np.array([2, 4])], x[2:5, :, 4:6], axes=[0, 2], sizes=[3, 2])
golden.case("dynamic_slice", [x, np.array([0], np.uint32)], x, axes=[1], sizes=[3])
golden.case("dynamic_slice", [x, np.array([5], np.int32)], x[5:], axes=[0], sizes=[0])

golden.write("crates/rlx-ir/tests/golden/index.rlx")
