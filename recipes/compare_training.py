"""Training the same small GPT with RLX, PyTorch eager and candle: loss curves and time per update.

python recipes/compare_training.py RLX_BINARY [--candle BINARY] [--updates 200] [--rounds 5] [--threads 1]

Needs: torch numpy safetensors (measured with torch 2.15). The candle program is recipes/compare_training_candle.rs,
built in a folder of its own as its first lines say. All three start from the same weights and see the same batches in
the same order: 4 layers, 256 wide, 4 heads, 8 x 128 tokens of 4096, untied output, AdamW at a constant rate.

The first table holds losses per update of one run each, and how far the curves of the peers are from RLX's. The second
holds the CPU time of the whole process per update, the difference of a run of 24 and one of 4 updates, so that start and
compilation are left out; systems run in turn, and the table gives the median over the rounds and the ratio to RLX. CPU
time is what a busy machine leaves comparable. The peers get an allocator that keeps its pages (glibc's thresholds).
"""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

LAYERS, WIDTH, HEADS, BATCH, LENGTH, VOCABULARY, RATE = 4, 256, 4, 8, 128, 4096, 1e-3
SEED = 7
KEEPS_PAGES = {"MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_MMAP_THRESHOLD_": "17179869184"}
CONFIG = {
    "model_type": "gpt2", "vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": WIDTH, "n_layer": LAYERS,
    "n_head": HEADS, "activation_function": "gelu", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
    "eos_token_id": 0,
}
RUN = """output = "run"
seed = {seed}
steps = {updates}
batch_size = {batch}

[model]
kind = "gpt2"
folder = "."
start = "weights"

[data]
kind = "arrays"
file = "rows.npz"

[optimizer]
kind = "adamw"

[learning_rate]
peak = {rate}
decay = "constant"
"""


class Stream:
    """SplitMix64, as RLX shuffles rows with it."""

    MASK = (1 << 64) - 1

    def __init__(self, seed):
        self.state = seed & self.MASK

    def next(self):
        self.state = z = (self.state + 0x9E3779B97F4A7C15) & self.MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & self.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & self.MASK
        return z ^ (z >> 31)


