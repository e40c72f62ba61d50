"""Exports networks with seeded random weights from PyTorch, with inputs of several sizes and ONNX Runtime's outputs.

    python recipes/onnx_models.py OUT [NAME ..]

Needs: torch (2.15), onnx, onnxscript, onnxruntime, numpy. OUT/<network>-<exporter>/ gets model.onnx, case.json
(tolerances, opset) and data_<i>/{input,output}_<j>.pb, as recipes/onnx_conformance.py writes them, and ort.json, which
recipes/time_onnx_runtime.py writes. The example run_case of rlx-onnx runs such a folder.
"""

import json
import math
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

warnings.filterwarnings("ignore")
Dim = torch.export.Dim
TIMER = str(pathlib.Path(__file__).with_name("time_onnx_runtime.py"))


class Bottleneck(nn.Module):
    def __init__(self, inner, width, stride):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or inner != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inner, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        return F.relu(self.layers(x) + self.shortcut(x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks, inner = [], 64
        for count, width, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
            for index in range(count):
                blocks.append(Bottleneck(inner, width, stride if index == 0 else 1))
                inner = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inner, 1000)

    def forward(self, image):
        x = self.blocks(self.stem(image))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Bert(nn.Module):
    """The shape of all-MiniLM-L6, with its mean pooling."""

    def __init__(self, vocabulary=30522, width=384, heads=12, depth=6, inner=1536, longest=512):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(longest, width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "query": nn.Linear(width, width), "key": nn.Linear(width, width), "value": nn.Linear(width, width),
                "output": nn.Linear(width, width), "norm": nn.LayerNorm(width, 1e-12),
                "up": nn.Linear(width, inner), "down": nn.Linear(inner, width), "last": nn.LayerNorm(width, 1e-12),
            })
            for _ in range(depth)
        )

    def forward(self, input_ids, attention_mask, token_type_ids):
        batch, count = input_ids.shape
        places = torch.arange(count, device=input_ids.device).unsqueeze(0)
        x = self.norm(self.words(input_ids) + self.positions(places) + self.types(token_type_ids))
        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            split = lambda t: t.view(batch, count, self.heads, -1).transpose(1, 2)
            query, key, value = (split(layer[name](x)) for name in ("query", "key", "value"))
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
            mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(batch, count, -1)
            x = layer["norm"](x + layer["output"](mixed))
            x = layer["last"](x + layer["down"](F.gelu(layer["up"](x))))
        weights = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return x, F.normalize(pooled, p=2.0, dim=1)


class Detector(nn.Module):
    """Boxes and class scores of a small single-shot detector of two scales."""

    def __init__(self, classes=6):
        super().__init__()
        block = lambda a, b, stride: nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU()
        )
        self.stem = nn.Sequential(block(3, 16, 2), block(16, 32, 2), block(32, 64, 2))
        self.deep = nn.Sequential(block(64, 128, 2), block(128, 64, 1))
        self.pools = nn.MaxPool2d(5, 1, 2)
        self.merge = block(192, 64, 1)
        self.upper = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.join = block(128, 64, 1)
        self.heads = nn.ModuleList([nn.Conv2d(64, 4 + classes, 1), nn.Conv2d(64, 4 + classes, 1)])

    def forward(self, image):
        fine = self.stem(image)
        coarse = self.deep(fine)
        once = self.pools(coarse)
        coarse = self.merge(torch.cat([coarse, once, self.pools(once)], 1))
        fine = self.join(torch.cat([fine, self.upper(coarse)], 1))
        boxes, scores = [], []
        for head, features, stride in zip(self.heads, (fine, coarse), (8, 16)):
            y = head(features)
            rows = torch.arange(y.shape[2], device=y.device, dtype=y.dtype)
            columns = torch.arange(y.shape[3], device=y.device, dtype=y.dtype)
            grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).unsqueeze(0)
            centre = (torch.sigmoid(y[:, 0:2]) * 2 - 0.5 + grid) * stride
            size = (torch.sigmoid(y[:, 2:4]) * 2) ** 2 * (stride * 2)
            box = torch.cat([centre - size / 2, centre + size / 2], 1)
            boxes.append(box.flatten(2).transpose(1, 2))
            scores.append(torch.sigmoid(y[:, 4:]).flatten(2))
        return torch.cat(boxes, 1), torch.cat(scores, 2)


class Tagger(nn.Module):
    def __init__(self, vocabulary=2000, width=64, hidden=96, tags=17):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, tokens):
        states, _ = self.lstm(self.words(tokens))
        return F.log_softmax(self.head(states), -1)


