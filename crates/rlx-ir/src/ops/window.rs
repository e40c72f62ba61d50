//! Sliding windows, shared by convolution and pooling: how many fit along an
//! axis, and which input elements each of them covers.

use crate::ops::prelude::*;

/// Largest stride, padding, dilation or window, so that positions never overflow.
const LARGEST: usize = i32::MAX as usize;

/// Windows along one spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Distance from one window to the next.
    pub stride: usize,
    /// Padding before the first element.
    pub padding_low: usize,
    /// Padding after the last element.
    pub padding_high: usize,
    /// Distance between the elements of a window.
    pub dilation: usize,
}

/// The per-axis attributes of a windowed op.
pub(crate) struct WindowAttributes<'a> {
    pub stride: &'a [usize],
    pub padding_low: &'a [usize],
    pub padding_high: &'a [usize],
    pub dilation: &'a [usize],
}

impl WindowAttributes<'_> {
    /// One entry per spatial axis in each list, strides and dilations at least 1.
    pub fn check(&self, label: &'static str, axes: usize) -> Result<(), Violation> {
        let lists = [
            ("stride", self.stride, 1),
            ("padding_low", self.padding_low, 0),
            ("padding_high", self.padding_high, 0),
            ("dilation", self.dilation, 1),
        ];
        for (name, list, least) in lists {
            require!(
                label,
                list.len() == axes,
                "{name} has {} entries, expected one per spatial axis, {axes}",
                list.len()
            );
            let legal = list.iter().all(|entry| (least..=LARGEST).contains(entry));
            require!(label, legal, "entries of {name} must be in {least} ..= {LARGEST}, found {list:?}");
        }
        Ok(())
    }

    /// The windows along spatial axis `axis`.
    pub fn axis(&self, axis: usize) -> WindowAxis {
        WindowAxis {
            stride: self.stride[axis],
            padding_low: self.padding_low[axis],
            padding_high: self.padding_high[axis],
            dilation: self.dilation[axis],
        }
    }
}

impl WindowAxis {
    /// Elements from the first to the last of a window of `window` elements, both included.
    pub fn span(&self, window: &Dim) -> Dim {
        (window.clone() - Dim::from(1)) * Dim::from(self.dilation) + Dim::from(1)
    }

    /// Number of windows of `window` elements over `extent` input elements. With `ceil` a last window may
    /// hang over the end of the padding, as long as it starts in the input or the padding before it.
    pub fn count(
        &self,
        label: &'static str,
        extent: &Dim,
        window: &Dim,
        ceil: bool,
    ) -> Result<Dim, Violation> {
        let least = window.as_static().unwrap_or(1);
        let legal = least >= 1 && least <= LARGEST as i64;
        require!(label, legal, "a window must have 1 to {LARGEST} elements, found {window}");
        let before_end = extent.clone() + Dim::from(self.padding_low);
        let padded = before_end.clone() + Dim::from(self.padding_high);
        let span = self.span(window);
        let slack = padded.clone() - span.clone();
        let fits = slack.as_static().is_none_or(|slack| slack >= 0);
        require!(label, fits, "a window spans {span} elements, the padded input has {padded}");
        let stride = Dim::from(self.stride);
        let one = Dim::from(1);
        if ceil {
            return Ok((slack.ceil_div(&stride) + one).minimum(&before_end.ceil_div(&stride)));
        }
        Ok(slack.floor_div(&stride) + one)
    }

    /// Elements of window number `number` that lie in the input: position in the window and in the input.
    pub(crate) fn taps(&self, number: usize, extent: usize, window: usize) -> Vec<(usize, usize)> {
        let (first, last) = self.tap_range(number, 0, extent as i128, window);
        let start = self.start(number);
        let at = |tap: i128| (tap as usize, (start + tap * self.dilation as i128) as usize);
        (first..last).map(at).collect()
    }

    /// How many elements of window number `number` lie in the input or its padding.
    pub(crate) fn padded_taps(&self, number: usize, extent: usize, window: usize) -> usize {
        let end = extent as i128 + self.padding_high as i128;
        let (first, last) = self.tap_range(number, -(self.padding_low as i128), end, window);
        usize::try_from(last - first).unwrap_or(0)
    }

    fn start(&self, number: usize) -> i128 {
        number as i128 * self.stride as i128 - self.padding_low as i128
    }

    /// First tap in `low .. high` and the one after the last.
    fn tap_range(&self, number: usize, low: i128, high: i128, window: usize) -> (i128, i128) {
        let (start, dilation) = (self.start(number), self.dilation as i128);
        let at_or_after =
            |position: i128| (position - start + dilation - 1).div_euclid(dilation).clamp(0, window as i128);
        let (first, last) = (at_or_after(low), at_or_after(high));
        (first, last.max(first))
    }
}
