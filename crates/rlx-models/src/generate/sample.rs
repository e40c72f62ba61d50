//! Choosing a token from logits.
//!
//! The filters are those of the op `sample`. The draw depends on the seed, the row
//! and the step alone, so a row gives the same tokens in any batch.

use super::GenerateOptions;
use crate::error::ModelError;
use rlx_ir::ops::philox::philox;

/// The token that follows, for the draw number `step` of `row`.
///
/// # Errors
/// Logits among which there is no greatest, because one is not a number or none is finite.
pub(super) fn choose(
    logits: &[f32],
    options: &GenerateOptions,
    row: usize,
    step: usize,
) -> Result<u32, ModelError> {
    let best = greatest(logits)?;
    if options.temperature == 0.0 {
        return Ok(best as u32);
    }
    let largest = f64::from(logits[best]);
    let temperature = f64::from(options.temperature);
    // Unnormalised probabilities; the greatest is 1.
    let weight = |index: &usize| ((f64::from(logits[*index]) - largest) / temperature).exp();
    let mut candidates: Vec<usize> = (0..logits.len()).collect();
    let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if let Some(count) = options.top_k.filter(|&count| count < candidates.len()) {
        candidates.select_nth_unstable_by(count - 1, order);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(order);
    let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
    if options.top_p < 1.0 {
        let limit = f64::from(options.top_p) * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let kept = weights.iter().take_while(|&&weight| {
            let before = sum;
            sum += weight;
            before < limit
        });
        let kept = kept.count().max(1);
        weights.truncate(kept);
    }
    if options.min_p > 0.0 {
        let kept = weights.iter().take_while(|&&weight| weight >= f64::from(options.min_p)).count();
        weights.truncate(kept.max(1));
    }
    let mut left = uniform(options.seed, row, step) * weights.iter().sum::<f64>();
    let drawn = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    Ok(candidates[drawn.unwrap_or(weights.len() - 1)] as u32)
}

/// Position of the greatest logit, the first of equals.
fn greatest(logits: &[f32]) -> Result<usize, ModelError> {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    let bad = logits.iter().position(|logit| logit.is_nan());
    if let Some(index) = bad.or((!logits.get(best).is_some_and(|logit| logit.is_finite())).then_some(best)) {
        let found = logits.get(index).map_or("absent".into(), f32::to_string);
        return Err(ModelError::Logits { token: index, found });
    }
    Ok(best)
}

/// A number in `0 .. 1` with 53 random bits.
fn uniform(seed: u64, row: usize, step: usize) -> f64 {
    let (row, step) = (row as u64, step as u64);
    let counter = [step as u32, (step >> 32) as u32, row as u32, (row >> 32) as u32];
    let [a, b, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> GenerateOptions {
        GenerateOptions { temperature: 1.0, ..GenerateOptions::default() }
    }

    /// How often each of `logits` is drawn, of 4000.
    fn counts(logits: &[f32], options: &GenerateOptions) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for step in 0..4000 {
            counts[choose(logits, options, 3, step).expect("the logits are finite") as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let greedy = GenerateOptions { temperature: 0.0, ..options() };
        assert_eq!(
            choose(&[1.0, 3.0, 3.0, f32::NEG_INFINITY], &greedy, 0, 0).expect("the logits are finite"),
            1
        );
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // Probabilities 0.5, 0.25, 0.25 and 0.
        let logits = [2f32.ln(), 0.0, 0.0, f32::NEG_INFINITY];
        let found = counts(&logits, &options());
        assert!(found[0].abs_diff(2000) < 130 && found[1].abs_diff(1000) < 120, "{found:?}");
        assert_eq!(found[3], 0);
        let cold = counts(&logits, &GenerateOptions { temperature: 0.1, ..options() });
        assert!(cold[0] > 3950, "{cold:?}");
    }

    #[test]
    fn filters_leave_what_they_say() {
        let logits = [0.0, 1.0, 2.0, 3.0, 4.0];
        let drawn = |options: GenerateOptions| -> Vec<bool> {
            counts(&logits, &options).into_iter().map(|count| count > 0).collect()
        };
        assert_eq!(drawn(options()), [true; 5]);
        assert_eq!(drawn(GenerateOptions { top_k: Some(2), ..options() }), [false, false, false, true, true]);
        // Probabilities, greatest first: 0.636, 0.234, 0.086, ...
        assert_eq!(drawn(GenerateOptions { top_p: 0.8, ..options() }), [false, false, false, true, true]);
        assert_eq!(drawn(GenerateOptions { top_p: 0.01, ..options() }), [false, false, false, false, true]);
        assert_eq!(drawn(GenerateOptions { min_p: 0.1, ..options() }), [false, false, true, true, true]);
        // Top-p counts within what top-k left: 0.731 and 0.269.
        let both = GenerateOptions { top_k: Some(2), top_p: 0.7, ..options() };
        assert_eq!(drawn(both), [false, false, false, false, true]);
    }

    #[test]
    fn seeds_rows_and_steps_give_other_draws() {
        let base = uniform(1, 0, 0);
        assert_eq!(base, uniform(1, 0, 0));
        assert!([uniform(2, 0, 0), uniform(1, 1, 0), uniform(1, 0, 1)].iter().all(|&other| other != base));
    }

    #[test]
    fn logits_without_a_greatest_are_refused() {
        let message = |logits: &[f32]| choose(logits, &options(), 0, 0).unwrap_err().to_string();
        assert_eq!(
            message(&[0.0, f32::NAN]),
            "the logit of token 1 is NaN, so that no token can be chosen; are the weights of this model finite?"
        );
        assert!(message(&[f32::NEG_INFINITY; 2]).starts_with("the logit of token 0 is -inf"));
    }
}
