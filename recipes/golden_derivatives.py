"""Golden data of the ops that are derivatives, and of the loss. Oracle: jax.vjp in f64.

python recipes/golden_derivatives.py   (jax 0.10, numpy 2)
"""

import jax
import jax.numpy as jnp
import numpy as np
from golden import Golden

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(31)
golden = Golden()


def numbers(*shape):
    return rng.normal(size=shape)


def vjp(f, operands, dy):
    return [np.asarray(grad) for grad in jax.vjp(f, *operands)[1](dy)]


nn = jax.nn
ACTIVATIONS = {
    "neg": jnp.negative, "abs": jnp.abs, "sign": jnp.sign, "exp": jnp.exp, "expm1": jnp.expm1, "log": jnp.log,
    "log1p": jnp.log1p, "sqrt": jnp.sqrt, "rsqrt": jax.lax.rsqrt, "recip": jnp.reciprocal, "sin": jnp.sin,
    "cos": jnp.cos, "tan": jnp.tan, "asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "sinh": jnp.sinh,
    "cosh": jnp.cosh, "tanh": jnp.tanh, "asinh": jnp.arcsinh, "acosh": jnp.arccosh, "atanh": jnp.arctanh,
    "erf": jax.scipy.special.erf, "floor": jnp.floor, "relu": nn.relu, "sigmoid": nn.sigmoid,
    "log_sigmoid": nn.log_sigmoid, "softplus": nn.softplus, "softsign": nn.soft_sign, "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False), "gelu_approx": nn.gelu,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x), "hard_swish": nn.hard_swish, "hard_sigmoid": nn.hard_sigmoid,
    "mish": nn.mish, "elu": lambda x: nn.elu(x, 0.7), "leaky_relu": lambda x: nn.leaky_relu(x, 0.1),
}
DOMAINS = {"log": (0.1, 4), "sqrt": (0.1, 4), "rsqrt": (0.1, 4), "log1p": (-0.9, 3), "asin": (-0.9, 0.9),
           "acos": (-0.9, 0.9), "atanh": (-0.9, 0.9), "acosh": (1.1, 5)}
PARAMETERS = {"elu": 0.7, "leaky_relu": 0.1}
for kind, f in ACTIVATIONS.items():
    low, high = DOMAINS.get(kind, (-4, 4))
    x = rng.uniform(low, high, size=9)
    if kind in ("relu", "sigmoid", "softplus", "log_sigmoid", "silu", "quick_gelu"):
        x[:3] = [0.0, 60.0, -60.0]
    dy = numbers(9)
    golden.case("activation_backward", [x, dy], vjp(f, [x], dy)[0], kind=kind, parameter=PARAMETERS.get(kind))


def norm(x, gamma, beta, axes, eps, centred):
    mean = x.mean(axes, keepdims=True) if centred else 0.0
    centre = x - mean
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    normal = centre * jax.lax.rsqrt((centre * centre).mean(axes, keepdims=True) + eps)
    return normal * gamma.reshape(shape) + beta.reshape(shape)


for dims, axes in (((3, 5), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (1,))):
    x, dy = numbers(*dims), numbers(*dims)
    parameters = [dims[axis] for axis in axes]
    gamma, beta = numbers(*parameters), numbers(*parameters)
    for op, centred, extra in (("layer_norm_backward", True, {}), ("rms_norm_backward", False, {"unit_offset": False})):
        def f(x, gamma, beta):
            return norm(x, gamma, beta, axes, 1e-5, centred)
        attributes = dict(axes=list(axes), eps=1e-5, **extra)
        golden.case(op, [x, dy, gamma], vjp(f, [x, gamma, beta], dy), gamma=True, **attributes)
        ones = np.ones(parameters)
        golden.case(op, [x, dy], vjp(f, [x, ones, beta], dy), gamma=False, **attributes)
    golden.case("rms_norm_backward", [x, dy, gamma - 1], vjp(f, [x, gamma, beta], dy), gamma=True,
                axes=list(axes), eps=1e-5, unit_offset=True)


