//! Where cargo puts the example that a test runs.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};

/// `target/<profile>/examples/<name>`, beside `target/<profile>/deps/<this test>`. `command` builds it.
pub(crate) fn binary(name: &str, command: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("examples").join(format!("{name}{EXE_SUFFIX}"));
    let hint = format!(
        "`cargo test --all-features` builds it; with `--test {name}` run `{command}` first"
    );
    let built = binary
        .metadata()
        .unwrap_or_else(|error| panic!("{}: {error}; {hint}", binary.display()));
    // Cargo's own list of what the binary was made from: a test of an old binary would say nothing.
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    for source in sources.split_ascii_whitespace().skip(1) {
        let changed = Path::new(source)
            .metadata()
            .and_then(|source| source.modified());
        let stale = changed.is_ok_and(|changed| changed > built.modified().unwrap());
        assert!(
            !stale,
            "{} is older than {source}; {hint}",
            binary.display()
        );
    }
    binary
}
