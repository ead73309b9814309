//! The programs the images are made with, and what to do when one is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders that are not in an ordinary user's `PATH`.
const MORE: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The program `name`, which Debian's `package` brings.
///
/// # Errors
/// It is not installed.
pub fn program(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is missing: apt-get install {package}"))
}

/// Our own executable, built if it has to be; `$LINUX` names another.
///
/// # Errors
/// It cannot be built.
pub fn linux() -> Result<PathBuf, String> {
    if std::env::var_os("LINUX").is_none() {
        crate::test::cargo(&["build", "--quiet", "--release", "--package", "linux"])?;
    }
    Ok(harness::executable())
}

/// Where programs lie on the disk that `path` is on: how many bytes its users may still write.
pub fn free_space(path: &Path) -> Option<u64> {
    let space = nix::sys::statvfs::statvfs(path).ok()?;
    Some(space.blocks_available() * space.fragment_size())
}

/// Whether `program` runs without any other file.
pub fn is_static(program: &Path) -> bool {
    let Ok(bytes) = std::fs::read(program) else {
        return false;
    };
    // ELF: the loader a dynamic program names is a segment of type 3, PT_INTERP.
    let word = |at: usize, len: usize| {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
    };
    let segments = || {
        let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        (0..count)
            .map(|index| word(table.checked_add(index * size)?, 4))
            .collect::<Option<Vec<_>>>()
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && segments().is_some_and(|types| !types.contains(&3))
}

/// What `command` printed on standard output.
///
/// # Errors
/// It is missing or failed; with its last words.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!(
        "{name} failed: {}",
        last_words(&String::from_utf8_lossy(&output.stderr))
    ))
}

/// The end of what a program said, in which the reason stands.
pub fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n  ")
}
