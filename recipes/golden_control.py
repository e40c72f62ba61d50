"""Golden data of control flow and user functions. Oracle: Python loops over NumPy float64 and integers.

python recipes/golden_control.py   (numpy 2)
"""

import math

import numpy as np
from golden import Golden, tensor_type

rng = np.random.default_rng(23)
golden = Golden()


def graph(inputs, lines, outputs):
    """A body: names and example arrays of its inputs (`%0`, `%1`, ..), lines, values that it gives."""
    text = [f'%{index} = input {{name = "{name}"}} : {tensor_type(np.asarray(array))}' for index, (name, array) in enumerate(inputs.items())]
    return "\n".join(['graph "body" {', *text, *lines, *(f'output "{index}" = {value}' for index, value in enumerate(outputs)), "}"])


STEP = [
    "%p = binary %3, %0 {kind = mul}",
    "%q = binary %p, %2 {kind = add}",
    "%h = activation %q {kind = tanh, parameter = none}",
    "%one = constant {value = i32[]:[1]}",
    "%n = binary %1, %one {kind = add}",
]
for length, reverse in ((5, False), (4, True), (0, False), (1, True)):
    h, n, bias, xs = rng.normal(size=3), np.int32(7), rng.normal(size=3), rng.normal(size=(length, 3))
    body = graph(dict(h=h, n=n, bias=bias, x=h), STEP, ["%h", "%n", "%h", "%1"])
    last, hs, ns = h, np.zeros((length, 3)), np.zeros(length, np.int32)
    for count, i in enumerate(reversed(range(length)) if reverse else range(length)):
        ns[i] = n + count
        last = hs[i] = np.tanh(xs[i] * last + bias)
    golden.case("scan", [h, n, bias, xs], [last, np.int32(n + length), hs, ns], length=length, carries=2, stacked=1,
                reverse=reverse, checkpoint="every", body=body)

# A scan in a scan: row sums of running products, by an `if` only where a flag holds.
xs, flags = rng.normal(size=(3, 4)), np.array([True, False, True])
total, one = np.float64(0), np.float64(1)
inner = graph(dict(product=one, total=one, x=one),
              ["%a = binary %0, %2 {kind = mul}", "%b = binary %1, %a {kind = add}"], ["%a", "%b"])
loop = f"length = 4, carries = 2, stacked = 1, reverse = false, checkpoint = root, body = {inner}"
then = graph(dict(total=one, row=xs[0]), ["%one = constant {value = f64[]:[1.0]}", f"%s = scan %one, %0, %1 {{{loop}}}"], ["%s.1"])
otherwise = graph(dict(total=one, row=xs[0]), [], ["%0"])
outer = graph(dict(total=one, row=xs[0], flag=flags[0]), [f"%r = if %2, %0, %1 {{then = {then}, otherwise = {otherwise}}}"], ["%r", "%r"])
sums, expected = np.zeros(3), total
for i in range(3):
    if flags[i]:
        expected = expected + np.cumprod(xs[i]).sum()
    sums[i] = expected
golden.case("scan", [total, xs, flags], [expected, sums], length=3, carries=1, stacked=2, reverse=False, checkpoint="every", body=outer)

for flag in (True, False):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    then = graph(dict(a=a, b=b), ["%y = binary %0, %1 {kind = sub}"], ["%y", "%0"])
    otherwise = graph(dict(a=a, b=b), ["%y = binary %0, %1 {kind = div}"], ["%y", "%1"])
    golden.case("if", [np.bool_(flag), a, b], [a - b, a] if flag else [a / b, b], then=then, otherwise=otherwise)

# The greatest common divisor, and a square root by Newton's steps until they are small.
zero = np.int64(0)
condition = graph(dict(a=zero, b=zero), ["%zero = constant {value = i64[]:[0]}", "%go = compare %1, %zero {kind = ne}"], ["%go"])
body = graph(dict(a=zero, b=zero), ["%r = binary %0, %1 {kind = rem}"], ["%1", "%r"])
for a, b, limit in ((1071, 462, None), (17, 0, 0), (13, 8, 5)):
    golden.case("while", [np.int64(a), np.int64(b)], [np.int64(math.gcd(a, b)), zero], carries=2, max_iterations=limit, condition=condition, body=body)
x, small = np.float64(1), np.float64(0)
values = dict(x=x, change=x, square=x)
condition = graph(values, ["%e = constant {value = f64[]:[1e-3]}", "%go = compare %1, %e {kind = gt}"], ["%go"])
body = graph(values, ["%q = binary %2, %0 {kind = div}", "%s = binary %0, %q {kind = add}", "%half = constant {value = f64[]:[0.5]}",
                      "%n = binary %s, %half {kind = mul}", "%d = binary %n, %0 {kind = sub}",
                      "%c = activation %d {kind = abs, parameter = none}"], ["%n", "%c"])
for square in (2.0, 49.0):
    root, change = np.float64(square), np.float64(square)
    first = root
    while change > 1e-3:
        new = (root + square / root) * 0.5
        root, change = new, abs(new - root)
    golden.case("while", [first, first, np.float64(square)], [root, change], carries=2, max_iterations=40, condition=condition, body=body)

a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
body = graph(dict(a=a, b=b), ["%y = binary %0, %1 {kind = mul}", "%z = binary %y, %1 {kind = add}"], ["%z", "%y"])
golden.case("custom_fn", [a, b], [a * b + b, a * b], body=body, vjp=None, jvp=None)
a, b = a.astype(np.float32), b.astype(np.float32)
golden.case("custom", [a, b], [a + b, a - b], function='custom "sum_and_difference" 1')
golden.write("crates/rlx-ir/tests/golden/control.rlx")
