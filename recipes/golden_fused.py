"""Golden data of the named fusions. Oracle: NumPy and SciPy in float64.

python recipes/golden_fused.py   (numpy 2, scipy 1)
"""

import numpy as np
from scipy import special
from golden import Golden

rng = np.random.default_rng(17)
golden = Golden()

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))),
    "gelu_approx": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * special.expit(x),
    "sigmoid": special.expit,
    "tanh": np.tanh,
}

for name, function in ACTIVATIONS.items():
    for transpose in (False, True):
        x, w, bias = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5)), rng.normal(size=5)
        stored = w.T.copy() if transpose else w
        attributes = dict(kind=name, parameter=None, transpose_w=transpose)
        golden.case("fused_matmul_bias_act", [x, stored, bias], function(x @ w + bias), **attributes, bias=True)
        golden.case("fused_matmul_bias_act", [x, stored], function(x @ w), **attributes)
x, w, bias = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), rng.normal(size=5)
y = x @ w + bias
golden.case("fused_matmul_bias_act", [x, w, bias], np.where(y >= 0, y, 0.2 * y), kind="leaky_relu", parameter=0.2,
            transpose_w=False, bias=True)

for name in ("silu", "gelu", "relu", "sigmoid", "gelu_approx"):
    for gate_first in (True, False):
        x = rng.normal(size=(2, 3, 8)).astype(np.float32)
        first, second = np.split(x.astype(np.float64), 2, axis=-1)
        gate, up = (first, second) if gate_first else (second, first)
        y = ACTIVATIONS[name](gate) * up
        golden.case("fused_swiglu", [x], y.astype(np.float32), gate_first=gate_first, kind=name, cast=None)
        golden.case("fused_swiglu", [x], y.astype(np.float16), gate_first=gate_first, kind=name, cast="f16")


def standardise(x, axes, eps, centred):
    mean = x.mean(axis=axes, keepdims=True) if centred else 0.0
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)


for shape, axes in (((3, 8), (1,)), ((2, 3, 5), (1,)), ((2, 3, 5), (1, 2))):
    extents = [shape[axis] for axis in axes]
    spread = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
    x, residual = rng.normal(size=shape), rng.normal(size=shape)
    bias, gamma, beta = (rng.normal(size=extents) for _ in range(3))
    along = lambda parameter: parameter.reshape(spread)
    total = x + residual + along(bias)
    normal = standardise(total, axes, 1e-5, True) * along(gamma) + along(beta)
    golden.case("fused_residual_ln", [x, residual, bias, gamma, beta], [normal, total], axes=axes, eps=1e-5, bias=True,
                gamma=True, beta=True)
    root = standardise(total, axes, 1e-6, False)
    golden.case("fused_residual_rms_norm", [x, residual, bias, gamma], [root * (1 + along(gamma)), total], axes=axes,
                eps=1e-6, unit_offset=True, bias=True, gamma=True)
    total = x + residual
    golden.case("fused_residual_ln", [x, residual], [standardise(total, axes, 1e-5, True), total], axes=axes, eps=1e-5)
    root = standardise(total, axes, 1e-6, False)
    golden.case("fused_residual_rms_norm", [x, residual, gamma], [root * along(gamma), total], axes=axes, eps=1e-6,
                unit_offset=False, gamma=True)
golden.write("crates/rlx-ir/tests/golden/fused.rlx")
