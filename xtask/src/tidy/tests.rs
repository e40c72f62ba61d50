//! Every rule is seen to fail on a bad snippet and to pass on the good one beside it.

use super::{ALLOW_LIST, File, check, read_files};
use crate::workspace::Workspace;

const LIBRARY: &str = "crates/a/src/part.rs";

fn file(path: &str, text: impl Into<String>) -> File {
    File { path: path.to_owned(), text: text.into() }
}

/// The rules that `files` break, each once, in order of their names.
fn broken(files: &[File]) -> Vec<&'static str> {
    let mut rules: Vec<_> = check(files).findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// The rules that a library file with this body breaks.
fn broken_in(body: &str) -> Vec<&'static str> {
    broken(&[file(LIBRARY, format!("//! A part.\n{body}\n"))])
}

/// Asserts that `bad` breaks `rule`, that an entry for `place` lifts it, and that the entry is stale on `good`.
fn assert_liftable(rule: &'static str, place: &str, bad: &str, good: &str) {
    assert_eq!(broken_in(bad), [rule]);
    assert_eq!(broken_in(good), [""; 0]);
    let allow = file(ALLOW_LIST, format!("# exceptions\n\n{rule} {place} -- a reason in words\n"));
    let with_list = |body: &str| broken(&[file(LIBRARY, format!("//! A part.\n{body}\n")), allow.clone()]);
    assert_eq!(with_list(bad), [""; 0]);
    assert_eq!(with_list(good), ["allow"]);
}