def order_of_rows(count):
    """The first epoch of RLX's data."""
    stream, order = Stream(Stream(SEED).next()), list(range(count))
    for last in range(count - 1, 0, -1):
        other = stream.next() % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def write_inputs(folder, updates):
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(SEED)

    def normal(*shape):
        return (0.02 * random.standard_normal(shape)).astype(numpy.float32)

    tensors = {"wte.weight": normal(VOCABULARY, WIDTH), "wpe.weight": normal(LENGTH, WIDTH)}
    norms = ["ln_f"]
    for layer in range(LAYERS):
        for part, rows, columns in [("attn.c_attn", WIDTH, 3 * WIDTH), ("attn.c_proj", WIDTH, WIDTH),
                                    ("mlp.c_fc", WIDTH, 4 * WIDTH), ("mlp.c_proj", 4 * WIDTH, WIDTH)]:
            tensors[f"h.{layer}.{part}.weight"] = normal(rows, columns)
            tensors[f"h.{layer}.{part}.bias"] = numpy.zeros(columns, numpy.float32)
        norms += [f"h.{layer}.ln_1", f"h.{layer}.ln_2"]
    for norm in norms:
        tensors[f"{norm}.weight"] = numpy.ones(WIDTH, numpy.float32)
        tensors[f"{norm}.bias"] = numpy.zeros(WIDTH, numpy.float32)
    tensors["lm_head.weight"] = normal(VOCABULARY, WIDTH)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "run.toml").write_text(RUN.format(seed=SEED, updates=updates, batch=BATCH, rate=RATE))
    # Text of a chain in which every token has four successors of unequal weight, an eighth of all tokens after the first.
    successors = random.integers(0, VOCABULARY // 8, (VOCABULARY, 4))
    rows = numpy.empty((updates * BATCH, LENGTH + 1), numpy.int64)
    rows[:, 0] = random.integers(0, VOCABULARY, len(rows))
    for place in range(LENGTH):
        chosen = random.choice(4, len(rows), p=[0.55, 0.25, 0.15, 0.05])
        rows[:, place + 1] = successors[rows[:, place], chosen]
    numpy.savez(folder / "rows.npz", input_ids=rows[:, :-1], labels=rows[:, 1:])
    taken = rows[order_of_rows(len(rows))].reshape(updates, BATCH, LENGTH + 1)
    save_file({"input_ids": taken[:, :, :-1].copy(), "labels": taken[:, :, 1:].copy()}, folder / "batches.safetensors")


def train_with_torch(folder, updates, threads):
    """Prints one line of JSON per update."""
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    weights = {name: tensor.requires_grad_() for name, tensor in load_file(folder / "model.safetensors").items()}
    batches = load_file(folder / "batches.safetensors")
    optimizer = torch.optim.AdamW(weights.values(), RATE, weight_decay=0.0)

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(x, name):
        bias = weights[f"{name}.bias"]
        return torch.addmm(bias, x.view(-1, x.shape[-1]), weights[f"{name}.weight"]).view(*x.shape[:-1], len(bias))

    for update in range(updates):
        ids, labels = batches["input_ids"][update], batches["labels"][update]
        x = F.embedding(ids, weights["wte.weight"]) + weights["wpe.weight"]
        for layer in range(LAYERS):
            name = f"h.{layer}"
            qkv = linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
            q, k, v = qkv.view(BATCH, LENGTH, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
            x = x + linear(mixed, f"{name}.attn.c_proj")
            x = x + linear(F.gelu(linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")), f"{name}.mlp.c_proj")
        logits = F.linear(norm(x, "ln_f"), weights["lm_head.weight"])
        loss = F.cross_entropy(logits.view(-1, VOCABULARY), labels.view(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(json.dumps({"step": update + 1, "loss": loss.item()}), flush=True)


def train(command, threads):
    """Losses, and seconds of CPU time of the process."""
    threads = str(threads)
    limits = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | limits | KEEPS_PAGES
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    losses = [line["loss"] for line in lines if "loss" in line]
    return losses, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def print_curves(curves):
    names = list(curves)
    print("update " + "".join(f"{name:>12}" for name in names))
    count = len(curves["rlx"])
    for update in sorted({1, 2, 5, *range(10, count + 1, max(10, count // 20)), count}):
        print(f"{update:>6} " + "".join(f"{curves[name][update - 1]:12.5f}" for name in names))
    for name in names[1:]:
        gaps = [abs(a - b) for a, b in zip(curves["rlx"], curves[name], strict=True)]
        print(f"{name}: mean distance to rlx {statistics.mean(gaps):.5f}, largest {max(gaps):.5f}")
    steps = [abs(a - b) for a, b in zip(curves["rlx"], curves["rlx"][1:])]
    print(f"for scale: rlx from one update to the next, mean {statistics.mean(steps):.5f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rlx")
    parser.add_argument("--candle")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--torch-run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch_run:
        return train_with_torch(pathlib.Path(options.torch_run), options.updates, options.threads)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_inputs(folder, max(options.updates, 24))
        number = iter(range(10**6))

        def commands(updates):
            made = {"rlx": [options.rlx, "train", str(folder / "run.toml"), "--steps", str(updates), "--json",
                            "--threads", str(options.threads), "--output", str(folder / f"run{next(number)}")],
                    "torch": [sys.executable, __file__, options.rlx, "--torch-run", str(folder), "--updates",
                              str(updates), "--threads", str(options.threads)]}
            if options.candle:
                made["candle"] = [options.candle, str(folder), str(updates)]
            return made

        curves = {name: train(command, options.threads)[0] for name, command in commands(options.updates).items()}
        print_curves(curves)
        times = {name: [] for name in curves}
        for _ in range(options.rounds):
            short, long = commands(4), commands(24)
            for name in curves:
                seconds = [train(which[name], options.threads)[1] for which in (short, long)]
                times[name].append((seconds[1] - seconds[0]) / 20 * 1e3)
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(f"\nCPU milliseconds per update, {options.threads} threads, median of {options.rounds} rounds")
        for name, median in medians.items():
            print(f"{name:>8} {median:9.1f}   {median / medians['rlx']:5.2f} of rlx   "
                  f"(from {min(times[name]):.1f} to {max(times[name]):.1f})")
    assert all(math.isfinite(loss) for curve in curves.values() for loss in curve)
    # Later, roundings have grown as they do between two orders of summation: the curves stay closer than they move.
    moves = statistics.mean(abs(a - b) for a, b in zip(curves["rlx"], curves["rlx"][1:]))
    for name, curve in curves.items():
        gaps = [abs(a - b) for a, b in zip(curves["rlx"], curve, strict=True)]
        assert max(gaps[:20]) < 1e-3, f"the first updates of {name} part by {max(gaps[:20])}"
        assert statistics.mean(gaps) < moves / 4, f"the curve of {name} is {statistics.mean(gaps)} away"


if __name__ == "__main__":
    main()
