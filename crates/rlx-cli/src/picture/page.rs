//! The page: both pictures and the tables behind them, in one file.

use super::svg::{Drawing, escape};
use super::{arena, steps};
use crate::commands::explain::Story;
use crate::report;
use std::fmt::Write;

const STYLE: &str = "body{font-family:sans-serif;margin:24px;color:#222}table{border-collapse:collapse}\
    td,th{padding:2px 10px;text-align:left;border-bottom:1px solid #ddd;font-size:13px}\
    .picture{overflow:auto;border:1px solid #ddd;max-height:80vh}";

/// The page of a story.
pub fn page(story: &Story) -> String {
    let title = escape(&format!("{} on {}", story.name, story.device));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let stages: Vec<_> =
        story.stages.iter().map(|(stage, size)| vec![stage.to_string(), size.clone()]).collect();
    table(&mut html, "Stages", &["stage", "size"], &stages);
    picture(&mut html, "Steps", steps::draw(story));
    picture(&mut html, "Arena", arena::draw(story));
    let memory: Vec<_> = story
        .memory
        .parts()
        .iter()
        .map(|(part, bytes)| vec![part.to_string(), report::bytes(*bytes)])
        .collect();
    table(&mut html, "Memory", &["part", "bytes"], &memory);
    let passes: Vec<_> = story
        .passes
        .iter()
        .map(|pass| vec![pass.pass.to_string(), pass.before.to_string(), pass.after.to_string()])
        .collect();
    table(&mut html, "Passes", &["pass", "nodes before", "nodes after"], &passes);
    let nodes: Vec<_> = story
        .nodes
        .iter()
        .map(|node| {
            let steps: Vec<_> = node.steps.iter().map(ToString::to_string).collect();
            let (ty, block) = (node.ty.clone(), node.block.clone());
            vec![node.node.clone(), ty, node.fate.into(), steps.join(", "), node.history.join("; "), block]
        })
        .collect();
    table(&mut html, "Nodes", &["node", "type", "ends as", "steps", "history", "block"], &nodes);
    html.push_str("</body></html>\n");
    html
}

fn picture(html: &mut String, title: &str, drawing: Drawing) {
    let _ = writeln!(html, "<h2>{title}</h2>\n<div class=\"picture\">\n{}</div>", drawing.finish());
}

fn table(html: &mut String, title: &str, headings: &[&str], rows: &[Vec<String>]) {
    let heads: String = headings.iter().map(|heading| format!("<th>{}</th>", escape(heading))).collect();
    let _ = writeln!(html, "<h2>{title}</h2>\n<table><tr>{heads}</tr>");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html.push_str("</table>\n");
}
