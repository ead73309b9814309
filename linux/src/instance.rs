//! `umid=`: the directory `<uml_dir>/<umid>/` with the file `pid`, by which tools find a running instance.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Makes the directory of this instance and has it removed on every way out.
///
/// Without a name, or with one that is in use, a random one is taken, as UML does.
///
/// # Errors
/// One sentence; the boot can go on without a directory.
pub fn register(umid: Option<&str>, uml_dir: Option<&str>) -> Result<PathBuf, String> {
    let parent = parent(uml_dir)?;
    match fs::create_dir(&parent) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(format!("uml_dir {}: {error}", parent.display()));
        }
        _ => {}
    }
    if let Some(name) = umid {
        match claim(&parent.join(name)) {
            Ok(()) => return Ok(keep(parent.join(name))),
            Err(Claim::InUse(pid)) => {
                log::error!("umid \"{name}\" is already in use by pid {pid}");
                log::error!("Failed to initialize umid \"{name}\", trying with a random umid");
            }
            Err(Claim::Failed(error)) => return Err(error),
        }
    }
    for _ in 0..100 {
        let mut random = [0; 6];
        arch_um::host::random::fill(&mut random);
        const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let name: String = random
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
            .collect();
        match claim(&parent.join(&name)) {
            Ok(()) => return Ok(keep(parent.join(name))),
            Err(Claim::InUse(_)) => {}
            Err(Claim::Failed(error)) => return Err(error),
        }
    }
    Err(format!("no free name below {}", parent.display()))
}

enum Claim {
    InUse(i32),
    Failed(String),
}

/// `~/.uml`, or what `uml_dir=` says; only its last component is ever made.
fn parent(uml_dir: Option<&str>) -> Result<PathBuf, String> {
    let text = uml_dir.unwrap_or("~/.uml/");
    match text.strip_prefix("~/") {
        None => Ok(PathBuf::from(text)),
        Some(rest) => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(PathBuf::from(home).join(rest)),
            None => Err("HOME is not set, so there is no ~/.uml: set HOME or give uml_dir=".into()),
        },
    }
}

fn claim(directory: &Path) -> Result<(), Claim> {
    let failed = |error: std::io::Error| Claim::Failed(format!("{}: {error}", directory.display()));
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let pid = fs::read_to_string(directory.join("pid"))
                .ok()
                .and_then(|text| text.trim().parse::<i32>().ok());
            if let Some(pid) = pid.filter(|&pid| arch_um::host::process::process_exists(pid)) {
                return Err(Claim::InUse(pid));
            }
            // Left behind by an instance that is dead.
            for file in ["pid", "mconsole"] {
                let _ = fs::remove_file(directory.join(file));
            }
        }
        other => other.map_err(failed)?,
    }
    fs::write(directory.join("pid"), format!("{}\n", std::process::id())).map_err(failed)
}

/// Has the directory removed when the machine ends.
fn keep(directory: PathBuf) -> PathBuf {
    let gone = directory.clone();
    arch_um::exit::at_exit(Box::new(move || {
        let _ = fs::remove_file(gone.join("pid"));
        let _ = fs::remove_dir(&gone);
    }));
    directory
}
