//! Pictures of a compiled model: its steps, and its arena over time.
//!
//! SVG without scripts or outside references; the HTML page holds everything it shows.

mod arena;
mod page;
mod steps;
mod svg;

use crate::commands::explain::Story;
pub use page::page;
use svg::Drawing;

/// Both pictures, one below the other.
pub fn svg(story: &Story) -> String {
    let (steps, arena) = (steps::draw(story), arena::draw(story));
    let mut both = Drawing::new(steps.width.max(arena.width), steps.height + arena.height);
    both.embed(0.0, &steps);
    both.embed(steps.height, &arena);
    both.finish()
}
