//! What convolutions need beside a matrix product: windows brought into the order in which the
//! product reads its right operand, and the direct sum for channels that do not mix.
//!
//! Spatial axes are always three; those that a convolution lacks have extent 1, window 1 and
//! stride 1. Elements outside the input count as zero.

use super::Plain;
use crate::simd::{Kernel, Simd};

/// Windows along one spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Input elements.
    pub extent: usize,
    /// Distance of two neighbours in the input, in elements.
    pub step: isize,
    /// Number of windows.
    pub count: usize,
    /// Elements of a window.
    pub window: usize,
    /// Distance from one window to the next.
    pub stride: usize,
    /// Distance between the elements of a window.
    pub dilation: usize,
    /// Zeros before the input.
    pub padding: usize,
}

impl Windows {
    /// An axis that is not there.
    pub const NONE: Windows =
        Windows { extent: 1, step: 0, count: 1, window: 1, stride: 1, dilation: 1, padding: 0 };

    /// Does every element of every window lie in the input?
    pub fn is_inside(&self) -> bool {
        self.padding == 0
            && (self.count == 0
                || self.window == 0
                || self.element(self.count - 1, self.window - 1).is_some())
    }

    /// Is every window one element, in order?
    pub fn is_identity(&self) -> bool {
        self.window == 1 && self.stride == 1 && self.padding == 0 && self.count == self.extent
    }

    /// Input position of element `tap` of window `number`; negative or past the end in the padding.
    #[inline(always)]
    fn position(&self, number: usize, tap: usize) -> isize {
        (number * self.stride + tap * self.dilation) as isize - self.padding as isize
    }

    /// Input position of element `tap` of window `number`, if it lies in the input.
    #[inline(always)]
    pub fn element(&self, number: usize, tap: usize) -> Option<isize> {
        let position = self.position(number, tap);
        (position >= 0 && position < self.extent as isize).then_some(position)
    }

    /// How many elements of window `number` lie at `low..high` of the input's positions.
    pub fn taps(&self, number: usize, low: isize, high: isize) -> usize {
        (0..self.window).filter(|&tap| (low..high).contains(&self.position(number, tap))).count()
    }

    /// The windows of `first..first + len` whose element `tap` lies in the input, counted from
    /// `first`.
    #[inline(always)]
    pub fn inside(&self, first: usize, len: usize, tap: usize) -> (usize, usize) {
        let start = self.position(first, tap);
        let windows = |reach: usize| if self.stride == 1 { reach } else { reach.div_ceil(self.stride) };
        let low = if start < 0 { windows((-start) as usize).min(len) } else { 0 };
        // Divisions are slow, and most stretches lie inside.
        let room = self.extent as isize - start;
        let high = if (len as isize - 1) * (self.stride as isize) < room {
            len
        } else {
            windows(room.max(0) as usize).min(len)
        };
        (low, high.max(low))
    }
}

/// The windows of all channels of one group of one input.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a, T> {
    /// The input.
    pub data: &'a [T],
    /// Its first element.
    pub offset: usize,
    /// Number of channels, and their distance.
    pub channels: (usize, isize),
    /// The spatial axes.
    pub axes: [Windows; 3],
}

impl<T: Plain> Volume<'_, T> {
    /// Rows of the matrix of windows: one per channel and element of a window.
    pub fn depth(&self) -> usize {
        self.channels.0 * self.axes.iter().map(|axis| axis.window).product::<usize>()
    }
}

impl<T: Weighted> Volume<'_, T> {
    /// The sum of window `number` with the weights of all its channels; what lies outside the
    /// input takes no part.
    fn sum(&self, weights: &[T], number: usize) -> T {
        let [planes, lines, line] = self.axes;
        let (rest, column) = (number / line.count, number % line.count);
        let (plane_number, row) = (rest / lines.count, rest % lines.count);
        let (mut sum, mut weights) = (T::default(), weights.iter());
        for channel in 0..self.channels.0 {
            let base = self.offset as isize + channel as isize * self.channels.1;
            for plane_tap in 0..planes.window {
                for line_tap in 0..lines.window {
                    for (tap, &weight) in weights.by_ref().take(line.window).enumerate() {
                        let plane = planes.element(plane_number, plane_tap);
                        let above = lines.element(row, line_tap);
                        let (Some(plane), Some(above), Some(left)) =
                            (plane, above, line.element(column, tap))
                        else {
                            continue;
                        };
                        let at = base + plane * planes.step + above * lines.step + left * line.step;
                        sum = sum.plus_product(weight, self.data[at as usize]);
                    }
                }
            }
        }
        sum
    }
}

