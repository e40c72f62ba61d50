//! Mutated texts: the parser of graphs and modules refuses them or reads something that prints and parses
//! back equal; it never panics and always ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::mir::GraphModule;
use rlx_ir::sample::Generator;
use rlx_ir::text::{
    parse_graph, parse_graph_with, parse_module, print_graph, print_graph_with, print_module,
};
use rlx_ir::{DType, Graph, OpKind};
use rlx_testkit::Fuzz;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// Words and numbers that the text form gives a meaning to, and some that it does not, between blanks.
const WORDS: &str = "0 -1 1 7 2147483648 4294967296 281474976710656 9223372036854775807 -9223372036854775808 \
    9223372036854775808 18446744073709551616 0.5 1e308 1e999 -0.0 inf -inf nan f32 f64 bf16 i64 u8 i4 bool \
    c64 q4_k true false none program symbol in input param state constant output update graph module body \
    block rlx return min max mod floordiv S T 2*S -S [] {} [[[[[[[[ (((((((( %0 %1 %2 %1.1 %0.99999999999 \
    \"x\" \"\" \"\\u{0}\" \"\\u{110000}\" \"\\q\" x\"00\" x\"0\" #0 : , = . + - * \" { } ( ) [ ] ; é f32[S]:";

/// The same, with blanks in them or with signs that are not seen.
const PHRASES: &[&str] = &[
    "S + 1",
    "S*S - T",
    "floordiv(S, 2)",
    "floordiv(S, 0)",
    "mod(S, T)",
    "min(S, 4)",
    "max(S, T)",
    "(S + T)*(S - T)",
    "[S, S]",
    "\"\\r\n\"",
    "@ \"a.b\"",
    "\n",
    "\u{202e}",
    "\0",
    "f32[2]:[1, 2]",
];

/// Numbers at the edges of what types hold.
const NUMBERS: &str = "255 256 65536 2147483647 2147483648 4294967296 281474976710656 281474976710657 4611686018427387904 \
    9223372036854775807 9223372036854775808 0.5 1e30 5e-324";

static TOKENS: LazyLock<Vec<&str>> =
    LazyLock::new(|| WORDS.split(' ').chain(PHRASES.iter().copied()).collect());

fn number(generator: &mut Generator) -> &'static str {
    let all: Vec<&str> = NUMBERS.split(' ').collect();
    all[generator.below(all.len())]
}

