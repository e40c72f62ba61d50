//! Losses over the updates of a run: updates to the right, losses upwards.

use super::svg::Drawing;

const MARGIN: f64 = 56.0;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
/// Lines across the picture.
const MARKS: usize = 4;

/// Draws the losses of updates as a line and those of evaluations as a second one.
pub fn draw(losses: &[(f64, f64)], evaluations: &[(f64, f64)]) -> String {
    let mut drawing = Drawing::new(WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
    let all = || losses.iter().chain(evaluations).filter(|(_, loss)| loss.is_finite());
    let (low, high) = all()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(_, loss)| (low.min(loss), high.max(loss)));
    let last = all().map(|&(step, _)| step).fold(1.0, f64::max);
    if low > high {
        drawing.text((MARGIN, MARGIN), "no losses");
        return drawing.finish();
    }
    let span = (high - low).max(1e-12);
    let place = |&(step, loss): &(f64, f64)| {
        (MARGIN + WIDTH * step / last, MARGIN + HEIGHT * (high - loss.clamp(low, high)) / span)
    };
    for mark in 0..=MARKS {
        let share = mark as f64 / MARKS as f64;
        let y = MARGIN + HEIGHT * share;
        drawing.line((MARGIN, y), (MARGIN + WIDTH, y));
        drawing.text((8.0, y + 4.0), &format!("{:.3}", high - span * share));
        drawing.text((MARGIN + WIDTH * share - 8.0, MARGIN + HEIGHT + 18.0), &format!("{:.0}", last * share));
    }
    drawing.text((MARGIN, 20.0), "loss of each update (blue) and of evaluations (red)");
    for (points, colour) in [(losses, "#2b6cb0"), (evaluations, "#c53030")] {
        let points: Vec<(f64, f64)> = points.iter().filter(|(_, loss)| loss.is_finite()).map(place).collect();
        drawing.curve(&points, colour);
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_loss_is_on_the_curve() {
        let svg = draw(&[(1.0, 4.0), (2.0, f64::NAN), (3.0, 2.0)], &[(3.0, 3.0)]);
        assert!(svg.contains("points=\"296.0,56.0 776.0,376.0\""), "{svg}");
        assert!(svg.contains("points=\"776.0,216.0\"") && !svg.contains("NaN"), "{svg}");
        assert!(draw(&[], &[]).contains("no losses"));
    }
}
