//! What a line can be attached to on the host.
//!
//! A [`Spec`] is a channel as written on the command line; [`Spec::open`] makes the host's side of it, an [`Endpoint`].
//!
//! * `fd:<n>`: a descriptor the process was started with.  * `null`: nothing, for ever.  * `none`: no device.  * `pts`, `pty`: a fresh host
//!   pseudo-terminal.  * `tty:<path>` or a path: a host terminal.  * `port:`, `xterm`: known, not built in.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::fd::{self, Blocking, Kind};
use arch_um::host::tty;

/// A channel as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `fd:<n>`.
    Fd(i32),
    /// `null`.
    Null,
    /// `none`.
    None,
    /// `pts`.
    Pts,
    /// `pty`.
    Pty,
    /// `tty:<path>`.
    Tty(PathBuf),
    /// `port:<port>` or `xterm`: the word.
    NotBuiltIn(String),
}

impl Spec {
    /// Reads one channel.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.parse::<i32>().ok().filter(|&number| number >= 0);
            return number
                .map(Spec::Fd)
                .ok_or_else(|| format!("\"{text}\" needs a descriptor number: fd:<n>"));
        }
        if let Some(path) = text.strip_prefix("tty:") {
            return if path.is_empty() {
                Err("tty: needs a device: tty:<path>".into())
            } else {
                Ok(Spec::Tty(path.into()))
            };
        }
        match text {
            "null" => Ok(Spec::Null),
            "none" => Ok(Spec::None),
            "pts" => Ok(Spec::Pts),
            "pty" => Ok(Spec::Pty),
            path if path.starts_with("/dev/") => Ok(Spec::Tty(path.into())),
            word if word == "xterm" || word == "port" || word.starts_with("port:") => Ok(Spec::NotBuiltIn(word.into())),
            _ => Err(format!(
                "couldn't parse \"{text}\": a channel is fd:<n>, null, none, pts, pty or tty:<path>"
            )),
        }
    }

    /// As on the command line.
    pub fn text(&self) -> String {
        match self {
            Spec::Fd(number) => format!("fd:{number}"),
            Spec::Null => "null".into(),
            Spec::None => "none".into(),
            Spec::Pts => "pts".into(),
            Spec::Pty => "pty".into(),
            Spec::Tty(path) => format!("tty:{}", path.display()),
            Spec::NotBuiltIn(word) => word.clone(),
        }
    }

    /// Whether the line exists at all with this channel.
    pub fn is_device(&self) -> bool {
        !matches!(self, Spec::None | Spec::NotBuiltIn(_))
    }

    /// Makes the host's side.
    ///
    /// # Errors
    /// The host's: `EBADF` for a descriptor that is not there, what opening the terminal says; `ENODEV` for `none`.
    pub fn open(&self) -> Result<Endpoint, Errno> {
        match self {
            Spec::Fd(number) => Endpoint::over(fd::inherited(*number)?, self.text()),
            Spec::Null => Ok(Endpoint {
                host: None,
                text: self.text(),
                peer: None,
                assigned: None,
            }),
            Spec::Pts | Spec::Pty => Endpoint::pty(&self.text()),
            Spec::Tty(path) => Endpoint::over(tty::open(path)?, self.text()),
            Spec::None | Spec::NotBuiltIn(_) => Err(Errno::ENODEV),
        }
    }
}

/// The host's side of a channel.
pub struct Endpoint {
    /// The host file; none for `null`.
    pub host: Option<Host>,
    /// As `config` shows it: with the name of a pseudo-terminal.
    pub text: String,
    /// The far side of a pseudo-terminal, held open: without it the near side reports a hang-up whenever the last user leaves.
    peer: Option<Arc<OwnedFd>>,
    /// The name to tell the user: where his terminal program has to go.
    pub assigned: Option<String>,
}

/// A host file that bytes go to or come from.
#[derive(Clone)]
pub struct Host {
    /// The descriptor to use.
    pub fd: Arc<OwnedFd>,
    /// What it is.
    pub kind: Kind,
    /// Which one it is, for two descriptors of the same terminal.
    pub identity: (u64, u64),
    /// Whether calls on it wait.
    pub blocking: Blocking,
}

impl Endpoint {
    /// Over an open file of which others may have descriptors too: its blocking mode must not change, so terminals and pipes are opened anew.
    fn over(given: OwnedFd, text: String) -> Result<Self, Errno> {
        let (kind, identity) = fd::kind(given.as_fd())?;
        let anew = match kind {
            Kind::Terminal | Kind::Pipe => fd::reopen(given.as_fd(), Blocking::No).ok(),
            _ => None,
        };
        let blocking = if anew.is_some() { Blocking::No } else { Blocking::Yes };
        let host = Host {
            fd: Arc::new(anew.unwrap_or(given)),
            kind,
            identity,
            blocking,
        };
        Ok(Self {
            host: Some(host),
            text,
            peer: None,
            assigned: None,
        })
    }

    fn pty(word: &str) -> Result<Self, Errno> {
        let pty = tty::open_pty()?;
        fd::set_blocking(pty.master.as_fd(), Blocking::No)?;
        let peer = tty::open(Path::new(&pty.path))?;
        let plain = tty::settings(peer.as_fd())?.raw();
        tty::set_settings(peer.as_fd(), &plain)?;
        let name = pty.path.display().to_string();
        let (_, identity) = fd::kind(pty.master.as_fd())?;
        // A pipe in all that matters here: its settings are the other side's.
        let host = Host {
            fd: Arc::new(pty.master),
            kind: Kind::Pipe,
            identity,
            blocking: Blocking::No,
        };
        Ok(Self {
            host: Some(host),
            text: format!("{word}:{name}"),
            peer: Some(Arc::new(peer)),
            assigned: Some(name),
        })
    }

    /// Whether what comes in was typed by a human as far as one can tell: then lines may be cut, and input is watched for `^C` all the time.
    pub fn is_interactive(&self) -> bool {
        self.peer.is_some() || self.host.as_ref().is_some_and(|host| host.kind == Kind::Terminal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_survives_its_text() {
        for text in [
            "fd:0",
            "null",
            "none",
            "pts",
            "pty",
            "tty:/dev/tty9",
            "port:9000",
            "xterm",
        ] {
            assert_eq!(Spec::parse(text).unwrap().text(), text);
        }
        for text in ["", "fd:", "fd:-1", "tty:", "ptsx", "fd:1x"] {
            Spec::parse(text).unwrap_err();
        }
    }

    #[test]
    fn a_pts_tells_its_name_and_shows_it_in_its_text() {
        let endpoint = Spec::Pts.open().unwrap();
        let name = endpoint.assigned.clone().unwrap();
        assert_eq!(endpoint.text, format!("pts:{name}"));
        assert!(endpoint.is_interactive());
    }
}
