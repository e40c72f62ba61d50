//! What goes wrong with a model folder, a text or a run.

use rlx_ir::IrError;
use rlx_runtime::RuntimeError;
use rlx_weights::WeightError;

/// The error type of models.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the folder that cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is larger than any real one.
    #[error("{file}: has more than {limit} bytes, the most that is read of such a file")]
    TooLarge {
        /// The file.
        file: String,
        /// The most bytes.
        limit: u64,
    },
    /// A file that is not the JSON it should be.
    #[error("{file}: is not valid JSON: {message}")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        message: String,
    },
    /// A field with a value that has no meaning or that this library does not do.
    #[error("{file}: field \"{field}\" is {found}, expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// Fields that nothing here knows, so that their effect on results is not known either.
    #[error(
        "{file}: fields that are not known and may change results: {}; load with `UnknownFields::Ignore` if they do not", .fields.join(", ")
    )]
    UnknownFields {
        /// The file.
        file: String,
        /// Their names.
        fields: Vec<String>,
    },
    /// A weight file that cannot be used.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A tensor that the configuration asks for and the files lack.
    #[error("{file}: there is no tensor \"{tensor}\", which the configuration asks for with shape {expected}{}", hint(.nearest))]
    MissingTensor {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        expected: String,
        /// The closest name there is.
        nearest: Option<String>,
    },
    /// A tensor whose shape is not what the configuration says.
    #[error("{file}: tensor \"{tensor}\" has shape {found}, the configuration says {expected}")]
    TensorShape {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: String,
        /// What the configuration says.
        expected: String,
    },
    /// A tensor that does not hold f32, f16 or bf16.
    #[error("{file}: tensor \"{tensor}\" holds {found}, expected f32, f16 or bf16")]
    TensorDtype {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        found: String,
    },
    /// Tensors of the model that the configured model does not use.
    #[error(
        "{file}: the configured model does not use tensor \"{tensor}\" ({count} such tensors); does config.json belong to these weights?"
    )]
    UnusedTensor {
        /// The weight file.
        file: String,
        /// The first of them.
        tensor: String,
        /// How many there are.
        count: usize,
    },
    /// Two tensors of the files that have one name in graphs.
    #[error("{file}: tensors \"{tensor}\" and \"{other}\" mean the same parameter; keep one of them")]
    DuplicateTensor {
        /// The weight file.
        file: String,
        /// One of them.
        tensor: String,
        /// The other.
        other: String,
    },
    /// A tokenizer file that the tokenizer library refuses.
    #[error("{file}: is not a tokenizer that can be loaded: {message}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What the library said.
        message: String,
    },
    /// A text that the tokenizer fails on, or ids that it cannot turn into text.
    #[error("the tokenizer failed: {0}")]
    Tokenize(String),
    /// A token that the model's vocabulary lacks.
    #[error(
        "token {token} is not in the vocabulary of {vocabulary} tokens; does tokenizer.json belong to this model?"
    )]
    Token {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocabulary: usize,
    },
    /// More tokens than the model or its cache has positions for.
    #[error("{found} tokens do not fit the {limit} positions{reason}")]
    TooLong {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
        /// Whose positions.
        reason: &'static str,
    },
    /// Logits among which none is the greatest.
    #[error(
        "the logit of token {token} is {found}, so that no token can be chosen; are the weights of this model finite?"
    )]
    Logits {
        /// The token.
        token: usize,
        /// Its logit.
        found: String,
    },
    /// A request that has no meaning.
    #[error("{what}: {message}")]
    Request {
        /// The setting or argument.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The graph does not build.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// Compiling, binding or running failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; the closest name is \"{name}\"")).unwrap_or_default()
}
