//! `linux mkcow` and `linux moo` beside the stock tools: the same bytes, words and exit statuses, and more care.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use harness::script::{Scratch, natively};
use harness::{Backend, executable};
use tests::disk_files::{MIB, end, files, holder, in_ours, merged, tool, writes};

/// What a tool said and did, with its name cut out.
fn told(scratch: &Scratch, words: &[&str], name: &str) -> (Option<i32>, String) {
    let output = tool(scratch, words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), text.replace(name, "TOOL"))
}

fn link(scratch: &Scratch, name: &str) -> PathBuf {
    let directory = scratch.path().join("bin");
    fs::create_dir_all(&directory).expect("a directory");
    let link = directory.join(name);
    let _ = std::os::unix::fs::symlink(executable(), &link);
    link
}

#[test]
fn mkcow_and_moo_talk_like_the_stock_tools() {
    // Stock first, in a directory of its own, then ours by all its names.
    let run = |mkcow: &[&str], moo: &[&str], names: (&str, &str), scratch: &Scratch| {
        let mut told_all = Vec::new();
        let (moo_name, mkcow_name) = (names.1, names.0);
        let mut say = |tool: &[&str], name: &str, args: &[&str]| {
            let words: Vec<&str> = tool.iter().chain(args).copied().collect();
            told_all.push((args.join(" "), told(scratch, &words, name)));
        };
        for args in [
            &[][..],
            &["cow"],
            &["-f"],
            &["--help"],
            &["cow", "back"],
            &["cow", "back"],
            &["-f", "cow", "back"],
            &["nowhere/cow", "back"],
        ] {
            say(mkcow, mkcow_name, args);
        }
        for args in [
            &[][..],
            &["--help"],
            &["-x", "cow", "out"],
            &["cow"],
            &["-b"],
            &["-b", "back"],
            &["-d", "cow", "out"],
            &["cow", "out", "more"],
            &["cow", "out"],
            &["cow", "out"],
            &["-b", "back", "cow", "out2"],
            &["-b", "nothere", "cow", "out3"],
            &["nothere", "out3"],
            &["back", "out3"],
            &["empty", "out3"],
            &["cow", "nowhere/out"],
            &["-d", "cow"],
        ] {
            say(moo, moo_name, args);
        }
        told_all
    };
    let fresh = || {
        let scratch = files(MIB);
        File::create(scratch.path().join("empty")).expect("a file");
        scratch
    };
    let scratch = fresh();
    let stock = run(&["uml_mkcow"], &["uml_moo"], ("uml_mkcow", "uml_moo"), &scratch);
    let stock_cow = fs::read(scratch.path().join("cow")).expect("the COW file");
    let linux = executable();
    let linux = linux.to_str().expect("a path");
    let scratch = fresh();
    let ours = run(
        &[linux, "mkcow"],
        &[linux, "moo"],
        (&format!("{linux} mkcow"), &format!("{linux} moo")),
        &scratch,
    );
    for (stock, ours) in stock.iter().zip(&ours) {
        assert_eq!(stock, ours);
    }
    let cow = fs::read(scratch.path().join("cow")).expect("the COW file");
    assert_eq!(
        (cow.len(), &cow[4096 + 32..]),
        (stock_cow.len(), &stock_cow[4096 + 32..])
    );
    let scratch = fresh();
    let (mkcow, moo) = (link(&scratch, "uml_mkcow"), link(&scratch, "uml_moo"));
    let (mkcow, moo) = (mkcow.to_str().expect("a path"), moo.to_str().expect("a path"));
    for (stock, ours) in stock.iter().zip(run(&[mkcow], &[moo], (mkcow, moo), &scratch)) {
        assert_eq!(*stock, ours);
    }
}

#[test]
fn moo_refuses_what_has_changed_and_never_merges_a_file_into_itself() {
    let scratch = files(MIB);
    tool(&scratch, &["uml_mkcow", "cow", "back"]);
    let ours = executable();
    let ours = ours.to_str().expect("a path");
    let path = |name: &str| scratch.path().join(name);
    natively(&format!(
        "cd {}; cp -p back other; truncate -s 2M other; cp back touched",
        path("").display()
    ));
    for (backing, words) in [
        ("other", "Size mismatch (1048576 vs 2097152)"),
        ("touched", "mtime mismatch ("),
    ] {
        for tool_words in [vec!["uml_moo"], vec![ours, "moo"]] {
            let words_of: Vec<&str> = tool_words
                .iter()
                .chain(&["-b", backing, "cow", "out"])
                .copied()
                .collect();
            let (code, text) = told(&scratch, &words_of, ours);
            let expected = format!("of COW header vs backing file \"{backing}\"");
            assert!(
                code == Some(1) && text.contains(words) && text.contains(&expected),
                "{text}"
            );
        }
    }
    let before = [fs::read(path("cow")).expect("it"), fs::read(path("back")).expect("it")];
    for words in [
        &["moo", "cow", "back"][..],
        &["moo", "cow", "cow"],
        &["moo", "-b", "cow", "-d", "cow"],
        &["mkcow", "-f", "back", "back"],
    ] {
        let words: Vec<&str> = [ours].iter().chain(words).copied().collect();
        let (code, text) = told(&scratch, &words, ours);
        assert!(code == Some(1) && text.contains("; "), "{words:?}: {text}");
    }
    assert!(before == [fs::read(path("cow")).expect("it"), fs::read(path("back")).expect("it")]);
}

#[test]
fn moo_merges_a_big_cow_file_sparsely_and_in_place() {
    let scratch = files(64 * MIB);
    let at = |name: &str| scratch.path().join(name);
    tool(&scratch, &["uml_mkcow", "cow", "back"]);
    let script = writes(&scratch, 64 * MIB, 11);
    in_ours(
        Backend::Seccomp,
        &scratch,
        &["ubda=cow"],
        &format!("disk=/dev/ubda; flags=\n{script}\nblkdiscard -o 32M -l 8M /dev/ubda; sync"),
    );
    natively(&format!(
        "cp --sparse=always {0}/back {0}/model; disk={0}/model; flags=\n{script}\nfallocate -p -o 32MiB -l 8MiB $disk",
        scratch.path().display()
    ));
    let expected = fs::read(at("model")).expect("the model");
    assert!(merged(&scratch, "cow") == expected);
    let blocks = |path: &Path| fs::metadata(path).expect("a file").blocks() * 512;
    assert!(blocks(&at("by-ours")) < 8 * MIB, "{}", blocks(&at("by-ours")));
    let ours = executable();
    let ran = tool(&scratch, &[ours.to_str().expect("a path"), "moo", "-d", "cow"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(fs::read(at("back")).expect("it") == expected);
}

#[test]
fn moo_leaves_a_cow_file_alone_that_a_guest_is_using() {
    let scratch = files(MIB);
    let word = |name: &str| scratch.path().join(name).display().to_string();
    let guest = holder(&scratch, &[format!("ubda={},{}", word("cow"), word("back"))], "");
    let ours = executable();
    let ours = ours.to_str().expect("a path");
    let told: Vec<_> = [
        &["moo", "cow", "out"][..],
        &["moo", "-d", "cow"],
        &["mkcow", "-f", "cow", "back"],
    ]
    .iter()
    .map(|words| told(&scratch, &[&[ours], *words].concat(), ours))
    .collect();
    let pid = guest.id();
    end(guest);
    for (code, text) in told {
        assert!(
            code == Some(1) && text.contains(&format!("locked by pid {pid}")),
            "{text}"
        );
    }
    assert!(!scratch.path().join("out").exists());
}
