//! What is trained on, cut into batches that follow from seed and step alone.
//!
//! - Text: one stream of tokens; a batch is windows at random places of it, `input_ids` and `labels`, `i64[B, S]`,
//!   the labels one token further. The last part of the stream is kept for evaluation.
//! - Arrays of an npz file with one extent in front: a batch is rows of an order that is shuffled anew in each
//!   epoch. The last rows are kept for evaluation.

use crate::error::TrainError;
use rlx_ir::sample::Generator;
use rlx_ir::{DType, Literal};
use rlx_models::TextTokenizer;
use rlx_weights::{MappedWeights, OpenOptions, WeightLoader};
use std::path::Path;

/// Named inputs of a step.
pub type Batch = Vec<(String, Literal)>;

/// Batches to train on and to evaluate with.
#[derive(Debug)]
pub struct Data {
    source: Source,
    batch_size: usize,
    seed: u64,
    /// Tokens or rows before this are trained on, the others evaluated.
    split: usize,
}

#[derive(Debug)]
enum Source {
    Tokens { tokens: Vec<u32>, length: usize },
    Rows { arrays: Vec<(String, Literal)>, count: usize },
}

impl Data {
    /// Windows of `length` tokens of a stream of them.
    ///
    /// # Errors
    /// A stream shorter than a window and its next token, a share outside 0 to 1.
    pub fn tokens(
        source_name: &str,
        tokens: Vec<u32>,
        [batch_size, length]: [usize; 2],
        (evaluated, seed): (f64, u64),
    ) -> Result<Data, TrainError> {
        let split = split(tokens.len(), evaluated)?;
        let least = length + 1;
        let rest = tokens.len() - split;
        if split < least || (rest > 0 && rest < least) {
            let message = format!(
                "has {split} tokens to train on and {rest} to evaluate with; a window of {length} takes {least}"
            );
            return Err(TrainError::data(source_name, message));
        }
        Data::new(Source::Tokens { tokens, length }, batch_size, seed, split)
    }

    /// Windows of the text of files, each a document, or each of its lines where `lines` says so. After each
    /// document stands `end`, if there is one.
    ///
    /// # Errors
    /// Files that cannot be read; as [`Data::tokens`].
    pub fn text(
        files: &[impl AsRef<Path>],
        (tokenizer, end, lines): (&TextTokenizer, Option<u32>, bool),
        shape: [usize; 2],
        split: (f64, u64),
    ) -> Result<Data, TrainError> {
        let mut tokens = vec![];
        let mut names = vec![];
        for path in files {
            let path = path.as_ref();
            let text = std::fs::read_to_string(path).map_err(TrainError::file(path))?;
            names.push(path.display().to_string());
            let documents: Vec<&str> = if lines { text.lines().collect() } else { vec![text.as_str()] };
            for document in documents.into_iter().filter(|document| !document.is_empty()) {
                tokens.extend(tokenizer.encode(document)?.ids);
                tokens.extend(end);
            }
        }
        Data::tokens(&names.join(", "), tokens, shape, split)
    }

    /// Rows of the arrays of an npz file, whose names are those of the inputs.
    ///
    /// # Errors
    /// A file that cannot be read, arrays of different numbers of rows, fewer rows than a batch.
    pub fn arrays(
        path: impl AsRef<Path>,
        batch_size: usize,
        (evaluated, seed): (f64, u64),
    ) -> Result<Data, TrainError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let loaded = MappedWeights::open_with(path, &OpenOptions::default())?;
        let mut arrays = vec![];
        let mut rows: Option<usize> = None;
        for array in loaded.names() {
            let found = loaded.find(array).and_then(|tensor| tensor.view().to_literal().ok());
            let Some(literal) = found else { continue };
            let Some(&extent) = literal.dims().first() else {
                return Err(TrainError::data(&name, format!("array {array} has no rows")));
            };
            if rows.is_some_and(|rows| rows != extent) {
                let message =
                    format!("array {array} has {extent} rows, the one before {}", rows.unwrap_or(0));
                return Err(TrainError::data(&name, message));
            }
            rows = Some(extent);
            arrays.push((array.to_string(), literal));
        }
        let count = rows.ok_or_else(|| TrainError::data(&name, "holds no arrays"))?;
        let split = split(count, evaluated)?;
        let rest = count - split;
        if split < batch_size || (rest > 0 && rest < batch_size) {
            let message = format!(
                "has {split} rows to train on and {rest} to evaluate with; a batch takes {batch_size}"
            );
            return Err(TrainError::data(&name, message));
        }
        Data::new(Source::Rows { arrays, count }, batch_size, seed, split)
    }

    fn new(source: Source, batch_size: usize, seed: u64, split: usize) -> Result<Data, TrainError> {
        if batch_size == 0 {
            return Err(TrainError::setting("batch_size", 0, "1 or more"));
        }
        Ok(Data { source, batch_size, seed, split })
    }

    /// Tokens or rows of a batch: what throughput counts.
    pub fn items_per_batch(&self) -> usize {
        match &self.source {
            Source::Tokens { length, .. } => self.batch_size * length,
            Source::Rows { .. } => self.batch_size,
        }
    }

    /// What the items are called.
    pub fn item_name(&self) -> &'static str {
        match &self.source {
            Source::Tokens { .. } => "tokens",
            Source::Rows { .. } => "rows",
        }
    }

    /// Batch number `index`, from 0, of the training part.
    ///
    /// # Errors
    /// None that a checked source can cause.
    pub fn batch(&self, index: u64) -> Result<Batch, TrainError> {
        let rows = index * self.batch_size as u64..(index + 1) * self.batch_size as u64;
        match &self.source {
            Source::Tokens { tokens, length } => {
                let places = self.split - length;
                let starts = rows.map(|row| mixed(self.seed, row).below(places));
                windows(tokens, starts.collect(), *length)
            }
            Source::Rows { arrays, .. } => {
                let per_epoch = self.split / self.batch_size;
                let (epoch, first) =
                    (index / per_epoch as u64, index % per_epoch as u64 * self.batch_size as u64);
                let order = shuffled(self.split, mixed(self.seed, epoch));
                let first = first as usize;
                take_rows(arrays, &order[first..first + self.batch_size])
            }
        }
    }

    /// Up to `most` batches of the evaluation part, the same at each call.
    ///
    /// # Errors
    /// None that a checked source can cause.
    pub fn evaluation(&self, most: usize) -> Result<Vec<Batch>, TrainError> {
        let size = self.batch_size;
        match &self.source {
            Source::Tokens { tokens, length } => {
                let whole = (tokens.len() - self.split).saturating_sub(1) / length;
                let starts: Vec<usize> = (0..whole).map(|index| self.split + index * length).collect();
                let batches = starts.chunks(size).take(most);
                batches.map(|starts| windows(tokens, starts.to_vec(), *length)).collect()
            }
            Source::Rows { arrays, count } => {
                let rows: Vec<usize> = (self.split..*count).collect();
                rows.chunks_exact(size).take(most).map(|rows| take_rows(arrays, rows)).collect()
            }
        }
    }
}