/// Sums again the windows from number `first` on whose sum is NaN: zeros of packed padding times
/// weights that are not finite are NaN, where padding takes no part.
pub struct Repair<'a, T> {
    /// The windows.
    pub volume: Volume<'a, T>,
    /// The weights of all channels.
    pub weights: &'a [T],
    /// Number of the first window.
    pub first: usize,
    /// The sums.
    pub values: &'a mut [T],
}

impl<T: Weighted> Kernel for Repair<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Repair { volume, weights, first, values } = self;
        let spoiled = values.iter().fold(false, |spoiled, x| spoiled | x.is_nan());
        if spoiled && !weights.iter().all(|weight| weight.is_finite()) {
            for (index, value) in values.iter_mut().enumerate().filter(|(_, value)| value.is_nan()) {
                *value = volume.sum(weights, first + index);
            }
        }
    }
}

/// The most columns of a panel.
const MOST_COLUMNS: usize = 64;

/// Windows that follow each other along the last axis.
#[derive(Clone, Copy, Default)]
struct Stretch {
    /// First column of the panel.
    at: usize,
    /// Number of windows.
    len: usize,
    /// Number of the window along each axis.
    number: [usize; 3],
}

/// Writes one panel of the matrix of windows: for each row, the elements of `valid` windows from
/// number `first` on, then zeros up to `columns` (at most 64).
pub struct PackWindows<'a, T> {
    /// The windows.
    pub volume: Volume<'a, T>,
    /// Number of the first window, in row-major order.
    pub first: usize,
    /// Windows of the panel.
    pub valid: usize,
    /// Columns of the panel.
    pub columns: usize,
    /// [`Volume::depth`] rows of `columns` elements.
    pub panel: &'a mut [T],
}

impl<T: Plain> Kernel for PackWindows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let PackWindows { volume, first, valid, columns, panel } = self;
        let [planes, lines, line] = volume.axes;
        let mut stretches = [Stretch::default(); MOST_COLUMNS];
        let mut count = 0;
        let mut at = 0;
        while at < valid {
            let window = first + at;
            let number =
                [window / line.count / lines.count, window / line.count % lines.count, window % line.count];
            let len = (line.count - number[2]).min(valid - at);
            stretches[count] = Stretch { at, len, number };
            count += 1;
            at += len;
        }
        let stretches = &stretches[..count];
        let mut rows = panel.chunks_exact_mut(columns);
        for channel in 0..volume.channels.0 {
            let base = volume.offset as isize + channel as isize * volume.channels.1;
            for plane_tap in 0..planes.window {
                for line_tap in 0..lines.window {
                    for tap in 0..line.window {
                        let Some(row) = rows.next() else { return };
                        row[valid..].fill(T::default());
                        for stretch in stretches {
                            let to = &mut row[stretch.at..stretch.at + stretch.len];
                            let plane = planes.position(stretch.number[0], plane_tap);
                            let above = lines.position(stretch.number[1], line_tap);
                            let inside = (0..planes.extent as isize).contains(&plane)
                                && (0..lines.extent as isize).contains(&above);
                            if !inside {
                                to.fill(T::default());
                                continue;
                            }
                            let start = base + plane * planes.step + above * lines.step;
                            copy_line(volume.data, start, line, stretch.number[2], tap, to);
                        }
                    }
                }
            }
        }
    }
}

/// Element `tap` of the windows from `first` on of the line that begins at `start`.
#[inline(always)]
fn copy_line<T: Plain>(data: &[T], start: isize, line: Windows, first: usize, tap: usize, to: &mut [T]) {
    let (low, high) = line.inside(first, to.len(), tap);
    to[..low].fill(T::default());
    to[high..].fill(T::default());
    if low == high {
        return;
    }
    let step = line.step * line.stride as isize;
    let from = start + line.position(first + low, tap) * line.step;
    let to = &mut to[low..high];
    if step == 1 {
        let from = &data[from as usize..][..to.len()];
        match to.len() {
            16.. => copy_by::<T, 16>(from, to),
            4.. => copy_by::<T, 4>(from, to),
            _ => to.iter_mut().zip(from).for_each(|(to, &x)| *to = x),
        }
        return;
    }
    for_each_apart(data, (from, step), to, |to, x| *to = x);
}

