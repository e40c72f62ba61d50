"""Runs the case of a folder in ONNX Runtime on one thread, and writes its outputs and ort.json.

    python recipes/time_onnx_runtime.py FOLDER

Needs: onnx, onnxruntime, numpy. ort.json: seconds to load, milliseconds of a first and a second run of each data set,
and the most memory that the process held, in MiB, before and after; see recipes/onnx_models.py.
"""

import json
import pathlib
import sys
import time

import onnxruntime
from onnx import TensorProto, numpy_helper


def peak_mib():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main():
    folder = pathlib.Path(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    report = {"peak_before_mib": peak_mib()}
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    report |= {"load_s": time.perf_counter() - start, "run_ms": []}
    for data in sorted(folder.glob("data_*")):
        feeds = {}
        for index, info in enumerate(session.get_inputs()):
            feeds[info.name] = numpy_helper.to_array(TensorProto.FromString((data / f"input_{index}.pb").read_bytes()))
        times = []
        for _ in range(2):
            start = time.perf_counter()
            results = session.run(None, feeds)
            times.append(1e3 * (time.perf_counter() - start))
        report["run_ms"].append(times)
        for index, (info, value) in enumerate(zip(session.get_outputs(), results)):
            (data / f"output_{index}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
    report["peak_mib"] = peak_mib()
    (folder / "ort.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
