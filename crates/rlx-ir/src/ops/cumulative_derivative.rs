//! Reverse derivatives of the cumulative ops but the sum.
//!
//! A running product may hold zeros: its derivative never divides by one. Of
//! equal extremes the first keeps its place. A running log-sum-exp stays in
//! logarithms, the positive and negative parts of the cotangent apart.

use crate::ops::prelude::*;

impl Cumulative {
    /// The sum over the results that an element takes part in.
    fn sum_back(&self, g: &mut Graph, x: Value) -> Value {
        g.cumsum(x, self.axis, self.exclusive, !self.reverse)
    }

    pub(crate) fn product_vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let Cumulative { axis, exclusive, reverse, .. } = *self;
        let (x, dy) = (given.operands[0], given.cotangent());
        let dtype = g.ty(x).dtype;
        let (zero, one) = (g.scalar(dtype, 0.0), g.scalar(dtype, 1.0));
        let is_zero = g.compare_eq(x, zero);
        let (nonzero, counted) = (g.r#where(is_zero, one, x), g.cast(is_zero, dtype));
        let product = g.cum_prod(nonzero, axis, exclusive, reverse);
        let zeros = g.cumsum(counted, axis, exclusive, reverse);
        let slope = g.mul(dy, product);
        let mut part = |zero_count: Value| {
            let counts = g.compare_eq(zeros, zero_count);
            let part = g.r#where(counts, slope, zero);
            self.sum_back(g, part)
        };
        let (without, with_one) = (part(zero), part(one));
        let others = g.div(without, nonzero);
        Ok(vec![Some(g.r#where(is_zero, with_one, others))])
    }

    pub(crate) fn extreme_vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let (mut x, mut dy) = (given.operands[0], given.cotangent());
        if self.reverse {
            (x, dy) = (g.reverse(x, vec![self.axis]), g.reverse(dy, vec![self.axis]));
        }
        let ty = g.ty(x).clone();
        let before = match self.kind {
            CumulativeKind::Max => g.cum_max(x, self.axis, true, false),
            _ => g.cum_min(x, self.axis, true, false),
        };
        let is_new = match self.kind {
            CumulativeKind::Max => g.compare_gt(x, before),
            _ => g.compare_lt(x, before),
        };
        let place = g.iota(DType::I64, ty.shape.clone(), self.axis);
        let nowhere = g.scalar(DType::I64, -1.0);
        let place = g.r#where(is_new, place, nowhere);
        let running = CumMax { axis: self.axis, exclusive: self.exclusive, reverse: false };
        let winner = g.push(running, &[place]);
        let (first, zero) = (g.scalar(DType::I64, 0.0), g.scalar(ty.dtype, 0.0));
        let exists = g.compare_ge(winner, first);
        let (winner, dy) = (g.maximum(winner, first), g.r#where(exists, dy, zero));
        let zeros = g.zeros_like(x);
        let dx = g.scatter_elements(zeros, winner, dy, self.axis, ScatterKind::Add);
        Ok(vec![Some(if self.reverse { g.reverse(dx, vec![self.axis]) } else { dx })])
    }

    pub(crate) fn log_sum_exp_vjp(&self, g: &mut Graph, given: Backward<'_>) -> Derivatives {
        let (x, y) = (given.operands[0], given.results[0]);
        Ok(vec![Some(self.weighted(g, x, y, given.cotangent(), Direction::Back))])
    }

    pub(crate) fn log_sum_exp_jvp(&self, g: &mut Graph, given: Forward<'_>) -> Derivatives {
        let (x, y) = (given.operands[0], given.results[0]);
        Ok(vec![given.tangents[0].map(|tangent| self.weighted(g, x, y, tangent, Direction::Ahead))])
    }

    /// Sums of `change` with the weights `e^(x[i] - y[j])`: over the `j` that element `i` takes part in, or
    /// over the `i` that take part in `j`. Where a second derivative meets a `change` of 0 it is NaN.
    fn weighted(&self, g: &mut Graph, x: Value, y: Value, change: Value, direction: Direction) -> Value {
        let dtype = g.ty(x).dtype;
        let [x, y, change] = [x, y, change].map(|value| g.accumulation_cast(value));
        let wide = g.ty(x).dtype;
        let (zero, nothing) = (g.scalar(wide, 0.0), g.scalar(wide, f64::NEG_INFINITY));
        let is_empty = g.compare_eq(y, nothing);
        let negated = g.neg(y);
        let below = g.r#where(is_empty, nothing, negated);
        let (inside, outside, reverse) = match direction {
            Direction::Back => (below, x, !self.reverse),
            Direction::Ahead => (x, below, self.reverse),
        };
        let opposite = g.neg(change);
        let [rise, fall] = [change, opposite].map(|part| {
            let part = g.maximum(part, zero);
            let log = g.log(part);
            let weighted = g.add(log, inside);
            let sum = g.cum_log_sum_exp(weighted, self.axis, self.exclusive, reverse);
            let total = g.add(sum, outside);
            g.exp(total)
        });
        let sum = g.sub(rise, fall);
        g.cast_to(sum, dtype)
    }
}

/// Which way a derivative of a running log-sum-exp goes.
#[derive(Clone, Copy)]
enum Direction {
    /// To the elements.
    Back,
    /// To the results.
    Ahead,
}
