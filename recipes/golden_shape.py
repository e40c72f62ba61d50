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

for axes in ([0], [1, 2], [0, 1, 2], []):
    golden.case("reverse", [x], np.flip(x, axes), axes=axes)

low, high = [2, 0, 1], [0, 3, 4]
for mode in ("constant", "reflect", "edge"):
    for array in (x, numbers(np.int64, 3, 4, 5), numbers(np.float16, 3, 4, 5)):
        expected = np.pad(array, list(zip(low, high)), mode)
        golden.case("pad", [array], expected, low=low, high=high, mode=mode, value=False)
golden.case("pad", [x, np.float32(-np.inf)], np.pad(x, list(zip(low, high)), constant_values=-np.inf),
            low=low, high=high, mode="constant", value=True)

for repeats in ([1, 2, 3], [2, 1, 0]):
    golden.case("tile", [x], np.tile(x, repeats), repeats=repeats)
for shifts, axes in [([1], [0]), ([-2, 9], [1, 2]), ([3, 0], [0, 1])]:
    golden.case("roll", [x], np.roll(x, shifts, axes), axes=axes, shifts=shifts)
golden.case("roll", [numbers(np.int8, 0, 2)], np.zeros((0, 2), np.int8), axes=[0], shifts=[5])

labels = np.array([[0, 3, 5], [-1, 2, 4]])
for axis in range(3):
    expected = np.moveaxis(labels[..., None] == np.arange(5), -1, axis)
    golden.case("one_hot", [labels], expected.astype(np.float32), depth=5, axis=axis, dtype="f32")
    golden.case("one_hot", [labels.astype(np.int32)], expected, depth=5, axis=axis, dtype="bool")

for diagonal in (-2, 0, 1, 7):
    attributes = {"diagonal": diagonal, "row_axis": 1, "column_axis": 2}
    golden.case("trilu", [x], np.triu(x, diagonal), upper=True, **attributes)
    golden.case("trilu", [x], np.tril(x, diagonal), upper=False, **attributes)
swapped = np.swapaxes(np.triu(np.swapaxes(x, 0, 2)), 0, 2)
golden.case("trilu", [x], swapped, upper=True, diagonal=0, row_axis=1, column_axis=0)

golden.case("barrier", [x, h], x)

golden.write("crates/rlx-ir/tests/golden/shape.rlx")
