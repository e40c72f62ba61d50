//! The arena over time: steps to the right, bytes downwards, one box per buffer.

use super::svg::Drawing;
use crate::commands::explain::{ArenaSlot, Story};
use crate::report;

const MARGIN: f64 = 16.0;
const TITLE: f64 = 40.0;
const HEIGHT: f64 = 320.0;

/// Draws the arena.
pub fn draw(story: &Story) -> Drawing {
    let steps = story.slots.iter().map(|slot| slot.last + 1).max().unwrap_or(1);
    let column = (960.0 / steps as f64).clamp(3.0, 60.0);
    let bytes = story.slots.iter().map(|slot| slot.offset + slot.size).max().unwrap_or(0).max(1);
    let scale = HEIGHT / bytes as f64;
    let width = 2.0 * MARGIN + steps as f64 * column;
    let mut drawing = Drawing::new(width.max(360.0), TITLE + HEIGHT + 2.0 * MARGIN);
    let (peak, apart) = (report::bytes(story.arena()), report::bytes(story.apart));
    drawing.text((MARGIN, 20.0), &format!("arena: peak {peak}; all values apart would take {apart}"));
    drawing.text((MARGIN, 34.0), &format!("steps 0 to {} to the right, bytes downwards", steps - 1));
    for slot in &story.slots {
        let corner = (MARGIN + slot.first as f64 * column, TITLE + slot.offset as f64 * scale);
        let size = ((slot.last - slot.first + 1) as f64 * column, (slot.size as f64 * scale).max(1.0));
        drawing.rectangle(corner, size, colour(slot.kind), &tip(slot));
    }
    drawing
}

fn colour(kind: &str) -> &'static str {
    match kind {
        "input" => "#cfe0f5",
        "output" => "#f5c9c9",
        _ => "#f5dfb8",
    }
}

fn tip(slot: &ArenaSlot) -> String {
    let ArenaSlot { name, kind, offset, size, first, last } = slot;
    format!("{kind} {name}: {size} bytes at {offset}, steps {first} to {last}")
}
