"""Golden data of complex numbers and Fourier transforms. Oracle: NumPy and its fft in complex128.

python recipes/golden_spectra.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(23)
golden = Golden()


def parts(*shape):
    return rng.normal(size=shape), rng.normal(size=shape)


for dtype, part in ((np.complex64, np.float32), (np.complex128, np.float64)):
    re, im = parts(2, 3)
    z = (re + 1j * im).astype(dtype)
    z[0, 0] = complex(np.inf, -1)
    golden.case("real", [z], z.real.copy())
    golden.case("imag", [z], z.imag.copy())
    golden.case("conjugate", [z], z.conj())
    finite = z[1:]
    wide = finite.astype(np.complex128)
    golden.case("complex_norm_sq", [finite], (wide * wide.conj()).real.astype(part))
    dy = rng.normal(size=(1, 3)).astype(part)
    golden.case("complex_norm_sq_backward", [finite, dy], (wide * dy.astype(np.float64)).astype(dtype))
    re, im = re.astype(part), im[0].astype(part)
    golden.case("complex", [re, im], (re + 1j * im).astype(dtype))

CASES = [((n,), (0,)) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 25, 30, 31, 32, 37, 60, 64)]
CASES += [((3, 4), (0,)), ((3, 4), (1,)), ((2, 5, 6), (0, 2)), ((4, 3, 2), (0, 1, 2)), ((2, 23, 2), (1,))]
for index, (shape, axes) in enumerate(CASES):
    re, im = parts(*shape)
    z = re + 1j * im
    norm = ("backward", "forward", "ortho")[index % 3]
    for inverse, transform in ((False, np.fft.fftn), (True, np.fft.ifftn)):
        golden.case("fft", [z], transform(z, axes=axes, norm=norm), axes=list(axes), inverse=inverse, norm=norm)
golden.write("crates/rlx-ir/tests/golden/spectra.rlx")
