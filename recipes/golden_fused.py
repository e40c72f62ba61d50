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
golden.write("crates/rlx-ir/tests/golden/fused.rlx")
