//! The graph before and after every pass, in text.

use crate::capabilities::Capabilities;
use crate::options::CompileOptions;
use crate::pass::OptError;
use crate::pipeline::{Compiled, Pipeline, compile_with};
use rlx_ir::Graph;
use rlx_ir::text::print_graph;
use std::fmt;

/// What a pipeline did to a graph, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineTrace {
    /// The graph that was given, in text form.
    pub start: String,
    /// Every pass that ran, with the graph after it.
    pub steps: Vec<TraceStep>,
}

/// One pass that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// The pass.
    pub pass: &'static str,
    /// The graph after it, in text form.
    pub text: String,
}

impl PipelineTrace {
    /// Compiles `graph` and keeps the text after every pass, up to the one that
    /// refuses.
    pub fn of(
        graph: Graph,
        capabilities: &Capabilities,
        options: &CompileOptions,
        pipeline: &Pipeline,
    ) -> (PipelineTrace, Result<Compiled, OptError>) {
        let mut trace = PipelineTrace { start: print_graph(&graph), steps: vec![] };
        let compiled = compile_with(graph, capabilities, options, pipeline, &mut |pass, rewritten| {
            trace.steps.push(TraceStep { pass: pass.name(), text: print_graph(&rewritten.graph) });
        });
        (trace, compiled)
    }

    /// The texts before and after the steps of `pass`, in order.
    pub fn around<'a>(&'a self, pass: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let before = std::iter::once(&self.start).chain(self.steps.iter().map(|step| &step.text));
        let pairs = before.zip(&self.steps).filter(move |(_, step)| step.pass == pass);
        pairs.map(|(before, step)| (before.as_str(), step.text.as_str()))
    }
}

/// The first text whole, then only the passes that changed something.
impl fmt::Display for PipelineTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "; given\n{}", self.start)?;
        let mut before = &self.start;
        for step in &self.steps {
            if step.text == *before {
                writeln!(f, "; {}: no change", step.pass)?;
            } else {
                writeln!(f, "; {}\n{}", step.pass, step.text)?;
            }
            before = &step.text;
        }
        Ok(())
    }
}
