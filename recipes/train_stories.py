"""Trains the bundled decoder `models/stories` from its grammar, with fixed seeds, on one CPU core.

Run from the repository root:  python recipes/train_stories.py [--steps N] [--out models/stories]
Made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0, numpy 2.4.6.

It samples stories with `cargo xtask stories`, trains a byte-level BPE on them and a GPT-2 of about one million
parameters, and writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
model.safetensors (f32, the tensor names and [in, out] layout of the `gpt2` checkpoint: `wte.weight`,
`h.0.attn.c_attn.weight`, ...; the output projection is tied to `wte.weight` and not stored).
Another build of torch may sum in another order and so give other last bits; `recipes/check_stories.py` is the judge.
"""

import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import time

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

END = "<|endoftext|>"
SEED = 1
STORIES = 250_000
VOCABULARY = 1024
POSITIONS = 512
BATCH = 8
PEAK_RATE = 3e-3
WARM_UP = 100


def sample_stories(count):
    command = ["cargo", "xtask", "stories", "generate", "--seed", str(SEED), "--count", str(count)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def train_tokenizer(stories):
    """Byte-level BPE as GPT-2's: every byte has a token, so any text can be encoded."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


class Windows:
    """Windows of the stream of stories. A window starts with the end token, at the first word of a story or at the
    first word of a later sentence, so that a prompt of any of these kinds looks like the start of a window."""

    def __init__(self, stories, tokenizer):
        self.stories = stories
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id(END)
        self.encoded = [e.ids for e in tokenizer.encode_batch(stories)]
        self.random = random.Random(SEED)
        self.next = 0

    def window(self):
        story = self.stories[self.next]
        ids = list(self.encoded[self.next])
        if self.random.random() < 0.25:
            starts = [m.end() for m in re.finditer(r"[.!?]\"? (?=[A-Z\"])", story)]
            ids = self.tokenizer.encode(story[self.random.choice(starts) :]).ids
        if self.random.random() < 0.5:
            ids = [self.end] + ids
        self.next += 1
        while len(ids) <= POSITIONS:
            ids += [self.end] + self.encoded[self.next]
            self.next += 1
        return ids[: POSITIONS + 1]

    def batch(self):
        return torch.tensor([self.window() for _ in range(BATCH)])


def rate(step, steps):
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


def train(model, windows, steps):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        batch = windows.batch()
        logits = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f} seconds {time.time() - started:.0f}", flush=True)


def write(model, tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        name.removeprefix("transformer."): value.detach().float().contiguous().clone()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save(str(out / "tokenizer.json"))
    end = tokenizer.token_to_id(END)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "bos_token_id": end,
        "embd_pdrop": 0.0,
        "eos_token_id": end,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "n_ctx": POSITIONS,
        "n_embd": model.config.n_embd,
        "n_head": model.config.n_head,
        "n_inner": None,
        "n_layer": model.config.n_layer,
        "n_positions": POSITIONS,
        "resid_pdrop": 0.0,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": VOCABULARY,
    }
    generation = {"bos_token_id": end, "eos_token_id": end, "do_sample": False}
    tokens = {
        "tokenizer_class": "GPT2TokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "model_max_length": POSITIONS,
    }
    for name, content in [
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokens),
    ]:
        (out / name).write_text(json.dumps(content, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models/stories"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    stories = sample_stories(STORIES)
    tokenizer = train_tokenizer(stories[:20_000])
    windows = Windows(stories, tokenizer)
    print(f"tokens per story {sum(map(len, windows.encoded)) / len(stories):.1f}")
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=windows.end,
        eos_token_id=windows.end,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = GPT2LMHeadModel(config)
    print(f"parameters {sum(p.numel() for p in model.parameters())}")
    model.train()
    train(model, windows, arguments.steps)
    print(f"stories used {windows.next}")
    write(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
