//! Strided layouts: how a tensor lies in a buffer.
//!
//! Offsets and strides count elements. A stride may be 0 (broadcast) or
//! negative (reversed). The movement ops are defined here once, as functions
//! from layout to layout; the interpreter, the planner and every backend use
//! the same definition.

use crate::dim::Dim;
use crate::shape::Shape;

/// Position of a tensor's elements relative to the start of a buffer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// Element at coordinate zero.
    pub offset: Dim,
    /// Extents.
    pub shape: Shape,
    /// Step per axis, in elements.
    pub strides: Vec<Dim>,
}

impl Layout {
    /// Row-major without gaps, from offset 0.
    pub fn dense(shape: &Shape) -> Layout {
        Layout { offset: Dim::from(0), shape: shape.clone(), strides: shape.strides() }
    }

    /// Row-major without gaps? Strides of axes with extent 1 do not matter.
    pub fn is_dense(&self) -> bool {
        let dense = self.shape.strides();
        (0..self.shape.rank()).all(|axis| self.shape[axis].is(1) || self.strides[axis] == dense[axis])
    }

    /// Axes in the order `permutation`.
    pub fn transpose(&self, permutation: &[usize]) -> Layout {
        Layout {
            offset: self.offset.clone(),
            shape: Shape::from(permutation.iter().map(|&axis| self.shape[axis].clone()).collect::<Vec<_>>()),
            strides: permutation.iter().map(|&axis| self.strides[axis].clone()).collect(),
        }
    }

    /// Elements `start, start + step, ..` along `axis`, `len` of them.
    pub fn slice(&self, axis: usize, start: &Dim, step: i64, len: &Dim) -> Layout {
        let mut out = self.clone();
        out.offset = out.offset + start.clone() * self.strides[axis].clone();
        let mut dims = out.shape.into_dims();
        dims[axis] = len.clone();
        out.shape = Shape::from(dims);
        out.strides[axis] = self.strides[axis].clone() * Dim::from(step);
        out
    }

    /// NumPy broadcast to `shape`: new or unit axes get stride 0.
    pub fn expand(&self, shape: &Shape) -> Layout {
        let lead = shape.rank() - self.shape.rank();
        let strides = (0..shape.rank()).map(|axis| match axis.checked_sub(lead) {
            Some(own) if self.shape[own] == shape[axis] => self.strides[own].clone(),
            _ => Dim::from(0),
        });
        Layout { offset: self.offset.clone(), shape: shape.clone(), strides: strides.collect() }
    }

    /// The same elements in row-major order under another shape, without
    /// moving any; `None` where strides do not allow it.
    pub fn reshape(&self, shape: &Shape) -> Option<Layout> {
        if self.is_dense() {
            return Some(Layout {
                offset: self.offset.clone(),
                shape: shape.clone(),
                strides: shape.strides(),
            });
        }
        let mut strides = vec![Dim::from(0); shape.rank()];
        // Walk both shapes from the inside, matching groups of axes with equal element counts.
        let mut old: Vec<usize> = (0..self.shape.rank()).filter(|&axis| !self.shape[axis].is(1)).collect();
        let mut new: Vec<usize> = (0..shape.rank()).filter(|&axis| !shape[axis].is(1)).collect();
        while let (Some(first), Some(next)) = (old.pop(), new.pop()) {
            let inner_stride = self.strides[first].clone();
            let (mut have, mut want) = (self.shape[first].clone(), shape[next].clone());
            let (mut last_old, mut group) = (first, vec![next]);
            while have != want {
                // Grow the smaller side; only sides that divide each other can meet.
                if divides(&have, &want) {
                    let axis = old.pop()?;
                    let expected = self.strides[last_old].clone() * self.shape[last_old].clone();
                    if self.strides[axis] != expected {
                        return None;
                    }
                    have = have * self.shape[axis].clone();
                    last_old = axis;
                } else if divides(&want, &have) {
                    let axis = new.pop()?;
                    want = want * shape[axis].clone();
                    group.push(axis);
                } else {
                    return None;
                }
            }
            let mut stride = inner_stride;
            for axis in group {
                strides[axis] = stride.clone();
                stride = stride * shape[axis].clone();
            }
        }
        (old.is_empty() && new.is_empty()).then(|| Layout {
            offset: self.offset.clone(),
            shape: shape.clone(),
            strides,
        })
    }

    /// Every dim replaced.
    pub fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Layout {
        Layout {
            offset: map(&self.offset),
            shape: Shape::from(self.shape.dims().iter().map(map).collect::<Vec<_>>()),
            strides: self.strides.iter().map(map).collect(),
        }
    }
}

fn divides(a: &Dim, b: &Dim) -> bool {
    match (a.as_static(), b.as_static()) {
        (Some(a), Some(b)) => a != 0 && b % a == 0,
        _ => b.modulo(a).is(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_keeps_views_where_strides_allow() {
        let base = Layout::dense(&Shape::from([2, 3, 4]));
        let swapped = base.transpose(&[1, 0, 2]);
        assert_eq!(
            swapped.reshape(&Shape::from([3, 2, 2, 2])).map(|l| l.strides),
            Some([4, 12, 2, 1].map(Dim::from).to_vec())
        );
        assert_eq!(swapped.reshape(&Shape::from([6, 4])), None);
        let symbolic =
            Layout::dense(&Shape::new([Dim::from("B"), Dim::from("S"), Dim::from(12)])).transpose(&[1, 0, 2]);
        let split =
            symbolic.reshape(&Shape::new([Dim::from("S"), Dim::from("B"), Dim::from(3), Dim::from(4)]));
        assert_eq!(
            split.map(|l| l.strides),
            Some(vec![Dim::from(12), Dim::from("S") * Dim::from(12), Dim::from(4), Dim::from(1)])
        );
    }

    #[test]
    fn expand_gives_stride_zero() {
        let layout = Layout::dense(&Shape::from([3, 1])).expand(&Shape::from([2, 3, 5]));
        assert_eq!(layout.strides, vec![Dim::from(0), Dim::from(1), Dim::from(0)]);
    }
}
