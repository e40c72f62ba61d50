//! The steps as a graph: what reads what, top to bottom.

use super::svg::Drawing;
use crate::commands::explain::{StepStory, Story};
use std::collections::BTreeMap;

const BOX: (f64, f64) = (128.0, 26.0);
const GAP: (f64, f64) = (14.0, 26.0);
const MARGIN: f64 = 16.0;
const TITLE: f64 = 24.0;

/// Draws every step below all that it reads from.
pub fn draw(story: &Story) -> Drawing {
    let edges = edges(&story.steps);
    let rows = rows(story.steps.len(), &edges);
    let places = places(&rows, &edges);
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0).max(1) as f64;
    let width = 2.0 * MARGIN + widest * (BOX.0 + GAP.0);
    let height = TITLE + 2.0 * MARGIN + rows.len() as f64 * (BOX.1 + GAP.1);
    let mut drawing = Drawing::new(width.max(360.0), height);
    drawing.text((MARGIN, TITLE), &format!("{}: {} steps", story.name, story.steps.len()));
    for &(from, to) in &edges {
        let (start, end) = (places[from], places[to]);
        drawing.line((start.0 + BOX.0 / 2.0, start.1 + BOX.1), (end.0 + BOX.0 / 2.0, end.1));
    }
    for (index, step) in story.steps.iter().enumerate() {
        drawing.rectangle(places[index], BOX, colour(step), &tip(story, index, step));
        let label: String = format!("{index} {}", step.kernel).chars().take(20).collect();
        drawing.text((places[index].0 + 6.0, places[index].1 + 17.0), &label);
    }
    drawing
}

fn colour(step: &StepStory) -> &'static str {
    match (step.kernel.as_str(), step.before + step.after) {
        ("region", _) => "#cfe8cf",
        ("pack", _) => "#eeeeee",
        ("branch" | "loop", _) => "#e6d5f2",
        (_, 0) => "#cfe0f5",
        _ => "#f5dfb8",
    }
}

fn tip(story: &Story, index: usize, step: &StepStory) -> String {
    let names = |buffers: &[u32]| {
        let names = buffers.iter().filter_map(|&buffer| story.buffers.get(buffer as usize));
        names.map(|(name, kind)| format!("{name} ({kind})")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "step {index}: {}; {} fused before, {} after; reads {}; writes {}",
        step.origin,
        step.before,
        step.after,
        names(&step.reads),
        names(&step.writes)
    )
}

/// Pairs of steps where the second reads what the first wrote last, or stands in the first.
fn edges(steps: &[StepStory]) -> Vec<(usize, usize)> {
    let mut writer: BTreeMap<u32, usize> = BTreeMap::new();
    let mut edges = vec![];
    let mut around: Vec<usize> = vec![];
    for (index, step) in steps.iter().enumerate() {
        around.truncate(step.depth);
        edges.extend(around.last().map(|&holder| (holder, index)));
        around.push(index);
        edges.extend(step.reads.iter().filter_map(|buffer| Some((*writer.get(buffer)?, index))));
        writer.extend(step.writes.iter().map(|&buffer| (buffer, index)));
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The steps of every row: one more than the longest way to them.
fn rows(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut depth = vec![0usize; count];
    // Edges are sorted by their start and lead forwards, so one sweep is enough.
    for &(from, to) in edges {
        depth[to] = depth[to].max(depth[from] + 1);
    }
    let mut rows: Vec<Vec<usize>> = vec![vec![]; depth.iter().max().map_or(0, |deepest| deepest + 1)];
    for (step, &row) in depth.iter().enumerate() {
        rows[row].push(step);
    }
    rows
}

/// Top left corners; steps of a row stand in the order of what they read.
fn places(rows: &[Vec<usize>], edges: &[(usize, usize)]) -> Vec<(f64, f64)> {
    let mut places = vec![(0.0, 0.0); rows.iter().map(Vec::len).sum()];
    for (row, steps) in rows.iter().enumerate() {
        let mut order: Vec<(f64, usize)> = steps
            .iter()
            .map(|&step| {
                let sources: Vec<f64> =
                    edges.iter().filter(|(_, to)| *to == step).map(|&(from, _)| places[from].0).collect();
                let mean = sources.iter().sum::<f64>() / sources.len().max(1) as f64;
                (if sources.is_empty() { step as f64 } else { mean }, step)
            })
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (column, (_, step)) in order.into_iter().enumerate() {
            let x = MARGIN + column as f64 * (BOX.0 + GAP.0);
            places[step] = (x, TITLE + MARGIN + row as f64 * (BOX.1 + GAP.1));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_below_what_they_read() {
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3)];
        assert_eq!(rows(4, &edges), [vec![0], vec![1, 2], vec![3]]);
        let places = places(&rows(4, &edges), &edges);
        assert!(edges.iter().all(|&(from, to)| places[from].1 < places[to].1));
        assert_ne!(places[1].0, places[2].0);
    }
}
