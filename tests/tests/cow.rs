//! COW disks: guests of ours and real UML work on the same files, and every merge gives what was written.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use harness::Backend;
use harness::script::{Scratch, natively};
use harness::uml::in_uml;
use tests::disk_files::{MIB, files, in_ours, merged, model, tool, writes};

/// Prints the sum of the disk in real UML. Page by page: UML 6.1 reads wrong data when one of its requests has several pages and in one of them some sectors are
/// in the COW file and others are not (it advances by the length of the last run, not of the page).
const SUM_IN_UML: &str = "dd if=/dev/ubda bs=4k iflag=direct status=none | sha256sum";

#[test]
fn a_cow_disk_written_in_a_guest_merges_into_what_was_written() {
    for backend in Backend::ALL {
        let scratch = files(8 * MIB);
        let back = fs::read(scratch.path().join("back")).expect("the backing file");
        let (first, second) = (writes(&scratch, 8 * MIB, 1), writes(&scratch, 8 * MIB, 2));
        let ran = in_ours(
            backend,
            &scratch,
            &["ubda=cow,back"],
            &format!(
                "disk=/dev/ubda; flags=oflag=direct\n{first}\nsync; blockdev --getsize64 /dev/ubda; sha256sum </dev/ubda"
            ),
        );
        let expected = model(&scratch, &[&first]);
        let sum = natively(&format!("sha256sum <{}", scratch.path().join("model").display())).output;
        assert_eq!(ran.output, format!("8388608\n{sum}"), "{backend:?}");
        assert!(merged(&scratch, "cow") == expected, "{backend:?}: after the first boot");
        // Found by its magic alone, and buffered this time.
        let ran = in_ours(
            backend,
            &scratch,
            &["ubda=cow"],
            &format!("disk=/dev/ubda; flags=\n{second}\nsync; sha256sum </dev/ubda"),
        );
        let expected = model(&scratch, &[&first, &second]);
        let sum = natively(&format!("sha256sum <{}", scratch.path().join("model").display())).output;
        assert_eq!(ran.output, sum, "{backend:?}");
        assert!(
            merged(&scratch, "cow") == expected,
            "{backend:?}: after the second boot"
        );
        assert!(
            fs::read(scratch.path().join("back")).expect("it") == back,
            "the backing file is never written"
        );
        let cow = fs::metadata(scratch.path().join("cow")).expect("the COW file");
        assert_eq!(cow.len(), 12288 + 8 * MIB);
        assert!(cow.blocks() * 512 < 6 * MIB, "sparse: {} bytes", cow.blocks() * 512);
    }
}

#[test]
fn real_uml_goes_on_with_our_cow_file_and_we_with_its() {
    let scratch = files(8 * MIB);
    let scripts: Vec<String> = (1..4).map(|seed| writes(&scratch, 8 * MIB, seed)).collect();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let sum = |script: &str, flags: &str, sum: &str| format!("disk=/dev/ubda; flags={flags}\n{script}\nsync; {sum}");
    let expected = |scripts: &[&str]| {
        model(&scratch, scripts);
        natively(&format!("sha256sum <{}", path("model"))).output
    };
    // Ours makes it, UML goes on, ours ends it; and the other way round.
    let ours = |cow: &str, script: &str| {
        in_ours(
            Backend::Seccomp,
            &scratch,
            &[&format!("ubda={cow},back")],
            &sum(script, "oflag=direct", "sha256sum </dev/ubda"),
        )
        .output
    };
    let umls = |cow: &str, script: &str| {
        in_uml(
            &[format!("ubda={},{}", path(cow), path("back"))],
            &sum(script, "", SUM_IN_UML),
        )
        .0
    };
    for (cow, first, second) in [
        (
            "ours",
            &ours as &dyn Fn(&str, &str) -> String,
            &umls as &dyn Fn(&str, &str) -> String,
        ),
        ("umls", &umls, &ours),
    ] {
        let [one, two, three] = &scripts[..] else {
            unreachable!("three scripts")
        };
        assert_eq!(first(cow, one), expected(&[one]), "{cow}, first");
        assert_eq!(second(cow, two), expected(&[one, two]), "{cow}, second");
        assert_eq!(first(cow, three), expected(&[one, two, three]), "{cow}, third");
        assert!(
            merged(&scratch, cow) == fs::read(path("model")).expect("the model"),
            "{cow}"
        );
    }
}

