//! `TfIdfVectorizer`: how often sequences of tokens occur. Strings become the numbers of the tokens that the op knows.
//!
//! A pool of `p` n-grams over rows of `c` tokens is `c p` comparisons a place of the n-gram, all of them of the graph.

use super::encoders::literal;
use super::text::strings;
use super::{Rule, required, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Imported, Tensor};
use rlx_ir::ops::ReduceKind;
use rlx_ir::{DType, Dim, Literal, Shape, Value};
use std::collections::{BTreeMap, HashMap};

pub(super) const RULES: &[Rule] = &[rule("TfIdfVectorizer", &[9], vectorise)];

/// The n-grams of one length.
struct Grams {
    length: usize,
    /// Their tokens, one n-gram after the other.
    tokens: Vec<i64>,
    count: usize,
}

/// Most columns of the result.
const MOST_COLUMNS: i64 = 1 << 22;

fn vectorise<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (tokens, known) = pool(node)?;
    let x = match &known {
        None => {
            let x = node.value(cx, 0)?;
            cx.graph().cast_to(x, DType::I64)
        }
        Some(known) => {
            let x = strings(node, 0)?;
            let number = |text: &String| known.get(text).map_or(-1, |&number| i128::from(number));
            let numbers: Vec<i128> = x.values().iter().map(number).collect();
            let numbers = literal(Literal::ints(DType::I64, x.dims(), &numbers))?;
            cx.value(&Tensor::literal(numbers))?
        }
    };
    let shape = cx.ty(x)?.shape;
    if !matches!(shape.rank(), 1 | 2) {
        return Err(Stop::Invalid(format!("its operand has rank {}, expected 1 or 2", shape.rank())));
    }
    let limit = |name: &str| {
        let value = required(node.int(name)?, name)?;
        usize::try_from(value).map_err(|_| Stop::Invalid(format!("{name} is {value}")))
    };
    let (shortest, longest, skips) =
        (limit("min_gram_length")?, limit("max_gram_length")?, limit("max_skip_count")?);
    let starts = required(node.ints("ngram_counts")?, "ngram_counts")?;
    let columns = required(node.ints("ngram_indexes")?, "ngram_indexes")?;
    let last = columns.iter().copied().max().unwrap_or(-1);
    if last >= MOST_COLUMNS {
        return Err(Stop::Refused(format!(
            "ngram_indexes has the column {last}, {MOST_COLUMNS} are allowed"
        )));
    }
    let width = last + 1;
    let mut places = BTreeMap::new();
    let mut parts = vec![];
    let mut before = 0;
    for grams in grams(&tokens, &starts)? {
        for gram in before..before + grams.count {
            let missing = || Stop::Invalid(format!("n-gram {gram} has no column"));
            let column = *columns.get(gram).filter(|column| **column >= 0).ok_or_else(missing)?;
            let is_counted = (shortest..=longest).contains(&grams.length);
            let place = if is_counted { places.len() as i128 } else { -1 };
            if is_counted && places.insert(column, place).is_some() {
                return Err(Stop::Refused(format!("several n-grams are counted in column {column}")));
            }
        }
        before += grams.count;
        if grams.count > 0 && (shortest..=longest).contains(&grams.length) {
            parts.push(counts(cx, x, &grams, skips)?);
        }
    }
    if before != columns.len() {
        return Err(Stop::Invalid(format!("{before} n-grams have {} columns", columns.len())));
    }
    let y = spread(cx, &parts, &places, (width, shape))?;
    let y = weighted(cx, node, y, width as usize)?;
    Ok(vec![cx.tensor(y)?])
}

/// The number of every token that is a string.
type Numbers = HashMap<String, i64>;

/// The tokens of the pool as numbers, and the numbers of strings.
fn pool<'m>(node: &Node<'m>) -> Result<(Vec<i64>, Option<Numbers>), Stop<'m>> {
    if let Some(texts) = node.strings("pool_strings")? {
        let mut known = HashMap::new();
        let tokens = texts.into_iter().map(|text| {
            let next = known.len() as i64;
            *known.entry(text).or_insert(next)
        });
        let tokens = tokens.collect();
        return Ok((tokens, Some(known)));
    }
    if matches!(node.input(0), Some(Imported::Strings(_))) {
        return Err(Stop::Invalid("its operand are strings, its pool are numbers".into()));
    }
    Ok((required(node.ints("pool_int64s")?, "pool")?, None))
}

fn grams<'m>(tokens: &[i64], starts: &[i64]) -> Result<Vec<Grams>, Stop<'m>> {
    let mut all = vec![];
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(tokens.len() as i64);
        let length = index + 1;
        let part = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let part = part.and_then(|(start, end)| tokens.get(start..end));
        let wrong = || {
            Stop::Invalid(format!("ngram_counts {starts:?} do not cut {} tokens into n-grams", tokens.len()))
        };
        let part = part.filter(|part| part.len() % length == 0).ok_or_else(wrong)?;
        all.push(Grams { length, tokens: part.to_vec(), count: part.len() / length });
    }
    Ok(all)
}

