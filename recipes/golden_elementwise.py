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

golden.write("crates/rlx-ir/tests/golden/elementwise.rlx")