class Listener(nn.Module):
    """The shape of Whisper's encoder."""

    def __init__(self, bands=80, width=256, heads=4, depth=4, longest=1500):
        super().__init__()
        self.first = nn.Conv1d(bands, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        angles = torch.arange(longest)[:, None] * torch.exp(-torch.arange(width // 2) * (math.log(1e4) / (width // 2 - 1)))
        self.register_buffer("places", torch.cat([angles.sin(), angles.cos()], 1))
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "before": nn.LayerNorm(width), "query": nn.Linear(width, width), "key": nn.Linear(width, width, bias=False),
                "value": nn.Linear(width, width), "output": nn.Linear(width, width),
                "between": nn.LayerNorm(width), "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width),
            })
            for _ in range(depth)
        )
        self.last = nn.LayerNorm(width)

    def forward(self, mel):
        x = F.gelu(self.second(F.gelu(self.first(mel)))).permute(0, 2, 1)
        x = x + self.places[: x.shape[1]]
        for layer in self.layers:
            normal = layer["before"](x)
            split = lambda t: t.view(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)
            query, key, value = (split(layer[name](normal)) for name in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(query, key, value)
            x = x + layer["output"](mixed.transpose(1, 2).flatten(2))
            x = x + layer["down"](F.gelu(layer["up"](layer["between"](x))))
        return self.last(x)


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class Llama(nn.Module):
    """A decoder with rotary positions, grouped queries and gated layers."""

    def __init__(self, vocabulary=1000, width=128, heads=8, groups=2, depth=3, inner=352):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "before": RmsNorm(width), "query": nn.Linear(width, width, bias=False),
                "key": nn.Linear(width, groups * self.size, bias=False),
                "value": nn.Linear(width, groups * self.size, bias=False),
                "output": nn.Linear(width, width, bias=False), "between": RmsNorm(width),
                "gate": nn.Linear(width, inner, bias=False), "up": nn.Linear(width, inner, bias=False),
                "down": nn.Linear(inner, width, bias=False),
            })
            for _ in range(depth)
        )
        self.last = RmsNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("rates", 1.0 / 1e4 ** (torch.arange(0, self.size, 2).float() / self.size))

    def forward(self, input_ids):
        batch, count = input_ids.shape
        places = torch.arange(count, device=input_ids.device).float()
        angles = torch.outer(places, self.rates)
        angles = torch.cat([angles, angles], -1)
        cos, sin = angles.cos()[None, None], angles.sin()[None, None]

        def turned(t):
            half = t.shape[-1] // 2
            return t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin

        mask = torch.full((count, count), float("-inf"), device=input_ids.device).triu(1)
        x = self.words(input_ids)
        for layer in self.layers:
            normal = layer["before"](x)
            query = turned(layer["query"](normal).view(batch, count, self.heads, self.size).transpose(1, 2))
            key = turned(layer["key"](normal).view(batch, count, self.groups, self.size).transpose(1, 2))
            value = layer["value"](normal).view(batch, count, self.groups, self.size).transpose(1, 2)
            repeat = lambda t: t[:, :, None].expand(batch, self.groups, self.heads // self.groups, count, self.size)
            key, value = (repeat(t).reshape(batch, self.heads, count, self.size) for t in (key, value))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            x = x + layer["output"](mixed.transpose(1, 2).reshape(batch, count, -1))
            normal = layer["between"](x)
            x = x + layer["down"](F.silu(layer["gate"](normal)) * layer["up"](normal))
        return self.head(self.last(x))


def tokens(vocabulary, *dims):
    return torch.randint(0, vocabulary, dims)


def bert_inputs(batch, count):
    mask = torch.ones(batch, count, dtype=torch.int64)
    mask[-1, count - count // 3:] = 0
    return tokens(30522, batch, count), mask, torch.zeros(batch, count, dtype=torch.int64)


BATCH, COUNT = {0: "batch"}, {0: "batch", 1: "sequence"}
# Network, inputs of each size, names and symbolic axes of its inputs, names of its outputs.
NETWORKS = {
    "resnet50": (ResNet50, [lambda: (torch.randn(2, 3, 224, 224),), lambda: (torch.randn(1, 3, 224, 224),)],
                 {"image": BATCH}, ["logits"]),
    "minilm": (Bert, [lambda: bert_inputs(2, 16), lambda: bert_inputs(1, 7), lambda: bert_inputs(3, 128)],
               {"input_ids": COUNT, "attention_mask": COUNT, "token_type_ids": COUNT}, ["states", "sentence"]),
    "detector": (Detector, [lambda: (torch.randn(1, 3, 128, 160),), lambda: (torch.randn(1, 3, 64, 64),)],
                 {"image": {2: "height", 3: "width"}}, ["boxes", "scores"]),
    "tagger": (Tagger, [lambda: (tokens(2000, 2, 12),), lambda: (tokens(2000, 3, 31),)],
               {"tokens": COUNT}, ["tags"]),
    "listener": (Listener, [lambda: (torch.randn(1, 80, 200),), lambda: (torch.randn(2, 80, 322),)],
                 {"mel": {0: "batch", 2: "frames"}}, ["states"]),
    "llama": (Llama, [lambda: (tokens(1000, 2, 9),), lambda: (tokens(1000, 1, 33),), lambda: (tokens(1000, 4, 64),)],
              {"input_ids": COUNT}, ["logits"]),
}


def with_suppression(model):
    """The detector with the search for its best boxes."""
    graph = model.graph
    constants = {"most": np.int64([20]), "overlap": np.float32([0.45]), "least": np.float32([0.3]),
                 "column": np.int64(2), "outer": np.int64([0])}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend([
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["selected"]),
        helper.make_node("Gather", ["selected", "column"], ["which"], axis=1),
        helper.make_node("Squeeze", ["boxes", "outer"], ["all_boxes"]),
        helper.make_node("Gather", ["all_boxes", "which"], ["best_boxes"], axis=0),
        helper.make_node("GatherND", ["scores", "places"], ["best_scores"]),
    ])
    graph.node.insert(len(graph.node) - 1, helper.make_node("Identity", ["selected"], ["places"]))
    del graph.output[:]
    graph.output.extend([
        helper.make_tensor_value_info("selected", TensorProto.INT64, ["found", 3]),
        helper.make_tensor_value_info("best_boxes", TensorProto.FLOAT, ["found", 4]),
        helper.make_tensor_value_info("best_scores", TensorProto.FLOAT, ["found"]),
    ])
    onnx.checker.check_model(model)
    return model


def export(name, exporter, path):
    network, sizes, inputs, outputs = NETWORKS[name]
    torch.manual_seed(7)
    network = network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    arguments = {"input_names": list(inputs), "output_names": outputs}
    if exporter == "torchscript":
        arguments |= {"dynamo": False, "dynamic_axes": inputs, "opset_version": 17}
    else:
        symbols = {label: Dim(label, min=1, max=4096) for axes in inputs.values() for label in axes.values()}
        if name == "detector":
            symbols = {label: 16 * Dim(f"{label}_steps", min=2, max=64) for label in symbols}
        shapes = tuple({axis: symbols[label] for axis, label in axes.items()} for axes in inputs.values())
        if name == "listener":
            shapes = ({0: symbols["batch"], 2: Dim.DYNAMIC},)
        arguments |= {"dynamo": True, "dynamic_shapes": shapes, "external_data": name == "llama"}
        if exporter == "dynamo23":
            arguments["opset_version"] = 23
    torch.onnx.export(network, sizes[0](), str(path), **arguments)
    if name == "detector":
        onnx.save(with_suppression(onnx.load(path)), path)


def write(out, name, exporter):
    folder = out / f"{name}-{exporter}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    export(name, exporter, folder / "model.onnx")
    opset = max(entry.version for entry in onnx.load(folder / "model.onnx", load_external_data=False).opset_import
                if entry.domain == "")
    (folder / "case.json").write_text(json.dumps({"rtol": 1e-3, "atol": 1e-4, "opset": opset}))
    torch.manual_seed(11)
    for index, make in enumerate(NETWORKS[name][1]):
        data = folder / f"data_{index}"
        data.mkdir()
        for position, (label, value) in enumerate(zip(NETWORKS[name][2], make())):
            proto = numpy_helper.from_array(value.numpy(), label)
            (data / f"input_{position}.pb").write_bytes(proto.SerializeToString())
    subprocess.run([sys.executable, TIMER, str(folder)], check=True)
    print(folder.name, "opset", opset, (folder / "ort.json").read_text(), flush=True)


def main():
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(NETWORKS)
    failures = 0
    for name in names:
        for exporter in ("torchscript", "dynamo", "dynamo23"):
            try:
                write(out, name, exporter)
            except Exception as error:  # An exporter that does not take a network is told, the others go on.
                failures += 1
                print(f"{name}-{exporter}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
