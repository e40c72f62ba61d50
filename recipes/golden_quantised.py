"""Golden data of the quantisation ops and the products of experts.

Oracles: the gguf package for the block formats it reads and writes (q8_k, which it does not, by its definition in
NumPy); ml_dtypes for small floats; NumPy for the rest, in integers or float32 in the order that the ops state.

python recipes/golden_quantised.py   (numpy 2, gguf 0.19, ml_dtypes 0.6)
"""

import gguf
import ml_dtypes
import numpy as np
from golden import Golden, Stored
from gguf import GGMLQuantizationType as Kind

rng = np.random.default_rng(31)
golden = Golden()
f32 = np.float32
FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4"]
# Where a block has halves that decide its scale; random bits there would often be infinite.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}


def blocks(name, rows, count):
    """Random bytes with finite scales: `rows` rows of `count` blocks."""
    elements, size = gguf.GGML_QUANT_SIZES[Kind[name]]
    data = rng.integers(0, 256, (rows * count, size)).astype(np.uint8)
    for at in SCALES.get(name, []):
        scale = rng.normal(size=(rows * count, 1)).astype(np.float16)
        scale[0], scale[-1] = 6e-8, -0.0
        data[:, at:at + 2] = scale.view(np.uint8)
    if name == "Q8_K":
        data[:, :4] = rng.normal(size=(rows * count, 1)).astype(f32).view(np.uint8)
    if name == "MXFP4":
        data[:, 0] = rng.integers(0, 255, rows * count)
        data[:2, 0] = [0, 1]
    if name == "NVFP4":
        data[0, :4] = [0, 0x7F, 0x7E, 0x80]
    return data.reshape(rows, -1), count * elements


def decoded(name, data):
    if name == "Q8_K":
        parts = data.reshape(-1, 292)
        numbers = parts[:, :4].copy().view(f32) * parts[:, 4:260].view(np.int8).astype(f32)
        return numbers.reshape(data.shape[0], -1)
    return gguf.dequantize(data, Kind[name])


def nibbles(codes, bits=4):
    """Codes packed low bits first."""
    per_byte = 8 // bits
    codes = codes.ravel().astype(np.int64) & ((1 << bits) - 1)
    codes = np.pad(codes, (0, -len(codes) % per_byte)).reshape(-1, per_byte)
    return sum(codes[:, at] << (bits * at) for at in range(per_byte)).astype(np.uint8).tobytes()


for name in FORMATS:
    data, extent = blocks(name, 2, 1 if name.endswith(("_K", "XS")) else 2)
    x, y = Stored(name.lower(), (2, extent), data.tobytes()), decoded(name, data)
    golden.case("decode_storage", [x], y)
    rows = rng.integers(0, 2, 3).astype(np.int64)
    if name in ("Q4_1", "Q6_K"):
        a = rng.normal(size=(3, extent)).astype(f32)
        golden.case("dequantize", [x], y, block=[], to="f32")
        golden.case("gather", [x, rows], Stored(x.dtype, (3, extent), data[rows].tobytes()), axis=0)
        golden.case("dequant_matmul", [a, x], (a.astype(float) @ y.T.astype(float)).astype(f32), block=[], transpose_w=True)

for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]:
    x = rng.normal(size=(3, 64)).astype(f32) * rng.choice([1e-3, 1, 40], (3, 1)).astype(f32)
    x[0, :32], x[1, 5], x[1, 9] = 0, 3, -3
    y = Stored(name.lower(), x.shape, gguf.quantize(x, Kind[name]).tobytes())
    golden.case("encode_storage", [x], y, to=name.lower())
    golden.case("quantize", [x], y, block=[], to=name.lower())

for bits in (2, 4):
    for sign in "iu":
        low = -(1 << (bits - 1)) if sign == "i" else 0
        codes = rng.integers(low, low + (1 << bits), (3, 5)).astype(np.int8 if sign == "i" else np.uint8)
        stored = Stored(f"{sign}{bits}", codes.shape, nibbles(codes, bits))
        golden.case("decode_storage", [stored], codes)
        golden.case("encode_storage", [codes], stored, to=f"{sign}{bits}")


def spread(scale, block, shape):
    for axis, extent in enumerate(block):
        scale = np.repeat(scale, extent, axis)[tuple([slice(None)] * axis + [slice(shape[axis])])]
    return scale


E2M1, E4M3, E8M0 = ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu
E5M2 = ml_dtypes.float8_e5m2


def stored(array):
    names = {E2M1: "f4e2m1", E4M3: "f8e4m3", E5M2: "f8e5m2", E8M0: "f8e8m0"}
    if array.dtype.type not in names:
        return array
    data = array.view(np.uint8)
    return Stored(names[array.dtype.type], array.shape, nibbles(data) if array.dtype.type is E2M1 else data.tobytes())


