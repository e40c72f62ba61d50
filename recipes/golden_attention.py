"""Golden data of attention and rotary embedding.

Oracles: jax.nn.dot_product_attention in float64 (masks, windows, grouped heads, lengths), the ONNX
reference evaluator (softcap, start alignment, rotary
embedding), jax.nn.softmax over concatenated scores (sinks), NumPy's complex product (axial rotary embedding).

python recipes/golden_attention.py   (jax 0.10, numpy 2, onnx 1.23)
"""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx.reference
from golden import Golden

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(11)
golden = Golden()
DEFAULTS = dict(layout="bhsd", num_heads=2, num_kv_heads=2, scale=None, softcap=None, mask_kind="none", window=0,
                alignment="end", with_lse=False, mask=False, kv_lengths=False, block_table=False, sinks=False)


def draw(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def swap(x):
    """bhsd to bshd and back."""
    return np.ascontiguousarray(np.swapaxes(x, 1, 2))


def oracle(q, k, v, **options):
    """jax.nn.dot_product_attention on bhsd operands."""
    wide = [jnp.asarray(swap(x), jnp.float64) for x in (q, k, v)]
    y = jax.nn.dot_product_attention(*wide, **options, implementation="xla")
    return swap(np.asarray(y)).astype(q.dtype)


def scores(q, k, keep, scale=None):
    """Masked scores in float64, for log-sum-exp and sinks."""
    groups = q.shape[1] // k.shape[1]
    wide = np.repeat(k.astype(np.float64), groups, axis=1)
    s = np.einsum("bhqd,bhkd->bhqk", q.astype(np.float64), wide) * (scale or 1 / np.sqrt(q.shape[-1]))
    return np.where(keep, s, -np.inf)


def case(operands, expected, **attributes):
    golden.case("attention", operands, expected, **{**DEFAULTS, **attributes})


def last_rows(sq, skv, window=None):
    """Causal keep mask with the last query at the last key."""
    i, j = np.arange(sq)[:, None] + skv - sq, np.arange(skv)[None]
    return (j <= i) & ((j > i - window) if window else True)


def onnx_attention(q, k, v, **attributes):
    """The ONNX reference evaluator on bhsd operands."""
    node = onnx.helper.make_node("Attention", ["q", "k", "v"], ["y"], **attributes)
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in ("q", "k", "v", "y")]
    graph = onnx.helper.make_graph([node], "g", infos[:3], infos[3:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    feeds = {name: x.astype(np.float64) for name, x in zip("qkv", (q, k, v))}
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0].astype(q.dtype)


# Plain, in every layout and with grouped heads.
for dtype in [np.float32, np.float16, np.float64]:
    q, k, v = draw(2, 4, 3, 8, dtype=dtype), draw(2, 2, 5, 8, dtype=dtype), draw(2, 2, 5, 6, dtype=dtype)
    # The oracle wants equal head extents: pad v, cut the result.
    padded = np.concatenate([v, np.zeros((2, 2, 5, 2), dtype)], axis=-1)
    # It sums in float32, so float64 goes to the other one.
    y = onnx_attention(q, k, v) if dtype == np.float64 else oracle(q, k, padded)[..., :6]
    lse = np.asarray(jax.nn.logsumexp(scores(q, k, True), axis=-1))
    lse = lse.astype(np.float64 if dtype == np.float64 else np.float32)
    case([q, k, v], [y, lse], num_heads=4, with_lse=True)
    if dtype == np.float64:
        continue
    case([swap(q), swap(k), swap(v)], [swap(y), lse], num_heads=4, with_lse=True, layout="bshd")
    pack = lambda x: swap(x).reshape(x.shape[0], x.shape[2], -1)
    case([pack(q), pack(k), pack(v)], pack(y), num_heads=4, layout="packed")
    case([q, k, v], oracle(q, k, padded, scale=0.3)[..., :6], num_heads=4, scale=0.3)

# Causal and windows; the oracle's own causal mask starts at the first key.
q, k, v = draw(2, 2, 4, 8), draw(2, 2, 6, 8), draw(2, 2, 6, 8)
case([q, k, v], oracle(q, k, v, is_causal=True), mask_kind="causal", alignment="start")
case([q, k, v], oracle(q, k, v, mask=last_rows(4, 6)[None, None]), mask_kind="causal")
case([q, k, v], oracle(q, k, v, mask=last_rows(4, 6, 3)[None, None]), mask_kind="sliding_window", window=3)
square = draw(2, 2, 6, 8)
case([square, k, v], oracle(square, k, v, local_window_size=(2, 0)), mask_kind="sliding_window", window=3)

# Mask operands, alone and beside causal.
keep = rng.random((2, 1, 4, 6)) < 0.6
keep[..., 0] = True
case([q, k, v, keep], oracle(q, k, v, mask=jnp.asarray(keep)), mask_kind="custom", mask=True)
bias = draw(2, 4, 6)
case([q, k, v, bias], oracle(q, k, v, bias=jnp.asarray(bias[None], jnp.float64)), mask_kind="bias", mask=True)
both = keep & last_rows(4, 6)[None, None]
y, lse = oracle(q, k, v, mask=jnp.asarray(both)), np.asarray(jax.nn.logsumexp(scores(q, k, both), axis=-1))
case([q, k, v, keep], [y, lse.astype(np.float32)], mask_kind="causal", mask=True, with_lse=True)

# A cache of fixed capacity: lengths per batch; the same keys in pages.
lengths = np.array([6, 3], np.int32)
y = oracle(q[:, :, :2], k, v, key_value_seq_lengths=jnp.asarray(lengths))
case([q[:, :, :2].copy(), k, v, lengths], y, kv_lengths=True)
causal = np.stack([np.pad(last_rows(2, n), ((0, 0), (0, 6 - n))) for n in lengths])[:, None]
y = oracle(q[:, :, :2], k, v, mask=jnp.asarray(causal))
case([q[:, :, :2].copy(), k, v, lengths], y, kv_lengths=True, mask_kind="causal")
pages_k, pages_v = draw(7, 2, 2, 8), draw(7, 2, 2, 8)
table = np.array([[4, 1, 6], [0, 5, -1]], np.int64)
for b in range(2):
    for block in range(3):
        number = table[b, block]
        if number >= 0:
            pages_k[number], pages_v[number] = k[b, :, 2 * block:2 * block + 2], v[b, :, 2 * block:2 * block + 2]
case([q[:, :, :2].copy(), pages_k, pages_v, lengths, table], y, kv_lengths=True, block_table=True, mask_kind="causal")

# Sinks: one more column of scores that is dropped after the softmax.
sinks = draw(2)
s = scores(q, k, last_rows(4, 6))
whole = np.concatenate([s, np.broadcast_to(sinks.astype(np.float64)[None, :, None, None], (2, 2, 4, 1))], axis=-1)
y = np.asarray(jax.nn.softmax(whole, axis=-1))[..., :-1] @ v.astype(np.float64)
lse = np.asarray(jax.nn.logsumexp(whole, axis=-1))
case([q, k, v, sinks], [y.astype(np.float32), lse.astype(np.float32)], mask_kind="causal", with_lse=True, sinks=True)

# Softcap, and causal from the first key.

case([q, k, v], onnx_attention(q, k, v, softcap=2.0, scale=1.5), softcap=2.0, scale=1.5)
case([q, k, v], onnx_attention(q, k, v, is_causal=1), mask_kind="causal", alignment="start")

golden.write("crates/rlx-ir/tests/golden/attention.rlx")
golden = Golden()


# Rotary embedding: the ONNX reference evaluator, whose operands are bhsd or packed.
def onnx_rope(x, cos, sin, positions=None, **attributes):
    names = ["x", "cos", "sin"] + (["positions"] if positions is not None else [])
    node = onnx.helper.make_node("RotaryEmbedding", names, ["y"], **attributes)
    types = [onnx.TensorProto.DOUBLE] * 3 + [onnx.TensorProto.INT64]
    infos = [onnx.helper.make_tensor_value_info(n, t, None) for n, t in zip(names, types)]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)
    graph = onnx.helper.make_graph([node], "g", infos, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    feeds = dict(zip(names, [x.astype(np.float64), cos.astype(np.float64), sin.astype(np.float64), positions]))
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0].astype(x.dtype)


