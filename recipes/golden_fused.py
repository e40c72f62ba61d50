"""Golden data of the named fusions. Oracle: NumPy and SciPy in float64; PyTorch for whole encoder layers.

python recipes/golden_fused.py   (numpy 2, scipy 1, torch 2)
"""

import numpy as np
import torch
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


def rotate(x, cos, sin):
    """Half-split rotation of the leading pairs of [B, S, H, D]."""
    pairs = cos.shape[-1]
    c, s = cos[None, :, None, :], sin[None, :, None, :]
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate([a * c - b * s, b * c + a * s, rest], axis=-1)


def attention(q, k, v, scale, seen):
    """[B, S, H, D] with grouped heads; `seen` is [S, S]."""
    groups = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, groups, axis=2), np.repeat(v, groups, axis=2)
    scores = np.where(seen, np.einsum("bqhd,bkhd->bhqk", q, k) * scale, -np.inf)
    with np.errstate(all="ignore"):
        weights = np.nan_to_num(special.softmax(scores, axis=-1))
    return np.einsum("bhqk,bkhd->bqhd", weights, v)


def block_case(heads, kv_heads, head, mask_kind, window=0, rope=False, bias=False, transpose=False, scale=None):
    batch, length, extent = 2, 4, 3
    columns = (heads + 2 * kv_heads) * head
    hidden = rng.normal(size=(batch, length, extent))
    qkv, out = rng.normal(size=(extent, columns)), rng.normal(size=(heads * head, extent))
    qkv_bias, out_bias = rng.normal(size=columns) * bias, rng.normal(size=extent) * bias
    mask = rng.integers(0, 2, (length, length)).astype(bool)
    angles = rng.normal(size=(length, head // 2))
    position = np.arange(length)
    ahead = position[:, None] - position[None, :]
    seen = {"none": ahead == ahead, "causal": ahead >= 0, "sliding_window": (ahead >= 0) & (ahead < window), "custom": mask}
    q, k, v = np.split(hidden @ qkv + qkv_bias, [heads * head, (heads + kv_heads) * head], axis=-1)
    q, k, v = (part.reshape(batch, length, -1, head) for part in (q, k, v))
    if rope:
        q, k = (rotate(part, np.cos(angles), np.sin(angles)) for part in (q, k))
    mixed = attention(q, k, v, head**-0.5 if scale is None else scale, seen[mask_kind])
    y = mixed.reshape(batch, length, -1) @ out + out_bias
    operands = [hidden] + [w.T.copy() if transpose else w for w in (qkv, out)]
    flags = {}
    if bias:
        operands += [qkv_bias, out_bias]
        flags |= dict(qkv_bias=True, out_bias=True)
    if mask_kind == "custom":
        operands.append(mask)
        flags |= dict(mask=True)
    if rope:
        operands += [np.cos(angles), np.sin(angles)]
        flags |= dict(cos=True, sin=True)
    golden.case("fused_attention_block", operands, y, num_heads=heads, num_kv_heads=kv_heads, scale=scale,
                mask_kind=mask_kind, window=window, rope_style="half_split", transpose_w=transpose, **flags)


block_case(2, 2, 2, "none")
block_case(2, 1, 4, "causal", rope=True, bias=True)
block_case(4, 2, 2, "sliding_window", window=2, transpose=True, scale=0.3)
block_case(1, 1, 3, "custom", bias=True, transpose=True)

for norm_first in (False, True):
    for name, batch, length, extent, heads, wide in (("gelu", 2, 3, 4, 2, 5), ("relu", 1, 4, 6, 3, 4)):
        layer = torch.nn.TransformerEncoderLayer(extent, heads, wide, 0.0, name, 1e-5, True, norm_first, dtype=torch.float64)
        layer.train()  # the plain path; dropout is 0
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
            hidden = torch.from_numpy(rng.normal(size=(batch, length, extent)))
            y = layer(hidden)
        attend = layer.self_attn
        operands = [hidden, attend.in_proj_weight, attend.out_proj.weight, layer.linear1.weight, layer.linear2.weight,
                    layer.norm1.weight, layer.norm2.weight, attend.in_proj_bias, attend.out_proj.bias, layer.linear1.bias,
                    layer.linear2.bias, layer.norm1.bias, layer.norm2.bias]
        biases = ("qkv_bias", "out_bias", "up_bias", "down_bias", "norm1_beta", "norm2_beta")
        golden.case("fused_transformer_layer", [operand.detach().numpy() for operand in operands], y.numpy(),
                    num_heads=heads, num_kv_heads=heads, scale=None, mask_kind="none", window=0,
                    rope_style="half_split", transpose_w=True, norm_position="pre" if norm_first else "post", eps=1e-5,
                    kind=name, **{bias: True for bias in biases})
golden.write("crates/rlx-ir/tests/golden/fused.rlx")
