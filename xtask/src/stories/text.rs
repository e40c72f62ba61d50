//! Between text and words: how a sequence of words and punctuation marks is written as a sentence, how a sentence is
//! cut back into words, and how a text is cut into sentences.
//!
//! Invariant: for a sequence of words that [`words`] can give, `words(render(w))` is `w` up to the capitals that
//! [`render`] puts in. This module knows nothing of the grammar.

/// Writes words and punctuation marks as one sentence: blanks between words, none before a mark, quotation marks
/// opening and closing in turn, and a capital at the start and after an opening quotation mark.
pub fn render(words: &[&str]) -> String {
    let mut text = String::new();
    let mut in_quotes = false;
    let mut tight = true;
    for (word, capital) in words.iter().zip(capitals(words)) {
        let closes = *word == "\"" && in_quotes;
        let opens = *word == "\"" && !in_quotes;
        in_quotes ^= closes || opens;
        if !tight && !closes && !matches!(*word, "." | "," | "!" | "?") {
            text.push(' ');
        }
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if capital => {
                text.extend(first.to_uppercase());
                text.push_str(letters.as_str());
            }
            _ => text.push_str(word),
        }
        tight = opens;
    }
    text
}

/// For each word, whether it is written with a capital because of its place.
pub fn capitals<'a>(words: &'a [&str]) -> impl Iterator<Item = bool> + 'a {
    let mut in_quotes = false;
    let mut pending = true;
    words.iter().map(move |word| {
        if *word == "\"" {
            in_quotes = !in_quotes;
            pending |= in_quotes;
            false
        } else {
            std::mem::take(&mut pending)
        }
    })
}

/// Cuts a sentence into words and the marks `. , ! ? "`. `None` if it holds any other character or the spacing is not
/// the one of [`render`].
pub fn words(sentence: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let mut rest = sentence;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' | '.' | ',' | '!' | '?' | '"' => 1,
            _ => rest.find(|c: char| !c.is_ascii_alphabetic() && c != '\'').unwrap_or(rest.len()),
        };
        if length == 0 {
            return None;
        }
        let (word, after) = rest.split_at(length);
        if word != " " {
            found.push(word);
        }
        rest = after;
    }
    (render(&found) == sentence).then_some(found)
}

/// Cuts a text into sentences: each ends at `.`, `!` or `?` and an optional quotation mark, where the text ends or
/// goes on with a blank and anything but a lower-case letter. The second value is what is left without an end.
pub fn sentences(text: &str) -> (Vec<&str>, &str) {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < bytes.len() {
        let mark = matches!(bytes[at], b'.' | b'!' | b'?');
        at += 1;
        if !mark {
            continue;
        }
        if bytes.get(at) == Some(&b'"') {
            at += 1;
        }
        let rest = &text[at..];
        let next = rest.trim_start();
        let goes_on = next.starts_with(char::is_lowercase) || (rest.len() == next.len() && !next.is_empty());
        if !goes_on {
            found.push(text[start..at].trim_start());
            start = at;
        }
    }
    (found, text[start..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_written_and_read_back() {
        let spoken = ["\"", "do", "you", "see", "me", "?", "\"", "asked", "Tom", "."];
        let text = render(&spoken);
        assert_eq!(text, "\"Do you see me?\" asked Tom.");
        assert_eq!(words(&text).map(|w| w[1]), Some("Do"));
        let quoted = render(&["he", "said", ",", "\"", "yes", ",", "I", "do", "!", "\""]);
        assert_eq!(quoted, "He said, \"Yes, I do!\"");
        assert_eq!(words(&quoted).map(|w| w.len()), Some(10));
    }

    #[test]
    fn wrong_spelling_is_refused() {
        for text in
            ["he ran.", "He ran .", "He  ran.", "He ran.\n", "He ran 5 miles.", "He said, \"no.\"", "Été."]
        {
            assert_eq!(words(text), None, "{text:?}");
        }
    }

    #[test]
    fn texts_are_cut_at_sentence_ends() {
        let (found, rest) = sentences("\"Is it?\" asked Tom. He said, \"Yes!\" It was. And th");
        assert_eq!(found, ["\"Is it?\" asked Tom.", "He said, \"Yes!\"", "It was."]);
        assert_eq!(rest, "And th");
        assert_eq!(sentences("No end"), (vec![], "No end"));
        assert_eq!(sentences(""), (vec![], ""));
        assert_eq!(
            sentences("One. \u{e9}t\u{e9}! Z\u{fc}ge?"),
            (vec!["One. \u{e9}t\u{e9}!", "Z\u{fc}ge?"], "")
        );
    }
}
