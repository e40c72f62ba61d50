"""Golden models of one node: ops of ONNX Runtime's own domain, and support vectors.

python recipes/golden_contrib.py   (onnx 1.23, onnxruntime 1.32, numpy 2)

Each case is a text of `crates/rlx-onnx/tests/data/contrib.txt`, as recipes/golden_onnx.py writes them. The results are
those of ONNX Runtime on the CPU.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

OUT = Path(__file__).resolve().parent.parent / "crates/rlx-onnx/tests/data/contrib.txt"
lines = ["# Written by recipes/golden_contrib.py."]
random = np.random.default_rng(3)


def floats(*dims):
    return random.normal(size=dims).astype(np.float32)


def codes(*dims):
    return random.integers(0, 256, dims).astype(np.uint8)


def info(name, value):
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(value.ndim)])


def case(name, op, operands, results=1, domain="com.microsoft", **attributes):
    """`operands`: fed where they are a tuple of one, initialisers else, left out where `None`. `results` are
    a number, or which of them are wanted."""
    wanted = range(results) if isinstance(results, int) else results
    names = ["" if value is None else f"x{index}" for index, value in enumerate(operands)]
    fed = {names[index]: value[0] for index, value in enumerate(operands) if isinstance(value, tuple)}
    weights = [numpy_helper.from_array(np.asarray(value), names[index]) for index, value in enumerate(operands)
               if value is not None and not isinstance(value, tuple)]
    outputs = [f"y{index}" if index in wanted else "" for index in range(max(wanted) + 1)]
    node = helper.make_node(op, names, outputs, domain=domain, **attributes)
    kinds = [helper.make_empty_tensor_value_info(output) for output in outputs if output]
    graph = helper.make_graph([node], "m", [info(key, value) for key, value in fed.items()], kinds, weights)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, fed)
    del model.graph.output[:]
    model.graph.output.extend(info(output, value) for output, value in zip(filter(None, outputs), found))
    lines.append(f"\ncase {name}\nmodel {model.SerializeToString(deterministic=True).hex()}")
    for part, values in (("input", fed.values()), ("output", found)):
        for value in values:
            lines.append(f"{part} {numpy_helper.from_array(value).SerializeToString(deterministic=True).hex()}")


# Fused functions, products and normalisations.
x, y = (floats(2, 3, 8),), (floats(2, 3, 8),)
row = lambda: floats(8)
case("gelu", "Gelu", [x])
case("bias_gelu", "BiasGelu", [x, row()])
case("fast_gelu", "FastGelu", [x, row()])
case("quick_gelu", "QuickGelu", [x], alpha=1.5)
case("fused_matmul", "FusedMatMul", [x, y], alpha=0.5, transB=1)
case("fused_matmul_both", "FusedMatMul", [x, (floats(2, 5, 3),)], transA=1, transB=1)
case("skip_layer_norm", "SkipLayerNormalization", [x, y, row(), row(), row()], [0, 3], epsilon=1e-5)
case("skip_rms_norm", "SkipSimplifiedLayerNormalization", [x, y, row()], [0, 3], epsilon=1e-5)
case("rms_norm", "SimplifiedLayerNormalization", [x, row()], domain="", epsilon=1e-5, axis=-1, stash_type=1)
words, kinds = random.integers(0, 9, (2, 3)).astype(np.int32), random.integers(0, 2, (2, 3)).astype(np.int32)
mask = np.array([[1, 1, 1], [1, 0, 0]], np.int32)
tables = [floats(9, 8), floats(5, 8), floats(2, 8)]
case("embed", "EmbedLayerNormalization", [(words,), (kinds,), *tables, row(), row(), (mask,)], 2, epsilon=1e-5)
case("embed_words", "EmbedLayerNormalization", [(words,), None, *tables[:2], None, row(), row()], 2, epsilon=1e-5)

# Attention.
weights = [floats(8, 24) / 3, floats(24)]
case("attention_mask", "Attention", [x, *weights, (mask,)], num_heads=2)
case("attention_lengths", "Attention", [x, *weights, (np.array([3, 2], np.int32),)], num_heads=2)
past = (floats(2, 2, 2, 4, 4),)
case("attention_past", "Attention", [x, *weights, None, past], 2, num_heads=2, unidirectional=1)
wide = [floats(8, 28) / 3, floats(28)]
case("attention_widths", "Attention", [x, *wide], num_heads=2, qkv_hidden_sizes=[8, 8, 12])
keys, values = (floats(2, 4, 8),), (floats(2, 4, 8),)
seen = (np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32),)
case("heads", "MultiHeadAttention", [x, keys, values, floats(24), seen], num_heads=2)
cache = [(floats(2, 2, 4, 4),), (floats(2, 2, 4, 4),)]
bias = (floats(1, 2, 3, 7),)
case("heads_past", "MultiHeadAttention", [x, y, y, None, None, bias, *cache], 3, num_heads=2, scale=0.3)
case("heads_cross", "MultiHeadAttention", [x, *cache], num_heads=2)
angles = np.arange(12)[:, None] * 0.3 ** np.arange(4)
turns = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
places = random.integers(0, 12, (2, 3))
case("rotary", "RotaryEmbedding", [(floats(2, 3, 16),), (places,), *turns])
case("rotary_first", "RotaryEmbedding", [(floats(2, 3, 16),), (np.array([7]),), *turns], interleaved=1)
case("rotary_heads", "RotaryEmbedding", [(floats(2, 2, 3, 8),), (places,), *turns])


def grouped(name, past, new, batch=1, lengths=None, is_packed=False, **attributes):
    """Attention of two query heads a key head, with rotary positions and caches."""
    parts = [(floats(batch, new, 128),), None, None] if is_packed else [
        (floats(batch, new, 64),), (floats(batch, new, 32),), (floats(batch, new, 32),)]
    caches = [(floats(batch, 2, past, 16),), (floats(batch, 2, past, 16),)]
    counts = [(np.array(lengths or [past + new - 1] * batch, np.int32),), (np.array(past + new, np.int32),)]
    angles = np.arange(12)[:, None] * 0.3 ** np.arange(8)
    turns = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    attributes = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1} | attributes
    case(name, "GroupQueryAttention", [*parts, *caches, *counts, *turns], 3, **attributes)


grouped("grouped_prompt", 0, 4)
grouped("grouped_step", 5, 1, batch=2)
grouped("grouped_packed", 5, 1, is_packed=True, rotary_interleaved=1)
grouped("grouped_window", 8, 1, local_window_size=4)
grouped("grouped_prompt_window", 0, 6, local_window_size=3)
grouped("grouped_softcap", 3, 1, softcap=2.0, scale=0.5)
grouped("grouped_ragged", 5, 1, batch=2, lengths=[5, 3])

# Ops between codes.
image = (codes(1, 2, 4, 4),)
a, b, out = ([np.float32(scale), np.uint8(zero)] for scale, zero in ((0.0213, 120), (0.0317, 100), (0.0511, 110)))
case("codes_add", "QLinearAdd", [image, *a, (codes(1, 2, 4, 4),), *b, *out])
case("codes_mul", "QLinearMul", [image, *a, (codes(1, 2, 1, 1),), *b, *out])
case("codes_concat", "QLinearConcat", [*out, image, *a, (codes(1, 3, 4, 4),), *b], axis=1)
share = [np.float32(1 / 256), np.uint8(0)]
case("codes_sigmoid", "QLinearSigmoid", [image, *a, *share])
case("codes_leaky", "QLinearLeakyRelu", [image, *a, *out], alpha=0.2)
case("codes_mean", "QLinearGlobalAveragePool", [image, *a, *b])
case("codes_pool", "QLinearAveragePool", [image, *a, *b], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
matrix, scales = random.integers(-100, 100, (8, 6)).astype(np.int8), np.abs(floats(6)) * np.float32(0.01)
zeros = np.zeros(6, np.int8)
offsets = random.integers(-900, 900, 6).astype(np.int32)
case("codes_gemm", "QGemm", [(codes(3, 8),), *a, matrix, scales, zeros, offsets, *out])
turned = np.ascontiguousarray(matrix.T)
case("codes_gemm_floats", "QGemm", [(codes(3, 8),), *a, turned, np.float32(0.01), np.int8(0), offsets], transB=1)
case("integers_to_floats", "MatMulIntegerToFloat", [(codes(2, 3, 8),), matrix, a[0], scales, a[1], zeros, floats(6)])
case("dynamic_matmul", "DynamicQuantizeMatMul", [x, matrix, np.float32(0.01), np.int8(3), floats(6)])


def packed(name, features, bits, block, has_zeros=False, has_bias=False):
    rows, blocks = 5, -(-features // block)
    operands = [(floats(2, features),), codes(rows, blocks, block * bits // 8), np.abs(floats(rows, blocks)) * np.float32(0.1)]
    operands += [codes(rows, -(-blocks * bits // 8)) if has_zeros else None, None, floats(rows) if has_bias else None]
    case(name, "MatMulNBits", operands, K=features, N=rows, bits=bits, block_size=block)


packed("weights_of_4_bits", 64, 4, 32)
packed("weights_of_4_bits_zeros", 40, 4, 16, has_zeros=True, has_bias=True)
packed("weights_of_8_bits", 32, 8, 16, has_zeros=True)
packed("weights_of_2_bits", 64, 2, 32)


def vectors(name, classes, kernel="RBF", transform="NONE", has_probabilities=False, is_linear=False):
    """A classifier of four features with three support vectors a class."""
    numbers = lambda *dims: random.normal(size=dims).reshape(-1).tolist()
    pairs = classes * (classes - 1) // 2
    attributes = {"classlabels_ints": [10 + label for label in range(classes)], "kernel_type": kernel,
                  "kernel_params": [0.5, 0.1, 2.0], "post_transform": transform}
    if is_linear:
        attributes |= {"coefficients": numbers(classes, 4), "rho": numbers(1)}
    else:
        attributes |= {"coefficients": numbers(classes - 1, 3 * classes), "rho": numbers(pairs),
                       "support_vectors": numbers(3 * classes, 4), "vectors_per_class": [3] * classes}
    if has_probabilities:
        attributes |= {"prob_a": (-np.abs(random.normal(size=pairs))).tolist(), "prob_b": numbers(pairs)}
    case(name, "SVMClassifier", [(2 * floats(12, 4),)], 2, domain="ai.onnx.ml", **attributes)


vectors("vectors_two", 2)
vectors("vectors_two_logistic", 2, transform="LOGISTIC")
vectors("vectors_two_probabilities", 2, has_probabilities=True)
vectors("vectors_three", 3, kernel="POLY")
vectors("vectors_three_softmax", 3, kernel="SIGMOID", transform="SOFTMAX")
vectors("vectors_four_probabilities", 4, kernel="LINEAR", has_probabilities=True)
vectors("vectors_five_probabilities", 5, has_probabilities=True)
vectors("vectors_linear", 3, is_linear=True)

OUT.write_text("\n".join(lines) + "\n")
