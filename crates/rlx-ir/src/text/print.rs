//! Printing graphs and modules.

use super::lexer::quote;
use crate::attr::Attr;
use crate::dtype::DType;
use crate::graph::{Graph, Node};
use crate::hir::HirModule;
use crate::literal::Literal;
use crate::number::Number;
use crate::scalar::{ScalarKind, ScalarProgram};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Constants with at most this many elements are printed as numbers.
const READABLE_ELEMENTS: usize = 64;

/// The text form of `graph`, all constants inline.
pub fn print_graph(graph: &Graph) -> String {
    let mut out = format!("rlx {}\n", super::VERSION);
    Printer::new(&mut out, None).graph(graph, "graph");
    out.push('\n');
    out
}

/// The text form of `graph`; constants of more than 64 elements go to `side`
/// under the key that stands for them in the text.
pub fn print_graph_with(graph: &Graph, side: &mut BTreeMap<String, Literal>) -> String {
    let mut out = format!("rlx {}\n", super::VERSION);
    Printer::new(&mut out, Some(side)).graph(graph, "graph");
    out.push('\n');
    out
}

/// The text form of a module of named blocks.
pub fn print_module(module: &HirModule) -> String {
    let mut out = format!("rlx {}\nmodule {} {{\n", super::VERSION, quote(&module.name));
    for body in &module.bodies {
        Printer::new(&mut out, None).graph(body, "body");
        out.push('\n');
    }
    for block in &module.blocks {
        let _ = write!(out, "block {} = {}(", quote(&block.path), quote(&module.bodies[block.body].name));
        for (index, (name, source)) in block.inputs.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let _ = write!(out, "{comma}{} = {source}", quote(name));
        }
        out.push_str(")\n");
    }
    for (name, source) in &module.outputs {
        let _ = writeln!(out, "output {} = {source}", quote(name));
    }
    out.push_str("}\n");
    out
}

/// The key of a constant in a side file: a hash of dtype, extents and bytes.
pub fn constant_key(literal: &Literal) -> String {
    // FNV-1a, 128 bits: stable across builds and machines.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let header = literal.ty().to_string();
    for byte in header.bytes().chain(literal.bytes().iter().copied()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

struct Printer<'a> {
    out: &'a mut String,
    side: Option<&'a mut BTreeMap<String, Literal>>,
    /// Before every line: four blanks for each graph around.
    indent: String,
}

impl<'a> Printer<'a> {
    fn new(out: &'a mut String, side: Option<&'a mut BTreeMap<String, Literal>>) -> Printer<'a> {
        Printer { out, side, indent: String::new() }
    }

    fn graph(&mut self, graph: &Graph, keyword: &str) {
        let _ = writeln!(self.out, "{keyword} {} {{", quote(&graph.name));
        for (symbol, bounds) in graph.symbols() {
            let _ = writeln!(self.out, "{}  symbol {symbol} in {bounds}", self.indent);
        }
        for (id, node) in graph.iter() {
            let _ = write!(self.out, "{}  %{} = {}", self.indent, id.0, node.op.def().name);
            self.node(node);
            self.out.push('\n');
        }
        for (keyword, list) in [("output", graph.outputs()), ("update", graph.updates())] {
            for output in list {
                let name = quote(&output.name);
                let _ = writeln!(self.out, "{}  {keyword} {name} = {}", self.indent, output.value);
            }
        }
        self.out.push_str(&self.indent);
        self.out.push('}');
    }

    fn node(&mut self, node: &Node) {
        for (index, operand) in node.operands.iter().enumerate() {
            let _ = write!(self.out, "{}{operand}", if index == 0 { " " } else { ", " });
        }
        // The type of a leaf stands after the colon.
        let attrs: Vec<_> = node.op.attrs().into_iter().filter(|(name, _)| *name != "result").collect();
        if !attrs.is_empty() {
            self.out.push_str(" {");
            for (index, (name, attr)) in attrs.iter().enumerate() {
                let _ = write!(self.out, "{}{name} = ", if index == 0 { "" } else { ", " });
                self.attr(attr);
            }
            self.out.push('}');
        }
        for (index, ty) in node.types.iter().enumerate() {
            let _ = write!(self.out, "{}{ty}", if index == 0 { " : " } else { ", " });
        }
        if !node.origin.path.is_empty() {
            let _ = write!(self.out, " @ {}", quote(&node.origin.path));
        }
    }

    fn attr(&mut self, attr: &Attr) {
        match attr {
            Attr::Dim(dim) => {
                let _ = write!(self.out, "{dim}");
            }
            Attr::Real(value) => self.out.push_str(&real(*value)),
            Attr::Word(word) => self.out.push_str(word),
            Attr::Text(text) => self.out.push_str(&quote(text)),
            Attr::Type(ty) => {
                let _ = write!(self.out, "{ty}");
            }
            Attr::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.attr(item);
                }
                self.out.push(']');
            }
            Attr::Literal(literal) => self.literal(literal),
            Attr::Program(program) => self.out.push_str(&print_program(program)),
            Attr::Body(body) => {
                self.indent.push_str("    ");
                self.graph(body, "graph");
                self.indent.truncate(self.indent.len() - 4);
            }
            Attr::Custom(op) => {
                let _ = write!(self.out, "custom {} {}", quote(op.name()), op.version());
            }
        }
    }

    fn literal(&mut self, literal: &Literal) {
        let _ = write!(self.out, "{}:", literal.ty());
        if let Some(numbers) = readable(literal) {
            let _ = write!(self.out, "[{}]", numbers.join(", "));
        } else if let Some(side) = self.side.as_deref_mut().filter(|_| literal.len() > READABLE_ELEMENTS) {
            let key = constant_key(literal);
            let _ = write!(self.out, "#{key}");
            side.insert(key, literal.clone());
        } else {
            self.out.push_str("x\"");
            for byte in literal.bytes() {
                let _ = write!(self.out, "{byte:02x}");
            }
            self.out.push('"');
        }
    }
}

