//! The header of an npy file: a Python dict literal with the three keys
//! `descr`, `fortran_order` and `shape`, each exactly once.
//!
//! Reads only that much of Python: strings without escapes, `True`, `False`
//! and tuples of plain integers. Details of errors are returned as text.
#![forbid(unsafe_code)]

use crate::tensor::MAX_RANK;

/// The three entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Dtype as NumPy spells it; `[...]` for a structured one.
    pub(super) descr: String,
    /// First axis fastest.
    pub(super) fortran_order: bool,
    /// Extents.
    pub(super) dims: Vec<usize>,
}

/// Parses the whole header text.
pub(super) fn parse(text: &[u8]) -> Result<Header, String> {
    let mut cursor = Cursor { rest: text };
    let (mut descr, mut fortran_order, mut dims) = (None, None, None);
    cursor.expect(b'{')?;
    while !cursor.take(b'}') {
        let key = cursor.string()?;
        cursor.expect(b':')?;
        let repeated = match key {
            "descr" => descr.replace(cursor.descr()?).is_some(),
            "fortran_order" => fortran_order.replace(cursor.boolean()?).is_some(),
            "shape" => dims.replace(cursor.tuple()?).is_some(),
            _ => return Err(format!("found the key {key:?}, expected descr, fortran_order and shape")),
        };
        if repeated {
            return Err(format!("found the key {key:?} twice, expected it once"));
        }
        if !cursor.take(b',') {
            cursor.expect(b'}')?;
            break;
        }
    }
    cursor.skip_space();
    if !cursor.rest.is_empty() {
        return Err(format!("found {} bytes after the dict, expected none", cursor.rest.len()));
    }
    match (descr, fortran_order, dims) {
        (Some(descr), Some(fortran_order), Some(dims)) => Ok(Header { descr, fortran_order, dims }),
        _ => Err("found fewer keys, expected descr, fortran_order and shape".into()),
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Steps over `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let stripped = self.rest.strip_prefix(&[byte]);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("`{}`", byte as char))) }
    }

    fn unexpected(&self, expected: &str) -> String {
        match self.rest.first() {
            Some(byte) => format!("found `{}`, expected {expected}", byte.escape_ascii()),
            None => format!("found its end, expected {expected}"),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        let Some((&quote @ (b'\'' | b'"'), rest)) = self.rest.split_first() else {
            return Err(self.unexpected("a string"));
        };
        let end = rest.iter().position(|&byte| byte == quote || byte == b'\\');
        let end =
            end.filter(|&end| rest[end] == quote).ok_or("found no end of a string, expected a plain one")?;
        self.rest = &rest[end + 1..];
        std::str::from_utf8(&rest[..end])
            .map_err(|_| "found a string that is not UTF-8, expected text".into())
    }

    /// A dtype string; a list (structured dtype) is stepped over by its brackets.
    fn descr(&mut self) -> Result<String, String> {
        self.skip_space();
        if !self.rest.starts_with(b"[") {
            return self.string().map(str::to_owned);
        }
        let mut depth = 0usize;
        for (at, byte) in self.rest.iter().enumerate() {
            match byte {
                b'[' | b'(' => depth += 1,
                b']' | b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok("[...]".into());
            }
        }
        Err("found no end of the dtype list, expected `]`".into())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect(b'(')?;
        let mut dims = Vec::new();
        while !self.take(b')') {
            if dims.len() == MAX_RANK {
                return Err(format!("found more than {MAX_RANK} extents, expected at most {MAX_RANK}"));
            }
            dims.push(self.integer()?);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(dims)
    }

    /// A decimal integer, with the `L` that Python 2 put after long ones.
    fn integer(&mut self) -> Result<usize, String> {
        self.skip_space();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        let number = std::str::from_utf8(number).unwrap_or_default();
        let value = number.parse().map_err(|_| match number {
            "" => self.unexpected("an extent"),
            _ => format!("found the extent {}..., expected one below 2^64", &number[..number.len().min(24)]),
        })?;
        self.rest = rest.strip_prefix(b"L").unwrap_or(rest);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn dicts_of_every_layout_parse() {
        let expected = Header { descr: "<f4".into(), fortran_order: false, dims: vec![2, 3] };
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
            "{\"shape\":(2L,3L,),\"fortran_order\":False,\"descr\":\"<f4\"}",
            " { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 3 ) } ",
        ] {
            assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&expected), "{text}");
        }
        let structured = "{'descr': [('a', '<f4'), ('b', '<i4', (2,))], 'fortran_order': True, 'shape': ()}";
        let expected = Header { descr: "[...]".into(), fortran_order: true, dims: vec![] };
        assert_eq!(parse(structured.as_bytes()), Ok(expected));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        assert_eq!(error(""), "found its end, expected `{`");
        assert_eq!(error("{'descr': '<f4'}"), "found fewer keys, expected descr, fortran_order and shape");
        assert_eq!(
            error("{'shape': (1,), 'shape': (1,)}"),
            "found the key \"shape\" twice, expected it once"
        );
        assert_eq!(error("{'shape': (-1,)}"), "found `-`, expected an extent");
        assert_eq!(error("{'descr': '<f4"), "found no end of a string, expected a plain one");
        assert_eq!(error("{'descr': [[["), "found no end of the dtype list, expected `]`");
        assert_eq!(error("{'fortran_order': 0}"), "found `0`, expected True or False");
        assert_eq!(error("{} x"), "found 1 bytes after the dict, expected none");
        assert!(error("{'other': 1}").starts_with("found the key \"other\""));
        assert!(error("{'shape': (99999999999999999999999,)}").contains("expected one below 2^64"));
        assert!(error(&format!("{{'shape': ({})}}", "1,".repeat(65))).contains("more than 64 extents"));
    }
}
