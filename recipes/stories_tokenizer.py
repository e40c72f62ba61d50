"""Learns the tokenizer of the bundled decoder, `models/stories/tokenizer.json`, from text of its grammar.

Run from the repository root:  python recipes/stories_tokenizer.py [--out models/stories/tokenizer.json]
Made with Python 3.11, tokenizers 0.23.3.

A byte-level BPE as GPT-2's: every byte has a token, so any text can be encoded. The weights are learned by
`rlx train recipes/stories.toml`.
"""

import argparse
import pathlib
import subprocess

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models/stories/tokenizer.json"))
    arguments = parser.parse_args()
    command = ["cargo", "xtask", "stories", "generate", "--seed", "1", "--count", "20000"]
    stories = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.save(str(arguments.out))


if __name__ == "__main__":
    main()
