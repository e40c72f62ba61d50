"""Makes the weight files that the tests of rlx-weights read.

Needs Python 3.11 and: numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0
Run from the root of the repository: python recipes/golden_weights.py

Element i of every array is (i * 37 + 11) % 101 - 50 (not negative for unsigned
dtypes, odd or even for bool, minus i as the imaginary part for complex ones),
so the tests can compute what they must find.
"""

import ctypes
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.lib import format as npy
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

OUT = Path("crates/rlx-weights/tests/data")
DTYPES = {
    "f16": np.float16, "f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
    "bool": np.bool_, "c64": np.complex64, "c128": np.complex128,
}


def values(dtype, shape):
    index = np.arange(int(np.prod(shape)))
    base = (index * 37 + 11) % 101 - 50
    kind = np.dtype(dtype).kind
    if kind == "u":
        base = np.abs(base)
    if kind == "b":
        base = base % 2
    if kind == "c":
        base = base - 1j * index
    return base.reshape(shape).astype(dtype)


def write_npz(name, save, order, swap):
    arrays = {}
    for dtype_name, dtype in DTYPES.items():
        array = values(dtype, (2, 3, 2))
        # ml_dtypes has no big-endian form.
        if swap and dtype_name != "bf16":
            array = array.astype(array.dtype.newbyteorder(">"))
        arrays[dtype_name] = np.asarray(array, order=order)
    save(OUT / name, **arrays)


OUT.mkdir(parents=True, exist_ok=True)
write_npz("little_c_stored.npz", np.savez, "C", swap=False)
write_npz("little_fortran_deflated.npz", np.savez_compressed, "F", swap=False)
write_npz("big_c_deflated.npz", np.savez_compressed, "C", swap=True)
write_npz("big_fortran_stored.npz", np.savez, "F", swap=True)

shapes = {"scalar": (), "empty": (2, 0, 3), "vector": (5,), "matrix": (3, 4), "four": (2, 1, 3, 2)}
np.savez(OUT / "shapes.npz", **{k: np.asarray(values(np.int16, s), order="F") for k, s in shapes.items()})

for version in [(1, 0), (2, 0), (3, 0)]:
    with open(OUT / f"version{version[0]}.npy", "wb") as out:
        npy.write_array(out, values(np.float32, (2, 3)), version=version)

save_file(
    {k: values(d, (2, 3, 2)) for k, d in DTYPES.items() if k != "c128"},
    OUT / "numpy.safetensors",
    metadata={"format": "np", "note": 'quotes " and \u00e9'},
)
# Spelled here as in the file; F4 packs two elements in a byte and counts elements in its shape.
raw = {"float8_e4m3fn": 8, "float8_e5m2": 8, "float8_e8m0fnu": 8, "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8,
       "float4_e2m1fn_x2": 4}
buffers = {name: (ctypes.c_uint8 * size)(*range(size)) for name, size in raw.items()}
specs = {
    name: TensorSpec(dtype=name, shape=[2, size // 2], data_ptr=ctypes.addressof(buffers[name]), data_len=size)
    for name, size in raw.items()
}
serialize_file(specs, str(OUT / "small_floats.safetensors"))