def rope_case(operands, expected, **attributes):
    golden.case("rope", operands, expected, positions=len(operands) == 4, **attributes)


angles = np.arange(9)[:, None] * 0.3 ** np.arange(4)[None]
for interleaved, style in [(0, "half_split"), (1, "interleaved")]:
    for n_rot in [8, 4]:
        cos, sin = [f(angles)[:, :n_rot // 2].astype(np.float32) for f in (np.cos, np.sin)]
        for dtype in [np.float32, np.float16]:
            x, positions = draw(2, 2, 3, 8, dtype=dtype), np.array([[4, 5, 6], [8, 0, 1]])
            options = dict(interleaved=interleaved, rotary_embedding_dim=n_rot if n_rot < 8 else 0)
            y = onnx_rope(x, cos, sin, positions, **options)
            where = dict(head_dim=8, n_rot=n_rot, style=style)
            rope_case([x, cos, sin, positions], y, axis=2, **where)
            packed = pack(x)
            rope_case([packed, cos, sin, positions], pack(y), axis=1, **where)
            rope_case([x, cos[positions], sin[positions]], y, axis=2, **where)
        x, positions = draw(1, 2, 3, 8), np.array([[2, 3, 4]])
        y = onnx_rope(x, cos, sin, positions, **options)
        rope_case([x, cos[2:5].copy(), sin[2:5].copy()], y, axis=2, **where)
        rope_case([swap(x), cos, sin, positions[0].astype(np.int32)], swap(y), axis=1, **where)

# Image tokens: products with complex numbers.
end_x, end_y, head_dim, heads, repeat = 3, 2, 8, 2, 2
frequencies = 100.0 ** (-np.arange(0, head_dim, 4) / head_dim)
token = np.arange(end_x * end_y)
turns = np.concatenate([np.outer(token % end_x, frequencies), np.outer(token // end_x, frequencies)], axis=1)
turns = np.tile(np.exp(1j * turns), (repeat, 1))[:, None]
x = draw(2, repeat * end_x * end_y, heads * head_dim)
pairs = x.astype(np.float64).reshape(2, -1, heads, head_dim // 2, 2)
turned = (pairs[..., 0] + 1j * pairs[..., 1]) * turns
y = np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape).astype(np.float32)
golden.case("axial_rope2d", [x], y, end_x=end_x, end_y=end_y, head_dim=head_dim, num_heads=heads, theta=100.0, repeat=repeat)

golden.write("crates/rlx-ir/tests/golden/rope.rlx")
