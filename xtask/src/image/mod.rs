//! `cargo xtask image`: bootable root images, made without root's rights.
//!
//! Both kinds are a tar archive that a guest of ours unpacks into a fresh ext4 ([`fill`]): so owners and device files are right whoever runs this, and no loop
//! device is needed. [`busybox`] writes the archive itself, [`debian`] lets mmdebstrap write it. [`output`] keeps half of an image from ever
//! bearing the name the user gave.

mod busybox;
mod debian;
mod fill;
pub mod judge;
mod options;
mod output;
mod progress;
mod stop;
mod tools;

use options::{Kind, Request};

/// What `--help` prints.
const USAGE: &str = "usage: cargo xtask image busybox OUT [--size SIZE] [--busybox FILE] [--force]
       cargo xtask image debian OUT [--suite NAME] [--size SIZE] [--include PACKAGES] [--mirror URL] [--force]

Makes an ext4 image that boots with
    linux ubda=OUT root=/dev/ubda rw
as an ordinary user or as root.

busybox: busybox-static with all its applets, a shell on the console, poweroff and reboot.
  --busybox FILE      this static busybox; otherwise the installed one, or the one of Debian's package busybox-static
  --size SIZE         bytes, or with K, M, G: 64M if not given

debian: a minimal Debian made by mmdebstrap, with sysvinit and a login on the console. root has no password.
  --suite NAME        the release: bookworm if not given
  --size SIZE         2G if not given; the image is sparse
  --include PACKAGES  more packages, separated by commas; an init among them (systemd-sysv) takes the place of sysvinit-core
  --mirror URL        http://deb.debian.org/debian if not given

  --force             replaces OUT if it exists
  --help              this text
";

/// Makes the image that `args` describe.
///
/// # Errors
/// What failed, why, and what to do about it.
pub fn run(args: &[String]) -> Result<(), String> {
    let Some(request) = options::parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    stop::listen()?;
    make(&request).map_err(stop::or_interrupted)
}

fn make(request: &Request) -> Result<(), String> {
    let linux = tools::linux()?;
    let part = output::Part::create(&request.out, request.replace)?;
    let progress = progress::Progress::new();
    fill::format(part.path(), request.size, &progress)?;
    match &request.kind {
        Kind::Busybox { program } => busybox::fill(&linux, part.path(), program.as_deref(), &progress)?,
        Kind::Debian(debian) => debian::fill(&linux, part.path(), debian, &progress)?,
    }
    fill::check(part.path(), &progress)?;
    part.finish()?;
    progress.done(&format!(
        "{0} is ready: linux ubda={0} root=/dev/ubda rw",
        request.out.display()
    ));
    Ok(())
}
