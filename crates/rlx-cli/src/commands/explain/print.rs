//! The story as text.

use super::story::{NodeStory, Story};
use crate::report::{self, Table};
use std::io::Write;

/// Prints all of it.
pub fn story(story: &Story, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{} on {}", story.name, story.device)?;
    writeln!(out, "\nstages")?;
    for (stage, size) in &story.stages {
        writeln!(out, "  {stage}: {size}")?;
    }
    writeln!(out, "\npasses")?;
    let mut table = Table::new(&["  pass", ">before", ">after"]);
    for pass in &story.passes {
        table.row([format!("  {}", pass.pass), pass.before.to_string(), pass.after.to_string()]);
    }
    table.print(out)?;
    writeln!(out, "\nnodes")?;
    let mut table = Table::new(&["  node", "type", "where", "first remark", "block"]);
    for node in &story.nodes {
        let (name, ty, block) = (format!("  {}", node.node), node.ty.clone(), node.block.clone());
        table.row([name, ty, place(node), remark(node), block]);
    }
    table.print(out)?;
    let fates: Vec<_> = story.fates().iter().map(|(fate, count)| format!("{fate} {count}")).collect();
    writeln!(out, "  {} nodes: {}", story.nodes.len(), fates.join(", "))?;
    writeln!(out, "\ndispatch")?;
    let mut table = Table::new(&["  op", ">native", ">decomposed", ">rewritten", ">missing"]);
    for (kind, counts) in &story.dispatch.kinds {
        let counts = [counts.native, counts.decomposed, counts.rewritten, counts.missing];
        table.row(std::iter::once(format!("  {kind}")).chain(counts.iter().map(ToString::to_string)));
    }
    table.print(out)?;
    writeln!(out, "\nsteps")?;
    let mut table = Table::new(&["  step", "kernel", ">fused before", ">fused after", "nodes"]);
    for (index, step) in story.steps.iter().enumerate() {
        let (before, after) = (step.before.to_string(), step.after.to_string());
        let kernel = format!("{}{}", "  ".repeat(step.depth), step.kernel);
        table.row([format!("  {index}"), kernel, before, after, step.origin.clone()]);
    }
    table.print(out)?;
    memory(story, out)
}

fn memory(story: &Story, out: &mut dyn Write) -> anyhow::Result<()> {
    let extents: Vec<_> = story.extents.iter().map(|(symbol, value)| format!("{symbol} = {value}")).collect();
    let at = if extents.is_empty() { String::new() } else { format!(" at {}", extents.join(", ")) };
    writeln!(out, "\nmemory{at}")?;
    for (part, bytes) in story.memory.parts() {
        if bytes > 0 {
            writeln!(out, "  {part}: {}", report::bytes(bytes))?;
        }
    }
    writeln!(out, "  total: {}", report::bytes(story.memory.total()))?;
    let share = match story.apart {
        0 => String::new(),
        apart => format!(" ({:.0} %)", 100.0 * story.arena() as f64 / apart as f64),
    };
    writeln!(
        out,
        "  peak arena {} of {} for all values apart{share}",
        report::bytes(story.arena()),
        report::bytes(story.apart)
    )?;
    Ok(())
}

fn place(node: &NodeStory) -> String {
    if node.steps.is_empty() {
        return node.fate.to_string();
    }
    let steps: Vec<_> = node.steps.iter().map(ToString::to_string).collect();
    format!("step {}", steps.join(", "))
}

fn remark(node: &NodeStory) -> String {
    node.history.first().filter(|line| !line.starts_with("now %")).cloned().unwrap_or_default()
}

/// Prints one node.
pub fn why(node: &NodeStory, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{} : {}", node.node, node.ty)?;
    if !node.block.is_empty() {
        writeln!(out, "  block {}", node.block)?;
    }
    for line in &node.history {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "  ends as: {}", place(node))?;
    Ok(())
}
