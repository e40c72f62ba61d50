//! One named test per variant of an error enum, with the message that a user sees. Shared as a file, since the
//! crates at the bottom cannot depend on this one.

/// Declares the tests of enum `$error`, which is declared in `$file`: each case gives an error and its whole
/// message. A variant without a case is a failure, but for those after `but`, which are provoked elsewhere.
///
/// Where a case starts with `|folder|`, it gives a result that must be an error; it works in an empty folder,
/// which its message calls DIR.
macro_rules! error_cases {
    ($error:ident in $file:literal $(but $elsewhere:ident)*: $($test:ident: $variant:ident, |$folder:ident| $body:expr => $message:literal;)*) => {
        $(#[test]
        fn $test() {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let $folder: &std::path::Path = folder.path();
            let run = || -> Result<(), $error> { $body.map(drop) };
            let error = run().expect_err("this must be refused");
            assert!(matches!(error, $error::$variant { .. }), "{error:?}");
            assert_eq!(error.to_string().replace($folder.to_str().expect("text"), "DIR"), $message);
        })*

        error_cases! { @covered $error in $file: $($variant)* $($elsewhere)* }
    };
    ($error:ident in $file:literal: $($test:ident: $variant:ident, $body:expr => $message:literal;)*) => {
        $(#[test]
        fn $test() {
            let error: $error = $body;
            assert!(matches!(error, $error::$variant { .. }), "{error:?}");
            assert_eq!(error.to_string(), $message);
        })*

        error_cases! { @covered $error in $file: $($variant)* }
    };
    (@covered $error:ident in $file:literal: $($variant:ident)*) => {
        #[test]
        fn every_variant_has_a_case() {
            let covered = [$(stringify!($variant)),*];
            let start = concat!("pub enum ", stringify!($error), " {");
            let body = include_str!($file).split_once(start).map_or("", |(_, rest)| rest);
            let body = body.split("\n}").next().unwrap_or_default();
            let declared: Vec<&str> = body
                .lines()
                .filter_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)))
                .filter_map(|line| line.split(['(', '{', ',']).next())
                .map(str::trim)
                .collect();
            assert!(!declared.is_empty(), "{} is not declared in {}", stringify!($error), $file);
            let missing: Vec<&&str> = declared.iter().filter(|name| !covered.contains(name)).collect();
            assert!(missing.is_empty(), "variants without a case: {missing:?}");
        }
    };
}
