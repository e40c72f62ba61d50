//! Steps without an anchor: one invocation for each element of the domain.

use super::emitter::Emitter;
use super::program::emit_program;
use crate::error::KernelError;
use crate::ir::Scalar;
use rlx_ir::lir::{EpilogueInput, View};
use rlx_ir::{Dim, Layout, ScalarKind, Shape};

pub(super) fn lower(e: &Emitter<'_>) -> Result<Dim, KernelError> {
    let step = e.step;
    let (Some(epilogue), Some(first)) = (&step.epilogue, step.outputs.first()) else {
        return Err(e.refuse("a step that computes nothing".into()));
    };
    let inputs = epilogue.inputs.iter().map(|input| match input {
        EpilogueInput::View(view) => Ok(view.clone()),
        EpilogueInput::Anchor => Err(e.refuse("an anchor's result in a step without one".into())),
    });
    let mut inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let mut outputs = step.outputs.clone();
    let mut dims = first.layout.shape.dims().to_vec();
    let copies = epilogue.program.is_identity();
    if copies {
        split_words(e, &mut dims, &mut inputs[0], &mut outputs[0])?;
    }
    if !epilogue.program.instrs.iter().any(|instr| matches!(instr.kind, ScalarKind::Index(_))) {
        dims = merge_axes(&dims, inputs.iter_mut().chain(&mut outputs));
    }
    e.each(&dims, |e, id| {
        let coordinates = e.coordinates(id, &dims)?;
        if copies {
            let ty = if outputs[0].dtype.size_of() == Some(1) { Scalar::U8 } else { Scalar::U16 };
            let ty = if outputs[0].dtype.size_of() >= Some(4) { Scalar::U32 } else { ty };
            let (from, to) = (e.place(inputs[0].buffer, ty), e.place(outputs[0].buffer, ty));
            let value = e.b.load(from, e.position(&inputs[0], &coordinates)?);
            e.b.store(to, e.position(&outputs[0], &coordinates)?, value);
            return Ok(());
        }
        let load = |view| e.load(view, &coordinates);
        let loaded = inputs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let results = emit_program(e, &epilogue.program, &loaded, &coordinates)?;
        outputs.iter().zip(results).try_for_each(|(view, value)| e.store(view, &coordinates, value))
    })
}

/// A copy moves bytes: elements of more than a word get an axis of words, so that every dtype can be copied.
fn split_words(
    e: &Emitter<'_>,
    dims: &mut Vec<Dim>,
    from: &mut View,
    to: &mut View,
) -> Result<(), KernelError> {
    let Some(width) = from.dtype.size_of() else {
        return Err(e.refuse(format!("a copy of {}", from.dtype)));
    };
    if width <= 4 {
        return Ok(());
    }
    let words = Dim::from(width / 4);
    for view in [from, to] {
        let layout = &view.layout;
        let mut strides: Vec<Dim> =
            layout.strides.iter().map(|stride| stride.clone() * words.clone()).collect();
        strides.push(Dim::from(1));
        let mut shape = layout.shape.dims().to_vec();
        shape.push(words.clone());
        view.layout =
            Layout { offset: layout.offset.clone() * words.clone(), shape: Shape::new(shape), strides };
    }
    dims.push(words);
    Ok(())
}

/// Drops axes of extent 1 and joins neighbours that step alike in all views; returns the new extents.
fn merge_axes<'a>(dims: &[Dim], views: impl Iterator<Item = &'a mut View>) -> Vec<Dim> {
    let mut views: Vec<&mut View> = views.collect();
    let mut kept: Vec<(Dim, Vec<Dim>)> = Vec::new();
    for (axis, dim) in dims.iter().enumerate().filter(|(_, dim)| !dim.is(1)) {
        let strides: Vec<Dim> = views.iter().map(|view| view.layout.strides[axis].clone()).collect();
        match kept.last_mut() {
            Some((extent, outer))
                if outer.iter().zip(&strides).all(|(outer, inner)| *outer == inner.clone() * dim.clone()) =>
            {
                *extent = extent.clone() * dim.clone();
                *outer = strides;
            }
            _ => kept.push((dim.clone(), strides)),
        }
    }
    let dims: Vec<Dim> = kept.iter().map(|(dim, _)| dim.clone()).collect();
    for (index, view) in views.iter_mut().enumerate() {
        view.layout.shape = Shape::new(dims.clone());
        view.layout.strides = kept.iter().map(|(_, strides)| strides[index].clone()).collect();
    }
    dims
}
