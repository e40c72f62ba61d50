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

/// Names longer than this are never suggested: comparing them would cost too much.
const LONGEST_SUGGESTION: usize = 200;
/// Names that are looked at for a suggestion.
const MOST_SUGGESTIONS: usize = 10_000;

/// The name of `known` that is most like `name`, for "did you mean" hints: a few edits away for its length,
/// not all of it new, or the same but for its case.
pub fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.len() / 4).clamp(1, 6);
    let likely = |other: &&str| {
        other.len().max(name.len()) <= LONGEST_SUGGESTION && other.len().abs_diff(name.len()) <= allowed
    };
    let distance = |other: &'a str| match other.eq_ignore_ascii_case(name) {
        true => Some((0, other)),
        false => Some((text_distance(name, other), other))
            .filter(|(distance, _)| *distance <= allowed && *distance < name.len()),
    };
    let likely = known.into_iter().take(MOST_SUGGESTIONS).filter(likely);
    likely.filter_map(distance).min().map(|(_, other)| other)
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn text_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_close_or_absent() {
        let names =
            ["layers.0.attn.q_proj.weight", "layers.0.attn.k_proj.weight", "norm.weight", "x", "rows"];
        let suggest = |wanted| nearest_name(wanted, names);
        assert_eq!(suggest("layers.0.attn.q_porj.weight"), Some(names[0]));
        assert_eq!(suggest("layer.0.attn.k_proj.weight"), Some(names[1]));
        assert_eq!((suggest("X"), suggest("row"), suggest("ROWS")), (Some("x"), Some("rows"), Some("rows")));
        assert_eq!((suggest("y"), suggest(""), suggest("completely.different")), (None, None, None));
        assert_eq!(suggest(&"x".repeat(1 << 20)), None);
    }
}
