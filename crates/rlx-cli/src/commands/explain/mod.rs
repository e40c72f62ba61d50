//! `rlx explain`: what the compiler does with a model, and why.
//!
//! Runs the one pipeline and watches it; every node of the model is followed to
//! the step that computes it, or to the pass that removed it.

mod print;
mod story;

use crate::model::Model;
use crate::options::{CompileArgs, DimArgs};
use crate::{Usage, picture, progress, report};
use anyhow::Context;
use clap::ValueEnum;
use std::io::Write;
use std::path::PathBuf;
pub use story::{ArenaSlot, StepStory, Story};

const EXAMPLES: &str = "\
Examples:
  rlx explain model.rlx
  rlx explain model.rlx --dim S=128 --why 4
  rlx explain model.rlx --html model.html --svg model.svg
  rlx explain model.rlx --stage lir
  rlx explain model-folder --json
  rlx explain model.onnx --dim batch=8";

/// A form of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Named blocks
    Hir,
    /// The graph before the passes
    Graph,
    /// The graph after the passes
    Optimized,
    /// Planned steps
    Lir,
}

/// Arguments of `rlx explain`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Graph or module in text form, an ONNX file, or a model folder
    model: PathBuf,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    compile: CompileArgs,
    /// Tell what became of one node, and why: 4 or %4
    #[arg(long, value_name = "NODE", value_parser = parse_node)]
    why: Option<u32>,
    /// Print the model's text at one stage instead
    #[arg(long, value_enum, conflicts_with_all = ["why", "json", "html", "svg", "dims"])]
    stage: Option<Stage>,
    /// Write a page with pictures and tables, complete in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a picture of the steps and of the arena over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

fn parse_node(text: &str) -> Result<u32, String> {
    text.trim_start_matches('%').parse().map_err(|_| "expected the number of a node, such as 4 or %4".into())
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = Model::read(&args.model)?;
    if let (Some(Stage::Hir), module) = (args.stage, &model.module) {
        return print_hir(module, out);
    }
    let session = args.compile.session()?;
    let graph = model.graph()?;
    if args.stage == Some(Stage::Graph) {
        return Ok(write!(out, "{}", rlx::ir::text::print_graph(&graph))?);
    }
    let compiled = progress::while_running("compiling", || {
        rlx::opt::compile(graph.clone(), session.capabilities(), &session.options().compile)
    })?;
    match args.stage {
        Some(Stage::Optimized) => return Ok(write!(out, "{}", rlx::ir::text::print_graph(&compiled.graph))?),
        Some(Stage::Lir) => return Ok(write!(out, "{}", rlx::ir::lir::print_lir(&compiled.module))?),
        Some(Stage::Hir | Stage::Graph) | None => {}
    }
    let story = story::tell(&model.module, &graph, &compiled, &session, &args.dims)?;
    for (path, page) in [(&args.html, true), (&args.svg, false)] {
        let Some(path) = path else { continue };
        let text = if page { picture::page(&story) } else { picture::svg(&story) };
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.why {
        Some(node) => {
            let Some(node) = story.nodes.get(node as usize) else {
                let nodes = match story.nodes.len() {
                    0 => "no nodes".into(),
                    count => format!("nodes 0 to {}", count - 1),
                };
                return Err(Usage(format!("--why {node}: the graph has {nodes}")).into());
            };
            if args.json { report::json(out, &node.json()) } else { print::why(node, out) }
        }
        None if args.json => report::json(out, &story.json()),
        None => print::story(&story, out),
    }
}

fn print_hir(module: &rlx::GraphModule, out: &mut dyn Write) -> anyhow::Result<()> {
    match module {
        rlx::GraphModule::Hir(module) => Ok(write!(out, "{}", rlx::ir::text::print_module(module))?),
        other => anyhow::bail!("{} is one graph ({}), it has no named blocks", other.name(), other.stage()),
    }
}