def loss(logits, target, axis, smoothing, counts):
    target = target * (1 - smoothing) + smoothing / logits.shape[axis]
    return jnp.where(counts, -(target * nn.log_softmax(logits, axis)).sum(axis), 0.0)


for dims, axis, smoothing, ignored in (((4, 5), 1, 0.0, None), ((5, 4), 0, 0.1, None), ((2, 3, 4), 1, 0.2, 2)):
    logits = numbers(*dims)
    rows = [extent for other, extent in enumerate(dims) if other != axis]
    labels = rng.integers(0, dims[axis], size=rows)
    counts = np.full(rows, True) if ignored is None else labels != ignored
    target = np.moveaxis(np.eye(dims[axis])[labels], -1, axis)
    soft = np.asarray(nn.softmax(numbers(*dims), axis))
    dloss = numbers(*rows)
    attributes = dict(axis=axis, ignore_index=ignored, label_smoothing=smoothing)
    cases = [(labels, target, counts)] + ([(soft, soft, np.full(rows, True))] if ignored is None else [])
    for operand, target, counts in cases:
        def f(logits):
            return loss(logits, target, axis, smoothing, counts)
        golden.case("softmax_cross_entropy_with_logits", [logits, operand], np.asarray(f(logits)), **attributes)
        expected = vjp(f, [logits], dloss)[0]
        golden.case("softmax_cross_entropy_backward", [logits, operand, dloss], expected, **attributes)


def attention(q, k, v, bias, sinks, keep, scale, cap):
    group = q.shape[1] // k.shape[1]
    k, v = jnp.repeat(k, group, 1), jnp.repeat(v, group, 1)
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * scale
    scores = cap * jnp.tanh(scores / cap) if cap else scores
    scores = jnp.where(keep, scores + bias, -jnp.inf)
    extra = jnp.broadcast_to(sinks[None, :, None, None], scores.shape[:3] + (1,))
    lse = nn.logsumexp(jnp.concatenate([scores, extra], -1), -1)
    return jnp.einsum("bhqk,bhkd->bhqd", jnp.exp(scores - lse[..., None]), v), lse


q, k, v = numbers(2, 4, 3, 2), numbers(2, 2, 5, 2), numbers(2, 2, 5, 3)
dy, dlse = numbers(2, 4, 3, 3), numbers(2, 4, 3)
every = np.full((3, 5), True)
causal = np.arange(5) <= np.arange(3)[:, None] + 2
window = causal & (np.arange(5) > np.arange(3)[:, None] + 2 - 2)
nothing = np.full(4, -np.inf)
bias = numbers(4, 1, 5)
base = dict(layout="bhsd", num_heads=4, num_kv_heads=2, alignment="end")
for kind, keep, added, sinks, scale, cap, size in (
        ("none", every, None, None, None, None, 0), ("causal", causal, None, None, 0.7, 1.5, 0),
        ("sliding_window", window, None, numbers(4), None, None, 2), ("bias", every, bias, None, None, None, 0)):
    def f(q, k, v, bias, sinks):
        return attention(q, k, v, bias, sinks, keep, scale or 2 ** -0.5, cap)
    given = [q, k, v, np.zeros((4, 1, 5)) if added is None else added, nothing if sinks is None else sinks]
    (y, lse), back = jax.vjp(f, *given)
    for with_lse in (False, True):
        gradients = [np.asarray(grad) for grad in back((dy, dlse if with_lse else np.zeros_like(dlse)))]
        expected = gradients[:3] + ([] if added is None else [gradients[3]]) + ([] if sinks is None else [gradients[4]])
        optional = [dlse] * with_lse + ([] if added is None else [added]) + ([] if sinks is None else [sinks])
        golden.case("attention_backward", [q, k, v, np.asarray(y), np.asarray(lse), dy] + optional, expected,
                    scale=scale, softcap=cap, mask_kind=kind, window=size, mask_gradient=added is not None,
                    dlse=with_lse, mask=added is not None, kv_lengths=False, sinks=sinks is not None, **base)

golden.write("crates/rlx-ir/tests/golden/derivatives.rlx")
