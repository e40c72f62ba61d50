"""Golden data of products. Oracle: NumPy einsum in float64 or in the integer type.

python recipes/golden_linear.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(19)
golden = Golden()

EXTENTS = dict(a=2, b=3, c=2, d=4, e=1)


def operand(labels, dtype):
    shape = [EXTENTS[label] for label in labels]
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


for lhs, rhs in map(str.split, ["bc cd", "abcd abed", "abc cb", "cba dac", "abc bca", "ab cd", "a a", "abcd dbe", "abcde edcba", "bac cab"]):
    for dtype in (np.float64, np.float32, np.int32, np.complex128):
        for batch in ("", "a", "ba"):
            if not set(batch) <= set(lhs) & set(rhs):
                continue
            summed = [label for label in lhs if label in rhs and label not in batch]
            free = [label for label in lhs + rhs if (label in lhs) != (label in rhs)]
            x, y = operand(lhs, dtype), operand(rhs, dtype)
            subscripts = f"{lhs},{rhs}->{batch}{''.join(free)}"
            wide = np.float64 if dtype == np.float32 else dtype
            expected = np.einsum(subscripts, x.astype(wide), y.astype(wide), dtype=wide).astype(dtype)
            golden.case("dot_general", [x, y], expected, lhs_contracting=[lhs.index(label) for label in summed],
                        rhs_contracting=[rhs.index(label) for label in summed],
                        lhs_batch=[lhs.index(label) for label in batch], rhs_batch=[rhs.index(label) for label in batch])

for shape, rank, transpose in (((3, 4), 2, False), ((2, 3, 4), 1, True), ((2, 4), 0, False), ((5, 7), 7, True)):
    x, w, a, b = (rng.normal(size=size) for size in (shape, (shape[-1], 6), (shape[-1], rank), (rank, 6)))
    scale = np.float64(rng.normal())
    stored = [weight.T.copy() if transpose else weight for weight in (w, a, b)]
    golden.case("lora_matmul", [x, *stored, scale], x @ (w + scale * a @ b), transpose_w=transpose)
for transpose in (False, True):
    x, w = rng.normal(size=(5, 4)), rng.normal(size=(4, 6))
    a, b, scale = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 2, 6)), rng.normal(size=3)
    adapter = np.array([2, 0, 0, 1, 2], np.int32)
    y = np.stack([x[row] @ (w + scale[e] * a[e] @ b[e]) for row, e in enumerate(adapter)])
    stored = [np.ascontiguousarray(m.swapaxes(-1, -2)) if transpose else m for m in (w, a, b)]
    golden.case("lora_matmul", [x, *stored, scale, adapter], y, transpose_w=transpose, adapter=True)
golden.write("crates/rlx-ir/tests/golden/linear.rlx")
