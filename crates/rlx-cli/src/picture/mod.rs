//! Pictures: the steps of a compiled model, its arena over time, the losses of a run.
//!
//! SVG without scripts or outside references; the HTML page holds everything it shows.

mod arena;
pub mod losses;
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
