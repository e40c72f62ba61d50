"""Golden data of convolution and pooling.

Oracle: PyTorch in float64, rounded to the op's dtype. Pools that it lacks are reductions of its unfolded windows.

python recipes/golden_conv.py   (torch 2.15, numpy 2)
"""

import numpy as np
import torch
import torch.nn.functional as F
from golden import Golden

rng = np.random.default_rng(13)
golden = Golden()


def draw(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def wide(x):
    return None if x is None else torch.tensor(x.astype(np.float64))


def conv(x, w, bias=None, stride=None, low=None, high=None, dilation=None, groups=1):
    axes = x.ndim - 2
    stride, dilation = stride or [1] * axes, dilation or [1] * axes
    low, high = low or [0] * axes, high or [0] * axes
    # F.pad counts from the last axis.
    pads = [side for axis in reversed(range(axes)) for side in (low[axis], high[axis])]
    function = [F.conv1d, F.conv2d, F.conv3d][axes - 1]
    y = function(F.pad(wide(x), pads), wide(w), wide(bias), stride, 0, dilation, groups).numpy().astype(x.dtype)
    operands = [x, w] + ([] if bias is None else [bias])
    golden.case("conv", operands, y, stride=stride, padding_low=low, padding_high=high, dilation=dilation,
                groups=groups, bias=bias is not None)


conv(draw(2, 3, 7), draw(4, 3, 3), draw(4), stride=[2], low=[1], high=[1])
conv(draw(1, 4, 6), draw(6, 2, 2), groups=2, dilation=[2])
conv(draw(2, 3, 6, 7), draw(4, 3, 3, 3), draw(4), low=[1, 1], high=[1, 1])
conv(draw(1, 3, 6, 5), draw(2, 3, 2, 3), stride=[2, 1], low=[0, 2], high=[1, 0], dilation=[1, 2])
conv(draw(1, 4, 5, 5), draw(4, 1, 3, 3), draw(4), groups=4, low=[1, 1], high=[1, 1])
conv(draw(1, 2, 4, 4, dtype=np.float16), draw(3, 2, 2, 2, dtype=np.float16), draw(3, dtype=np.float16))
conv(draw(1, 2, 3, 4, 3), draw(2, 2, 2, 3, 2), draw(2), stride=[1, 2, 1], low=[1, 1, 0], high=[0, 1, 1])


def transpose(x, w, bias=None, stride=None, padding=None, added=None, dilation=None, groups=1):
    axes = x.ndim - 2
    stride, dilation = stride or [1] * axes, dilation or [1] * axes
    padding, added = padding or [0] * axes, added or [0] * axes
    function = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][axes - 1]
    y = function(wide(x), wide(w), wide(bias), stride, padding, added, groups, dilation).numpy().astype(x.dtype)
    operands = [x, w] + ([] if bias is None else [bias])
    golden.case("conv_transpose2d", operands, y, stride=stride, padding_low=padding, padding_high=padding,
                output_padding=added, dilation=dilation, groups=groups, bias=bias is not None)


transpose(draw(2, 3, 4), draw(3, 2, 3), draw(2), stride=[2], padding=[1], added=[1])
transpose(draw(1, 3, 3, 4), draw(3, 4, 2, 2), draw(4), stride=[2, 2])
transpose(draw(1, 4, 3, 3), draw(4, 2, 3, 3), stride=[2, 1], padding=[1, 2], added=[1, 0], dilation=[1, 2], groups=2)
transpose(draw(1, 2, 2, 3, 2), draw(2, 2, 2, 2, 3), stride=[2, 1, 3], padding=[0, 1, 1], added=[0, 0, 2])


def attributes(kind, window, stride=None, padding=None, dilation=None, ceil_mode=False, count=False, norm=None):
    axes = len(window)
    padding = padding or [0] * axes
    return dict(kind=kind, window=window, stride=stride or window, padding_low=padding, padding_high=padding,
                dilation=dilation or [1] * axes, ceil_mode=ceil_mode, count_include_pad=count, norm=norm)


def pool(x, y, **options):
    golden.case("pool", [x], y.numpy().astype(x.dtype), **attributes(**options))


MAX, MEAN = [F.max_pool1d, F.max_pool2d, F.max_pool3d], [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d]
for shape, window, stride, padding in [((2, 2, 9), [3], [2], [1]), ((1, 2, 7, 6), [3, 2], [2, 2], [1, 0]),
                                       ((1, 1, 5, 4, 5), [2, 2, 3], [2, 1, 2], [1, 1, 0])]:
    x = draw(*shape)
    axes = len(window)
    for ceil_mode in [False, True]:
        common = dict(window=window, stride=stride, padding=padding, ceil_mode=ceil_mode)
        dilation = [2] + [1] * (axes - 1)
        y = MAX[axes - 1](wide(x), window, stride, padding, dilation, ceil_mode)
        pool(x, y, kind="max", dilation=dilation, **common)
        y = -MAX[axes - 1](-wide(x), window, stride, padding, dilation, ceil_mode)
        pool(x, y, kind="min", dilation=dilation, **common)
        for count in [False, True]:
            y = MEAN[axes - 1](wide(x), window, stride, padding, ceil_mode, count)
            pool(x, y, kind="mean", count=count, **common)
        if axes < 3:
            lp = [F.lp_pool1d, F.lp_pool2d][axes - 1]
            y = lp(wide(np.abs(x)), 3.0, window if axes > 1 else window[0], stride if axes > 1 else stride[0], ceil_mode)
            pool(x, y, kind="lp", window=window, stride=stride, ceil_mode=ceil_mode, norm=3.0)

for kind, fill, reduction in [("sum", 0.0, torch.sum), ("prod", 1.0, torch.prod)]:
    x = draw(2, 6, 5)
    windows = F.pad(wide(x), (1, 1, 1, 1), value=fill).unfold(1, 3, 2).unfold(2, 2, 1)
    pool(x, reduction(windows.flatten(3), dim=3), kind=kind, window=[3, 2], stride=[2, 1], padding=[1, 1])
x = rng.integers(-9, 9, (1, 4, 6)).astype(np.int32)
pool(x, MAX[1](wide(x), [2, 3]).int(), kind="max", window=[2, 3])

golden.write("crates/rlx-ir/tests/golden/conv.rlx")