LAID_OUT = [((3, 4), (), []), ((3, 4), (4,), []), ((2, 3, 4), (3, 1), []), ((2, 8), (2, 2), [1, 4]), ((5, 6), (3, 2), [2, 4])]
for shape, scales, block in LAID_OUT:
    for code in (np.int8, np.uint8, "i4", "u4", np.int16):
        bits = 4 if isinstance(code, str) else np.iinfo(code).bits
        signed = code == "i4" if isinstance(code, str) else np.iinfo(code).min < 0
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        keep = lambda codes: Stored(code, codes.shape, nibbles(codes)) if isinstance(code, str) else codes.astype(code)
        codes, zero = rng.integers(low, high + 1, shape), rng.integers(low, high + 1, scales)
        scale = rng.uniform(0.01, 0.2, scales).astype(f32)
        wide = (spread(scale, block, shape), spread(zero, block, shape).astype(f32)) if block else (scale, zero.astype(f32))
        golden.case("dequantize", [keep(codes), scale, keep(zero)], (codes.astype(f32) - wide[1]) * wide[0],
                    block=block, to="f32", scale=True, zero_point=True)
        x = rng.normal(size=shape).astype(f32) * f32(2.5)
        x.flat[0] = wide[0].flat[0] * f32(2.5)
        y = np.clip(np.rint(x / wide[0]) + wide[1], low, high).astype(int)
        golden.case("quantize", [x, scale, keep(zero)], keep(y), block=block,
                    to=code if isinstance(code, str) else f"{'i' if signed else 'u'}{bits}", scale=True, zero_point=True)

