//! What went wrong in a graph, where, and what would be right.

use std::fmt;
use std::panic::Location;

/// One finding about a graph.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Diagnostic {
    /// Node, block path or name concerned, such as `%4 matmul` or `input "x"`.
    pub subject: String,
    /// Operand types, where they matter.
    pub operands: Box<[String]>,
    /// Constraint label in the op's doc, if one is violated.
    pub constraint: Option<&'static str>,
    /// What was found and what was expected; lower case.
    pub message: String,
    /// What would mend it.
    pub hint: Option<Box<str>>,
    /// Where the node was built, or where it stands in a text.
    pub location: Option<Box<str>>,
}

impl Diagnostic {
    /// A finding with a subject and a message.
    pub fn new(subject: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { subject: subject.into(), message: message.into(), ..Diagnostic::default() }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// The same with the caller's source position.
    pub fn at(mut self, location: &Location<'_>) -> Diagnostic {
        self.location = Some(format!("{}:{}", location.file(), location.line()).into());
        self
    }

    /// The same with a line of a text.
    pub fn line(mut self, line: usize) -> Diagnostic {
        self.location = Some(format!("line {line}").into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{}: {}", self.subject, self.message)?;
        if let Some(constraint) = self.constraint {
            write!(f, " ({constraint})")?;
        }
        if !self.operands.is_empty() {
            write!(f, "; operands {}", self.operands.join(", "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// The error type of this crate: findings, or a fault of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IrError {
    /// The graph breaks its contract; all findings at once.
    #[error("{}", list(.0))]
    Invalid(Vec<Diagnostic>),
    /// A text that is not in the text form.
    #[error("{0}")]
    Syntax(Diagnostic),
    /// Values that an op refuses while it runs.
    #[error("{node}: {fault}")]
    Fault {
        /// The node, such as `%4 gather`.
        node: String,
        /// What the op says.
        fault: String,
    },
    /// Inputs that do not fit the graph; all findings at once.
    #[error("{}", list(.0))]
    Inputs(Vec<Diagnostic>),
}

fn list(findings: &[Diagnostic]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
