//! The list of exceptions: one line each, `<rule> <place> -- <reason>`.
//!
//! A place is a path, or `path::name` for a function or trait in it; for `unsafe` it may be a folder. Invariants: only rules that can be
//! lifted are accepted, every entry has a reason, and an entry that lifted nothing is reported.
//!
//! It does not know what the rules check.

use super::{ALLOW_LIST, Finding};

/// The rules that an entry may lift.
pub const LIFTABLE: [&str; 8] =
    ["file", "function", "match", "parameters", "trait", "unsafe", "assertion", "environment"];

#[derive(Debug)]
struct Entry {
    rule: String,
    place: String,
    line: usize,
    used: bool,
}

/// The parsed list.
#[derive(Debug, Default)]
pub struct AllowList {
    entries: Vec<Entry>,
}

impl AllowList {
    /// Reads the list; lines that are not entries become findings.
    pub fn parse(text: &str, findings: &mut Vec<Finding>) -> Self {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_entry(line) {
                Ok((rule, place)) if list.position(&rule, &place).is_some() => {
                    findings.push(finding(line_number, format!("`{rule} {place}` stands here twice")));
                }
                Ok((rule, place)) => list.entries.push(Entry { rule, place, line: line_number, used: false }),
                Err(message) => findings.push(finding(line_number, message)),
            }
        }
        list
    }

    fn position(&self, rule: &str, place: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.rule == rule && entry.place == place)
    }

    /// Whether `rule` is lifted at `place`; marks the entry as used.
    pub fn allows(&mut self, rule: &str, place: &str) -> bool {
        match self.position(rule, place) {
            Some(index) => {
                self.entries[index].used = true;
                true
            }
            None => false,
        }
    }

    /// Whether the file at `path` may use unsafe code: listed itself, or in a listed folder (ending in `/`).
    pub fn allows_unsafe(&mut self, path: &str) -> bool {
        let covers = |place: &str| place == path || (place.ends_with('/') && path.starts_with(place));
        let entry = self.entries.iter_mut().find(|entry| entry.rule == "unsafe" && covers(&entry.place));
        entry.map(|entry| entry.used = true).is_some()
    }

    /// Whether any path under `folder` may use unsafe code.
    pub fn has_unsafe_under(&self, folder: &str) -> bool {
        self.entries.iter().any(|entry| entry.rule == "unsafe" && entry.place.starts_with(folder))
    }

    /// Reports the entries that lifted nothing.
    pub fn report_stale(&self, findings: &mut Vec<Finding>) {
        for entry in self.entries.iter().filter(|entry| !entry.used) {
            let message = format!("stale entry: `{} {}` lifts nothing, remove it", entry.rule, entry.place);
            findings.push(finding(entry.line, message));
        }
    }
}

fn finding(line: usize, message: String) -> Finding {
    Finding { rule: "allow", path: ALLOW_LIST.to_owned(), line, message }
}

fn parse_entry(line: &str) -> Result<(String, String), String> {
    let (subject, reason) = line.split_once(" -- ").ok_or("an entry reads `<rule> <place> -- <reason>`")?;
    let (rule, place) = subject.trim().split_once(' ').ok_or("an entry names a rule and a place")?;
    if !LIFTABLE.contains(&rule) {
        return Err(format!("rule `{rule}` cannot be lifted; those that can: {}", LIFTABLE.join(", ")));
    }
    if reason.split_whitespace().count() < 3 {
        return Err(format!("`{rule} {place}` needs its reason in words"));
    }
    Ok((rule.to_owned(), place.trim().to_owned()))
}