for code, scales, block in ((E2M1, E8M0, 32), (E2M1, E4M3, 16), (E4M3, f32, 64), (E5M2, f32, 32), (E4M3, f32, 128)):
    x = rng.normal(size=(2, 128)).astype(f32) * f32(40)
    scale = np.exp2(rng.integers(-3, 4, (2, 128 // block))).astype(scales)
    wide = spread(scale.astype(f32), [1, block], x.shape)
    largest = float(ml_dtypes.finfo(code).max)
    codes = np.clip(x / wide, -largest, largest).astype(code)
    golden.case("quantize", [x, stored(scale)], stored(codes), block=[1, block], to=stored(codes).dtype, scale=True)
    y = codes.astype(f32) * wide
    golden.case("dequantize", [stored(codes), stored(scale)], y, block=[1, block], to="f32", scale=True)
    a = rng.normal(size=(2, 128)).astype(f32)
    golden.case("dequant_matmul", [a, stored(codes), stored(scale)], (a.astype(float) @ y.T.astype(float)).astype(f32),
                block=[1, block], transpose_w=True, scale=True)


def requantized(total, mult, zero, dtype):
    info = np.iinfo(dtype)
    return np.clip(np.rint(total.astype(f32) * mult) + f32(zero), info.min, info.max).astype(dtype)


def integers(dtype, shape):
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)


for left, right, to in ((np.uint8, np.int8, np.uint8), (np.int8, np.int8, np.int8), (np.uint8, np.uint8, np.int8)):
    a, b = integers(left, (2, 3, 7)), integers(right, (7, 5))
    za, zb, zy = integers(left, ()), integers(right, (5,)), integers(to, ())
    bias, mult = rng.integers(-9999, 9999, 5).astype(np.int32), rng.uniform(0.0005, 0.004, 5).astype(f32)
    total = (a.astype(np.int32) - za) @ (b.astype(np.int32) - zb.astype(np.int32)) + bias
    flags = dict(a_zero_point=True, b_zero_point=True, bias=True)
    golden.case("qmatmul", [a, b, za, zb, bias], total.astype(np.int32), to="i32", **flags)
    golden.case("qmatmul", [a, b, za, zb, bias, mult, zy], requantized(total, mult, zy, to),
                to=f"{np.dtype(to).kind}8", mult=True, y_zero_point=True, **flags)
golden.case("qmatmul", [np.array([[5, 7, -5]], np.int8).T, np.array([[1]], np.int8), np.array(0.5, f32)],
            np.array([[2], [4], [-2]], np.int8), to="i8", mult=True)


def convolved(x, w, stride, low, high, dilation, groups):
    x = np.pad(x, [(0, 0), (0, 0), *zip(low, high)])
    spans = [(extent - 1) * step + 1 for extent, step in zip(w.shape[2:], dilation)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(2, x.ndim)))
    axes = x.ndim - 2
    view = view[(slice(None), slice(None), *(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))]
    outputs, channels = w.shape[0] // groups, w.shape[1]
    parts = []
    for group in range(groups):
        part = view[:, group * channels:(group + 1) * channels]
        weights = w[group * outputs:(group + 1) * outputs]
        over = [1, *range(2 + axes, 2 + 2 * axes)]
        parts.append(np.moveaxis(np.tensordot(part, weights, (over, [1, *range(2, 2 + axes)])), -1, 1))
    return np.concatenate(parts, 1)


for shape, weights, lists in (
    ((2, 3, 6, 5), (4, 3, 3, 2), dict(stride=[2, 1], padding_low=[1, 0], padding_high=[2, 1], dilation=[1, 2], groups=1)),
    ((1, 4, 5, 5), (6, 2, 3, 3), dict(stride=[1, 1], padding_low=[1, 1], padding_high=[1, 1], dilation=[1, 1], groups=2)),
    ((2, 2, 9), (3, 2, 4), dict(stride=[3], padding_low=[0], padding_high=[1], dilation=[1], groups=1)),
):
    for left, right, to in ((np.uint8, np.int8, np.uint8), (np.int8, np.int8, np.int8)):
        x, w = integers(left, shape), integers(right, weights)
        zx, zw = integers(left, ()), integers(right, (weights[0],) + (1,) * (len(weights) - 1))
        zy, bias = integers(to, ()), rng.integers(-999, 999, weights[0]).astype(np.int32)
        mult = rng.uniform(0.0005, 0.004, weights[0]).astype(f32)
        along = (slice(None),) + (None,) * (len(shape) - 2)
        total = convolved(x.astype(np.int32) - zx, w.astype(np.int32) - zw.astype(np.int32), *list(lists.values())[:4], lists["groups"]) + bias[along]
        flags = dict(x_zero_point=True, w_zero_point=True, bias=True)
        golden.case("qconv2d", [x, w, zx, zw, bias], total.astype(np.int32), **lists, to="i32", **flags)
        golden.case("qconv2d", [x, w, zx, zw, bias, mult, zy], requantized(total, mult[along], zy, to), **lists,
                    to=f"{np.dtype(to).kind}8", mult=True, y_zero_point=True, **flags)

for shape, axis, bits in (((4, 6), None, 8), ((4, 6), 1, 4), ((2, 3, 5), 0, 3)):
    x, dy = rng.normal(size=shape) * 2, rng.normal(size=shape)
    others = tuple(other for other in range(x.ndim) if other != axis)
    q = 2 ** (bits - 1) - 1
    wide = lambda scale: scale if axis is None else np.expand_dims(scale, others)
    rounded = lambda scale: np.clip(np.rint(x / wide(scale)), -q, q) * wide(scale)
    batch = np.abs(x).max(others) / q
    given = rng.uniform(0.2, 0.5, batch.shape)
    attributes = dict(bits=bits, axis=axis)
    for mode in ("per_batch", "ema", "fixed", "learned"):
        scale = {"per_batch": batch, "ema": 0.9 * given + 0.1 * batch}.get(mode, given)
        operands = [x] if mode == "per_batch" else [x, given]
        golden.case("fake_quantize", operands, [rounded(scale), scale], **attributes, ste="identity", scale_mode=mode,
                    decay=0.9, scale=mode != "per_batch")
    r = x / wide(given)
    by_scale = np.where(np.abs(r) <= q, np.rint(r) - r, np.sign(r) * q)
    dscale = (dy * by_scale).sum(others) / np.sqrt(q * x.size / batch.size)
    factors = dict(identity=np.ones(shape), clipped_identity=np.abs(r) <= q, tanh=1 - np.tanh(x) ** 2, hard_tanh=np.abs(x) <= 1)
    for ste, factor in factors.items():
        golden.case("fake_quantize_backward", [x, given, dy], [dy * factor, dscale], **attributes, ste=ste)

for index in (np.int32, np.int64, np.uint32):
    for transpose in (False, True):
        x, w = rng.normal(size=(9, 6)).astype(f32), rng.normal(size=(4, 6, 5)).astype(f32)
        expert = rng.integers(0, 4, 9).astype(index)
        y = np.stack([x[i].astype(float) @ w[e].astype(float) for i, e in enumerate(expert)]).astype(f32)
        kept = np.swapaxes(w, 1, 2).copy() if transpose else w
        golden.case("grouped_matmul", [x, kept, expert], y, transpose_w=transpose)
for name in ("Q4_0", "Q6_K"):
    data, extent = blocks(name, 6, 1)
    w, bank = decoded(name, data).reshape(2, 3, extent), Stored(name.lower(), (2, 3, extent), data.tobytes())
    x, expert = rng.normal(size=(4, extent)).astype(f32), np.array([1, 0, 0, 1], np.int32)
    y = np.stack([x[i].astype(float) @ w[e].T.astype(float) for i, e in enumerate(expert)]).astype(f32)
    golden.case("dequant_moe_weights", [bank], w, block=[], to="f32")
    golden.case("dequant_grouped_matmul", [x, bank, expert], y, block=[], transpose_w=True)
golden.write("crates/rlx-ir/tests/golden/quantised.rlx")
