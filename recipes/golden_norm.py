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
    for dtype in (np.float32, np.float16):
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

for dtype in (np.float32, np.float16):
    for shape in ((2, 6, 2, 3), (1, 6, 4), (1, 6, 1, 2, 3)):
        x, (gamma, beta, mean) = operands(shape, [(6,)] * 3, dtype)
        variance = np.abs(mean) + np.asarray(0.5, dtype)
        wide, rank = x.astype(np.float64), len(shape)
        g, b = along(gamma, (1,), rank), along(beta, (1,), rank)
        for groups in (1, 2, 3, 6):
            split = wide.reshape((shape[0], groups, 6 // groups) + shape[2:])
            normal = standardise(split, tuple(range(2, split.ndim)), 1e-5).reshape(shape)
            golden.case("group_norm", [x, gamma, beta], (normal * g + b).astype(dtype), num_groups=groups, eps=1e-5,
                        gamma=True, beta=True)
        golden.case("group_norm", [x, beta], (normal + b).astype(dtype), num_groups=6, eps=1e-5, beta=True)
        normal = standardise(wide, tuple(range(2, rank)), 1e-3)
        golden.case("instance_norm", [x, gamma, beta], (normal * g + b).astype(dtype), eps=1e-3, gamma=True, beta=True)
        golden.case("instance_norm", [x], normal.astype(dtype), eps=1e-3)
        normal = (wide - along(mean, (1,), rank)) / np.sqrt(along(variance, (1,), rank) + 1e-3)
        golden.case("batch_norm_inference", [x, mean, variance, gamma, beta], (normal * g + b).astype(dtype), axis=1,
                    eps=1e-3, gamma=True, beta=True)
        golden.case("batch_norm_inference", [x, mean, variance, gamma], (normal * g).astype(dtype), axis=1, eps=1e-3,
                    gamma=True)
        if rank == 4:
            normal = standardise(wide, (1,), 1e-6)
            golden.case("layer_norm2d", [x, gamma, beta], (normal * g + b).astype(dtype), eps=1e-6, gamma=True, beta=True)
            golden.case("layer_norm2d", [x], normal.astype(dtype), eps=1e-6)
x, (mean, beta) = operands((3, 4), [(4,)] * 2, np.float64)
golden.case("batch_norm_inference", [x, mean, mean**2, beta], (x - mean) / np.sqrt(mean**2 + 0.1) + beta, axis=1, eps=0.1,
            beta=True)
x, (mean,) = operands((3, 4), [(3,)], np.float64)
golden.case("batch_norm_inference", [x, mean, mean**2], (x - mean[:, None]) / np.sqrt(mean[:, None] ** 2 + 0.1), axis=0,
            eps=0.1)
for shape, axis in (((4, 3, 5), 1), ((6, 2), 1), ((3, 4), 0)):
    x, (gamma, beta, mean, variance) = operands(shape, [(shape[axis],)] * 4, np.float64)
    variance = np.abs(variance) + 0.5
    others = tuple(other for other in range(len(shape)) if other != axis)
    normal = standardise(x, others, 1e-3) * along(gamma, (axis,), len(shape)) + along(beta, (axis,), len(shape))
    running = [0.9 * mean + 0.1 * x.mean(axis=others), 0.9 * variance + 0.1 * x.var(axis=others)]
    golden.case("batch_norm", [x, mean, variance, gamma, beta], [normal, *running], axis=axis, eps=1e-3, momentum=0.9,
                gamma=True, beta=True)
golden.write("crates/rlx-ir/tests/golden/norm.rlx")