/// COW files as tools before 2006 made them: with sectors 0, 9 and the last one changed.
fn old_cow(scratch: &Scratch, version: u32, name: &str) {
    let back = scratch.path().join("back");
    let metadata = fs::metadata(&back).expect("the backing file");
    let (mtime, size) = (metadata.mtime() as u32, metadata.len());
    let path = back.to_str().expect("a path").as_bytes();
    let (mut header, bitmap, align) = match version {
        1 => (vec![0; 280], 280, 512),
        2 => (vec![0; 4120], 4120, 512),
        _ => (vec![0; 4136], 8192, 4096_u64),
    };
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    match version {
        1 => {
            put(0, b"MOOO\x01\0\0\0");
            put(8, path);
            put(264, &mtime.to_ne_bytes());
            put(268, &size.to_ne_bytes());
            put(276, &512_u32.to_ne_bytes());
        }
        2 => {
            put(0, b"OOOM\0\0\0\x02");
            put(8, path);
            put(4104, &mtime.to_be_bytes());
            put(4108, &size.to_be_bytes());
            put(4116, &512_u32.to_be_bytes());
        }
        _ => {
            put(0, b"OOOM\0\0\0\x03");
            put(8, &mtime.to_be_bytes());
            put(16, &size.to_be_bytes());
            put(24, &512_u32.to_be_bytes());
            put(28, &4096_u32.to_be_bytes());
            put(36, path);
        }
    }
    let sectors = size / 512;
    let mut bits = vec![0; (sectors / 8) as usize];
    let data = (bitmap + bits.len() as u64).next_multiple_of(align);
    let file = File::create(scratch.path().join(name)).expect("a COW file");
    file.write_all_at(&header, 0).expect("it writes");
    for sector in [0, 9, sectors - 1] {
        bits[(sector / 8) as usize] |= 1 << (sector % 8);
        file.write_all_at(&[sector as u8 | 1; 512], data + sector * 512)
            .expect("it writes");
    }
    file.write_all_at(&bits, bitmap).expect("it writes");
    file.set_len(data + size).expect("it grows");
}

#[test]
fn cow_files_of_old_versions_are_read_and_written_as_uml_and_uml_moo_do() {
    for version in 1..=3 {
        let scratch = files(MIB);
        old_cow(&scratch, version, "cow");
        let mut expected = fs::read(scratch.path().join("back")).expect("the backing file");
        for sector in [0_usize, 9, 2047] {
            expected[sector * 512..][..512].fill(sector as u8 | 1);
        }
        assert!(merged(&scratch, "cow") == expected, "version {version}, merged");
        let script = "sha256sum </dev/ubda";
        let sum = natively(&format!("sha256sum <{}", scratch.path().join("by-stock").display())).output;
        let ours = in_ours(Backend::Seccomp, &scratch, &["ubda=cow"], script).output;
        assert_eq!(ours, sum, "version {version}, read by ours");
        let uml = in_uml(&[format!("ubda={}", scratch.path().join("cow").display())], SUM_IN_UML).0;
        assert_eq!(uml, sum, "version {version}, read by UML");
        let change = "disk=/dev/ubda; flags=oflag=direct\n".to_owned() + &writes(&scratch, MIB, 5);
        in_ours(Backend::Seccomp, &scratch, &["ubda=cow"], &change);
        let after = natively(&format!(
            "disk={0}; flags=\n{1}sha256sum <$disk",
            scratch.path().join("by-stock").display(),
            writes(&scratch, MIB, 5)
        ));
        let expected = fs::read(scratch.path().join("by-stock")).expect("the model");
        assert!(
            merged(&scratch, "cow") == expected,
            "version {version}, written by ours"
        );
        let uml = in_uml(&[format!("ubda={}", scratch.path().join("cow").display())], SUM_IN_UML).0;
        assert_eq!(uml, after.output, "version {version}, written by ours, read by UML");
    }
}

#[test]
fn the_messages_about_backing_files_are_umls() {
    let scratch = files(MIB);
    let at = |name: &str| scratch.path().join(name).display().to_string();
    natively(&format!(
        "cd {}; cp -p back moved; cp -p back small; truncate -s 512k small; uml_mkcow cow back",
        at("")
    ));
    let log = "dmesg | grep -v -i 'command line'; test -b /dev/ubda && echo there || echo absent";
    let boots = |word: &str| in_ours(Backend::Seccomp, &scratch, &[word], log).output;
    let made = boots("ubda=new,back");
    assert!(
        made.contains("Creating \"new\" as COW file for \"back\"") && made.ends_with("there\n"),
        "{made}"
    );
    let switched = boots("ubda=cow,moved");
    let mismatch = format!(
        "Backing file mismatch - \"moved\" requested, \"{}\" specified in COW header of \"cow\"",
        at("back")
    );
    assert!(switched.contains(&mismatch), "{switched}");
    assert!(
        switched.contains("Switching backing file to 'moved'") && switched.ends_with("there\n"),
        "{switched}"
    );
    let header = fs::read(scratch.path().join("cow")).expect("the COW file");
    assert!(
        header[32..].starts_with(format!("{}\0", at("moved")).as_bytes()),
        "the header names the new one"
    );
    natively(&format!("cd {}; mv moved elsewhere", at("")));
    let found = boots("ubda=cow,elsewhere");
    assert!(
        found.contains(&format!("Couldn't stat '{}', err = 2", at("moved"))),
        "{found}"
    );
    assert!(
        found.contains("Switching backing file to 'elsewhere'") && found.ends_with("there\n"),
        "{found}"
    );
    let kept = boots("ubda=cow,small");
    assert!(
        kept.contains("Size mismatch (1048576 vs 524288) of COW header vs backing file"),
        "{kept}"
    );
    assert!(kept.ends_with("there\n"), "the header's own file is used: {kept}");
    natively(&format!("cd {}; touch -d '2021-01-01 UTC' elsewhere", at("")));
    let refused = boots("ubda=cow");
    assert!(
        refused.contains(" vs 1609459200) of COW header vs backing file"),
        "{refused}"
    );
    assert!(
        refused.contains("ubda: Can't open \"cow\": errno = 22") && refused.ends_with("absent\n"),
        "{refused}"
    );
    let missing = boots("ubda=nothing,back2");
    assert!(
        missing.contains("Failed to initialize ubd device 0 :Couldn't determine size of device's file"),
        "{missing}"
    );
    assert!(!scratch.path().join("nothing").exists());
}

