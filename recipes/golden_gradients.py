"""Golden values and gradients of composite functions. Oracle: JAX in f64.

python recipes/golden_gradients.py   (jax 0.10, numpy 2)

A function is written once, on values of a `Tape`: each step is a line of the text form and a JAX function, so that
both sides are the same function without one being made from the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from golden import attribute, literal, tensor_type

jax.config.update("jax_enable_x64", True)
nn, lax = jax.nn, jax.lax
rng = np.random.default_rng(41)
graphs = []


class V:
    """A value: the number of its step."""

    def __init__(self, tape, index):
        self.tape, self.index = tape, index

    def __add__(self, other): return self.tape.binary("add", jnp.add, self, other)
    def __sub__(self, other): return self.tape.binary("sub", jnp.subtract, self, other)
    def __mul__(self, other): return self.tape.binary("mul", jnp.multiply, self, other)
    def __truediv__(self, other): return self.tape.binary("div", jnp.divide, self, other)
    def __pow__(self, other): return self.tape.binary("pow", jnp.power, self, other)
    def __neg__(self): return self.tape.unary("neg", jnp.negative, self)


class Tape:
    """The steps of one function: the line that makes the value, the JAX function, its operands."""

    def __init__(self):
        self.lines, self.steps = [], []

    def step(self, mnemonic, f, operands, **attributes):
        index = len(self.lines)
        names = ", ".join(f"%{operand.index}" for operand in operands)
        attrs = ", ".join(f"{name} = {attribute(value)}" for name, value in attributes.items())
        self.lines.append(f"%{index} = {mnemonic}{' ' if names else ''}{names}" + (f" {{{attrs}}}" if attrs else ""))
        self.steps.append((f, [operand.index for operand in operands]))
        return V(self, index)

    def constant(self, array):
        array = np.asarray(array)
        if array.dtype == np.int_:
            array = array.astype(np.int64)
        index = len(self.lines)
        self.lines.append(f"%{index} = constant {{value = {literal(array)}}}")
        self.steps.append((lambda: array, []))
        return V(self, index)

    def value(self, x):
        return x if isinstance(x, V) else self.constant(np.float64(x))

    def unary(self, kind, f, x, parameter=None):
        return self.step("activation", f, [x], kind=kind, parameter=parameter)

    def binary(self, kind, f, a, b):
        return self.step("binary", f, [self.value(a), self.value(b)], kind=kind)

    def exp(self, x): return self.unary("exp", jnp.exp, x)
    def log(self, x): return self.unary("log", jnp.log, x)
    def tanh(self, x): return self.unary("tanh", jnp.tanh, x)
    def sqrt(self, x): return self.unary("sqrt", jnp.sqrt, x)
    def sigmoid(self, x): return self.unary("sigmoid", nn.sigmoid, x)
    def relu(self, x): return self.unary("relu", nn.relu, x)
    def abs(self, x): return self.unary("abs", jnp.abs, x)
    def softplus(self, x): return self.unary("softplus", nn.softplus, x)
    def maximum(self, a, b): return self.binary("max", jnp.maximum, a, b)
    def minimum(self, a, b): return self.binary("min", jnp.minimum, a, b)

    def reduce(self, kind, x, axes, keep=False):
        f = {"sum": jnp.sum, "mean": jnp.mean, "prod": jnp.prod, "max": jnp.max, "min": jnp.min}[kind]
        axes = list(axes)
        return self.step("reduce", lambda x: f(x, tuple(axes), keepdims=keep), [x], kind=kind, axes=axes, keep_dims=keep)

    def sum(self, x, *axes, keep=False): return self.reduce("sum", x, axes, keep)
    def mean(self, x, *axes, keep=False): return self.reduce("mean", x, axes, keep)

    def mm(self, a, b, ta=False, tb=False):
        def f(a, b):
            return (jnp.swapaxes(a, -1, -2) if ta else a) @ (jnp.swapaxes(b, -1, -2) if tb else b)
        return self.step("matmul", f, [a, b], transpose_a=ta, transpose_b=tb)

    def dot(self, a, b, contracting, batch):
        def f(a, b):
            return lax.dot_general(a, b, (contracting, batch))
        return self.step("dot_general", f, [a, b], lhs_contracting=contracting[0], rhs_contracting=contracting[1],
                         lhs_batch=batch[0], rhs_batch=batch[1])

    def softmax(self, x, axis): return self.step("softmax", lambda x: nn.softmax(x, axis), [x], axis=axis)
    def log_softmax(self, x, axis): return self.step("log_softmax", lambda x: nn.log_softmax(x, axis), [x], axis=axis)
    def reshape(self, x, *dims): return self.step("reshape", lambda x: x.reshape(dims), [x], shape=list(dims))
    def transpose(self, x, *axes): return self.step("transpose", lambda x: x.transpose(axes), [x], permutation=list(axes))

    def narrow(self, x, axis, start, len):
        return self.step("narrow", lambda x: lax.slice_in_dim(x, start, start + len, axis=axis), [x],
                         axis=axis, start=start, len=len)

    def concat(self, parts, axis):
        return self.step("concat", lambda *parts: jnp.concatenate(parts, axis), parts, axis=axis)

    def pad(self, x, low, high, mode):
        return self.step("pad", lambda x: jnp.pad(x, list(zip(low, high)), mode), [x], low=low, high=high, mode=mode)

    def gather(self, x, indices, axis):
        return self.step("gather", lambda x, i: jnp.take(x, i, axis), [x, self.constant(indices)], axis=axis)

    def cumulative(self, op, f, x, axis, exclusive=False, reverse=False):
        def run(x):
            x = jnp.flip(x, axis) if reverse else x
            y = f(x, axis=axis)
            return jnp.flip(y, axis) if reverse else y
        return self.step(op, run, [x], axis=axis, exclusive=exclusive, reverse=reverse)

    def where(self, condition, a, b):
        return self.step("where", jnp.where, [self.constant(condition), self.value(a), self.value(b)])

    def conv(self, x, w, stride, padding, dilation, groups=1):
        def f(x, w):
            return lax.conv_general_dilated(x, w, stride, padding, rhs_dilation=dilation, feature_group_count=groups)
        low, high = [list(side) for side in zip(*padding)]
        return self.step("conv", f, [x, w], stride=stride, padding_low=low, padding_high=high, dilation=dilation,
                         groups=groups)

    def pool(self, x, kind, window, stride, padding=None):
        padding = padding or [(0, 0)] * len(window)
        lead = 4 - len(window)
        low, high = [list(side) for side in zip(*padding)]
        start, f = {"max": (-jnp.inf, lax.max), "sum": (0.0, lax.add)}[kind]
        def run(x):
            ones = (1,) * lead
            return lax.reduce_window(x, start, f, ones + tuple(window), ones + tuple(stride), [(0, 0)] * lead + padding)
        return self.step("pool", run, [x], kind=kind, window=window, stride=stride, padding_low=low, padding_high=high,
                         dilation=[1] * len(window), ceil_mode=False, count_include_pad=False, norm=None)

    def layer_norm(self, x, gamma, beta):
        def f(x, gamma, beta):
            centre = x - x.mean(-1, keepdims=True)
            return centre / jnp.sqrt((centre ** 2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
        return self.step("layer_norm", f, [x, gamma, beta], axes=[1], eps=1e-5, gamma=True, beta=True)

    def rms_norm(self, x, gamma):
        def f(x, gamma):
            return x / jnp.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-6) * gamma
        return self.step("rms_norm", f, [x, gamma], axes=[1], eps=1e-6, unit_offset=False, gamma=True, beta=False)

    def group_norm(self, x, gamma, beta, groups):
        def f(x, gamma, beta):
            parts = x.reshape(x.shape[0], groups, -1)
            parts = (parts - parts.mean(-1, keepdims=True)) / jnp.sqrt(parts.var(-1, keepdims=True) + 1e-5)
            return parts.reshape(x.shape) * gamma[:, None] + beta[:, None]
        return self.step("group_norm", f, [x, gamma, beta], num_groups=groups, eps=1e-5, gamma=True, beta=True)

    def attention(self, q, k, v, causal, scale=None, cap=None):
        def f(q, k, v):
            group = q.shape[1] // k.shape[1]
            k, v = jnp.repeat(k, group, 1), jnp.repeat(v, group, 1)
            scores = q @ k.swapaxes(2, 3) * (scale or q.shape[3] ** -0.5)
            scores = cap * jnp.tanh(scores / cap) if cap else scores
            keep = np.tril(np.ones(scores.shape[2:], bool), scores.shape[3] - scores.shape[2])
            return nn.softmax(jnp.where(keep, scores, -jnp.inf) if causal else scores) @ v
        return self.step("attention", f, [q, k, v], layout="bhsd", num_heads=2, num_kv_heads=1,
                         scale=scale, softcap=cap, mask_kind="causal" if causal else "none", window=0, alignment="end",
                         with_lse=False)

    def loss(self, logits, labels):
        def f(logits, labels):
            return -jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1)[:, 0]
        return self.step("softmax_cross_entropy_with_logits", f, [logits, self.constant(labels)], axis=1,
                         ignore_index=None, label_smoothing=0.0)


def case(name, f, *inputs):
    """`f` of a tape and one value per input, summed to one number with weights that differ."""
    inputs = [np.asarray(array, np.float64) for array in inputs]
    tape = Tape()
    values = []
    for index, array in enumerate(inputs):
        tape.lines.append(f'%{index} = input {{name = "x{index}", result = {tensor_type(array)}}}')
        tape.steps.append(None)
        values.append(V(tape, index))
    result = f(tape, *values)

    def run(*arrays):
        made = list(arrays)
        for function, operands in tape.steps[len(arrays):]:
            made.append(function(*[made[index] for index in operands]))
        return made[result.index]

    dims = jax.eval_shape(run, *inputs).shape
    if dims:
        weights = tape.constant(np.cos(1.0 + np.arange(np.prod(dims, dtype=int))).reshape(dims))
        result = tape.sum(result * weights, *range(len(dims)))
    y, gradients = jax.value_and_grad(run, tuple(range(len(inputs))))(*inputs)
    lines = list(tape.lines)
    outputs = [f'output "y" = %{result.index}']
    known = [(f"feed:x{index}", array) for index, array in enumerate(inputs)]
    known += [("expected:y", y)] + [(f"expected:grad:x{index}", grad) for index, grad in enumerate(gradients)]
    for label, array in known:
        outputs.append(f'output "{label}" = %{len(lines)}')
        lines.append(f"%{len(lines)} = constant {{value = {literal(np.asarray(array))}}}")
    assert np.isfinite(y) and all(np.isfinite(grad).all() for grad in gradients), name
    graphs.append("\n".join(["rlx 1", f'graph "{name}" {{'] + ["  " + line for line in lines + outputs] + ["}"]))


def numbers(*dims):
    return rng.normal(size=dims)


def positive(*dims):
    return rng.uniform(0.3, 2.0, size=dims)


# One layer for each activation.
ACTIVATIONS = {
    "exp": jnp.exp, "expm1": jnp.expm1, "sin": jnp.sin, "cos": jnp.cos, "atan": jnp.arctan, "sinh": jnp.sinh,
    "cosh": jnp.cosh, "tanh": jnp.tanh, "asinh": jnp.arcsinh, "erf": jax.scipy.special.erf, "relu": nn.relu,
    "sigmoid": nn.sigmoid, "log_sigmoid": nn.log_sigmoid, "softplus": nn.softplus, "softsign": nn.soft_sign,
    "silu": nn.silu, "gelu": lambda x: nn.gelu(x, approximate=False), "gelu_approx": nn.gelu,
    "hard_swish": nn.hard_swish, "mish": nn.mish,
}
for kind, f in ACTIVATIONS.items():
    case(f"layer_{kind}", lambda t, x, w, b: t.unary(kind, f, t.mm(x, w) + b), numbers(3, 4), numbers(4, 2), numbers(2))
for kind, f in {"log": jnp.log, "sqrt": jnp.sqrt, "rsqrt": lax.rsqrt, "recip": jnp.reciprocal, "log1p": jnp.log1p}.items():
    case(f"positive_{kind}", lambda t, x, w: t.unary(kind, f, x * x + t.exp(w)), numbers(2, 3), numbers(3))

# Arithmetic and broadcasts.
case("polynomial", lambda t, x: x * x * x * 2.0 - x * x + x / 3.0, numbers(5))
case("rational", lambda t, x, y: (x * y + 1.0) / (x * x + y * y + 1.0), numbers(4, 1), numbers(3))
case("power", lambda t, x, y: x ** y, positive(2, 3), numbers(3))
case("angle", lambda t, x, y: t.binary("atan2", jnp.arctan2, x, y), numbers(4), numbers(4))
case("remainder", lambda t, x, y: t.binary("rem", jnp.fmod, x * 5.0, y), numbers(6), positive(6))
case("extremes", lambda t, x, y: t.maximum(x, y) * t.minimum(x, y * 2.0), numbers(3, 3), numbers(3))
case("clipped", lambda t, x: t.minimum(t.maximum(x, -0.5), 0.5) * x, numbers(8))
case("chosen", lambda t, x, y: t.where([True, False, True], x * y, t.exp(x)), numbers(2, 3), numbers(3))
case("reused", lambda t, x: t.tanh(x) * x + t.exp(t.tanh(x)), numbers(4))

# Reductions.
for kind in ("sum", "mean", "prod", "max", "min"):
    case(f"reduced_{kind}", lambda t, x: t.reduce(kind, x * x + x, (0, 2)), numbers(2, 3, 2))
case("variance", lambda t, x: t.mean((x - t.mean(x, 1, keep=True)) ** 2.0, 1), positive(3, 5))
case("log_sum_exp", lambda t, x: t.log(t.sum(t.exp(x), 1)), numbers(3, 4))
case("norm", lambda t, x: t.sqrt(t.sum(x * x, 1)), numbers(3, 4))
case("cosine", lambda t, x, y: t.sum(x * y, 0) / (t.sqrt(t.sum(x * x, 0)) * t.sqrt(t.sum(y * y, 0))), numbers(5), numbers(5))
case("geometric_mean", lambda t, x: t.exp(t.mean(t.log(x), 0)), positive(6))

# Running combinations and order.
case("running_sum", lambda t, x: t.cumulative("cumsum", jnp.cumsum, x * x, 1, reverse=True), numbers(2, 5))
case("running_product", lambda t, x: t.cumulative("cum_prod", jnp.cumprod, x, 0), numbers(4, 2))
case("running_maximum", lambda t, x: t.cumulative("cum_max", lax.cummax, x, 1), numbers(2, 6))
case("running_minimum", lambda t, x: t.cumulative("cum_min", lax.cummin, x, 1, reverse=True), numbers(2, 6))
case("running_log_sum_exp", lambda t, x: t.cumulative("cum_log_sum_exp", lax.cumlogsumexp, x * 3.0, 1), numbers(2, 5))
case("sorted", lambda t, x: t.step("sort", lambda x: -jnp.sort(-x, axis=1), [x], axis=1, descending=True), numbers(3, 5))

# Linear algebra.
case("product", lambda t, a, b: t.mm(a, b, ta=True), numbers(2, 4, 3), numbers(4, 2))
case("transposed_product", lambda t, a, b: t.tanh(t.mm(a, b, tb=True)), numbers(3, 4), numbers(5, 4))
case("contraction", lambda t, a, b: t.dot(a, b, ([1], [2]), ([0], [0])), numbers(2, 3, 4), numbers(2, 5, 3))
case("quadratic_form", lambda t, x, a: t.mm(t.mm(x, a), x, tb=True), numbers(1, 4), numbers(4, 4))
case("gram", lambda t, x: t.exp(t.mm(x, x, tb=True) * 0.3), numbers(3, 4))

# Movement.
case("moved", lambda t, x: t.transpose(t.reshape(x * x, 3, 2, 2), 2, 0, 1), numbers(2, 6))
case("cut_and_joined", lambda t, x, y: t.concat([t.narrow(x, 1, 1, 2) * 2.0, y, t.narrow(x, 1, 0, 3)], 1) ** 2.0,
     positive(2, 4), positive(2, 1))
for mode in ("constant", "reflect", "edge"):
    case(f"padded_{mode}", lambda t, x: t.exp(t.pad(x, [0, 2], [1, 1], mode)), numbers(3, 4))
case("rows", lambda t, table: t.tanh(t.gather(table, [[0, 2], [2, 3]], 0)), numbers(4, 3))
case("columns", lambda t, table: t.gather(table, [1, 1, 0], 1) * 3.0, numbers(2, 4))

# Windows.
case("convolution_1d", lambda t, x, w: t.conv(x, w, [1], [(1, 1)], [1]), numbers(2, 3, 6), numbers(4, 3, 3))
case("convolution_2d", lambda t, x, w: t.conv(x, w, [2, 1], [(1, 2), (0, 1)], [1, 2]), numbers(1, 2, 5, 6), numbers(3, 2, 3, 3))
case("convolution_groups", lambda t, x, w: t.relu(t.conv(x, w, [1, 2], [(1, 1), (1, 1)], [1, 1], 2)),
     numbers(2, 4, 4, 5), numbers(6, 2, 3, 3))
case("largest_of_windows", lambda t, x: t.pool(x, "max", [2, 2], [2, 1], [(0, 0), (1, 0)]), numbers(1, 2, 4, 5))
case("sum_of_windows", lambda t, x: t.pool(x * x, "sum", [3, 2], [1, 2]), numbers(1, 2, 4, 6))

# Parts of networks and losses.
case("layer_norm", lambda t, x, g, b: t.layer_norm(x, g, b), numbers(3, 5), numbers(5), numbers(5))
case("rms_norm", lambda t, x, g: t.rms_norm(x * x, g), numbers(3, 5), numbers(5))
case("group_norm", lambda t, x, g, b: t.group_norm(x, g, b, 2), numbers(2, 4, 3), numbers(4), numbers(4))
case("softmax", lambda t, x: t.softmax(x, 0) * x, numbers(4, 3))
case("log_softmax", lambda t, x: t.log_softmax(x * 2.0, 1), numbers(4, 3))
case("attention", lambda t, q, k, v: t.attention(q, k, v, False), numbers(2, 2, 3, 4), numbers(2, 1, 5, 4), numbers(2, 1, 5, 2))
case("causal_attention", lambda t, q, k, v: t.attention(q, k, v, True, 0.7, 1.5),
     numbers(1, 2, 3, 4), numbers(1, 1, 4, 4), numbers(1, 1, 4, 2))
case("gated_unit", lambda t, x, w, v: t.mm(x, w) * t.unary("silu", nn.silu, t.mm(x, v)), numbers(2, 3), numbers(3, 4), numbers(3, 4))
case("residual_block", lambda t, x, g, w, v: x + t.mm(t.relu(t.mm(t.rms_norm(x, g), w)), v),
     numbers(3, 4), numbers(4), numbers(4, 6), numbers(6, 4))
case("gated_cell", lambda t, h, x, w, u: t.sigmoid(t.mm(x, w)) * t.tanh(t.mm(h, u)) + h, numbers(2, 3), numbers(2, 4), numbers(4, 3), numbers(3, 3))
case("classifier", lambda t, x, w, b: t.mean(t.loss(t.mm(x, w) + b, [0, 2, 1, 2]), 0), numbers(4, 5), numbers(5, 3), numbers(3))
case("logistic_loss", lambda t, x, y: t.maximum(x, 0.0) - x * y + t.softplus(-t.abs(x)), numbers(6), positive(6))
case("huber_loss", lambda t, x: t.minimum(t.abs(x), 1.0) * (t.abs(x) - t.minimum(t.abs(x), 1.0) * 0.5), numbers(8) * 2)
case("gaussian_divergence", lambda t, mean, log_variance: (mean * mean + t.exp(log_variance) - log_variance - 1.0) * 0.5,
     numbers(3, 2), numbers(3, 2))
case("mixture_likelihood", lambda t, x, mean, weight: t.log(t.sum(t.softmax(weight, 0) * t.exp((x - mean) * (x - mean) * -0.5), 1)),
     numbers(5, 1), numbers(3), numbers(3))
case("kernel_regression", lambda t, x, y, z: t.mm(t.softmax(t.mm(x, y, tb=True) * 0.5, 1), z),
     numbers(2, 3), numbers(4, 3), numbers(4, 1))

with open("crates/rlx-autodiff/tests/golden/gradients.rlx", "w") as file:
    file.write("\n".join(graphs) + "\n")
print(f"{len(graphs)} functions")
