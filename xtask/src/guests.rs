//! Compiles the guest programs: C, static, so that they run on any root file system.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles every `tests/guest/*.c` and `tests/bench/*.c` that changed into `target/guest`, and returns that directory.
pub fn build() -> Result<PathBuf, String> {
    let root = harness::workspace();
    let out = root.join("target/guest");
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    for folder in ["tests/guest", "tests/bench"] {
        let folder = root.join(folder);
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let source = entry.path();
            if source.extension().is_some_and(|extension| extension == "c") {
                let program = out.join(source.file_stem().unwrap_or_default());
                if is_older(&program, &source) {
                    compile(&source, &program)?;
                }
            }
        }
    }
    Ok(out)
}

fn is_older(program: &Path, source: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    match (time(program), time(source)) {
        (Ok(program), Ok(source)) => program < source,
        _ => true,
    }
}

fn compile(source: &Path, program: &Path) -> Result<(), String> {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-w", "-pthread", "-static", "-o"])
        .arg(program)
        .arg(source);
    let status = cc
        .status()
        .map_err(|error| format!("cc: {error}: install a C compiler (Debian: gcc libc6-dev)"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cc failed on {}", source.display()))
    }
}
