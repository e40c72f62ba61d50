//! MIR, and a module at any stage of its compilation.
//!
//! MIR is one [`Graph`]; the name here says which stage is meant. This file
//! computes nothing.

use crate::diagnostic::IrError;
use crate::graph::Graph;
use crate::hir::HirModule;
use crate::lir::VerifiedLir;

/// One typed tensor graph: the middle stage.
pub type MirModule = Graph;

/// A module at any stage.
#[derive(Clone, Debug)]
pub enum GraphModule {
    /// Named blocks.
    Hir(HirModule),
    /// One graph.
    Mir(MirModule),
    /// Planned steps, made for the capabilities of one device.
    Lir(VerifiedLir),
}

impl GraphModule {
    /// Reads a module or a graph in the text form, whichever `text` holds.
    ///
    /// # Errors
    /// As [`crate::text::parse_graph`] and [`crate::text::parse_module`].
    pub fn parse(text: &str) -> Result<GraphModule, IrError> {
        crate::text::parse_any(text)
    }

    /// Name of the module.
    pub fn name(&self) -> &str {
        match self {
            GraphModule::Hir(module) => &module.name,
            GraphModule::Mir(graph) => &graph.name,
            GraphModule::Lir(module) => &module.name,
        }
    }

    /// Name of the stage.
    pub fn stage(&self) -> &'static str {
        match self {
            GraphModule::Hir(_) => "hir",
            GraphModule::Mir(_) => "mir",
            GraphModule::Lir(_) => "lir",
        }
    }
}

impl From<HirModule> for GraphModule {
    fn from(module: HirModule) -> GraphModule {
        GraphModule::Hir(module)
    }
}

impl From<Graph> for GraphModule {
    fn from(graph: Graph) -> GraphModule {
        GraphModule::Mir(graph)
    }
}

impl From<VerifiedLir> for GraphModule {
    fn from(module: VerifiedLir) -> GraphModule {
        GraphModule::Lir(module)
    }
}
