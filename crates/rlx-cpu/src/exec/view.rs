//! Views with concrete extents.

use super::memory::Span;
use rlx_ir::lir::View;
use rlx_ir::{Bindings, DType, DimError, Literal};

/// A view whose extents, strides and offset are numbers. Offsets count
/// elements from the start of the view's span, so they are never negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundView {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<usize>,
    /// Step per axis, in elements.
    pub strides: Vec<isize>,
    /// Element at coordinate zero, from the start of the span.
    pub offset: usize,
    /// The bytes that the view touches.
    pub span: Span,
}

impl BoundView {
    /// Evaluates a view.
    ///
    /// # Errors
    /// A dim that does not evaluate, or a view that starts before its buffer.
    pub fn new(view: &View, bindings: &Bindings) -> Result<BoundView, DimError> {
        let dims = view.layout.shape.eval(bindings)?;
        let offset = view.layout.offset.eval(bindings)?;
        let mut strides = vec![];
        let (mut low, mut high) = (offset, offset);
        for (stride, &dim) in view.layout.strides.iter().zip(&dims) {
            let stride = stride.eval(bindings)?;
            let reach = stride.saturating_mul(dim.saturating_sub(1) as i64);
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
            strides.push(stride as isize);
        }
        let empty = dims.contains(&0);
        let negative = || DimError::Negative(view.layout.offset.clone(), low);
        let low = if empty { 0 } else { usize::try_from(low).map_err(|_| negative())? };
        let elements = if empty { 0 } else { high as usize + 1 - low };
        let overflow = || DimError::Overflow(view.layout.offset.clone());
        let (start, len) = match view.dtype.size_of() {
            Some(width) => (
                low.checked_mul(width).ok_or_else(overflow)?,
                elements.checked_mul(width).ok_or_else(overflow)?,
            ),
            None => (0, view.dtype.byte_size(elements).ok_or_else(overflow)?),
        };
        let offset = if empty { 0 } else { offset as usize - low };
        Ok(BoundView {
            dtype: view.dtype,
            dims,
            strides,
            offset,
            span: Span { buffer: view.buffer, start, len, moves: 0 },
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Row-major without gaps from the start of the span?
    pub fn is_dense(&self) -> bool {
        let mut expected = 1isize;
        for (&dim, &stride) in self.dims.iter().zip(&self.strides).rev() {
            if dim != 1 && stride != expected {
                return self.len() == 0;
            }
            expected = expected.saturating_mul(dim as isize);
        }
        true
    }

    /// The same element everywhere?
    pub fn is_constant(&self) -> bool {
        self.strides.iter().zip(&self.dims).all(|(&stride, &dim)| stride == 0 || dim == 1)
    }

    /// The same elements in the order of fewer axes: axes of extent 1 go, and
    /// neighbours that step alike in all `views` merge. All views have the same extents.
    pub fn merge_axes(views: &mut [&mut BoundView]) {
        let Some(first) = views.first() else { return };
        let dims = first.dims.clone();
        let mut kept: Vec<(usize, Vec<isize>)> = vec![];
        for (axis, &dim) in dims.iter().enumerate() {
            if dim == 1 {
                continue;
            }
            let strides: Vec<isize> = views.iter().map(|view| view.strides[axis]).collect();
            match kept.last_mut() {
                Some((extent, outer))
                    if outer.iter().zip(&strides).all(|(o, s)| *o == s.saturating_mul(dim as isize)) =>
                {
                    *extent *= dim;
                    *outer = strides;
                }
                _ => kept.push((dim, strides)),
            }
        }
        for (index, view) in views.iter_mut().enumerate() {
            view.dims = kept.iter().map(|(extent, _)| *extent).collect();
            view.strides = kept.iter().map(|(_, strides)| strides[index]).collect();
        }
    }

    /// Calls `visit` with the position of every element, in row-major order.
    pub fn for_each_position(&self, mut visit: impl FnMut(usize)) {
        rlx_ir::ops::for_each_index(&self.dims, |index| {
            let position = index
                .iter()
                .zip(&self.strides)
                .fold(self.offset as isize, |position, (&i, &stride)| position + i as isize * stride);
            visit(position as usize);
        });
    }

    /// Copies the view into a literal; `bytes` is the view's span.
    ///
    /// # Errors
    /// Bytes that are not of the dtype.
    pub fn read(&self, bytes: &[u8]) -> Result<Literal, String> {
        let Some(width) = self.dtype.size_of() else {
            return Literal::from_bytes(self.dtype, &self.dims, bytes).map_err(|error| error.to_string());
        };
        let mut out = Vec::with_capacity(self.len() * width);
        self.for_each_position(|position| out.extend_from_slice(&bytes[position * width..][..width]));
        Literal::from_bytes(self.dtype, &self.dims, &out).map_err(|error| error.to_string())
    }

    /// Stores a literal of the view's type; `bytes` is the view's span.
    pub fn write(&self, literal: &Literal, bytes: &mut [u8]) {
        let Some(width) = self.dtype.size_of() else {
            bytes.copy_from_slice(literal.bytes());
            return;
        };
        let mut source = literal.bytes().chunks_exact(width);
        self.for_each_position(|position| {
            if let Some(element) = source.next() {
                bytes[position * width..][..width].copy_from_slice(element);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_ir::lir::BufferId;
    use rlx_ir::{Layout, Shape};

    fn view(layout: Layout) -> BoundView {
        BoundView::new(&View { buffer: BufferId(0), dtype: DType::I32, layout }, &Bindings::new())
            .expect("the extents agree")
    }

    #[test]
    fn reversed_views_start_at_their_lowest_element() {
        let layout = Layout::dense(&Shape::from([6])).slice(0, &5.into(), -2, &3.into());
        let bound = view(layout);
        assert_eq!((bound.offset, bound.span.start, bound.span.len), (4, 4, 20));
        let bytes: Vec<u8> = (1..6i32).flat_map(i32::to_le_bytes).collect();
        assert_eq!(bound.read(&bytes).expect("the extents agree").to_ints(), vec![5, 3, 1]);
    }

    #[test]
    fn axes_merge_where_all_views_step_alike() {
        let mut dense = view(Layout::dense(&Shape::from([2, 1, 3, 4])));
        let mut rows = view(Layout::dense(&Shape::from([2, 1, 3, 1])).expand(&Shape::from([2, 1, 3, 4])));
        BoundView::merge_axes(&mut [&mut dense, &mut rows]);
        assert_eq!((dense.dims, dense.strides, rows.strides), (vec![6, 4], vec![4, 1], vec![1, 0]));
    }
}
