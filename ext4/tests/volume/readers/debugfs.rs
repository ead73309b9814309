//! `debugfs`: dumps the tree to the host, and each attribute to a file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::image::Image;
use crate::tree::{Thing, Tree};

/// A directory that goes with its reader.
struct Dump(PathBuf);

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn read(image: &Image) -> Result<Option<Tree>, String> {
    let dump = Dump(image.path().with_extension("dump"));
    let (files, values, script) = (dump.0.join("files"), dump.0.join("values"), dump.0.join("script"));
    let mut tree = Tree::default();
    let io = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&files)
        .and_then(|()| fs::create_dir_all(&values))
        .map_err(io)?;
    let said = image.debugfs(&format!("rdump / {}", files.display()));
    directory(&files, "", &mut tree).map_err(|error| format!("{error}: {said}"))?;
    // Which attributes there are, and then what they hold: two questions for each file, asked in two sessions.
    let paths: Vec<String> = tree
        .things
        .iter()
        .filter(|(_, thing)| matches!(thing, Thing::File { .. }))
        .map(|(path, _)| path.clone())
        .collect();
    let ask = |lines: String| {
        fs::write(&script, lines).map_err(io)?;
        Ok::<_, String>(image.debugfs_script(&script))
    };
    let listed = ask(paths.iter().map(|path| format!("ea_list /{path}\n")).collect())?;
    let wanted = attributes(&listed, &paths);
    let value = |number: usize| values.join(number.to_string());
    let get = |(number, (path, name)): (usize, &(String, String))| {
        format!("ea_get -f {} /{path} {name}\n", value(number).display())
    };
    ask(wanted.iter().enumerate().map(get).collect())?;
    for (number, (path, name)) in wanted.into_iter().enumerate() {
        let bytes = fs::read(value(number)).map_err(|error| format!("{path} {name}: {error}"))?;
        if let Some(Thing::File { xattrs: Some(all), .. }) = tree.things.get_mut(&path) {
            all.insert(name, bytes);
        }
    }
    Ok(Some(tree))
}

/// The attributes that `ea_list` told, each with its path.
fn attributes(listed: &str, paths: &[String]) -> Vec<(String, String)> {
    let mut asked = paths.iter();
    let mut path = None;
    let mut found = Vec::new();
    for line in listed.lines() {
        // A session repeats each command.
        if line.starts_with("debugfs: ea_list ") {
            path = asked.next();
        } else if let Some((name, path)) = line
            .strip_prefix("  ")
            .and_then(|line| line.split(' ').next())
            .zip(path)
            && name.starts_with("user.")
        {
            found.push((path.clone(), name.to_owned()));
        }
    }
    found
}

fn directory(at: &Path, base: &str, tree: &mut Tree) -> std::io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        let path = format!("{base}{}", entry.file_name().to_string_lossy());
        if path == "lost+found" {
            continue;
        }
        let kind = entry.file_type()?;
        let thing = if kind.is_dir() {
            directory(&entry.path(), &format!("{path}/"), tree)?;
            Thing::Dir
        } else if kind.is_symlink() {
            Thing::Link(fs::read_link(entry.path())?.as_os_str().as_bytes().to_vec())
        } else {
            Thing::File {
                ino: None,
                links: None,
                data: Some(fs::read(entry.path())?),
                xattrs: Some(BTreeMap::new()),
            }
        };
        tree.things.insert(path, thing);
    }
    Ok(())
}
