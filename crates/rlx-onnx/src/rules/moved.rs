//! Ops that move elements, on strings and on extents.
//!
//! Strings exist on the host only, and so do extents that are expressions. What an op does with them that looks at no
//! element is found out from codes: every element gets a number, the rule runs on the numbers on the spot, and the
//! numbers in its results say which element stands where. Codes of strings are ordered as the strings are, and 0 is
//! the empty one, so that sorting and filling with zeros mean what they should.

use crate::context::Context;
use crate::dims;
use crate::host::Strings;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Content, Imported, Tensor};
use rlx_ir::{DType, Dim, Literal};
use std::collections::BTreeSet;

/// Most elements that are moved on the spot.
const MOST: usize = 1 << 24;

/// Which operands hold the elements that move.
#[derive(Clone, Copy)]
pub(super) enum Moving {
    All,
    These(&'static [usize]),
}

impl Moving {
    fn has(self, index: usize) -> bool {
        match self {
            Moving::All => true,
            Moving::These(list) => list.contains(&index),
        }
    }
}

/// A rule.
type Import = for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>;

/// The results of `import`, the operands `moving` being tensors of numbers, extents or strings.
pub(super) fn moved<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    moving: Moving,
    import: Import,
) -> Outcome<'m> {
    if node.inputs.iter().any(|input| matches!(input, Some(Imported::Strings(_)))) {
        return strings(cx, node, usize::MAX, import);
    }
    match extents(cx, node, moving, import)? {
        Some(results) => Ok(results),
        None => import(cx, node),
    }
}

/// The results of `import` on strings; the first `count` results are strings.
pub(super) fn strings<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    count: usize,
    import: Import,
) -> Outcome<'m> {
    let of = |input: &Option<Imported>| match input {
        Some(Imported::Strings(strings)) => Some(strings.clone()),
        _ => None,
    };
    let all: Vec<Strings> = node.inputs.iter().filter_map(of).collect();
    let mut pool: BTreeSet<&str> = all.iter().flat_map(Strings::values).map(String::as_str).collect();
    pool.insert("");
    let pool: Vec<&str> = pool.into_iter().collect();
    let mut operands = vec![];
    for (index, input) in node.inputs.iter().enumerate() {
        operands.push(match input {
            Some(Imported::Strings(strings)) => {
                let code = |text: &String| pool.binary_search(&text.as_str()).unwrap_or(0) as i128;
                let codes: Vec<i128> = strings.values().iter().map(code).collect();
                Some(coded(strings.dims(), &codes)?)
            }
            Some(_) => Some(Tensor::literal(node.literal(cx, index)?).into()),
            None => None,
        });
    }
    let node = node.with_inputs(operands);
    let results = cx.on_the_spot(MOST, |cx| import(cx, &node))?;
    let results = results.ok_or_else(|| Stop::Refused("strings cannot be moved in this way".into()))?;
    let decoded = results.into_iter().enumerate().map(|(index, result)| {
        if index >= count {
            return Ok(result);
        }
        let Some((codes, shape)) = codes_of(&result) else {
            return Err(Stop::Refused("strings cannot be moved in this way".into()));
        };
        let text = |code: usize| pool.get(code).map_or_else(String::new, |text| text.to_string());
        let strings = Strings::new(&shape, codes.into_iter().map(text).collect());
        strings.map(Imported::from).ok_or_else(|| Stop::Invalid("it has another number of strings".into()))
    });
    decoded.collect()
}

/// The results of `import` where what moves are extents and all else is known.
fn extents<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    moving: Moving,
    import: Import,
) -> Result<Option<Vec<Imported>>, Stop<'m>> {
    let moves = |index: usize| moving.has(index);
    if !node.inputs.iter().enumerate().any(|(index, input)| moves(index) && dims::is_symbolic(input)) {
        return Ok(None);
    }
    // Zeros that a rule adds have the code 0.
    let mut pool = vec![Dim::from(0)];
    let mut dtype = DType::I64;
    let mut operands = vec![];
    for (index, input) in node.inputs.iter().enumerate() {
        let Some(input) = input else {
            operands.push(None);
            continue;
        };
        if !moves(index) {
            let is_known = matches!(input, Imported::Tensor(Tensor { content: Content::Literal(_), .. }));
            if !is_known {
                return Ok(None);
            }
            operands.push(Some(input.clone()));
            continue;
        }
        let Some(part) = dims::extents(Some(input)) else { return Ok(None) };
        dtype = part.dtype;
        let codes: Vec<i128> = (pool.len()..pool.len() + part.dims.len()).map(|code| code as i128).collect();
        pool.extend(part.dims);
        operands.push(Some(coded(&part.shape, &codes)?));
    }
    let node = node.with_inputs(operands);
    // What cannot be done here is done in the graph, which reports what is wrong.
    let Ok(Some(results)) = cx.on_the_spot(MOST, |cx| import(cx, &node)) else { return Ok(None) };
    let decoded: Option<Vec<Imported>> = results
        .iter()
        .map(|result| {
            let (codes, shape) = codes_of(result)?;
            let dims = codes.into_iter().map(|code| pool.get(code).cloned()).collect::<Option<_>>()?;
            Some(Tensor::expressions(dtype, &shape, dims).into())
        })
        .collect();
    Ok(decoded)
}

fn coded<'m>(shape: &[usize], codes: &[i128]) -> Result<Imported, Stop<'m>> {
    let literal = Literal::ints(DType::I64, shape, codes);
    literal.map(|literal| Tensor::literal(literal).into()).map_err(|error| Stop::Invalid(error.to_string()))
}

fn codes_of(result: &Imported) -> Option<(Vec<usize>, Vec<usize>)> {
    let Imported::Tensor(Tensor { content: Content::Literal(literal), .. }) = result else { return None };
    let codes = literal.to_ints().into_iter().map(|code| usize::try_from(code).ok());
    Some((codes.collect::<Option<_>>()?, literal.dims().to_vec()))
}
