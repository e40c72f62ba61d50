//! What a run needs to go on, in one folder `step-N`: `model.safetensors`, the params under their names;
//! `optimizer.safetensors`, all other states; `trainer.json`, where the run stands.
//!
//! The folder is written under another name and renamed when it is whole, so that a run that is killed at any moment
//! leaves the checkpoints before as they were.

use crate::error::TrainError;
use rlx_ir::Literal;
use rlx_weights::output::write_file;
use rlx_weights::{MappedWeights, TensorRef, WeightLoader, safetensors};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const TRAINER: &str = "trainer.json";
const PREFIX: &str = "step-";

/// What `trainer.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Updates so far.
    pub step: u64,
    /// Seed of the batches.
    pub seed: u64,
    /// Best loss of an evaluation, and how many evaluations came after it.
    pub best: Option<f32>,
    pub since_best: u64,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Updates that had been made.
    pub step: u64,
}

impl Checkpoint {
    /// The checkpoints below `folder`, oldest first; none where there is no such folder.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn all(folder: impl AsRef<Path>) -> Result<Vec<Checkpoint>, TrainError> {
        let folder = folder.as_ref();
        if !folder.is_dir() {
            return Ok(vec![]);
        }
        let mut found = vec![];
        for entry in fs::read_dir(folder).map_err(TrainError::file(folder))? {
            let entry = entry.map_err(TrainError::file(folder))?;
            let name = entry.file_name();
            let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            if let Some(step) = step {
                found.push(Checkpoint { folder: entry.path(), step });
            }
        }
        found.sort_by_key(|checkpoint| checkpoint.step);
        Ok(found)
    }

    /// Writes a checkpoint and removes all but the newest `keep`.
    pub(crate) fn write(
        folder: &Path,
        position: &Position,
        [params, others]: [&[(String, Literal)]; 2],
        keep: usize,
    ) -> Result<Checkpoint, TrainError> {
        let step = position.step;
        let (whole, partial) =
            (folder.join(format!("{PREFIX}{step}")), folder.join(format!("partial-{step}")));
        for stale in [&partial, &whole] {
            if stale.exists() {
                fs::remove_dir_all(stale).map_err(TrainError::file(stale))?;
            }
        }
        fs::create_dir_all(&partial).map_err(TrainError::file(&partial))?;
        write_tensors(&partial.join(MODEL), params)?;
        write_tensors(&partial.join(OPTIMIZER), others)?;
        let text = serde_json::to_string_pretty(position).expect("numbers and names are JSON");
        let path = partial.join(TRAINER);
        fs::write(&path, text + "\n").map_err(TrainError::file(&path))?;
        fs::rename(&partial, &whole).map_err(TrainError::file(&whole))?;
        let all = Checkpoint::all(folder)?;
        for old in &all[..all.len().saturating_sub(keep.max(1))] {
            fs::remove_dir_all(&old.folder).map_err(TrainError::file(&old.folder))?;
        }
        Ok(Checkpoint { folder: whole, step })
    }

    /// Where the run stood, and its tensors by name.
    pub(crate) fn read(&self) -> Result<(Position, [MappedWeights; 2]), TrainError> {
        let path = self.folder.join(TRAINER);
        let text = fs::read_to_string(&path).map_err(TrainError::file(&path))?;
        let position: Position =
            serde_json::from_str(&text).map_err(|error| self.mismatch(format!("{TRAINER}: {error}")))?;
        let open = |name: &str| MappedWeights::open(self.folder.join(name));
        Ok((position, [open(MODEL)?, open(OPTIMIZER)?]))
    }

    pub(crate) fn mismatch(&self, message: impl Into<String>) -> TrainError {
        TrainError::Checkpoint { folder: self.folder.display().to_string(), message: message.into() }
    }
}

/// Writes tensors to a safetensors file in one move.
pub(crate) fn write_tensors(path: &Path, tensors: &[(String, Literal)]) -> Result<(), TrainError> {
    let views: Vec<(&str, TensorRef<'_>)> =
        tensors.iter().map(|(name, literal)| (name.as_str(), TensorRef::from(literal))).collect();
    Ok(write_file(path, |file, out| safetensors::write(file, out, &views, &[("format", "pt")]))?)
}

/// The tensor `name` of one of these files.
pub(crate) fn find(files: &[MappedWeights; 2], name: &str) -> Option<Literal> {
    files.iter().find_map(|file| file.find(name)?.view().to_literal().ok())
}
