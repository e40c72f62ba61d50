"""Golden data of ops whose results are as long as their data says, and of images read at places.
Oracles: NumPy (argwhere, unique) and the reference evaluator of onnx (NonMaxSuppression, GridSample).

python recipes/golden_search.py   (numpy 2, onnx 1.23)
"""

import numpy as np
import onnx
from golden import Golden
from onnx import helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(37)
golden = Golden()


def reference(op, inputs, **attributes):
    names = [f"x{index}" for index in range(len(inputs))]
    types = [onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in inputs]
    values = [helper.make_tensor_value_info(name, ty, None) for name, ty in zip(names, types)]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)
    node = helper.make_node(op, names, ["y"], **attributes)
    model = helper.make_model(helper.make_graph([node], "g", values, [result]),
                              opset_imports=[helper.make_opsetid("", 20)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs)))[0]


def padded(rows, limit, fill=-1):
    out = np.full((limit, *rows.shape[1:]), fill, rows.dtype)
    out[: min(limit, len(rows))] = rows[:limit]
    return out


for x, limit in ((rng.integers(0, 2, (3, 4)).astype(bool), 12), (rng.integers(-1, 2, 9).astype(np.int32), 4),
                 (np.array([0.0, -0.0, np.nan, 2.0]), 6), (np.zeros((2, 2), np.int64), 3)):
    found = np.argwhere(x)
    golden.case("non_zero", [x], [padded(found, limit), np.int64(len(found))], limit=limit, dtype="i64")

for x in (rng.integers(0, 5, 12).astype(np.int32), rng.integers(0, 3, (2, 4)).astype(np.int64),
          np.array([2.0, np.nan, -0.0, 0.0, np.nan, 2.0, -np.inf]), np.array([7], np.uint8)):
    values, indices, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    # The first of equal elements stands for them: -0 before 0 here.
    values = x.reshape(-1)[indices]
    expected = [padded(values, x.size, 0), padded(indices, x.size), inverse.reshape(-1), padded(counts, x.size, 0)]
    golden.case("unique", [x], [*expected, np.int64(len(values))], dtype="i64")

for images, classes, boxes, limit, center in ((1, 1, 8, 8, 0), (2, 3, 6, 2, 0), (2, 2, 7, 5, 1)):
    corners = rng.uniform(0, 2, (images, boxes, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (images, classes, boxes)).astype(np.float32)
    for iou, least in ((0.1, 0.2), (0.3, 0.5), (0.9, 0.0)):
        iou, least = np.float32(iou), np.float32(least)
        inputs = [corners, scores, np.array([limit], np.int64), np.array([iou]), np.array([least])]
        found = reference("NonMaxSuppression", inputs, center_point_box=center).astype(np.int64).reshape(-1, 3)
        rows = images * classes * min(limit, boxes)
        golden.case("non_max_suppression", [corners, scores, iou, least], [padded(found, rows), np.int64(len(found))],
                    limit=limit, center_point=bool(center), dtype="i64")

for mode in ("nearest", "linear", "cubic"):
    for padding in ("zeros", "border", "reflection"):
        for align in (0, 1):
            x = rng.normal(size=(2, 1, 4, 3)).astype(np.float32)
            # The evaluator moves places beyond the border before it reads four elements, PyTorch does not.
            reach = 1.0 if (mode, padding) == ("cubic", "border") else 1.4
            grid = rng.uniform(-reach, reach, (2, 3, 2, 2)).astype(np.float32)
            y = reference("GridSample", [x, grid], mode=mode, padding_mode=padding, align_corners=align)
            golden.case("grid_sample", [x, grid], y.astype(np.float32), mode=mode, padding=padding,
                        align_corners=bool(align))
x = rng.normal(size=(1, 2, 2, 3, 2)).astype(np.float32)
grid = rng.uniform(-1.2, 1.2, (1, 2, 1, 2, 3)).astype(np.float32)
y = reference("GridSample", [x, grid], mode="linear", padding_mode="zeros", align_corners=1)
golden.case("grid_sample", [x, grid], y.astype(np.float32), mode="linear", padding="zeros", align_corners=True)
golden.write("crates/rlx-ir/tests/golden/search.rlx")
