"""Golden data of the elementwise ops besides activations and arithmetic. Oracle: NumPy.

python recipes/golden_elementwise.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(11)
golden = Golden()

COMPARISONS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
floats = np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf], np.float32)
for name, function in COMPARISONS.items():
    golden.case("compare", [floats[:, None], floats], function(floats[:, None], floats), kind=name)
    for dtype in [np.int64, np.uint64, np.int8, bool, np.float16]:
        a = rng.integers(0, 2, (3, 4)).astype(dtype) if dtype is bool else np.array([[0, 1, 127, 5]] * 3).astype(dtype)
        b = rng.integers(0, 3, (3, 1)).astype(dtype)
        golden.case("compare", [a, b], function(a, b), kind=name)
edge = np.array([2**63 - 1, 2**53 + 1, -(2**63)], np.int64)
golden.case("compare", [edge, edge - np.array([1, 1, 0])], edge > edge - np.array([1, 1, 0]), kind="gt")
z = np.array([1 + 2j, 1 - 2j, np.nan], np.complex64)
golden.case("compare", [z, z.real.astype(np.complex64)], z == z.real, kind="eq")
golden.case("compare", [z, z], z != z, kind="ne")

condition = rng.integers(0, 2, (4, 1, 3)).astype(bool)
for dtype in [np.float32, np.float16, np.int64, bool, np.complex64]:
    t, f = rng.normal(size=(2, 1)).astype(dtype), rng.normal(size=(3,)).astype(dtype)
    golden.case("where", [condition, t, f], np.where(condition, t, f))
golden.case("where", [np.array([True, False]), floats[:2], np.array(np.nan, np.float32)],
            np.where([True, False], floats[:2], np.float32(np.nan)))

bits = np.array([0, 1, 0x3F800000, 0x80000000, 0xFF7FFFFF, 0x7F800000], np.uint32)
for dtype, name in [(np.float32, "f32"), (np.int32, "i32")]:
    golden.case("bitcast", [bits], bits.view(dtype), to=name)
    golden.case("bitcast", [bits.view(dtype)], bits, to="u32")
halves = rng.normal(size=5).astype(np.float16)
golden.case("bitcast", [halves], halves.view(np.int16), to="i16")
wide = np.array([1.5, -0.0, np.inf, 5e-324])
golden.case("bitcast", [wide], wide.view(np.int64), to="i64")

x = np.concatenate([floats, rng.normal(size=6).astype(np.float32)]).reshape(3, 4)
low, high = np.float32(-0.5), np.array([[0.5], [np.nan], [-1]], np.float32)
golden.case("clamp", [x, low, high], np.minimum(np.maximum(x, low), high), low=True, high=True)
golden.case("clamp", [x, low], np.maximum(x, low), low=True, high=False)
golden.case("clamp", [x, high], np.minimum(x, high), low=False, high=True)
for dtype in [np.int64, np.uint8, np.float16]:
    v = np.array([0, 3, 90, 100], dtype)
    golden.case("clamp", [v, dtype(2), dtype(91)], np.clip(v, 2, 91), low=True, high=True)
golden.case("clamp", [np.array([2**62 + 1, -1]), np.array(0)], np.array([2**62 + 1, 0]), low=True, high=False)

a, b = rng.normal(size=(2, 1, 3)).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)
program = """program(f32, f32) {
    2 = mul 0 1 : f32, 3 = index 2 : i64, 4 = cast 3 : f32, 5 = add 2 4 : f32, 6 = real 1.5 : f32,
    7 = gt 5 6 : bool, 8 = select 7 5 1 : f32, return 8 7 }"""
wide = a.astype(np.float64) * b + np.arange(3)
golden.case("elementwise_region", [a, b], [np.where(wide > 1.5, wide, b).astype(np.float32), wide > 1.5],
            program=program, shape=[2, 4, 3])
program = "program() { 0 = index 0 : i64, 1 = index 1 : i64, 2 = mul 0 0 : i64, 3 = sub 2 1 : i64, return 3 }"
rows, columns = np.indices((3, 4))
golden.case("elementwise_region", [], rows**2 - columns, program=program, shape=[3, 4])

golden.write("crates/rlx-ir/tests/golden/elementwise.rlx")
