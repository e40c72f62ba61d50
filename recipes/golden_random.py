"""Golden data of random numbers. Oracle: Philox 4x32-10 in Python integers, checked with the answers that its
authors publish; the rest in NumPy.

python recipes/golden_random.py   (numpy 2)
"""

import numpy as np
from golden import Golden

WORD = 0xFFFFFFFF
golden = Golden()


def philox(counter, key):
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k, right & WORD, (left >> 32) ^ d ^ l, left & WORD
        k, l = (k + 0x9E3779B9) & WORD, (l + 0xBB67AE85) & WORD
    return [a, b, c, d]


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox([WORD] * 4, [WORD] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def words(key, count, stream=0):
    blocks = [philox([block, 0, 0, stream], [int(part) for part in key]) for block in range(-(-count // 4))]
    return np.array(blocks, np.uint32).reshape(-1)[:count]


def bits(key, dtype, count):
    if dtype == "u32":
        return words(key, count)
    pairs = words(key, 2 * count).astype(np.uint64)
    return pairs[::2] | pairs[1::2] << np.uint64(32)


def uniform(key, dtype, count):
    if dtype == "f64":
        return (bits(key, "u64", count) >> np.uint64(11)) * 2.0**-53
    return ((bits(key, "u32", count) >> np.uint32(8)) * 2.0**-24).astype(np.float32)


def normal(key, dtype, count):
    pairs = uniform(key, dtype, count + count % 2).astype(np.float64).reshape(-1, 2)
    r, t = np.sqrt(-2 * np.log(1 - pairs[:, 0])), 2 * np.pi * pairs[:, 1]
    return np.stack([r * np.cos(t), r * np.sin(t)], 1).reshape(-1)[:count]


KEYS = [np.array(key, np.uint32) for key in ([0, 0], [1, 2], [0xDEADBEEF, 0xFFFFFFFF])]
for key in KEYS:
    golden.case("random_bits", [key], words(key, 10).reshape(2, 5), dtype="u32", shape=[2, 5])
    golden.case("random_bits", [key], bits(key, "u64", 5), dtype="u64", shape=[5])
    golden.case("random_uniform", [key], uniform(key, "f32", 7), dtype="f32", shape=[7])
    golden.case("random_uniform", [key], uniform(key, "f64", 4).reshape(2, 2), dtype="f64", shape=[2, 2])
    golden.case("random_normal", [key], normal(key, "f64", 5), dtype="f64", shape=[5])
    golden.case("random_normal", [key], normal(key, "f32", 6).astype(np.float32), dtype="f32", shape=[6])
    golden.case("random_split", [key], words(key, 6, 1).reshape(3, 2), count=3)
    for data in (np.uint32(5), np.int32(-1), np.int64(1 << 33 | 7)):
        block = int(data) & WORD
        folded = np.array(philox([block, 0, 0, 2], [int(part) for part in key])[:2], np.uint32)
        golden.case("random_fold_in", [key, data], folded)
batch = np.stack(KEYS)
golden.case("random_bits", [batch], np.stack([words(key, 3) for key in KEYS]), dtype="u32", shape=[3])


def choose(logits, key, temperature, top_k, top_p, min_p):
    order = np.argsort(-logits, kind="stable")
    if temperature == 0:
        return order[0]
    chances = np.exp((logits[order] - logits[order[0]]) / temperature)
    if top_k > 0:
        chances[top_k:] = 0
    if top_p < 1:
        before = np.concatenate([[0], np.cumsum(chances)[:-1]])
        chances[1:][before[1:] >= top_p * chances.sum()] = 0
    chances[1:][chances[1:] < min_p] = 0
    target = uniform(key, "f64", 1)[0] * chances.sum()
    return order[np.searchsorted(np.cumsum(chances), target, side="right")]


rng = np.random.default_rng(31)
for temperature, top_k, top_p, min_p in ((1.0, 0, 1.0, 0.0), (0.0, 0, 1.0, 0.0), (0.7, 3, 1.0, 0.0),
                                         (1.3, 0, 0.6, 0.0), (1.0, 0, 1.0, 0.3), (2.0, 5, 0.9, 0.1), (1.0, 0, 0.0, 0.0)):
    rows = 8
    logits = rng.normal(size=(rows, 12)) * 2
    logits[0, 3:5] = logits[0].max() + 1
    logits[1, 4] = -np.inf
    keys = rng.integers(0, 1 << 32, (rows, 2)).astype(np.uint32)
    tokens = [choose(logits[row], keys[row], temperature, top_k, top_p, min_p) for row in range(rows)]
    full = lambda value, dtype: np.full(rows, value, dtype)
    operands = [logits, keys, full(temperature, np.float64), full(top_k, np.int32), full(top_p, np.float64),
                full(min_p, np.float64)]
    golden.case("sample", operands, np.array(tokens, np.int64), dtype="i64")
golden.write("crates/rlx-ir/tests/golden/random.rlx")