#[test]
fn the_repository_is_tidy() {
    let workspace = Workspace::find().expect("the tests run inside the repository");
    let files = read_files(&workspace).expect("the repository can be read");
    let findings: Vec<String> = check(&files).findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn long_files_need_an_entry() {
    assert_liftable("file", LIBRARY, &"\n".repeat(799), &"\n".repeat(798));
}

#[test]
fn long_functions_need_an_entry() {
    let function = |lines: usize| format!("fn f() {{{}}}", "\n".repeat(lines - 1));
    assert_liftable("function", "crates/a/src/part.rs::f", &function(151), &function(150));
}

#[test]
fn wide_matches_need_an_entry() {
    let function = |arms: usize| format!("fn f(x: u8) {{ match x {{ {} }} }}", "1 => {}\n".repeat(arms));
    assert_liftable("match", "crates/a/src/part.rs::f", &function(26), &function(25));
}

#[test]
fn many_parameters_need_an_entry() {
    let function = |count: usize| format!("impl X {{ fn f(&self, {}) {{}} }}", "a: u8, ".repeat(count));
    assert_liftable("parameters", "crates/a/src/part.rs::f", &function(7), &function(6));
}

#[test]
fn large_traits_need_an_entry() {
    let declaration = |count: usize| format!("trait T {{ {} }}", "fn a(&self);".repeat(count));
    assert_liftable("trait", "crates/a/src/part.rs::T", &declaration(13), &declaration(12));
}

#[test]
fn unsafe_code_needs_an_entry() {
    assert_liftable(
        "unsafe",
        LIBRARY,
        "fn f() { unsafe { g() } }",
        "/* unsafe */ const A: &str = \"unsafe\";",
    );
}

#[test]
fn tests_need_an_assertion() {
    let helper = "fn g() { h() } fn h() { assert!(true) }";
    let good = format!("#[test] fn f() {{ g(); }} {helper}");
    let bad = "#[test] fn f() { g(); } fn g() { \"assert\"; }";
    assert_liftable("assertion", "crates/a/src/part.rs::f", bad, &good);
    assert_eq!(broken_in("#[test] fn f() -> Result<(), E> { g()?; Ok(()) }"), [""; 0]);
}

#[test]
fn crate_roots_forbid_unsafe_code() {
    let root = |attribute: &str| file("crates/a/src/lib.rs", format!("//! A crate.\n{attribute}\n"));
    assert_eq!(broken(&[root("")]), ["unsafe"]);
    assert_eq!(broken(&[root("// #![forbid(unsafe_code)]")]), ["unsafe"]);
    assert_eq!(broken(&[root("#![deny(unsafe_code)]")]), ["unsafe"]);
    assert_eq!(broken(&[root("#![forbid(unsafe_code)]")]), [""; 0]);
    let part = file("crates/a/src/part.rs", "//! A part.\nfn f() { unsafe { g() } }\n");
    let allow = file(ALLOW_LIST, "unsafe crates/a/src/part.rs -- maps files into memory\n");
    assert_eq!(broken(&[root("#![forbid(unsafe_code)]"), part.clone(), allow.clone()]), ["unsafe"]);
    assert_eq!(broken(&[root("#![deny(unsafe_code)]"), part, allow]), [""; 0]);
}

#[test]
fn entries_are_well_formed() {
    for text in
        ["file a.rs", "file -- a reason in words", "header a.rs -- a reason in words", "file a.rs -- because"]
    {
        assert_eq!(broken(&[file(ALLOW_LIST, text)]), ["allow"], "{text}");
    }
    let long = file(LIBRARY, format!("//! A part.\n{}", "\n".repeat(800)));
    let twice = format!("file {LIBRARY} -- a reason in words\n").repeat(2);
    assert_eq!(broken(&[long, file(ALLOW_LIST, twice)]), ["allow"]);
}

#[test]
fn files_open_with_a_doc() {
    assert_eq!(broken(&[file(LIBRARY, "// A part.\n")]), ["header"]);
    assert_eq!(broken(&[file(LIBRARY, "")]), ["header"]);
    assert_eq!(broken(&[file(LIBRARY, "\n//! A part.\n")]), [""; 0]);
}

#[test]
fn snippets_break_the_rule_they_stand_under() {
    let mut rules = Vec::new();
    for line in include_str!("snippets.txt").lines().filter(|line| !line.is_empty() && !line.starts_with(';'))
    {
        let (rule, body) = line.split_once('|').expect("a snippet has a rule and a body");
        let rule = rule.trim();
        let expected = if rule == "good" { &[][..] } else { &[rule][..] };
        assert_eq!(broken_in(body), expected, "{line}");
        let test_file = file("crates/a/tests/all.rs", format!("//! Tests.\n{body}\n"));
        let anywhere = expected.iter().copied().filter(|rule| *rule != "panic").collect::<Vec<_>>();
        assert_eq!(broken(&[test_file]), anywhere, "{line}");
        rules.push(rule);
    }
    rules.sort_unstable();
    rules.dedup();
    assert_eq!(rules, ["good", "habit", "panic"]);
}

#[test]
fn what_did_not_run_is_said_in_one_way() {
    assert_eq!(broken_in("fn f() { println!(\"not run: wgpu: no device\") }"), ["habit"]);
    assert_eq!(broken_in("fn f() { rlx_testkit::not_run(\"wgpu\", \"no device\") }"), [""; 0]);
}

#[test]
fn unsafe_folders_can_be_listed() {
    let part = file(LIBRARY, "//! A part.\nfn f() { unsafe { g() } }\n");
    let allow = |place: &str| file(ALLOW_LIST, format!("unsafe {place} -- a reason in words\n"));
    assert_eq!(broken(&[part.clone(), allow("crates/a/src/")]), [""; 0]);
    assert_eq!(broken(&[part, allow("crates/a/src")]), ["allow", "unsafe"]);
}

#[test]
fn names_tell_no_history() {
    for body in
        ["fn old_shape() {}", "struct ShapeV2;", "mod utils;", "const LEGACY_SIZE: u8 = 1;", "fn phase3() {}"]
    {
        assert_eq!(broken_in(body), ["name"], "{body}");
    }
    for body in ["fn threshold() {}", "struct E4m3;", "fn f() { let v1 = a; }", "fn fold() {}", "struct V;"] {
        assert_eq!(broken_in(body), [""; 0], "{body}");
    }
    assert_eq!(broken(&[file("crates/a/src/utils.rs", "//! A part.\n")]), ["name"]);
}

#[test]
fn comments_tell_no_plans() {
    for body in ["// TODO: more", "/// Only f32 for now.\nfn f() {}", "/* Legacy path */"] {
        assert_eq!(broken_in(body), ["comment"], "{body}");
    }
    assert_eq!(broken_in("// todos are methodical\nconst A: &str = \"TODO\";"), [""; 0]);
}

#[test]
fn machine_paths_are_refused_everywhere() {
    for folder in ["home", "Users", "root"] {
        let path = format!("/{folder}/me/models");
        assert_eq!(broken_in(&format!("const A: &str = \"{path}\";")), ["path"]);
        assert_eq!(broken(&[file("docs/a.md", format!("See {path}."))]), ["path"]);
        assert_eq!(broken(&[file("docs/a.md", format!("See https://a.org{path}, x{path}."))]), [""; 0]);
    }
}

#[test]
fn links_lead_to_files() {
    let page = |link: &str| [file("docs/a.md", format!("See [b]({link}).")), file("docs/c/b.md", "b")];
    for link in ["b.md", "../docs/b.md", "../../c.md", "/docs/c/b.md"] {
        assert_eq!(broken(&page(link)), ["link"], "{link}");
    }
    for link in ["c/b.md", "./c/b.md#part", "../docs/c", "c/", "#here", "https://a.org/b.md"] {
        assert_eq!(broken(&page(link)), [""; 0], "{link}");
    }
}

#[test]
fn crates_are_on_the_code_map_and_take_the_workspace_settings() {
    let good = "[package]\ndescription = \"a\"\nrust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";
    let manifest = |text: &str| file("crates/a/Cargo.toml", text);
    let map = file("ARCHITECTURE.md", "- `a`: the first.\n");
    assert_eq!(broken(&[manifest(good)]), ["map"]);
    assert_eq!(broken(&[manifest(good), map.clone()]), [""; 0]);
    assert_eq!(broken(&[manifest(&good.replace("license", "# license")), map]), ["manifest"]);
}

#[test]
fn crates_use_only_those_above_them() {
    let map = file("ARCHITECTURE.md", "- `a`: the first.\n- `b`: the second.\n");
    let settings = "description = \"a\"\nrust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";
    let uses = |name: &str, table: &str, used: &str| {
        let manifest = format!("[package]\n{settings}{table}\n{used}.workspace = true\n");
        broken(&[map.clone(), file(&format!("crates/{name}/Cargo.toml"), manifest)])
    };
    assert_eq!(uses("a", "[dependencies]", "b"), ["map"]);
    assert_eq!(uses("a", "[target.'cfg(unix)'.dependencies]", "b"), ["map"]);
    assert_eq!(uses("a", "[dev-dependencies]", "b"), [""; 0]);
    assert_eq!(uses("b", "[dependencies]", "a"), [""; 0]);
}

#[test]
fn the_environment_is_read_in_listed_places() {
    let bad = "fn f() { std::env::var(\"A\") }";
    assert_liftable("environment", LIBRARY, bad, "fn f() { std::env::args() }");
    assert_eq!(broken_in("fn f() { option_env!(\"A\") }"), ["environment"]);
    assert_eq!(broken(&[file("crates/a/tests/all.rs", format!("//! Tests.\n{bad}\n"))]), [""; 0]);
}

#[test]
fn unreadable_files_are_reported() {
    assert_eq!(broken_in("fn f() { \"open }"), ["lexer"]);
}

#[test]
fn unsafe_uses_and_lines_are_counted_by_package() {
    let text = "//! A part.\nunsafe fn f() { unsafe { g() } }\n";
    let report = check(&[
        file(LIBRARY, text),
        file("crates/a/tests/b.rs", "//! B.\n"),
        file("xtask/src/c.rs", "//! C.\n"),
    ]);
    let count =
        |package: &str| report.counts.get(package).map(|count| (count.files, count.lines, count.unsafe_uses));
    assert_eq!((count("a"), count("xtask")), (Some((2, 3, 2)), Some((1, 1, 0))));
}
