"""Golden data of recurrent layers and state-space models.

python recipes/golden_sequence.py   (numpy 2, onnx 1.23, onnxruntime 1.31)
Oracle of rnn, gru and lstm: onnxruntime in float32, and its documented formulas in float64 where it differs from the
standard. Oracle of the others: loops over one batch entry and one channel or head in NumPy float64.
"""

import numpy as np
import onnxruntime
from golden import Golden
from onnx import TensorProto, helper

rng = np.random.default_rng(31)
golden = Golden()
ONNX_NAMES = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign"}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


def run(kind, operands, activations, direction, **attributes):
    """What onnxruntime gives; `operands` by ONNX position, None where absent."""
    names = [f"x{index}" if operand is not None else "" for index, operand in enumerate(operands)]
    outputs = ["y", "y_h"] + (["y_c"] if kind == "LSTM" else [])
    directions = 2 if direction == "bidirectional" else 1
    node = helper.make_node(kind, names, outputs, direction=direction, hidden_size=operands[2].shape[2],
                            activations=[ONNX_NAMES[name] for name in activations] * directions, **attributes)
    given = {name: operand for name, operand in zip(names, operands) if name}
    inputs = [helper.make_tensor_value_info(name, TYPES[str(array.dtype)], array.shape) for name, array in given.items()]
    graph = helper.make_graph([node], "layer", inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(outputs, given)


def layer(kind, direction, activations, optional=(), lengths=None, clip=None, steps=4, **attributes):
    """One case; `optional` names the further operands."""
    directions, batch, inputs, hidden, gates = (2 if direction == "bidirectional" else 1), 3, 2, 3, GATES[kind]
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    shapes = dict(b=(2 * gates * hidden,), initial_h=(batch, hidden), initial_c=(batch, hidden), p=(3 * hidden,))
    order = ["b", "lengths", "initial_h"] + (["initial_c", "p"] if kind == "LSTM" else [])
    given = {name: normal(directions, *shapes[name]) for name in optional}
    if lengths is not None:
        given["lengths"] = np.array(lengths, np.int32)
    operands = [normal(steps, batch, inputs), normal(directions, gates * hidden, inputs), normal(directions, gates * hidden, hidden)]
    onnx_attributes = {name: int(value) for name, value in attributes.items()} | ({} if clip is None else dict(clip=clip))
    expected = run(kind, operands + [given.get(name) for name in order], activations, direction, **onnx_attributes)
    names = dict(RNN=["activation"], GRU=["gate", "candidate"], LSTM=["gate", "candidate", "output"])[kind]
    flags = {name: name in given for name in order}
    golden.case(kind.lower(), operands + [given[name] for name in order if name in given], expected, direction=direction,
                **dict(zip(names, activations)), **attributes, clip=clip, **flags)


layer("RNN", "forward", ["tanh"])
layer("RNN", "reverse", ["relu"], ["b", "initial_h"], lengths=[4, 1, 3])
layer("RNN", "bidirectional", ["sigmoid"], ["b"], clip=0.5)
for linear in (False, True):
    layer("GRU", "forward", ["sigmoid", "tanh"], ["b"], linear_before_reset=linear)
    layer("GRU", "bidirectional", ["sigmoid", "softsign"], ["b", "initial_h"], lengths=[2, 4, 3], linear_before_reset=linear)
layer("GRU", "reverse", ["sigmoid", "tanh"], linear_before_reset=False, clip=0.7)
layer("LSTM", "forward", ["sigmoid", "tanh", "tanh"], input_forget=False)
layer("LSTM", "reverse", ["sigmoid", "tanh", "tanh"], ["b", "initial_h", "initial_c", "p"], input_forget=False)
layer("LSTM", "bidirectional", ["sigmoid", "tanh", "softsign"], ["b", "initial_h", "initial_c"], lengths=[1, 4, 2], input_forget=False)
layer("LSTM", "forward", ["sigmoid", "tanh", "tanh"], ["b"], clip=0.6, input_forget=False)


def silu(x):
    return x / (1 + np.exp(-x))


for batch, steps, width, n, extra in ((2, 5, 3, 4, ()), (1, 3, 2, 2, ("d", "z", "initial")), (2, 1, 2, 3, ("initial",))):
    x, delta = rng.normal(size=(batch, steps, width)), rng.uniform(0.05, 0.9, size=(batch, steps, width))
    a, b, c = -rng.uniform(0.3, 2, size=(width, n)), rng.normal(size=(batch, steps, n)), rng.normal(size=(batch, steps, n))
    given = dict(d=rng.normal(size=width), z=rng.normal(size=x.shape), initial=rng.normal(size=(batch, width, n)))
    given = {name: given[name] for name in ("d", "z", "initial") if name in extra}
    y, last = np.zeros_like(x), np.zeros((batch, width, n))
    for i in range(batch):
        for channel in range(width):
            state = given["initial"][i, channel].copy() if "initial" in given else np.zeros(n)
            for t in range(steps):
                step = delta[i, t, channel]
                for j in range(n):
                    state[j] = np.exp(step * a[channel, j]) * state[j] + step * b[i, t, j] * x[i, t, channel]
                value = sum(c[i, t, j] * state[j] for j in range(n))
                value += given["d"][channel] * x[i, t, channel] if "d" in given else 0
                y[i, t, channel] = value * silu(given["z"][i, t, channel]) if "z" in given else value
            last[i, channel] = state
    golden.case("selective_scan", [x, delta, a, b, c, *given.values()], [y, last], **{name: name in given for name in ("d", "z", "initial")})

for batch, steps, heads, n, m in ((2, 4, 2, 3, 3), (1, 6, 1, 4, 2)):
    q, k = rng.normal(size=(batch, steps, heads, n)), rng.normal(size=(batch, steps, heads, n)) / np.sqrt(n)
    v, gate = rng.normal(size=(batch, steps, heads, m)), -rng.uniform(0, 1, size=(batch, steps, heads))
    beta, first = rng.uniform(size=(batch, steps, heads)), rng.normal(size=(batch, heads, n, m))
    y, last = np.zeros_like(v), np.zeros_like(first)
    for i in range(batch):
        for head in range(heads):
            state = first[i, head]
            for t in range(steps):
                # S (I - beta k k^T)^T e^g, and beta v k^T on top of it, as the paper writes it, transposed.
                key = k[i, t, head]
                state = np.exp(gate[i, t, head]) * (np.eye(n) - beta[i, t, head] * np.outer(key, key)) @ state
                state = state + beta[i, t, head] * np.outer(key, v[i, t, head])
                y[i, t, head] = q[i, t, head] @ state / np.sqrt(n)
            last[i, head] = state
    golden.case("gated_delta_net", [q, k, v, gate, beta, first], [y, last])
golden.write("crates/rlx-ir/tests/golden/sequence.rlx")
