"""Writes golden graphs in the RLX text form: operands and expected results as constants.

Used by the golden_*.py recipes; each of them names the oracle and its version.
"""

import numpy as np

NAMES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16",
    "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8",
    "uint64": "u64", "uint32": "u32", "uint16": "u16", "uint8": "u8",
    "bool": "bool", "complex64": "c64", "complex128": "c128",
}


class Stored:
    """A tensor of a dtype that NumPy lacks, as its bytes."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, tuple(shape), data


def tensor_type(array):
    return f"{NAMES[str(array.dtype)]}[{', '.join(map(str, array.shape))}]"


def literal(array):
    """Exact bytes, so that nothing is lost between the oracle and the test."""
    if isinstance(array, Stored):
        return f'{array.dtype}[{", ".join(map(str, array.shape))}]:x"{bytes(array.data).hex()}"'
    array = np.asarray(array)
    data = np.ascontiguousarray(array)
    return f'{tensor_type(array)}:x"{data.tobytes().hex()}"'


def attribute(value):
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else repr(value) + ".0"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(attribute(item) for item in value) + "]"
    return str(value)


class Golden:
    """Collects cases and writes them as one file."""

    def __init__(self):
        self.graphs = []

    def case(self, op, operands, expected, **attributes):
        """`op` on `operands` (arrays) must give `expected` (an array or a list of them)."""
        if not isinstance(expected, (list, tuple)):
            expected = [expected]
        lines = ["rlx 1", f'graph "{op}" {{']
        for index, operand in enumerate(operands):
            lines.append(f"  %{index} = constant {{value = {literal(operand)}}}")
        names = ", ".join(f"%{index}" for index in range(len(operands)))
        attrs = ", ".join(f"{name} = {attribute(value)}" for name, value in attributes.items())
        lines.append(f"  %r = {op} {names}" + (f" {{{attrs}}}" if attrs else ""))
        for index, array in enumerate(expected):
            lines.append(f"  %e{index} = constant {{value = {literal(array)}}}")
        for index in range(len(expected)):
            result = "%r" if index == 0 else f"%r.{index}"
            lines.append(f'  output "y{index}" = {result}')
            lines.append(f'  output "expected:y{index}" = %e{index}')
        lines.append("}")
        self.graphs.append("\n".join(lines))

    def write(self, path):
        with open(path, "w") as file:
            file.write("\n".join(self.graphs) + "\n")
        print(f"{path}: {len(self.graphs)} graphs")