/// Copies at least `N` elements, `N` at a time: copies of a known length stay in registers. The
/// last ones overlap those before.
#[inline(always)]
fn copy_by<T: Plain, const N: usize>(from: &[T], to: &mut [T]) {
    let last = to.len() - N;
    for (to, from) in to.chunks_exact_mut(N).zip(from.chunks_exact(N)) {
        to.copy_from_slice(from);
    }
    to[last..].copy_from_slice(&from[last..][..N]);
}

/// Calls `each` with every element of `to` and its partner in `data`, the partners `step` apart.
#[inline(always)]
pub fn for_each_apart<T: Plain, U>(
    data: &[T],
    (from, step): (isize, isize),
    to: &mut [U],
    mut each: impl FnMut(&mut U, T),
) {
    match usize::try_from(step) {
        Ok(1) => {
            let partners = &data[from as usize..][..to.len()];
            to.iter_mut().zip(partners).for_each(|(to, &x)| each(to, x));
        }
        Ok(step) if step > 0 && !to.is_empty() => {
            let partners = data[from as usize..].chunks(step);
            to.iter_mut().zip(partners).for_each(|(to, partners)| each(to, partners[0]));
        }
        _ => {
            for (index, to) in to.iter_mut().enumerate() {
                each(to, data[(from + index as isize * step) as usize]);
            }
        }
    }
}

/// An element type that convolutions sum.
pub trait Weighted: Plain {
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// Whether it is neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// `self + weight * x`.
    fn plus_product(self, weight: Self, x: Self) -> Self;
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
}

macro_rules! weighted {
    ($($ty:ty),*) => {
        $(impl Weighted for $ty {
            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            #[inline(always)]
            fn plus_product(self, weight: $ty, x: $ty) -> $ty {
                self + weight * x
            }
            #[inline(always)]
            fn plus(self, other: $ty) -> $ty {
                self + other
            }
        })*
    };
}
weighted!(f32, f64);

/// Adds one number to all values.
pub struct AddBias<'a, T> {
    /// The values.
    pub values: &'a mut [T],
    /// What is added.
    pub bias: T,
}

impl<T: Weighted> Kernel for AddBias<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.values.iter_mut().for_each(|x| *x = x.plus(self.bias));
    }
}

/// The convolution of one channel with one window: adds to `to`, one element per window.
pub struct Direct<'a, T> {
    /// The one channel.
    pub volume: Volume<'a, T>,
    /// The elements of the window.
    pub weights: &'a [T],
    /// The sums, in row-major order of the windows.
    pub to: &'a mut [T],
}

impl<T: Weighted> Kernel for Direct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Direct { volume, weights, to } = self;
        let [planes, lines, line] = volume.axes;
        let mut rows = to.chunks_exact_mut(line.count.max(1));
        for plane_number in 0..planes.count {
            for line_number in 0..lines.count {
                let Some(row) = rows.next() else { return };
                let mut weight = weights.iter();
                for plane_tap in 0..planes.window {
                    let plane = planes.position(plane_number, plane_tap);
                    for line_tap in 0..lines.window {
                        let above = lines.position(line_number, line_tap);
                        let inside = (0..planes.extent as isize).contains(&plane)
                            && (0..lines.extent as isize).contains(&above);
                        let start = volume.offset as isize + plane * planes.step + above * lines.step;
                        for tap in 0..line.window {
                            let Some(&weight) = weight.next() else { return };
                            if inside {
                                add_line(volume.data, start, line, tap, weight, row);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add_line<T: Weighted>(data: &[T], start: isize, line: Windows, tap: usize, weight: T, row: &mut [T]) {
    let (low, high) = line.inside(0, row.len(), tap);
    if low == high {
        return;
    }
    let step = line.step * line.stride as isize;
    let from = start + line.position(low, tap) * line.step;
    for_each_apart(data, (from, step), &mut row[low..high], |to, x| *to = to.plus_product(weight, x));
}
