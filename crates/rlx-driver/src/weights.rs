//! The weights of an executable: params as they were bound, and what the prepare stages made of them.
//!
//! Invariant: a param whose prepared forms are all that anything reads is let go as soon as they are made; binding it
//! again makes them anew. What holds the bytes is the backend's choice.

use crate::error::DriverError;
use rlx_ir::lir::{BufferId, BufferKind, IoEntry, LirModule};

/// Params and prepared buffers, each held as a `B`; clones share them.
#[derive(Clone, Debug)]
pub struct Weights<B> {
    /// By buffer of the module.
    held: Vec<Option<B>>,
    /// By stage: did it run on the params that are bound?
    ready: Vec<bool>,
    /// Was nothing bound since the last check?
    checked: bool,
}

impl<B: Clone> Weights<B> {
    /// The weights of `module`, none of them bound.
    pub fn new(module: &LirModule) -> Weights<B> {
        let ready = vec![false; module.prepare.len()];
        Weights { held: vec![None; module.buffers.len()], ready, checked: false }
    }

    /// What holds a param or prepared buffer; `None` before it is there and after it was let go.
    pub fn get(&self, buffer: BufferId) -> Option<&B> {
        self.held[buffer.0 as usize].as_ref()
    }

    /// Binds a param of `module`.
    pub fn bind(&mut self, module: &LirModule, param: &IoEntry, content: B) {
        self.held[param.buffer.0 as usize] = Some(content);
        self.checked = false;
        for (stage, ready) in module.prepare.iter().zip(&mut self.ready) {
            *ready &= !stage.takes(&param.name);
        }
    }

    /// Runs the stages of `module` whose params were bound since they ran. `run` is given a stage's number and its
    /// params, and gives what the stage made, in the order of its outputs. `false` where there was nothing to do.
    ///
    /// # Errors
    /// Params that nobody bound, and what `run` says.
    pub fn prepare(
        &mut self,
        module: &LirModule,
        run: &mut dyn FnMut(usize, Weights<B>) -> Result<Vec<B>, DriverError>,
    ) -> Result<bool, DriverError> {
        if self.checked {
            return Ok(false);
        }
        let released = module.released_params();
        let unbound = |param: &&IoEntry| {
            let is_packed = released.contains(&param.buffer) && self.is_ready(module, &param.name);
            self.get(param.buffer).is_none() && !is_packed
        };
        let unbound: Vec<String> =
            module.io.params.iter().filter(unbound).map(|param| param.name.clone()).collect();
        if !unbound.is_empty() {
            return Err(DriverError::Unbound(unbound));
        }
        for (index, stage) in module.prepare.iter().enumerate() {
            if self.ready[index] {
                continue;
            }
            let home = |entry: &IoEntry| {
                let same = module.buffers.iter().position(|buffer| {
                    buffer.name == entry.name && buffer.kind == stage.buffer(entry.buffer).kind
                });
                same.expect("a verified stage has params and results of its module")
            };
            let mut given = Weights::new(stage);
            for param in &stage.io.params {
                given.held[param.buffer.0 as usize].clone_from(&self.held[home(param)]);
            }
            stage.io.outputs.iter().for_each(|output| self.held[home(output)] = None);
            for (output, content) in stage.io.outputs.iter().zip(run(index, given)?) {
                self.held[home(output)] = Some(content);
            }
            self.ready[index] = true;
            let params = module.io.params.iter().filter(|param| stage.takes(&param.name));
            for param in params.filter(|param| released.contains(&param.buffer)) {
                if self.is_ready(module, &param.name) {
                    self.held[param.buffer.0 as usize] = None;
                }
            }
        }
        self.checked = true;
        Ok(true)
    }

    /// Did every stage run that takes `param`?
    fn is_ready(&self, module: &LirModule, param: &str) -> bool {
        module.prepare.iter().zip(&self.ready).all(|(stage, ready)| *ready || !stage.takes(param))
    }

    /// Every param and prepared buffer of `module` with what holds it.
    pub fn iter<'a>(&'a self, module: &'a LirModule) -> impl Iterator<Item = (BufferId, Option<&'a B>)> {
        let is_weight = |kind: &BufferKind| matches!(kind, BufferKind::Param | BufferKind::Prepared);
        let weights = module.buffers.iter().zip(&self.held).enumerate();
        let weights = weights.filter(move |(_, (buffer, _))| is_weight(&buffer.kind));
        weights.map(|(index, (_, held))| (BufferId(index as u32), held.as_ref()))
    }
}
