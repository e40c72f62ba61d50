"""Measures how many greedy sentences of the bundled decoder its grammar accepts.

Run from the repository root:  python recipes/check_stories.py [--model models/stories] [--count 300] > generated.txt
                               cargo xtask stories check generated.txt --at-least 0.95
Made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3.

Prompts are the openings below and the beginnings of stories that training never saw (another seed), each cut after a
random word. One line is printed per prompt: the sentence that the prompt leaves unfinished, with what the model makes
of it, up to the end token or 200 tokens. Sentences that lie wholly inside the prompt are left out.
"""

import argparse
import pathlib
import random
import re
import subprocess

import tokenizers
import torch
from transformers import GPT2LMHeadModel

HELD_OUT_SEED = 1_000_003
OPENINGS = [
    "Once upon a time",
    "Once upon a time,",
    "Once upon a time, there was",
    "Once upon a time, there was a little",
    "Once upon a time, there was a brave girl named",
    "Once upon a time, a happy dog",
    "Once upon a time, in a",
    "Once",
    "One day",
    "One day,",
    "One sunny morning,",
    "Long ago",
    "Long, long ago,",
    "There was",
    "There once was a",
    "There was a small cat named",
    "In a small village",
    "A little boy",
    "A shy mouse named Ella",
    "The",
    "The little girl",
    "The brave prince lived",
    "Lily",
    "Lily was",
    "Tom was a",
    "Ben loved his",
    "She",
    "He was",
    "They",
    "The rabbit",
    "Then",
    "Every day,",
    "That night,",
    "At last,",
    "\"",
    "This is the story of",
    "",
]


def prompts(count):
    yield from OPENINGS
    command = ["cargo", "xtask", "stories", "generate", "--seed", str(HELD_OUT_SEED), "--count", str(count)]
    stories = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    chance = random.Random(HELD_OUT_SEED)
    for story in stories:
        words = story.split(" ")
        yield " ".join(words[: chance.randrange(1, len(words))])


def unfinished_from(prompt):
    """Where the sentence begins that the prompt leaves unfinished; one that ends in `!"` or `?"` may yet go on."""
    starts = [0] + [match.end() for match in re.finditer(r"[.!?]\"? (?=[A-Z\"])|\.\"?$|[!?]$", prompt)]
    return starts[-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/stories"))
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = GPT2LMHeadModel.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    for prompt in prompts(arguments.count):
        ids = tokenizer.encode(prompt).ids or [end]
        given = torch.tensor([ids])
        made = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=200, do_sample=False, pad_token_id=end
        )
        text = prompt + tokenizer.decode(made[0, len(ids) :].tolist(), skip_special_tokens=True)
        print(text[unfinished_from(prompt) :].strip())


if __name__ == "__main__":
    main()
