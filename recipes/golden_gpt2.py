"""Makes the expected results of the bundled decoder, and small random models of both families with theirs.

Run from the repository root:  python recipes/golden_gpt2.py
Made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0, numpy 2.4.6.

Stored weights are widened to f64, all arithmetic is f64, and results are rounded to f32 once. Token lists named
`greedy` are plain argmax continuations that do not stop at the end token; `smallest_margin` is the least difference
between the two largest logits along them, so that a reader knows how near the nearest tie is.

Written into crates/rlx-models/tests/data:
  stories_golden.json    per prompt: text, ids, last_logits [vocabulary], greedy (64 ids), greedy_text
  tiny_gpt2_*/, tiny_bert_*/
                         config.json, model.safetensors, expected.json: configurations unlike the usual ones (odd head
                         counts, other activations, untied output, f16 and bf16 storage, other name prefixes)
Arrays in expected.json are nested lists in the order of their dimensions.
"""

import json
import pathlib

import numpy
import tokenizers
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

DATA = pathlib.Path("crates/rlx-models/tests/data")
STORIES = pathlib.Path("models/stories")
PROMPTS = [
    "Once upon a time",
    "Once upon a time, there was a little dog named",
    "Lily was very",
    "\"Do not be afraid,\" said",
    "One day, a boy named Tom went to the forest. He",
    "<|endoftext|>",
    "Tokens of other kinds: 42 + é = 🙂",
]


def numbers(tensor):
    """Nested lists of the values rounded to f32, each in its shortest spelling."""
    array = tensor.detach().numpy().astype(numpy.float32)
    return numpy.vectorize(lambda value: float(str(value)), otypes=[float])(array).tolist()


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def greedy(model, ids, count):
    """The argmax continuation, and the least margin along it."""
    ids = list(ids)
    start = len(ids)
    margin = float("inf")
    with torch.no_grad():
        for _ in range(count):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
    return ids[start:], margin


def golden_stories():
    model = GPT2LMHeadModel.from_pretrained(STORIES, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        made, margin = greedy(model, ids, 64)
        cases.append(
            {
                "text": prompt,
                "ids": ids,
                "last_logits": numbers(last),
                "greedy": made,
                "greedy_text": tokenizer.decode(made, skip_special_tokens=False),
                "smallest_margin": margin,
            }
        )
    write(DATA / "stories_golden.json", {"model": "models/stories", "cases": cases})


def randomise(model, generator):
    """Weights large enough for every term of the model to show in its results."""
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if value.dim() == 2:
            scale = 0.5 if "embed" in name or "wte" in name or "wpe" in name else 1.2 / value.shape[0] ** 0.5
            value.data = noise * scale
        elif name.endswith("weight"):
            value.data = 1 + 0.3 * noise
        else:
            value.data = 0.3 * noise


def build(kind, config, dtype, seed):
    """A model in f64 whose weights are representable in `dtype`."""
    model = kind(config).double().eval()
    randomise(model, torch.Generator().manual_seed(seed))
    for value in model.parameters():
        value.data = value.data.to(dtype).double()
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model


def save(folder, config, tensors, dtype):
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: value.to(dtype).contiguous().clone() for name, value in tensors.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def tiny_gpt2(name, settings, dtype, prefix, seed):
    full = {"vocab_size": 71, "n_positions": 24, "bos_token_id": 0, "eos_token_id": 0, **settings}
    kind = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = build(GPT2LMHeadModel, GPT2Config(attn_implementation="eager", **kind, **full), dtype, seed)
    tensors = {
        name if name == "lm_head.weight" else prefix + name.removeprefix("transformer."): value
        for name, value in model.state_dict().items()
        if name != "lm_head.weight" or settings.get("tie_word_embeddings") is False
    }
    save(DATA / name, {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **full}, tensors, dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(0, 71, (2, 9), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits
    made = [greedy(model, row.tolist(), 12) for row in ids]
    write(
        DATA / name / "expected.json",
        {
            "input_ids": ids.tolist(),
            "logits": numbers(logits),
            "greedy": [row for row, _ in made],
            "smallest_margin": min(margin for _, margin in made),
        },
    )


def tiny_bert(name, settings, dtype, rename, seed):
    full = {"vocab_size": 67, "max_position_embeddings": 20, "pad_token_id": 0, **settings}
    kind = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
    model = build(BertModel, BertConfig(**kind, **full), dtype, seed)
    tensors = {rename(name): value for name, value in model.state_dict().items() if "position_ids" not in name}
    tensors = {name: value for name, value in tensors.items() if name}
    save(DATA / name, {"architectures": ["BertModel"], "model_type": "bert", **full}, tensors, dtype)
    ids = torch.randint(1, 67, (3, 11), generator=torch.Generator().manual_seed(seed + 1))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 1:] = 0
    ids = ids * mask
    types = torch.zeros_like(ids)
    types[:, 4:] = settings["type_vocab_size"] - 1
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    weight = mask[:, :, None].double()
    mean = (out.last_hidden_state * weight).sum(1) / weight.sum(1)
    expected = {
        "input_ids": ids.tolist(),
        "attention_mask": mask.tolist(),
        "token_type_ids": types.tolist(),
        "last_hidden_state": numbers(out.last_hidden_state),
        "sentence_embedding": numbers(mean / mean.norm(dim=1, keepdim=True)),
    }
    if any("pooler" in name for name in tensors):
        expected["pooler_output"] = numbers(out.pooler_output)
    write(DATA / name / "expected.json", expected)


def legacy_names(name):
    """The names of the oldest checkpoints: a prefix, gamma and beta, and here no pooler."""
    if name.startswith("pooler"):
        return None
    return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def main():
    torch.set_num_threads(1)
    golden_stories()
    untied = {"n_embd": 25, "n_head": 5, "n_layer": 2, "n_inner": 37, "activation_function": "relu"}
    untied |= {"layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}
    tiny_gpt2("tiny_gpt2_untied", untied, torch.float32, "transformer.", 10)
    scaled = {"n_embd": 24, "n_head": 3, "n_layer": 3, "activation_function": "silu"}
    scaled |= {"scale_attn_by_inverse_layer_idx": True}
    tiny_gpt2("tiny_gpt2_scaled", scaled, torch.float16, "", 20)
    unscaled = {"n_embd": 14, "n_head": 7, "n_layer": 1, "activation_function": "gelu", "scale_attn_weights": False}
    tiny_gpt2("tiny_gpt2_unscaled", unscaled, torch.bfloat16, "transformer.", 30)
    odd = {"hidden_size": 21, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 41}
    odd |= {"hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    tiny_bert("tiny_bert_odd", odd, torch.float32, lambda name: name, 40)
    legacy = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 16}
    legacy |= {"hidden_act": "relu", "type_vocab_size": 3, "layer_norm_eps": 1e-5}
    tiny_bert("tiny_bert_legacy", legacy, torch.float16, legacy_names, 50)


if __name__ == "__main__":
    main()
