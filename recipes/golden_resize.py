"""Golden data of resizing.

Oracle: the ONNX reference evaluator in float64, rounded to the op's dtype.

python recipes/golden_resize.py   (onnx 1.23, numpy 2)
"""

import numpy as np
import onnx
import onnx.reference
from golden import Golden

rng = np.random.default_rng(17)
golden = Golden()


def onnx_resize(x, sizes, scales, **attributes):
    node = onnx.helper.make_node("Resize", ["x", "", "scales" if scales else "", "" if scales else "sizes"], ["y"], **attributes)
    double, integer = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64
    infos = [onnx.helper.make_tensor_value_info("x", double, None)]
    if scales:
        infos.append(onnx.helper.make_tensor_value_info("scales", onnx.TensorProto.FLOAT, None))
        feeds = {"scales": np.array(scales, np.float32)}
    else:
        infos.append(onnx.helper.make_tensor_value_info("sizes", integer, None))
        feeds = {"sizes": np.array(sizes, np.int64)}
    result = onnx.helper.make_tensor_value_info("y", double, None)
    graph = onnx.helper.make_graph([node], "g", infos, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    return onnx.reference.ReferenceEvaluator(model).run(None, {"x": x.astype(np.float64), **feeds})[0].astype(x.dtype)


def case(x, sizes, mode, coordinates, rounding=None, scales=None, coefficient=None, exclude=False):
    attributes = dict(mode=mode, coordinate_transformation_mode=coordinates, exclude_outside=int(exclude))
    if rounding:
        attributes["nearest_mode"] = rounding
    if coefficient:
        attributes["cubic_coeff_a"] = coefficient
    y = onnx_resize(x, sizes, scales, **attributes)
    assert list(y.shape) == sizes, (y.shape, sizes)
    axes = [axis for axis in range(x.ndim) if x.shape[axis] != sizes[axis]]
    golden.case("resize", [x], y, axes=axes, sizes=[sizes[axis] for axis in axes],
                scales=[float(np.float32(scales[axis])) for axis in axes] if scales else [], mode=mode, coordinates=coordinates,
                rounding=rounding, cubic_coefficient=coefficient, exclude_outside=exclude)


image = rng.normal(size=(1, 2, 4, 5)).astype(np.float32)
row = rng.normal(size=(2, 6)).astype(np.float32)
MODES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
for coordinates in MODES:
    for sizes in [[1, 2, 7, 3], [1, 2, 1, 8]]:
        case(image, sizes, "linear", coordinates)
        # One element: the evaluator takes -1/2 where the specification of pytorch_half_pixel says 0.
        if coordinates != "pytorch_half_pixel" or 1 not in sizes[2:]:
            case(image, sizes, "cubic", coordinates, coefficient=-0.75)
    case(image, [1, 2, 6, 9], "cubic", coordinates, coefficient=-0.5, exclude=True)
    for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
        case(row, [2, 9], "nearest", coordinates, rounding=rounding)
        case(row, [2, 4], "nearest", coordinates, rounding=rounding)
for coordinates in ["half_pixel", "half_pixel_symmetric", "asymmetric"]:
    case(row, [2, 4], "linear", coordinates, scales=[1.0, 0.7])
    case(row, [2, 14], "cubic", coordinates, scales=[1.0, 2.4], coefficient=-0.75)
half = rng.normal(size=(3, 4)).astype(np.float16)
case(half, [5, 3], "linear", "half_pixel")

x = rng.normal(size=(2, 3, 2)).astype(np.float32)
golden.case("resize_nearest2x", [x], x.repeat(2, axis=1).repeat(2, axis=2))

golden.write("crates/rlx-ir/tests/golden/resize.rlx")
