"""Golden data of the norms. Oracle: NumPy in float64 after each norm's published formula, cast to the op's dtype.

python recipes/golden_norm.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(13)
golden = Golden()


def standardise(x, axes, eps, centred=True):
    mean = x.mean(axis=axes, keepdims=True) if centred else 0.0
    square = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(square + eps)


def along(parameter, axes, rank):
    shape = [1] * rank
    for axis, extent in zip(axes, parameter.shape):
        shape[axis] = extent
    return parameter.astype(np.float64).reshape(shape)


def operands(shape, parameters, dtype):
    x = (rng.normal(size=shape) * 3 + 1).astype(dtype)
    return x, [rng.normal(size=extents).astype(dtype) for extents in parameters]


CASES = [((3, 8), (1,)), ((2, 3, 5), (2,)), ((2, 3, 5), (1,)), ((2, 3, 5), (0, 2)), ((2, 3, 2, 2), (1, 2, 3)), ((6,), (0,))]
for shape, axes in CASES:
    for dtype in (np.float32, np.float64, np.float16):
        extents = [shape[axis] for axis in axes]
        x, (gamma, beta) = operands(shape, [extents, extents], dtype)
        wide, rank = x.astype(np.float64), len(shape)
        g, b = along(gamma, axes, rank), along(beta, axes, rank)
        normal = standardise(wide, axes, 1e-5)
        golden.case("layer_norm", [x, gamma, beta], (normal * g + b).astype(dtype), axes=axes, eps=1e-5, gamma=True, beta=True)
        golden.case("layer_norm", [x], normal.astype(dtype), axes=axes, eps=1e-5)
        golden.case("layer_norm", [x, beta], (normal + b).astype(dtype), axes=axes, eps=1e-5, beta=True)
        root = standardise(wide, axes, 1e-6, centred=False)
        golden.case("rms_norm", [x, gamma], (root * g).astype(dtype), axes=axes, eps=1e-6, unit_offset=False, gamma=True)
        golden.case("rms_norm", [x, gamma, beta], (root * (1 + g) + b).astype(dtype), axes=axes, eps=1e-6,
                    unit_offset=True, gamma=True, beta=True)
        golden.case("rms_norm", [x], root.astype(dtype), axes=axes, eps=1e-6, unit_offset=False)
golden.write("crates/rlx-ir/tests/golden/norm.rlx")
