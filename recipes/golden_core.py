"""Golden data of the first ops. Oracle: NumPy and SciPy in float64, cast to the op's dtype.

python recipes/golden_core.py   (numpy 2, scipy 1)
"""

import numpy as np
from scipy import special
from golden import Golden

rng = np.random.default_rng(7)
golden = Golden()


def wide(function, *arrays):
    """Evaluates in float64 and rounds once to the first operand's dtype."""
    with np.errstate(all="ignore"):
        return np.asarray(function(*[a.astype(np.float64) for a in arrays])).astype(arrays[0].dtype)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 88.8, -104.0, 1e-40, 0.5, 2.5, -2.5, 3e38], np.float32)
sigmoid = special.expit
softplus = lambda x: np.logaddexp(x, 0.0)
FUNCTIONS = {
    "neg": np.negative, "abs": np.abs, "sign": lambda x: np.where(x == 0, x, np.sign(x)), "exp": np.exp, "expm1": np.expm1,
    "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "recip": lambda x: 1 / x,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": special.erf, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid, "log_sigmoid": special.log_expit, "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)), "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1 + special.erf(x * np.sqrt(0.5))),
    "gelu_approx": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6, "hard_swish": lambda x: x * (np.clip(x + 3, 0, 6) / 6),
    "mish": lambda x: x * np.tanh(softplus(x)),
}
for name, function in FUNCTIONS.items():
    x = np.concatenate([SPECIAL, rng.normal(size=9).astype(np.float32)])
    golden.case("activation", [x], wide(function, x), kind=name, parameter=None)
x = rng.normal(size=(2, 3)).astype(np.float32)
golden.case("activation", [x], wide(lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)), x), kind="elu", parameter=0.7)
golden.case("activation", [x], wide(lambda x: np.where(x >= 0, x, 0.1 * x), x), kind="leaky_relu", parameter=0.1)
b = rng.integers(0, 2, 5).astype(bool)
golden.case("activation", [b], ~b, kind="not", parameter=None)

a, b = rng.normal(size=(4, 1, 3)).astype(np.float32), rng.normal(size=(2, 1)).astype(np.float32)
for name, function in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "rem": np.fmod,
                       "mod": np.mod, "max": np.maximum, "min": np.minimum, "atan2": np.arctan2}.items():
    golden.case("binary", [a, b], wide(function, a, b), kind=name)
golden.case("binary", [np.abs(a), b], wide(np.power, np.abs(a), b), kind="pow")
nan = np.array([np.nan, 1, np.inf], np.float32)
for name, function in {"max": np.maximum, "min": np.minimum}.items():
    golden.case("binary", [nan, nan[::-1].copy()], function(nan, nan[::-1]), kind=name)
for dtype in [np.int32, np.uint8, np.int64]:
    info = np.iinfo(dtype)
    i, j = rng.integers(info.min, info.max, (3, 4), dtype), rng.integers(1, 7, 4).astype(dtype)
    for name, function in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "bit_and": np.bitwise_and,
                           "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor, "shl": np.left_shift, "shr": np.right_shift,
                           "mod": np.mod, "rem": np.fmod}.items():
        golden.case("binary", [i, j], function(i, j), kind=name)
p, q = rng.integers(0, 2, 8).astype(bool), rng.integers(0, 2, 8).astype(bool)
for name, function in {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.items():
    golden.case("binary", [p, q], function(p, q), kind=name)

f = np.array([0.5, -1.5, 2.5, 300.0, -300.0], np.float32)
golden.case("cast", [f], f.astype(np.int32), to="i32")
golden.case("cast", [f], np.clip(np.trunc(f), 0, 255).astype(np.uint8), to="u8")
golden.case("cast", [f], f.astype(np.float16), to="f16")
golden.case("cast", [np.arange(-3, 3)], np.arange(-3, 3).astype(np.uint8), to="u8")
golden.case("reshape", [x], x.reshape(3, 2), shape=[3, 2])
y = rng.normal(size=(2, 3, 4))
golden.case("transpose", [y], y.transpose(2, 0, 1).copy(), permutation=[2, 0, 1])
for name, function in {"sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min}.items():
    golden.case("reduce", [y], function(y, axis=(0, 2)), kind=name, axes=[0, 2], keep_dims=False)
    golden.case("reduce", [y], function(y, axis=1, keepdims=True), kind=name, axes=[1], keep_dims=True)
m = rng.integers(0, 2, (3, 4)).astype(bool)
golden.case("reduce", [m], m.any(axis=1), kind="any", axes=[1], keep_dims=False)
golden.case("reduce", [m], m.all(axis=0), kind="all", axes=[0], keep_dims=False)
s = rng.normal(size=(3, 5)) * 50
for axis in (0, 1):
    golden.case("softmax", [s], special.softmax(s, axis=axis), axis=axis)
a, b = rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(5, 4, 2))
golden.case("matmul", [a, b], a @ b, transpose_a=False, transpose_b=False)
golden.case("matmul", [a.swapaxes(2, 3).copy(), b.swapaxes(1, 2).copy()], a @ b, transpose_a=True, transpose_b=True)
golden.write("crates/rlx-ir/tests/golden/core.rlx")