/// The elements as decimal numbers, where that is short and exact.
fn readable(literal: &Literal) -> Option<Vec<String>> {
    if literal.len() > READABLE_ELEMENTS || literal.dtype().block_elements() > 1 {
        return None;
    }
    let numbers = literal.numbers();
    let again = Literal::from_numbers(literal.dtype(), literal.dims(), numbers.iter().copied()).ok()?;
    if again.bytes() != literal.bytes() {
        return None;
    }
    let mut out = vec![];
    for number in numbers {
        match number {
            Number::Int(value) if literal.dtype() == DType::Bool => out.push((value != 0).to_string()),
            Number::Int(value) => out.push(value.to_string()),
            Number::Float(value) => out.push(real(value)),
            Number::Complex(re, im) => out.extend([real(re), real(im)]),
        }
    }
    Some(out)
}

/// The shortest decimal that reads back as the same `f64`.
fn real(value: f64) -> String {
    if value.is_nan() { "nan".into() } else { format!("{value:?}") }
}

/// The text form of an attribute value.
pub fn print_attr(attr: &Attr) -> String {
    let mut out = String::new();
    Printer::new(&mut out, None).attr(attr);
    out
}

/// The text form of a scalar program.
pub fn print_program(program: &ScalarProgram) -> String {
    let inputs: Vec<_> = program.inputs.iter().map(|dtype| dtype.name()).collect();
    let mut out = format!("program({}) {{", inputs.join(", "));
    for (index, instr) in program.instrs.iter().enumerate() {
        let _ = write!(out, " {} = ", program.inputs.len() + index);
        let _ = match instr.kind {
            ScalarKind::Op(op) => write!(out, "{}", op.name()),
            ScalarKind::Float(bits) => write!(out, "real {}", real(f64::from_bits(bits))),
            ScalarKind::Int(value) => write!(out, "int {value}"),
            ScalarKind::Index(axis) => write!(out, "index {axis}"),
        };
        for arg in &instr.args {
            let _ = write!(out, " {arg}");
        }
        let _ = write!(out, " : {},", instr.dtype);
    }
    out.push_str(" return");
    for output in &program.outputs {
        let _ = write!(out, " {output}");
    }
    out.push_str(" }");
    out
}
