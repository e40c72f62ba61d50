//! The page of ops: one table, then one section per op, from the op registry.
//!
//! Invariants: everything on the page comes from `OpDef`, the samples and the rules of the op.
//!
//! It tells nothing about backends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rlx_ir::OpKind;
use rlx_ir::op::{AttrDef, Judgement, OpDef};

const HEAD: &str = "\
# Ops

Written by `cargo xtask docs` from the op definitions in `crates/rlx-ir/src/ops`.

An op has its meaning from one of: *scalar*, an expansion into scalar primitives over broadcast operands; *view*, a
movement that costs nothing where strides allow; *primitive*, an evaluation that every backend lowers; *composite*, a
decomposition into other ops (with an evaluation of its own to compare with where it says so); *leaf*, a value that is
fed. Labels such as (C1) name constraints; error messages carry them.

The reverse derivative (vjp), the forward one (jvp) and batching (vmap) of an op are each made from its scalar program,
from a rule, from its linearity, by shifting its axes, or from its decomposition; *vjp twice* is the transpose of the
reverse derivative. A dash stands where there is nothing; the reasons follow the table. What the CPU runs natively is in
`docs/ops-cpu.md`.
";

/// The whole page.
pub fn page() -> String {
    let mut text = format!(
        "{HEAD}\n| op | family | meaning | vjp | jvp | vmap | accuracy | tested dtypes |\n|---|---|---|---|---|---|---|---|\n"
    );
    let mut totals = [0; 3];
    let mut holes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for &kind in OpKind::ALL {
        let (def, judgements) = (kind.def(), kind.judgements());
        let named = [("vjp", judgements.vjp), ("jvp", judgements.jvp), ("vmap", judgements.batch)];
        for (what, judgement) in named {
            if let Judgement::No(reason) = judgement {
                holes.entry((what, reason)).or_default().push(def.name);
            }
        }
        let derived = [judgements.vjp, judgements.jvp, judgements.batch].map(|judgement| match judgement {
            Judgement::Is(form) => form,
            Judgement::No(_) => "-",
        });
        totals.iter_mut().zip(derived).for_each(|(total, form)| *total += usize::from(form != "-"));
        let [vjp, jvp, vmap] = derived;
        let row = [def.name, def.family, &meaning(kind), vjp, jvp, vmap, &accuracy(kind), &dtypes(kind)]
            .join(" | ");
        line(&mut text, &format!("| {row} |"));
    }
    let [vjp, jvp, vmap] = totals;
    let all = OpKind::ALL.len();
    let of = |part: &str| OpKind::ALL.iter().filter(|kind| meaning(**kind).contains(part)).count();
    let (evaluated, composite, leaves) = (of("primitive") + of("evaluation"), of("composite"), of("leaf"));
    let accurate = OpKind::ALL.iter().filter(|kind| !accuracy(**kind).is_empty()).count();
    line(
        &mut text,
        &format!(
            "\nOf {all} ops, all {all} verify their operands; {leaves} are fed, {} are scalar, {} views, {evaluated} \
             have an evaluation of their own, {composite} a decomposition. {vjp} have a vjp, {jvp} a jvp, and {vmap} \
             work on batches; {accurate} declare an accuracy, all but those that are fed.\n",
            of("scalar"),
            of("view")
        ),
    );
    line(&mut text, "| without | because | ops |\n|---|---|---|");
    for ((what, reason), ops) in holes {
        line(&mut text, &format!("| {what} | {reason} | {} |", ops.join(", ")));
    }
    let mut family = "";
    for &kind in OpKind::ALL {
        if kind.def().family != family {
            family = kind.def().family;
            line(&mut text, &format!("\n## {family}"));
        }
        section(&mut text, kind.def());
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn section(text: &mut String, def: &OpDef) {
    line(text, &format!("\n### {}\n\n`{}`\n", def.name, signature(def)));
    line(text, &prose(def.doc));
    if !def.attributes.is_empty() {
        line(text, "\nAttributes:\n");
    }
    for AttrDef { name, ty, doc } in def.attributes {
        let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        line(text, format!("- `{name}`: {ty}. {doc}").trim_end());
    }
}

/// `name(operands, [optional], variadic...) -> results`.
fn signature(def: &OpDef) -> String {
    let mut operands: Vec<String> = def.operands.iter().map(|name| (*name).to_owned()).collect();
    operands.extend(def.optional.iter().map(|name| format!("[{name}]")));
    operands.extend(def.variadic.map(|name| format!("{name}...")));
    format!("{}({}) -> {}", def.name, operands.join(", "), def.results.join(", "))
}

/// A doc comment as a paragraph, its labelled constraints as a list; an item runs to the end of its sentence.
fn prose(doc: &str) -> String {
    let mut text = String::new();
    let mut in_list = false;
    for line in doc.trim_end().lines().map(str::trim) {
        let labelled = line.starts_with("(C");
        let continued = in_list && !labelled && !line.is_empty() && !text.trim_end().ends_with('.');
        if !continued {
            if labelled != in_list && !text.is_empty() && !text.ends_with("\n\n") {
                text.push('\n');
            }
            in_list = labelled;
        }
        let indent = if labelled { "- " } else { ["", "  "][usize::from(continued)] };
        text += &format!("{indent}{line}\n");
    }
    text.trim_end().to_owned()
}

fn meaning(kind: OpKind) -> String {
    let samples = kind.samples();
    let Some(sample) = samples.first() else { return "leaf".to_owned() };
    let meaning = sample.op.meaning();
    let parts = [
        (meaning.scalar.is_some(), "scalar"),
        (meaning.view.is_some(), "view"),
        (meaning.decompose.is_some(), "composite"),
        (meaning.eval.is_some(), if meaning.decompose.is_some() { "evaluation" } else { "primitive" }),
    ];
    let parts: Vec<&str> =
        parts.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect();
    if parts.is_empty() { "leaf".to_owned() } else { parts.join(" + ") }
}

/// The accuracy classes that the samples declare.
fn accuracy(kind: OpKind) -> String {
    let class = |debug: String| debug.split([' ', '(']).next().unwrap_or_default().to_lowercase();
    let classes: BTreeSet<String> =
        kind.samples().iter().map(|sample| class(format!("{:?}", sample.op.accuracy()))).collect();
    classes.into_iter().collect::<Vec<_>>().join(", ")
}

/// The dtypes of the samples' operands.
fn dtypes(kind: OpKind) -> String {
    let samples = kind.samples();
    let operands = samples.iter().flat_map(|sample| &sample.operands);
    let names: BTreeSet<String> = operands.map(|(ty, _)| ty.dtype.to_string()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_has_its_section_and_its_row() {
        let page = page();
        for kind in OpKind::ALL {
            assert!(page.contains(&format!("\n### {kind}\n")), "{kind} has no section");
            assert!(page.contains(&format!("\n| {kind} | ")), "{kind} has no row");
        }
    }

    #[test]
    fn constraints_become_a_list() {
        assert_eq!(
            prose(" A sum.\n\n (C1) One.\n (C2) Two.\n More.\n"),
            "A sum.\n\n- (C1) One.\n- (C2) Two.\n\nMore."
        );
    }

    #[test]
    fn signatures_show_optional_and_variadic_operands() {
        let def = OpDef {
            name: "f",
            operands: &["x"],
            optional: &["bias"],
            variadic: Some("parts"),
            results: &["y", "z"],
            attributes: &[],
            family: "shape",
            doc: "",
        };
        assert_eq!(signature(&def), "f(x, [bias], parts...) -> y, z");
    }
}
