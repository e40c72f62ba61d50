"""Golden data of the shape and data movement ops. Oracle: NumPy.

python recipes/golden_shape.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(12)
golden = Golden()


def numbers(dtype, *shape):
    return (rng.normal(size=shape) * 40).astype(dtype)


x = numbers(np.float32, 3, 4, 5)
golden.case("narrow", [x], x[:, 1:3], axis=1, start=1, len=2)
golden.case("narrow", [x], x[2:], axis=0, start=2, len=1)
golden.case("narrow", [x], x[..., 5:], axis=2, start=5, len=0)
golden.case("narrow", [numbers(np.int8, 6)[:3]], numbers(np.int8, 0), axis=0, start=3, len=0)

golden.case("slice", [x], x[::2, ::-1, 3:0:-2], axes=[0, 1, 2], starts=[0, 3, 3], steps=[2, -1, -2], lens=[2, 4, 2])
golden.case("slice", [x], x[:, 1::2], axes=[1], starts=[1], steps=[2], lens=[2])
golden.case("slice", [x], x, axes=[], starts=[], steps=[], lens=[])

h = numbers(np.float16, 3, 1)
golden.case("expand", [h], np.broadcast_to(h, (2, 3, 4)), shape=[2, 3, 4])
golden.case("expand", [h], np.broadcast_to(h, (3, 0)), shape=[3, 0])
golden.case("expand", [np.array(7, np.int64)], np.full((2, 2), 7, np.int64), shape=[2, 2])

for axis in range(3):
    parts = [np.take(x, range(n), axis) for n in (1, 0, 3, 2)]
    golden.case("concat", parts, np.concatenate(parts, axis), axis=axis)
flags = [rng.integers(0, 2, n).astype(bool) for n in (2, 3)]
golden.case("concat", flags, np.concatenate(flags), axis=0)

for dtype, name in [(np.float32, "f32"), (np.int64, "i64"), (np.uint8, "u8"), (np.float16, "f16")]:
    for axis in range(3):
        shape = (2, 3, 4)
        golden.case("iota", [], np.indices(shape)[axis].astype(dtype), dtype=name, shape=list(shape), axis=axis)
golden.case("iota", [], np.arange(300).astype(np.uint8), dtype="u8", shape=[300], axis=0)

golden.write("crates/rlx-ir/tests/golden/shape.rlx")