/// Most tokens that an n-gram may skip where the length of a row is a symbol.
const MOST_SKIPS: usize = 1000;

/// How often each n-gram occurs in each row of `x`.
fn counts<'m>(cx: &mut Context<'m>, x: Value, grams: &Grams, skips: usize) -> Result<Value, Stop<'m>> {
    let shape = cx.ty(x)?.shape;
    let axis = shape.rank() - 1;
    let extent = shape.dims()[axis].clone();
    // One token has nothing between its parts; what reaches beyond the row occurs nowhere.
    let longest = match extent.as_static() {
        Some(extent) => usize::try_from(extent).unwrap_or(0) / (grams.length - 1).max(1),
        None if skips > MOST_SKIPS => {
            return Err(Stop::Refused(format!(
                "max_skip_count is {skips}, at most {MOST_SKIPS} are taken where the length of a row is a symbol"
            )));
        }
        None => skips + 1,
    };
    let steps = if grams.length == 1 { 1..=1 } else { 1..=skips.saturating_add(1).min(longest).max(1) };
    let reach = (grams.length - 1) * steps.end();
    let graph = cx.graph();
    let inside = graph.full(DType::Bool, shape.clone(), 1.0);
    let mut tail = shape.dims().to_vec();
    tail[axis] = reach.into();
    // Behind the end, so that every place of an n-gram can be asked for.
    let (zeros, outside) = (graph.full(DType::I64, tail.clone(), 0.0), graph.full(DType::Bool, tail, 0.0));
    let (x, inside) = (graph.concat(&[x, zeros], axis), graph.concat(&[inside, outside], axis));
    let mut total = None;
    for step in steps {
        let last = (grams.length - 1) * step;
        let window = graph.narrow_at(inside, axis as i64, last, extent.clone());
        let mut all = graph.unsqueeze(window, -1);
        for place in 0..grams.length {
            let tokens: Vec<i128> =
                grams.tokens.iter().skip(place).step_by(grams.length).map(|&token| token.into()).collect();
            let tokens = literal(Literal::ints(DType::I64, &[grams.count], &tokens))?;
            let tokens = graph.constant(tokens);
            let window = graph.narrow_at(x, axis as i64, place * step, extent.clone());
            let window = graph.unsqueeze(window, -1);
            let same = graph.compare_eq(window, tokens);
            all = graph.and(all, same);
        }
        let ones = graph.cast(all, DType::F32);
        let found = graph.reduce(ones, ReduceKind::Sum, [axis], false);
        total = Some(match total {
            None => found,
            Some(total) => graph.add(total, found),
        });
    }
    total.ok_or_else(|| Stop::Invalid("no n-gram is counted".into()))
}

/// Counts in the columns where they belong, zeros elsewhere.
fn spread<'m>(
    cx: &mut Context<'m>,
    parts: &[Value],
    places: &BTreeMap<i64, i128>,
    (width, of): (i64, Shape),
) -> Result<Value, Stop<'m>> {
    let rows = of.dims()[..of.rank() - 1].to_vec();
    let count = places.len() as i128;
    let columns: Vec<i128> = (0..width).map(|column| *places.get(&column).unwrap_or(&count)).collect();
    let columns = literal(Literal::ints(DType::I64, &[columns.len()], &columns))?;
    let graph = cx.graph();
    let none = graph.full(DType::F32, rows.iter().cloned().chain([Dim::from(1)]).collect::<Vec<_>>(), 0.0);
    let all: Vec<Value> = parts.iter().copied().chain([none]).collect();
    let all = graph.concat(&all, rows.len());
    let columns = graph.constant(columns);
    Ok(graph.gather(all, columns, rows.len()))
}

fn weighted<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    counts: Value,
    width: usize,
) -> Result<Value, Stop<'m>> {
    let weights = node.floats("weights")?;
    let mode = required(node.string("mode")?, "mode")?;
    let graph = cx.graph();
    let counts = match mode.as_str() {
        "TF" => return Ok(counts),
        "TFIDF" => counts,
        "IDF" => {
            let one = graph.scalar(DType::F32, 1.0);
            graph.minimum(counts, one)
        }
        other => return Err(Stop::Invalid(format!("there is no mode {other:?}"))),
    };
    let Some(weights) = weights else { return Ok(counts) };
    if weights.len() != width {
        return Err(Stop::Refused(format!("{width} columns have {} weights", weights.len())));
    }
    let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
    let weights = graph.constant(literal(Literal::floats(DType::F32, &[width], &weights))?);
    Ok(graph.mul(counts, weights))
}
