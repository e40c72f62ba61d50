"""Writes ONNX's own conformance tests as files: models, inputs and expected outputs.

    python3 recipes/onnx_conformance.py OUT

Needs the `onnx` package (1.23.2). OUT/<kind>/<test>/ gets model.onnx, case.json (tolerances, opset) and
data_<i>/{input,output}_<j>.pb. Kinds: node, simple, pytorch-converted, pytorch-operator, light.
"""

import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import DATA_DIR, load_model_tests
from onnx.backend.test.runner import Runner

warnings.filterwarnings("ignore")
EXPECTED_VERSION = "1.23.2"


def message(value, kind):
    """The protobuf message of a value of declared type `kind`."""
    if isinstance(value, (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto)):
        return value
    if kind == "optional_type":
        return numpy_helper.from_optional(value)
    if kind == "sequence_type" or isinstance(value, list):
        if len(value) == 0:
            return onnx.SequenceProto(elem_type=onnx.SequenceProto.TENSOR)
        return numpy_helper.from_list([np.asarray(item) for item in value])
    return numpy_helper.from_array(np.asarray(value))


def write_case(folder, model, data_sets, rtol, atol):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    (folder / "case.json").write_text(json.dumps({"rtol": rtol, "atol": atol, "opset": opset}))
    initialised = {tensor.name for tensor in model.graph.initializer}
    declared = [value for value in model.graph.input if value.name not in initialised]
    for index, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"data_{index}"
        data.mkdir()
        declared_here = declared if len(declared) >= len(inputs) else list(model.graph.input)
        for part, values, infos in (("input", inputs, declared_here), ("output", outputs, model.graph.output)):
            for position, (value, info) in enumerate(zip(values, infos)):
                proto = message(value, info.type.WhichOneof("value"))
                proto.name = info.name
                (data / f"{part}_{position}.pb").write_bytes(proto.SerializeToString())


def copy_case(folder, case):
    source = pathlib.Path(case.model_dir)
    model = onnx.load(source / "model.onnx")
    folder.mkdir(parents=True)
    shutil.copy(source / "model.onnx", folder / "model.onnx")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    (folder / "case.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol, "opset": opset}))
    for data in sorted(source.glob("test_data_set_*")):
        shutil.copytree(data, folder / data.name.replace("test_data_set_", "data_"))


def light_case(folder, path):
    model = onnx.load(path)
    initialised = {tensor.name for tensor in model.graph.initializer}
    name = path.stem.removeprefix("light_")
    inputs = [
        Runner.generate_dummy_data(value, seed=0, name=name, random=False)
        for value in model.graph.input
        if value.name not in initialised
    ]
    outputs = []
    for index in range(len(model.graph.output)):
        outputs.append(onnx.load_tensor(path.with_name(f"{path.stem}_output_{index}.pb")))
    write_case(folder, model, [(inputs, outputs)], 1e-3, 1e-7)


def main(out):
    if onnx.__version__ != EXPECTED_VERSION:
        sys.exit(f"onnx {onnx.__version__} is installed, {EXPECTED_VERSION} is needed")
    out = pathlib.Path(out)
    if out.exists():
        shutil.rmtree(out)
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    counts = {}
    cases = {"node": load_model_tests(kind="node")}
    from onnx.backend.test.case.model import collect_testcases

    cases["simple"] = [case for case in collect_testcases() if case.kind == "simple"]
    for kind, list_of_cases in cases.items():
        for case in list_of_cases:
            write_case(partial / kind / case.name, case.model, case.data_sets, case.rtol, case.atol)
        counts[kind] = len(list_of_cases)
    for kind in ("pytorch-converted", "pytorch-operator"):
        list_of_cases = load_model_tests(kind=kind)
        for case in list_of_cases:
            copy_case(partial / kind / case.name, case)
        counts[kind] = len(list_of_cases)
    light = sorted(pathlib.Path(DATA_DIR, "light").glob("*.onnx"))
    for path in light:
        light_case(partial / "light" / path.stem, path)
    counts["light"] = len(light)
    partial.rename(out)
    print(counts)


if __name__ == "__main__":
    main(sys.argv[1])
