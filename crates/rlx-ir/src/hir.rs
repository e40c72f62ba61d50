//! HIR: a module of named blocks.
//!
//! A body is a graph whose inputs other blocks or the caller feed; a block is
//! one use of a body under a path such as `layers.0.attn`. Equal layers share
//! one body. Names of params and states in a body are relative: block path and
//! name, joined by a dot, make the module-wide name; a name that starts with
//! `/` is module-wide as it stands, so blocks can tie weights.

use crate::diagnostic::{Diagnostic, IrError};
use crate::graph::{Graph, Value};
use crate::ops::OpKind;
use crate::text::quote;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// A module of named blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HirModule {
    /// Name, for reports.
    pub name: String,
    /// Distinct bodies, by unique name.
    pub bodies: Vec<Arc<Graph>>,
    /// Blocks in execution order.
    pub blocks: Vec<HirBlock>,
    /// Named results of the module.
    pub outputs: Vec<(String, HirValue)>,
}

/// One use of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct HirBlock {
    /// Unique dotted path.
    pub path: String,
    /// Index into [`HirModule::bodies`].
    pub body: usize,
    /// What feeds each input of the body, by name.
    pub inputs: BTreeMap<String, HirValue>,
}

/// A value between blocks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HirValue {
    /// An input of the module; its type is that of the body input it feeds.
    Input(String),
    /// A named output of an earlier block.
    Block {
        /// The block.
        path: String,
        /// Name of its output.
        output: String,
    },
}

impl HirValue {
    /// Input `name` of the module.
    pub fn input(name: &str) -> HirValue {
        HirValue::Input(name.into())
    }
    /// Output `output` of block `path`.
    pub fn block(path: &str, output: &str) -> HirValue {
        HirValue::Block { path: path.into(), output: output.into() }
    }
}

impl fmt::Display for HirValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HirValue::Input(name) => write!(f, "input {}", quote(name)),
            HirValue::Block { path, output } => write!(f, "{}.{}", quote(path), quote(output)),
        }
    }
}

/// Why a module does not lower to one graph; all findings at once.
pub type LowerError = IrError;

impl HirModule {
    /// An empty module.
    pub fn new(name: impl Into<String>) -> HirModule {
        HirModule { name: name.into(), ..HirModule::default() }
    }

    /// Adds a body, or finds an equal one; returns its index. Where another body has the name, a number
    /// is added to it.
    pub fn body(&mut self, mut body: Graph) -> usize {
        let name = body.name.clone();
        let mut number = 1;
        while let Some(index) = self.bodies.iter().position(|other| other.name == body.name) {
            if *self.bodies[index] == body {
                return index;
            }
            number += 1;
            body.name = format!("{name} {number}");
        }
        self.bodies.push(Arc::new(body));
        self.bodies.len() - 1
    }

    /// Adds a block that uses body number `body`.
    pub fn block<'a>(
        &mut self,
        path: &str,
        body: usize,
        inputs: impl IntoIterator<Item = (&'a str, HirValue)>,
    ) {
        let inputs = inputs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        self.blocks.push(HirBlock { path: path.into(), body, inputs });
    }

    /// Adds a result of the module.
    pub fn output(&mut self, name: &str, value: HirValue) {
        self.outputs.push((name.into(), value));
    }

    /// Checks the wiring.
    ///
    /// # Errors
    /// Duplicate names of bodies, duplicate paths, unknown bodies, inputs that are missing, unknown or
    /// fed by something that does not stand earlier.
    pub fn check(&self) -> Result<(), IrError> {
        let mut findings = vec![];
        let mut outputs: HashSet<(&str, &str)> = HashSet::new();
        let mut names = HashSet::new();
        for body in self.bodies.iter().filter(|body| !names.insert(body.name.as_str())) {
            findings.push(Diagnostic::new(format!("body \"{}\"", body.name), "the name is taken"));
        }
        let mut paths = HashSet::new();
        let unknown = |value: &HirValue, outputs: &HashSet<(&str, &str)>| match value {
            HirValue::Input(_) => false,
            HirValue::Block { path, output } => !outputs.contains(&(path.as_str(), output.as_str())),
        };
        for block in &self.blocks {
            let subject = format!("block \"{}\"", block.path);
            if !paths.insert(block.path.as_str()) {
                findings.push(Diagnostic::new(&subject, "is there twice"));
            }
            let Some(body) = self.bodies.get(block.body) else {
                findings.push(Diagnostic::new(&subject, format!("there is no body number {}", block.body)));
                continue;
            };
            let wanted: Vec<&str> =
                body.nodes_of(OpKind::Input).filter_map(|(_, node)| node.op.leaf_name()).collect();
            for name in wanted.iter().filter(|name| !block.inputs.contains_key(**name)) {
                findings.push(Diagnostic::new(&subject, format!("input \"{name}\" is not fed")));
            }
            for (name, value) in &block.inputs {
                if !wanted.contains(&name.as_str()) {
                    findings.push(Diagnostic::new(
                        &subject,
                        format!("the body \"{}\" has no input \"{name}\"", body.name),
                    ));
                }
                if unknown(value, &outputs) {
                    findings.push(Diagnostic::new(&subject, format!("{value} does not stand before it")));
                }
            }
            outputs.extend(body.outputs().iter().map(|output| (block.path.as_str(), output.name.as_str())));
        }
        for (name, value) in self.outputs.iter().filter(|(_, value)| unknown(value, &outputs)) {
            findings.push(Diagnostic::new(format!("output \"{name}\""), format!("there is no {value}")));
        }
        if findings.is_empty() { Ok(()) } else { Err(IrError::Invalid(findings)) }
    }

    /// One graph with every block inlined; nodes remember their block path.
    ///
    /// # Errors
    /// What [`HirModule::check`] finds, and types that do not fit between blocks.
    pub fn lower(&self) -> Result<Graph, LowerError> {
        self.check()?;
        let mut graph = Graph::new(&self.name);
        let mut inputs: BTreeMap<String, Value> = BTreeMap::new();
        let mut results: BTreeMap<HirValue, Value> = BTreeMap::new();
        for block in &self.blocks {
            let body = &self.bodies[block.body];
            let mut feeds = BTreeMap::new();
            for (_, node) in body.nodes_of(OpKind::Input) {
                let Some(name) = node.op.leaf_name() else { continue };
                let value = match &block.inputs[name] {
                    HirValue::Input(outer) => *inputs
                        .entry(outer.clone())
                        .or_insert_with(|| graph.input(outer.as_str(), node.types[0].clone())),
                    source => results[source],
                };
                feeds.insert(name.to_string(), value);
            }
            graph.set_path(&block.path);
            let rename = |name: &str| match name.strip_prefix('/') {
                Some(global) => global.to_string(),
                None if block.path.is_empty() => name.to_string(),
                None => format!("{}.{name}", block.path),
            };
            let outputs = graph.inline(body, &feeds, &rename).map_err(|mut finding| {
                finding.subject = format!("block \"{}\": {}", block.path, finding.subject);
                IrError::Invalid(vec![finding])
            })?;
            for (output, value) in body.outputs().iter().zip(outputs) {
                results.insert(HirValue::block(&block.path, &output.name), value);
            }
        }
        graph.set_path("");
        for (name, value) in &self.outputs {
            let value = match value {
                HirValue::Input(input) => inputs.get(input).copied(),
                other => results.get(other).copied(),
            };
            graph.output(name.as_str(), value.unwrap_or(Value::POISON));
        }
        graph.finish()
    }
}
