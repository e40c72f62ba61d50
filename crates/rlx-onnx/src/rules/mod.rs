//! The ops of ONNX: one rule each, in the file of its family.

mod activation;
mod attention;
mod basic;
mod cast;
mod contrib;
mod contrib_attention;
mod contrib_quantised;
pub(crate) mod control;
mod conv;
mod driven;
mod elementwise;
mod encoders;
pub(crate) mod extents;
mod features;
mod fill;
mod gradient;
mod image;
mod index;
mod lifted;
mod linear;
mod linear_attention;
mod loops;
mod loss;
mod moved;
mod ngrams;
mod norm;
mod picture;
mod pool;
mod predictors;
mod quantise;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod roi;
mod scans;
mod scores;
mod search;
mod sequence;
mod shape;
mod signal;
mod slice;
mod support_vectors;
mod text;
mod training;
mod trees;
mod windows;

use crate::context::Context;
use crate::node::{Node, Outcome, Stop};

/// How an op becomes nodes of a graph.
pub(crate) struct Rule {
    pub domain: &'static str,
    pub op: &'static str,
    /// Versions of the domain's opset in which the op changed, ascending, from the first one that the rule takes.
    pub versions: &'static [i64],
    pub import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
}

/// A rule of ONNX's own domain.
pub(crate) const fn rule(
    op: &'static str,
    versions: &'static [i64],
    import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
) -> Rule {
    Rule { domain: "", op, versions, import }
}

/// A rule of `ai.onnx.ml`.
const fn ml_rule(
    op: &'static str,
    versions: &'static [i64],
    import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
) -> Rule {
    Rule { domain: "ai.onnx.ml", op, versions, import }
}

/// A rule of ONNX Runtime's own domain, whose ops have one version.
const fn contrib_rule(
    op: &'static str,
    import: for<'a, 'm> fn(&'a mut Context<'m>, &'a Node<'m>) -> Outcome<'m>,
) -> Rule {
    Rule { domain: "com.microsoft", op, versions: &[1], import }
}

/// `value`, the attribute `name`, which must be there.
fn required<'m, T>(value: Option<T>, name: &str) -> Result<T, Stop<'m>> {
    value.ok_or_else(|| Stop::Invalid(format!("it has no {name}")))
}

/// The rules of all families.
const FAMILIES: &[&[Rule]] = &[
    activation::RULES,
    attention::RULES,
    basic::RULES,
    cast::RULES,
    contrib::RULES,
    contrib_attention::RULES,
    contrib_quantised::RULES,
    control::RULES,
    conv::RULES,
    crate::dims::RULES,
    elementwise::RULES,
    encoders::RULES,
    features::RULES,
    fill::RULES,
    gradient::RULES,
    image::RULES,
    index::RULES,
    linear::RULES,
    linear_attention::RULES,
    loops::RULES,
    loss::RULES,
    ngrams::RULES,
    norm::RULES,
    picture::RULES,
    pool::RULES,
    predictors::RULES,
    quantise::RULES,
    random::RULES,
    recurrent::RULES,
    reduce::RULES,
    resize::RULES,
    roi::RULES,
    scans::RULES,
    search::RULES,
    sequence::RULES,
    shape::RULES,
    signal::RULES,
    slice::RULES,
    support_vectors::RULES,
    text::RULES,
    training::RULES,
    trees::RULES,
];

/// All rules.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().copied().flatten()
}

/// The rule of an op and the version in which the op last changed; why there is none.
pub(crate) fn find(domain: &str, op: &str, opset: Option<i64>) -> Result<(&'static Rule, i64), String> {
    let Some(opset) = opset else {
        let name = if domain.is_empty() { "ai.onnx" } else { domain };
        return Err(format!("the model imports no opset of {name}"));
    };
    let Some(rule) = all().find(|rule| rule.domain == domain && rule.op == op) else {
        return Err("there is no rule for this op".into());
    };
    let version = rule.versions.iter().rev().find(|&&version| version <= opset);
    let oldest = rule.versions.first().copied().unwrap_or(0);
    let missing = || format!("version {opset} is not supported; the nearest one is {oldest}");
    version.map(|&version| (rule, version)).ok_or_else(missing)
}
