//! One input, through the target that its folder names: `FUZZ_REPLAY=fuzz/artifacts/parse/crash-…
//! cargo test -p mtcp-fuzz --test replay`. Without the variable there is nothing to do.
#![allow(clippy::panic, clippy::unwrap_used)] // a test may

use std::path::Path;

#[test]
fn the_named_input_holds() {
    let Some(name) = std::env::var_os("FUZZ_REPLAY") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(&name);
    let folder = path.parent().and_then(Path::file_name).unwrap();
    let target = mtcp_fuzz::TARGETS.iter().find(|(name, _)| folder == *name);
    let (_, run) = target.unwrap_or_else(|| panic!("no target is called {}", folder.display()));
    run(&std::fs::read(&path).unwrap());
}
