"""Golden data of the collectives. Oracle: NumPy on a list of what each participant holds, after MPI's definitions
of Allreduce, Allgather, Reduce_scatter, Alltoall and Bcast.

python recipes/golden_collective.py   (numpy 2)
"""

import numpy as np
from golden import Golden

rng = np.random.default_rng(31)
golden = Golden()
KINDS = {"sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min}

for shape, dtypes in (((1, 2), (np.float64,)), ((3, 6, 2), (np.int32,)), ((2, 2, 4), (np.float64,))):
    for dtype in dtypes:
        held = [(rng.normal(size=shape[1:]) * 4).astype(dtype) for _ in range(shape[0])]
        x, count = np.stack(held), len(held)
        for kind, combine in KINDS.items():
            if kind == "mean" and dtype == np.int32:
                continue
            total = np.asarray(combine(x, axis=0)).astype(dtype)
            golden.case("all_reduce", [x], np.stack([total] * count), kind=kind)
            golden.case("reduce_scatter", [x], np.stack(np.split(total, count, 0)), kind=kind, axis=1)
        for axis in range(1, x.ndim):
            whole = np.concatenate(held, axis - 1)
            golden.case("all_gather", [x], np.stack([whole] * count), axis=axis)
            for split in range(1, x.ndim):
                if shape[split] % count == 0:
                    parts = [np.split(mine, count, split - 1) for mine in held]
                    got = [np.concatenate([parts[q][p] for q in range(count)], axis - 1) for p in range(count)]
                    golden.case("all_to_all", [x], np.stack(got), split_axis=split, concat_axis=axis)
        for root in range(count):
            golden.case("broadcast", [x], np.stack([held[root]] * count), root=root)
golden.write("crates/rlx-ir/tests/golden/collective.rlx")
