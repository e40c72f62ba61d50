"""Golden ONNX models with operands and results: control flow, sequences, strings, trees, functions.

python recipes/golden_onnx.py   (onnx 1.23, numpy 2)

Each case is a text of `crates/rlx-onnx/tests/data/control.txt`: a name, the model in ONNX's text form for the reader, the
model's bytes and those of its operands and results. Results are written down below, from NumPy; where ONNX's reference
evaluator knows the op and agrees, that is checked too.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

OUT = Path(__file__).resolve().parent.parent / "crates/rlx-onnx/tests/data/control.txt"
lines = ["# Written by recipes/golden_onnx.py."]


def message(value, kind):
    if kind == "sequence_type":
        return numpy_helper.from_list(list(value))
    if kind == "optional_type":
        return numpy_helper.from_optional(value)
    return numpy_helper.from_array(np.asarray(value))


def same(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "OUS":
        return a.shape == b.shape and bool((a.astype(object) == b.astype(object)).all())
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def case(name, text, operands, results, stages=None, oracle=True):
    """`stages`: how many compiled graphs a run takes, where that matters."""
    model = text if isinstance(text, onnx.ModelProto) else parser.parse_model(text)
    graph = model.graph
    if oracle:
        feeds = {info.name: value for info, value in zip(graph.input, operands)}
        found = ReferenceEvaluator(model).run(None, feeds)
        assert same(found, results), f"{name}: the reference says {found}, expected {results}"
    lines.append(f"\ncase {name}")
    lines.extend(f"# {line}".rstrip() for line in onnx.printer.to_text(graph).splitlines())
    if stages is not None:
        lines.append(f"stages {stages}")
    lines.append(f"model {model.SerializeToString(deterministic=True).hex()}")
    for part, infos, values in (("input", graph.input, operands), ("output", graph.output, results)):
        for info, value in zip(infos, values, strict=True):
            lines.append(f"{part} {message(value, info.type.WhichOneof('value')).SerializeToString(deterministic=True).hex()}")


def model(body, opset=21, ir=10, more="", functions=""):
    return f'<ir_version: {ir}, opset_import: ["" : {opset}{more}]>\n{body}\n{functions}'


f = lambda *x: np.array(x, np.float32)
i = lambda *x: np.array(x, np.int64)
s = lambda x: np.array(x, np.int64)
b = lambda x: np.array(x, bool)

# If.
BRANCHES = """
m (bool c, float[N] x, float[N] w) => (float[N] y, float[N] z) {
   k = Mul (x, w)
   y, z = If (c) <then_branch = t () => (float[N] a, float[N] q) { a = Add (k, x)  q = Identity (w) },
                  else_branch = e () => (float[N] d, float[N] r) { d = Sub (k, w)  r = Neg (x) }>
}"""
x, w = f(1, 2, 3), f(4, 5, 6)
case("if_then", model(BRANCHES), [b(True), x, w], [x * w + x, w], stages=1)
case("if_else", model(BRANCHES), [b(False), x, w], [x * w - w, -x], stages=1)
NESTED = """
m (bool c, bool d, float[N] x) => (float[N] y) {
   k = Neg (x)
   y = If (c) <then_branch = t () => (float[N] a) {
      j = Exp (k)
      a = If (d) <then_branch = tt () => (float[N] p) { p = Add (j, k) }, else_branch = te () => (float[N] q) { q = Mul (j, x) }>
   }, else_branch = e () => (float[N] r) { r = Identity (x) }>
}"""
for c in (True, False):
    for d in (True, False):
        case(f"if_nested_{c}_{d}", model(NESTED), [b(c), b(d), x], [(np.exp(-x) - x if d else np.exp(-x) * x) if c else x], stages=1)
SHAPES = """
m (float[N] x) => (float[M] y) {
   s = ReduceSum <keepdims = 0> (x)
   z = Constant <value_float = 0.0> ()
   c = Greater (s, z)
   y = If (c) <then_branch = t () => (float[M] a) { a = Concat <axis = 0> (x, x) }, else_branch = e () => (float[M] d) { d = Identity (x) }>
}"""
case("if_shapes_then", model(SHAPES), [x], [np.concatenate([x, x])])
case("if_shapes_else", model(SHAPES), [-x], [-x])

# Loop.
FOR = """
m (int64 n, float[N] x, float[N] w) => (float[N] y) {
   y = Loop (n, , x) <body = l (int64 i, bool c, float[N] v) => (bool co, float[N] vo) {
      co = Constant <value = bool {1}> ()
      f = Cast <to = 1> (i)
      p = Mul (v, w)
      vo = Add (p, f)
   }>
}"""
def run_for(n):
    v = x
    for k in range(n):
        v = v * w + np.float32(k)
    return v
for n in (0, 1, 4):
    case(f"loop_for_{n}", model(FOR), [s(n), x, w], [run_for(n)], stages=1, oracle=False)
SCAN_OUT = """
m (int64 n, bool c, float[N] x) => (float[N] y, float[T, N] ys, int64[T] is, float[T, N] xs) {
   y, ys, is, xs = Loop (n, c, x) <body = l (int64 i, bool ci, float[N] v) => (bool co, float[N] vo, float[N] row, int64 k, float[N] same) {
      co = Identity (ci)
      vo = Add (v, x)
      row = Mul (v, v)
      k = Identity (i)
      same = Identity (x)
   }>
}"""
def run_scan(n, c):
    n = n if c else 0
    rows = np.stack([(x * (k + 1)) ** 2 for k in range(n)]) if n else np.zeros((0, 3), np.float32)
    return [x * (n + 1), rows, np.arange(n), np.tile(x, (n, 1)).astype(np.float32)]
for n, c in ((3, True), (0, True), (3, False)):
    case(f"loop_scan_{n}_{c}", model(SCAN_OUT), [s(n), b(c), x], run_scan(n, c), stages=1, oracle=False)
WHILE = """
m (bool c, int64 a, int64 d) => (int64 y, int64 z) {
   zero = Constant <value_int = 0> ()
   y, z = Loop (, c, a, d) <body = l (int64 i, bool ci, int64 p, int64 q) => (bool co, int64 po, int64 qo) {
      r = Mod (p, q)
      e = Equal (r, zero)
      co = Not (e)
      po = Identity (q)
      qo = Identity (r)
   }>
}"""
case("while_gcd", model(WHILE), [b(True), s(48), s(36)], [s(12), s(0)], stages=1)
case("while_not", model(WHILE), [b(False), s(48), s(36)], [s(48), s(36)], stages=1)
COLLATZ = """
m (int64 n, int64 a) => (int64 y, int64[T] ys) {
   one = Constant <value_int = 1> ()  two = Constant <value_int = 2> ()  three = Constant <value_int = 3> ()
   go = Greater (a, one)
   y, ys = Loop (n, go, a) <body = l (int64 i, bool ci, int64 v) => (bool co, int64 vo, int64 row) {
      r = Mod (v, two)
      odd = Equal (r, one)
      vo = If (odd) <then_branch = t () => (int64 p) { g = Mul (v, three)  p = Add (g, one) },
                     else_branch = e () => (int64 q) { q = Div (v, two) }>
      co = Greater (vo, one)
      row = Identity (v)
   }>
}"""
case("while_rows", model(COLLATZ), [s(100), s(6)], [s(1), i(6, 3, 10, 5, 16, 8, 4, 2)], oracle=False)
case("while_rows_limited", model(COLLATZ), [s(3), s(6)], [s(5), i(6, 3, 10)], oracle=False)
case("while_rows_unlimited", model(COLLATZ), [s(2**63 - 1), s(6)], [s(1), i(6, 3, 10, 5, 16, 8, 4, 2)], oracle=False)
case("while_rows_none", model(COLLATZ), [s(100), s(1)], [s(1), np.zeros(0, np.int64)], oracle=False)
GROW = """
m (int64 n, float[N] x) => (float[M] y) {
   y = Loop (n, , x) <body = l (int64 i, bool c, float[K] v) => (bool co, float[L] vo) {
      co = Constant <value = bool {1}> ()
      vo = Concat <axis = 0> (v, x)
   }>
}"""
case("loop_grows", model(GROW), [s(3), x], [np.tile(x, 4)], oracle=False)
GROW_WHILE = """
m (float[N] x) => (float[M] y) {
   limit = Constant <value_float = 20.0> ()
   t = Constant <value = bool {1}> ()
   y = Loop (, t, x) <body = l (int64 i, bool c, float[K] v) => (bool co, float[L] vo) {
      vo = Concat <axis = 0> (v, x)
      s = ReduceSum <keepdims = 0> (vo)
      co = Less (s, limit)
   }>
}"""
case("while_grows", model(GROW_WHILE), [x], [np.tile(x, 4)], oracle=False)
NESTED_LOOP = """
m (int64 n, float[N] x) => (float[N] y, float[T, N] ys) {
   k = Neg (x)
   y, ys = Loop (n, , x) <body = outer (int64 i, bool c, float[N] v) => (bool co, float[N] vo, float[N] row) {
      co = Constant <value = bool {1}> ()
      h = Mul (v, k)
      vo = Loop (n, , v) <body = inner (int64 j, bool d, float[N] u) => (bool po, float[N] uo) {
         po = Identity (d)
         g = Add (u, k)
         uo = Add (g, h)
      }>
      row = Add (vo, h)
   }>
}"""
v, rows = x, []
for _ in range(2):
    h = v * -x
    for _ in range(2):
        v = v - x + h if False else (v + -x) + h
    rows.append(v + h)
case("loop_nested", model(NESTED_LOOP), [s(2), x], [v, np.stack(rows)], stages=1, oracle=False)
FIXED_SHAPE = """
m (int64 n, float[A, B] x) => (float[T, C] ys, int64[2] k) {
   sh = Constant <value_ints = [2, -1]> ()
   k, ys = Loop (n, , sh) <body = l (int64 i, bool c, int64[2] p) => (bool co, int64[2] po, float[C] row) {
      co = Identity (c)
      r = Reshape (x, p)
      axis = Constant <value_ints = [0]> ()
      row = ReduceSum <keepdims = 0> (r, axis)
      po = Identity (p)
   }>
}"""
m2 = np.arange(12, dtype=np.float32).reshape(3, 4)
text = FIXED_SHAPE.replace("=> (float[T, C] ys, int64[2] k)", "=> (int64[2] k, float[T, C] ys)")
case("loop_same_carry", model(text), [s(2), m2], [i(2, -1), np.stack([m2.reshape(2, -1).sum(0)] * 2)], stages=1, oracle=False)
LIST = """
m (int64 n, float[N] x) => (seq(float[N]) q, float[M] y, float[K, N] z, int64 count) {
   e = SequenceEmpty <dtype = 1> ()
   q = Loop (n, , e) <body = l (int64 i, bool c, seq(float[N]) v) => (bool co, seq(float[N]) vo) {
      co = Identity (c)
      g = Cast <to = 1> (i)
      r = Mul (x, g)
      vo = SequenceInsert (v, r)
   }>
   y = ConcatFromSequence <axis = 0> (q)
   z = ConcatFromSequence <axis = 0, new_axis = 1> (q)
   count = SequenceLength (q)
}"""
rows = [x * k for k in range(3)]
case("loop_list", model(LIST), [s(3), x], [rows, np.concatenate(rows), np.stack(rows), s(3)], oracle=False)

# Scan.
SCAN = """
m (float[N] h, float[N, T] a, float[T, N] d, float[N] k) => (float[N] y, float[N, T] u, float[T, N] v) {
   y, u, v = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1], scan_output_axes = [1, 0],
                   scan_output_directions = [0, 1],
                   body = l (float[N] p, float[N] q, float[N] r) => (float[N] po, float[N] o1, float[N] o2) {
      m = Mul (q, k)
      po = Add (p, m)
      o1 = Add (po, r)
      o2 = Identity (r)
   }> (h, a, d)
}"""
a, d = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(12, 24, dtype=np.float32).reshape(4, 3)
h, us, vs = x, [], []
for t in range(4):
    h = h + a[:, t] * w
    us.append(h + d[3 - t])
    vs.append(d[3 - t])
case("scan_axes", model(SCAN), [x, a, d, w], [h, np.stack(us, 1), np.stack(vs[::-1], 0)], stages=1, oracle=False)
SCAN8 = """
m (int64[B] n, float[B, N] h, float[B, T, N] a) => (float[B, N] y, float[B, T, N] u) {
   y, u = Scan <num_scan_inputs = 1, body = l (float[N] p, float[N] q) => (float[N] po, float[N] o) {
      po = Add (p, q)
      o = Mul (po, q)
   }> (n, h, a)
}"""
h0, a0 = np.arange(4, dtype=np.float32).reshape(2, 2), np.arange(12, dtype=np.float32).reshape(2, 3, 2)
y, u = h0.copy(), np.zeros_like(a0)
for k, n in enumerate((3, 1)):
    for t in range(n):
        y[k] = y[k] + a0[k, t]
        u[k, t] = y[k] * a0[k, t]
case("scan8_lengths", model(SCAN8, opset=8, ir=3), [i(3, 1), h0, a0], [y, u], stages=1, oracle=False)
LISTED = """
m (float[T, N] a) => (float[T, M] y) {
   y = Scan <num_scan_inputs = 1, body = l (float[N] q) => (float[M] o) {
      s = SequenceConstruct (q, q)
      o = ConcatFromSequence <axis = 0> (s)
   }> (a)
}"""
case("scan_of_lists", model(LISTED), [d], [np.concatenate([d, d], 1)], stages=1)

# Sequences and optionals.
SEQ = """
m (float[N] x, int64 p) => (float[N] y, seq(float[N]) q, int64 n) {
   z = Neg (x)
   s = SequenceConstruct (x, z, x)
   r = SequenceErase (s)
   t = SequenceInsert (r, z, p)
   y = SequenceAt (t, p)
   q = SequenceErase (t, p)
   n = SequenceLength (t)
}"""
for p in (0, -1, 2):
    t = [x, -x]
    t.insert(p if p >= 0 else p + 2, -x)
    at = t[p] if p >= 0 else t[p]
    q = [value for k, value in enumerate(t) if k != p % 3]
    case(f"sequence_{p}", model(SEQ), [x, s(p)], [at, q, s(3)], oracle=False)
SPLIT = """
m (float[6] x, int64[3] parts, int64 n) => (seq(float[M]) a, seq(float[K]) d, seq(float) e) {
   a = SplitToSequence (x, parts)
   d = SplitToSequence (x, n)
   e = SplitToSequence <keepdims = 0> (x)
}"""
x6 = f(0, 1, 2, 3, 4, 5)
case("split_to_sequence", model(SPLIT), [x6, i(1, 2, 3), s(4)], [[x6[:1], x6[1:3], x6[3:]], [x6[:4], x6[4:]], [np.array(v, np.float32) for v in x6]], oracle=False)
MAP = """
m (seq(float[N]) q, float[N] x) => (seq(float[N]) y, seq(float) z) {
   y, z = SequenceMap <body = l (float[N] a, float[N] d) => (float[N] o, float t) {
      o = Add (a, d)
      t = ReduceSum <keepdims = 0> (o)
   }> (q, x)
}"""
case("sequence_map", model(MAP), [[x, w], x], [[x + x, w + x], [(x + x).sum(), (w + x).sum()]])

# Functions.
def functions(body, functions, opset=21, more=', "own" : 1'):
    return model(body, opset=opset, more=more, functions=functions)


DEFAULTS = functions("""
m (float[N] x) => (float[N] y, float[N] z) {
   y = own.leaky (x)
   z = own.leaky <slope: float = 0.5> (x)
}""", """
<domain: "own", opset_import: ["" : 21]>
leaky <slope: float = 0.25> (v) => (o) { o = LeakyRelu <alpha: float = @slope> (v) }""")
signed = f(-4, 0, 4)
case("function_defaults", DEFAULTS, [signed], [np.where(signed < 0, signed * 0.25, signed).astype(np.float32), np.where(signed < 0, signed * 0.5, signed).astype(np.float32)], stages=1, oracle=False)
NESTED_FUNCTION = functions("""
m (float[N] x) => (float[N] y) { y = own.twice <slope: float = 0.5> (x) }""", """
<domain: "own", opset_import: ["" : 21, "own" : 1]>
leaky <slope> (v) => (o) { o = LeakyRelu <alpha: float = @slope> (v) }
<domain: "own", opset_import: ["" : 21, "own" : 1]>
twice <slope> (v) => (o) { p = own.leaky <slope: float = @slope> (v)  o = own.leaky <slope: float = @slope> (p) }""")
case("function_nested", NESTED_FUNCTION, [signed], [np.where(signed < 0, signed * 0.25, signed).astype(np.float32)], stages=1, oracle=False)
OTHER_OPSET = functions("""
m (float[1, N] x) => (float[N] y) { y = own.flat (x) }""", """
<domain: "own", opset_import: ["" : 11]>
flat (v) => (o) { o = Squeeze <axes = [0]> (v) }""")
case("function_of_older_opset", OTHER_OPSET, [x[None]], [x], stages=1)
LOOP_IN_FUNCTION = functions("""
m (float[N] x, int64 n) => (float[N] y) { y = own.power <scale: float = 2.0> (x, n) }""", """
<domain: "own", opset_import: ["" : 21]>
power <scale> (v, n) => (o) {
   k = Constant <value_float: float = @scale> ()
   o = Loop (n, , v) <body = l (int64 i, bool c, float[N] u) => (bool co, float[N] uo) {
      co = Identity (c)
      j = Constant <value_float: float = @scale> ()
      t = Mul (u, j)
      g = Div (t, k)
      uo = Mul (g, k)
   }>
}""")
case("function_with_loop", LOOP_IN_FUNCTION, [x, s(3)], [x * 8], stages=1, oracle=False)
OPTIONAL_INPUT = functions("""
m (float[N] x) => (float[N] y) { y = own.clip (x, , x) }""", """
<domain: "own", opset_import: ["" : 21]>
clip (v, low, unused) => (o) {
   high = Constant <value_float = 1.0> ()
   o = Clip (v, low, high)
}""")
case("function_without_operand", OPTIONAL_INPUT, [signed], [np.minimum(signed, 1)], stages=1, oracle=False)
overloads = parser.parse_model(functions("""
m (float[N] x) => (float[N] y, float[N] z) { y = own.op (x)  z = own.op (x) }""", """
<domain: "own", opset_import: ["" : 21]>
op (v) => (o) { o = Neg (v) }
<domain: "own", opset_import: ["" : 21]>
op2 (v) => (o) { o = Abs (v) }"""))
overloads.functions[1].name = "op"
overloads.functions[1].overload = "size"
overloads.graph.node[1].overload = "size"
case("function_overloads", overloads, [signed], [-signed, np.abs(signed)], stages=1, oracle=False)
shadow = parser.parse_model(functions("""
m (float[N] x) => (float[N] y) { y = own.Relu (x) }""", """
<domain: "own", opset_import: ["" : 21]>
Relu (v) => (o) { o = Neg (v) }"""))
shadow.functions[0].domain = ""
shadow.graph.node[0].domain = ""
case("function_over_an_op", shadow, [signed], [-signed], stages=1, oracle=False)

# Strings and tables.
texts = np.array(["Ab c", "ÀÉß", "", "x,y,,z"], object)
STRINGS = """
m (string[N] x, string[1] t) => (string[N] y, string[N, M] p, int64[N] n, bool[N] k, string[K] low) {
   y = StringConcat (x, t)
   p, n = StringSplit <delimiter = ",", maxsplit = 2> (x)
   k = RegexFullMatch <pattern = "[\\\\w ]+"> (x)
   low = StringNormalizer <case_change_action = "UPPER", stopwords = ["ab C", ""]> (x)
}"""
case("strings", model(STRINGS), [texts, np.array(["!"], object)], [
    np.array([t + "!" for t in texts], object),
    np.array([["Ab c", "", ""], ["ÀÉß", "", ""], ["", "", ""], ["x", "y", ",z"]], object), i(1, 1, 1, 3),
    np.array([True, False, False, False]), np.array(["ÀÉSS", "X,Y,,Z"], object)], oracle=False)


def node_model(op, inputs, outputs, opset=5, domain="ai.onnx.ml", **attributes):
    graph = helper.make_graph(
        [helper.make_node(op, [v.name for v in inputs], [v.name for v in outputs], domain=domain, **attributes)], op, inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", opset)], ir_version=10)


T = onnx.TensorProto
info = helper.make_tensor_value_info
floats = lambda name="x": info(name, T.FLOAT, ["N"])
case("label_encoder_floats", node_model("LabelEncoder", [floats()], [info("y", T.STRING, ["N"])], keys_floats=[1.0, float("nan"), 0.0, 1.0],
     values_strings=["a", "nan", "zero", "b"], default_string="?"), [f(1, np.nan, -0.0, 7)], [np.array(["b", "nan", "zero", "?"], object)], oracle=False)
case("label_encoder_ints", node_model("LabelEncoder", [info("x", T.INT64, ["N"])], [floats("y")], keys_int64s=[5, 6, 5],
     values_floats=[1.0, 2.0, 3.0], default_float=-7.0), [i(5, 6, 7)], [f(3, 2, -7)], stages=1, oracle=False)
case("category_mapper", node_model("CategoryMapper", [info("x", T.STRING, ["N"])], [info("y", T.INT64, ["N"])], opset=1,
     cats_strings=["a", "b"], cats_int64s=[10, 20]), [np.array(["b", "c", "a"], object)], [i(20, -1, 10)], oracle=False)
case("one_hot_encoder", node_model("OneHotEncoder", [info("x", T.INT64, ["N"])], [info("y", T.FLOAT, ["N", 2])], opset=1,
     cats_int64s=[10, 20]), [i(20, 30, 10)], [np.array([[0, 1], [0, 0], [1, 0]], np.float32)], stages=1)
case("imputer", node_model("Imputer", [info("x", T.FLOAT, ["N", 2])], [info("y", T.FLOAT, ["N", 2])], opset=1,
     imputed_value_floats=[8.0, 9.0], replaced_value_float=float("nan")), [np.array([[np.nan, 1], [2, np.nan]], np.float32)],
     [np.array([[8, 1], [2, 9]], np.float32)], stages=1)
TREES = dict(
    nodes_treeids=[0] * 5 + [1] * 3, nodes_nodeids=[0, 1, 2, 3, 4, 0, 1, 2], nodes_featureids=[0, 1, 0, 0, 0, 1, 0, 0],
    nodes_values=[0.5, 1.5, 0, 0, 0, 2.0, 0, 0], nodes_modes=["BRANCH_LEQ", "BRANCH_GT", "LEAF", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
    nodes_truenodeids=[1, 3, 0, 0, 0, 1, 0, 0], nodes_falsenodeids=[2, 4, 0, 0, 0, 2, 0, 0], nodes_missing_value_tracks_true=[1, 0, 0, 0, 0, 0, 0, 0])
rows = np.array([[0, 1], [0, 2], [1, 1], [np.nan, 3]], np.float32)
# Leaves: tree 0 has nodes 2 (x0 > .5), 3 (x0 <= .5, x1 > 1.5), 4; tree 1 has 1 (x1 < 2), 2.
ends = np.array([[4, 1], [3, 2], [2, 1], [3, 2]])
weights = {(0, 2): 1.0, (0, 3): 2.0, (0, 4): 4.0, (1, 1): 8.0, (1, 2): 16.0}
keys = list(weights)
votes = np.array([[weights[0, e0], weights[1, e1]] for e0, e1 in ends], np.float32)
for how, value in (("SUM", votes.sum(1)), ("AVERAGE", votes.mean(1)), ("MIN", votes.min(1)), ("MAX", votes.max(1))):
    case(f"trees_{how.lower()}", node_model("TreeEnsembleRegressor", [info("x", T.FLOAT, ["N", 2])], [info("y", T.FLOAT, ["N", 1])], opset=3,
         n_targets=1, aggregate_function=how, base_values=[0.5], target_treeids=[k[0] for k in keys], target_nodeids=[k[1] for k in keys],
         target_ids=[0] * 5, target_weights=list(weights.values()), **TREES), [rows], [value[:, None] + np.float32(0.5)], stages=1, oracle=False)
per_class = {(0, 2): (0, 1.0), (0, 3): (1, 2.0), (0, 4): (2, 4.0), (1, 1): (0, 2.5), (1, 2): (1, 0.5)}
scores = np.zeros((4, 3), np.float32)
for row, (e0, e1) in enumerate(ends):
    for tree, e in ((0, e0), (1, e1)):
        c, weight = per_class[tree, e]
        scores[row, c] += weight
soft = np.exp(scores - scores.max(1, keepdims=True))
soft /= soft.sum(1, keepdims=True)
classes = dict(class_treeids=[k[0] for k in per_class], class_nodeids=[k[1] for k in per_class], class_ids=[v[0] for v in per_class.values()],
               class_weights=[v[1] for v in per_class.values()], post_transform="SOFTMAX", **TREES)
outs = lambda kind: [info("y", kind, ["N"]), info("z", T.FLOAT, ["N", 3])]
xs = [info("x", T.FLOAT, ["N", 2])]
case("tree_classes", node_model("TreeEnsembleClassifier", xs, outs(T.INT64), opset=3, classlabels_int64s=[7, 8, 9], **classes), [rows],
     [np.array([7, 8, 9])[scores.argmax(1)], soft], stages=1)
case("tree_class_names", node_model("TreeEnsembleClassifier", xs, outs(T.STRING), opset=3, classlabels_strings=["u", "v", "w"], **classes), [rows],
     [np.array(["u", "v", "w"], object)[scores.argmax(1)], soft], oracle=False)
coefficients, intercepts = np.array([[1.0, -2.0], [0.5, 0.25], [-1.0, 1.0]], np.float32), f(0.5, 0, -0.5)
plain = np.array([[0, 1], [2, 2], [5, -1]], np.float32)
linear = plain @ coefficients.T + intercepts
case("linear_classes", node_model("LinearClassifier", xs, outs(T.INT64), opset=1, classlabels_ints=[3, 4, 5], coefficients=coefficients.ravel().tolist(),
     intercepts=intercepts.tolist(), post_transform="LOGISTIC"), [plain], [np.array([3, 4, 5])[linear.argmax(1)], 1 / (1 + np.exp(-linear))], stages=1)
case("linear_targets", node_model("LinearRegressor", xs, [info("z", T.FLOAT, ["N", 3])], opset=1, targets=3, coefficients=coefficients.ravel().tolist(),
     intercepts=intercepts.tolist()), [plain], [linear], stages=1)
vectors = np.array([[1, 0], [0, 2]], np.float32)
for kernel, value in (("RBF", np.exp(-0.5 * ((plain[:, None] - vectors) ** 2).sum(2))), ("POLY", (0.5 * plain @ vectors.T + 1) ** 3),
                      ("LINEAR", plain @ vectors.T), ("SIGMOID", np.tanh(0.5 * plain @ vectors.T + 1))):
    case(f"support_vectors_{kernel.lower()}", node_model("SVMRegressor", xs, [info("y", T.FLOAT, ["N", 1])], opset=1, kernel_type=kernel, kernel_params=[0.5, 1.0, 3.0],
         n_supports=2, support_vectors=vectors.ravel().tolist(), coefficients=[2.0, -1.0], rho=[0.25]), [plain], [(value @ f(2, -1) + 0.25)[:, None].astype(np.float32)], stages=1)

OUT.write_text("\n".join(lines) + "\n")
print(f"{OUT}: {sum(line.startswith('\ncase ') for line in lines)} cases", file=sys.stderr)