#[test]
fn flag_d_shows_a_cow_file_as_it_is_and_a_cow_file_below_another_is_plain() {
    let scratch = files(MIB);
    tool(&scratch, &["uml_mkcow", "cow", "back"]);
    tool(&scratch, &["uml_mkcow", "lower", "back"]);
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let ran = in_ours(
        Backend::Seccomp,
        &scratch,
        &["ubdad=cow", "ubdb=top,lower"],
        &format!("cmp /dev/ubda {0} && cmp /dev/ubdb {0} && echo same", path("cow")),
    );
    assert_eq!(ran.output, "same\n");
    // As UML sees it: the backing file's bytes, not its disk.
    let (uml, _) = in_uml(
        &[format!("ubda={}", path("top"))],
        &format!("cmp /dev/ubda {} && echo same", path("lower")),
    );
    assert_eq!(uml, "same\n");
}

#[test]
fn a_throw_away_disk_takes_writes_and_forgets_them() {
    for backend in Backend::ALL {
        let scratch = files(8 * MIB);
        tool(&scratch, &["uml_mkcow", "cow", "back"]);
        let before: Vec<Vec<u8>> = ["back", "cow"]
            .iter()
            .map(|name| fs::read(scratch.path().join(name)).expect("a file"))
            .collect();
        natively(&format!("cp {0}/back {0}/plain", scratch.path().display()));
        let script = writes(&scratch, 8 * MIB, 7);
        let script = format!("for disk in /dev/ubda /dev/ubdb; do flags=\n{script}\nsync; sha256sum <$disk; done");
        model(&scratch, &[&writes(&scratch, 8 * MIB, 7)]);
        let sum = natively(&format!("sha256sum <{}/model", scratch.path().display())).output;
        let ran = in_ours(backend, &scratch, &["ubda=plain", "ubdb=cow", "ubd=throwaway"], &script);
        assert_eq!(ran.output, format!("{sum}{sum}"), "{backend:?}");
        for (name, before) in [("back", &before[0]), ("cow", &before[1]), ("plain", &before[0])] {
            assert!(
                fs::read(scratch.path().join(name)).expect("a file") == *before,
                "{name} is as it was"
            );
        }
        let named = in_ours(
            backend,
            &scratch,
            &["ubda=plain", "ubdb=cow", "ubd=throwaway,b"],
            "for disk in a b; do echo new | dd of=/dev/ubd$disk conv=fsync status=none; done",
        );
        assert_eq!(named.output, "");
        assert!(
            fs::read(scratch.path().join("plain"))
                .expect("it")
                .starts_with(b"new\n")
        );
        assert!(fs::read(scratch.path().join("cow")).expect("it") == before[1]);
    }
}

#[test]
fn a_file_system_made_on_a_cow_disk_is_clean_when_merged() {
    let scratch = files(16 * MIB);
    let ran = in_ours(
        Backend::Seccomp,
        &scratch,
        &["ubda=cow,back"],
        "mkfs.ext4 -q -F /dev/ubda && debugfs -w -R 'write /etc/passwd passwd' /dev/ubda >/dev/null 2>&1; sync; echo $?",
    );
    assert_eq!(ran.output, "0\n");
    merged(&scratch, "cow");
    let merged = scratch.path().join("by-ours").display().to_string();
    let check = natively(&format!(
        "e2fsck -fn {merged} && debugfs -R 'cat /passwd' {merged} 2>/dev/null | cmp - /etc/passwd"
    ));
    assert_eq!(check.status, 0, "{}", check.output);
}