/// The texts that are mutated: printed samples, with and without the types that inference gives, and the
/// inputs of the filetests.
fn corpus() -> Vec<String> {
    let mut texts = vec![];
    for sample in OpKind::ALL.iter().flat_map(|kind| kind.samples()) {
        let text = print_graph(&sample.graph(1).0);
        texts.push(without_types(&text));
        texts.push(text);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../filetests");
    for suite in fs::read_dir(root).unwrap() {
        for file in fs::read_dir(suite.unwrap().path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            texts.push(text.split("; expect:").next().unwrap_or_default().to_string());
        }
    }
    texts
}

/// The text with the types of all nodes but leaves left out, so that changed extents stay legal.
fn without_types(text: &str) -> String {
    let leaf = |line: &str| ["= input", "= param", "= state"].iter().any(|leaf| line.contains(leaf));
    let cut = |line: &str| match line.rsplit_once(" : ") {
        Some((before, _)) if line.contains('%') && !leaf(line) => before.to_string(),
        _ => line.to_string(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// Words, strings and single signs, with where they stand.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let mut found = vec![];
    let mut start = None;
    for (at, c) in text.char_indices() {
        let in_word = c.is_ascii_alphanumeric() || c == '_';
        match (start, in_word) {
            (None, true) => start = Some(at),
            (Some(begin), false) => {
                found.push((begin, at));
                start = None;
            }
            _ => {}
        }
        if !in_word && !c.is_whitespace() {
            found.push((at, at + c.len_utf8()));
        }
    }
    found.extend(start.map(|begin| (begin, text.len())));
    found
}

fn mutate(texts: &[String], generator: &mut Generator) -> String {
    let mut text = texts[generator.below(texts.len())].clone();
    for _ in 0..1 + generator.below(2) * generator.below(4) {
        text = match generator.below(8) {
            0 => mutate_bytes(text, generator),
            1 => mutate_lines(&text, texts, generator),
            _ => mutate_token(&text, texts, generator),
        };
    }
    text
}

fn mutate_bytes(text: String, generator: &mut Generator) -> String {
    let mut bytes = text.into_bytes();
    let at = generator.below(bytes.len() + 1);
    match generator.below(3) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << generator.below(8),
        _ => bytes.insert(at, generator.next_u64() as u8),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Doubles, drops, swaps or takes over a line, or repeats the whole many times.
fn mutate_lines(text: &str, texts: &[String], generator: &mut Generator) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let (at, other) = (generator.below(lines.len()), generator.below(lines.len()));
    match generator.below(5) {
        0 => lines.insert(at, lines[other]),
        1 => drop(lines.remove(at)),
        2 => lines.swap(at, other),
        3 => lines.insert(at, pick_line(texts, generator)),
        _ => {
            let many = generator.below(3) * 1000;
            let line = lines[at];
            lines.splice(at..at, std::iter::repeat_n(line, many));
        }
    }
    lines.join("\n")
}

fn pick_line<'a>(texts: &'a [String], generator: &mut Generator) -> &'a str {
    let lines: Vec<&str> = texts[generator.below(texts.len())].lines().collect();
    lines.get(generator.below(lines.len())).copied().unwrap_or_default()
}

/// Replaces, drops, doubles or swaps tokens; numbers are often replaced by numbers.
fn mutate_token(text: &str, texts: &[String], generator: &mut Generator) -> String {
    let all = tokens(text);
    let numbers: Vec<_> = all.iter().filter(|(from, _)| text.as_bytes()[*from].is_ascii_digit()).collect();
    let Some(&(from, to)) = (match generator.below(2) {
        0 if !numbers.is_empty() => numbers.get(generator.below(numbers.len())).copied(),
        _ => all.get(generator.below(all.len())),
    }) else {
        return text.to_string();
    };
    let (before, token, after) = (&text[..from], &text[from..to], &text[to..]);
    if generator.below(3) > 0 {
        return format!("{before}{}{after}", like(token, generator));
    }
    match generator.below(8) {
        0 => format!("{before}{after}"),
        1 => format!("{before}{token} {token}{after}"),
        2 => format!("{before}{}{after}", token.repeat(1 + generator.below(2000))),
        3 => {
            let other = &texts[generator.below(texts.len())];
            let others = tokens(other);
            let part = others.get(generator.below(others.len())).map_or("", |&(from, to)| &other[from..to]);
            format!("{before}{part}{after}")
        }
        4 => {
            let many = 1 + generator.below(600);
            let sum: Vec<String> = (0..many).map(|index| format!("a{index}")).collect();
            format!("{before}{}{after}", sum.join([" + ", "*", ", "][generator.below(3)]))
        }
        _ => format!("{before}{}{after}", TOKENS[generator.below(TOKENS.len())]),
    }
}

/// A token of the kind of `token`: what a number, a dtype or a flag may be elsewhere.
fn like(token: &str, generator: &mut Generator) -> String {
    if token.bytes().all(|byte| byte.is_ascii_digit()) {
        return match generator.below(6) {
            0 => "S".into(),
            1 => number(generator).into(),
            _ => generator.below(6).to_string(),
        };
    }
    match token {
        "true" => "false".into(),
        "false" => "true".into(),
        _ if DType::parse(token).is_some() => DType::ALL[generator.below(DType::ALL.len())].name().into(),
        _ if OpKind::parse(token).is_some() => {
            OpKind::ALL[generator.below(OpKind::ALL.len())].def().name.into()
        }
        _ => TOKENS[generator.below(TOKENS.len())].into(),
    }
}

/// What was read must print and parse back equal.
fn check_graph(graph: &Graph) -> Result<(), String> {
    let printed = print_graph(graph);
    let again = parse_graph(&printed).map_err(|error| format!("does not parse back: {error}\n{printed}"))?;
    if again != *graph || print_graph(&again) != printed {
        return Err(format!("parses back as another graph:\n{printed}\n{}", print_graph(&again)));
    }
    let mut side = BTreeMap::new();
    let short = print_graph_with(graph, &mut side);
    let again = parse_graph_with(&short, &|key| side.get(key).cloned());
    match again {
        Ok(again) if again == *graph => Ok(()),
        other => Err(format!("does not parse back from its side file: {other:?}\n{short}")),
    }
}

fn check(text: &str) -> Result<bool, String> {
    match GraphModule::parse(text) {
        Err(error) if error.to_string().trim().is_empty() => Err("is refused without a word".into()),
        Err(_) => Ok(false),
        Ok(GraphModule::Hir(module)) => {
            let printed = print_module(&module);
            let again =
                parse_module(&printed).map_err(|error| format!("does not parse back: {error}\n{printed}"))?;
            if again != module {
                return Err(format!("parses back as another module:\n{printed}"));
            }
            if let Ok(graph) = module.lower() {
                check_graph(&graph)?;
            }
            Ok(true)
        }
        Ok(GraphModule::Mir(graph)) => check_graph(&graph).map(|()| true),
        Ok(GraphModule::Lir(_)) => Err("parsing gives no plans".into()),
    }
}

#[test]
fn mutated_texts_are_refused_or_print_and_parse_back() {
    let texts = corpus();
    for text in &texts {
        // Most of the corpus is legal; what a filetest refuses is not.
        check(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    let fuzz = Fuzz { fixed: 10_000, known: &[], fresh: Duration::from_secs(3) };
    let ran = fuzz.run(move |case| {
        let text = mutate(&texts, &mut Generator::new(case));
        check(&text).map_err(|error| format!("{error}\n--- the text ---\n{text}"))
    });
    // Both ways must be taken often, or the mutations test nothing.
    assert!(ran.yes * 20 > ran.cases && ran.yes * 20 < ran.cases * 19, "{ran:?}");
}