/// Where evaluation begins.
fn split(count: usize, evaluated: f64) -> Result<usize, TrainError> {
    if !(0.0..1.0).contains(&evaluated) {
        return Err(TrainError::setting("data.evaluate", evaluated, "a share from 0 to less than 1"));
    }
    Ok(count - (count as f64 * evaluated) as usize)
}

/// The stream of one row or epoch.
fn mixed(seed: u64, index: u64) -> Generator {
    let mut generator = Generator::new(seed);
    Generator::new(generator.next_u64() ^ index.wrapping_mul(0xd134_2543_de82_ef95))
}

fn shuffled(count: usize, mut generator: Generator) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, generator.below(last + 1));
    }
    order
}

fn windows(tokens: &[u32], starts: Vec<usize>, length: usize) -> Result<Batch, TrainError> {
    let part = |shift: usize| -> Result<Literal, TrainError> {
        let rows = starts.iter().flat_map(|start| &tokens[start + shift..start + shift + length]);
        let bytes: Vec<u8> = rows.flat_map(|&token| i64::from(token).to_le_bytes()).collect();
        Ok(Literal::from_bytes(DType::I64, &[starts.len(), length], &bytes)?)
    };
    Ok(vec![("input_ids".to_string(), part(0)?), ("labels".to_string(), part(1)?)])
}

fn take_rows(arrays: &[(String, Literal)], rows: &[usize]) -> Result<Batch, TrainError> {
    let take = |(name, array): &(String, Literal)| {
        let width = array.bytes().len() / array.dims()[0].max(1);
        let bytes: Vec<u8> =
            rows.iter().flat_map(|row| &array.bytes()[row * width..(row + 1) * width]).copied().collect();
        let mut dims = array.dims().to_vec();
        dims[0] = rows.len();
        Ok((name.clone(), Literal::from_bytes(array.dtype(), &dims, &bytes)?))
    };
    arrays.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(count: u32) -> Vec<u32> {
        (0..count).collect()
    }

    #[test]
    fn windows_follow_from_seed_and_step() {
        let data =
            |seed| Data::tokens("t", stream(1000), [4, 8], (0.1, seed)).expect("the stream is long enough");
        let (one, other) = (data(7).batch(3).expect("a batch"), data(8).batch(3).expect("a batch"));
        assert_eq!(one, data(7).batch(3).expect("a batch"));
        assert_ne!(one, other);
        let (ids, labels) = (one[0].1.to_ints(), one[1].1.to_ints());
        assert_eq!(one[0].1.dims(), [4, 8]);
        assert!(ids.iter().zip(&labels).all(|(id, label)| id + 1 == *label));
        assert!(labels.iter().all(|&label| label < 900), "evaluation is kept apart");
        let evaluation = data(7).evaluation(99).expect("batches");
        assert_eq!(evaluation.iter().map(|batch| batch[0].1.dims()[0]).sum::<usize>(), 12);
        assert!(evaluation[0][0].1.to_ints().iter().all(|&id| id >= 900));
    }

    #[test]
    fn an_epoch_takes_every_row_once() {
        let order = shuffled(10, mixed(1, 0));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_ne!(order, shuffled(10, mixed(1, 1)));
    }

    #[test]
    fn streams_that_are_too_short_are_refused() {
        let error = Data::tokens("corpus.txt", stream(8), [1, 8], (0.0, 0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "corpus.txt: has 8 tokens to train on and 0 to evaluate with; a window of 8 takes 9"
        );
        assert!(Data::tokens("t", stream(100), [0, 8], (0.0, 0)).is_err());
        assert!(Data::tokens("t", stream(100), [1, 8], (1.0, 0)).is_err());
    }
}
