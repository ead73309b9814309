//! A line: a terminal of the kernel on a channel of the host. Consoles and serial lines are the same type.
//!
//! The host's side ([`Link`]) is made when the line is first opened, or at boot for a console that kernel messages go to, and stays until the line
//! is configured anew or removed.
//!
//! * [`input`]: bytes in.  * [`output`]: bytes out.
//!
//! Lock order: the terminal's `users`, `config` (sleeping, `TTY_LINE`), the terminal's `core`, then `link` (`DRIVER`), then the output's queue. A link is
//! dropped outside of all locks, because that waits for its event handlers.

pub mod input;
pub mod output;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, Weak};

use arch_um::Errno;
use arch_um::printk::{self, Console};
use arch_um::sync::{Mutex, SpinLock, order};
use kernel::Result;
use kernel::tty::ldisc::Overflow;
use kernel::tty::termios::{Iflag, Termios};
use kernel::tty::{Tty, TtyDriver, devices};
use kernel::vfs::DevT;

use crate::channel::{Endpoint, Host};
use crate::host_terminal::{self, HostTerminal};
use crate::options::{Attachment, Family, SerialMode};
use input::{Eagerness, Input};
use output::{Output, Sent};

/// A console or serial line.
pub struct Line {
    family: Family,
    index: usize,
    serial_mode: SerialMode,
    config: Mutex<Config>,
    link: SpinLock<Option<Link>>,
    tty: OnceLock<Weak<Tty>>,
}

struct Config {
    attachment: Attachment,
    /// What [`printk::register_console`] gave, while kernel messages come here.
    console: Option<u64>,
}

/// The host's side, open.
struct Link {
    input: Option<Arc<Input>>,
    output: Arc<Output>,
    terminals: Vec<Arc<HostTerminal>>,
    overflow: Overflow,
    /// As `config` shows it.
    text: String,
    /// What is only held open.
    _endpoints: Vec<Endpoint>,
}

/// The kernel log on a line.
struct Messages(Arc<Output>);

impl Console for Messages {
    fn write(&self, text: &str) {
        self.0.push_text(text);
    }
}

impl Line {
    /// Line `index` of its family, known to the kernel from now on.
    ///
    /// # Errors
    /// `EBUSY` when the device exists.
    pub fn new(family: Family, index: usize, attachment: Attachment, serial_mode: SerialMode) -> Result<Arc<Self>> {
        let line = Arc::new(Self {
            family,
            index,
            serial_mode,
            config: Mutex::new(
                &order::TTY_LINE,
                Config {
                    attachment,
                    console: None,
                },
            ),
            link: SpinLock::new(&order::DRIVER, None),
            tty: OnceLock::new(),
        });
        let first = if family == Family::Console {
            0
        } else {
            devices::SERIAL_MINOR
        };
        let dev = DevT::new(devices::LINE_MAJOR, first + index as u32);
        let tty = Tty::new(line.name(), dev, line.clone(), Termios::default());
        // The terminal and its driver hold each other for as long as the kernel runs; `remove` takes the terminal out of the kernel's hands.
        let _ = line.tty.set(Arc::downgrade(&tty));
        devices::add_line(tty)?;
        Ok(line)
    }

    /// The name below /dev.
    pub fn name(&self) -> String {
        format!("{}{}", self.family.node(), self.index)
    }

    fn terminal(&self) -> Option<Arc<Tty>> {
        self.tty.get().and_then(Weak::upgrade)
    }

    /// The open output. Whoever drops it last waits for its event handler: not under locks.
    fn output(&self) -> Option<Arc<Output>> {
        self.link.lock().as_ref().map(|link| link.output.clone())
    }

    fn input(&self) -> Option<Arc<Input>> {
        self.link.lock().as_ref().and_then(|link| link.input.clone())
    }

    /// The channel as text: with the name of the pseudo-terminal once there is one.
    pub fn config_text(&self) -> String {
        let open = self.link.lock().as_ref().map(|link| link.text.clone());
        open.unwrap_or_else(|| self.config.lock().attachment.text())
    }

    /// Sends kernel messages here from now on, first all there are.
    ///
    /// # Errors
    /// As [`open`](TtyDriver::open).
    pub fn take_messages(&self) -> Result<()> {
        self.connect()?;
        if let Some(output) = self.output() {
            let mut config = self.config.lock();
            if config.console.is_none() {
                config.console = Some(printk::register_console(Arc::new(Messages(output))));
            }
        }
        Ok(())
    }

    /// Attaches it to another channel (mconsole's `config`); it is opened when it is next used. Users are hung up.
    pub fn configure(&self, attachment: Attachment) {
        let had_messages = {
            let mut config = self.config.lock();
            config.attachment = attachment;
            config.console.take()
        };
        self.disconnect(had_messages);
        if had_messages.is_some()
            && let Err(error) = self.take_messages()
        {
            log::error!("{}: {error}", self.name());
        }
    }

    /// Takes the device away (mconsole's `remove`). `EBUSY` while it is open.
    pub fn remove(&self) -> Result<()> {
        let Some(tty) = self.terminal() else { return Ok(()) };
        if tty.users() > 0 {
            return Err(Errno::EBUSY);
        }
        devices::remove_line(&tty);
        let had_messages = self.config.lock().console.take();
        self.disconnect(had_messages);
        Ok(())
    }

    fn disconnect(&self, messages: Option<u64>) {
        if let Some(id) = messages {
            printk::unregister_console(id);
        }
        let link = self.link.lock().take();
        if let Some(link) = &link {
            link.terminals.iter().for_each(host_terminal::forget);
            if let Some(tty) = self.terminal() {
                kernel::tty::jobctl::hang_up(&tty);
            }
        }
        drop(link);
    }

    /// Opens the host's side if it is not open.
    fn connect(&self) -> Result<()> {
        let config = self.config.lock();
        if self.link.lock().is_some() {
            return Ok(());
        }
        let tty = self.terminal().ok_or(Errno::ENODEV)?;
        let link = self.link_to(&config.attachment, &tty)?;
        if let Some(input) = &link.input {
            input.start(Arc::downgrade(&tty))?;
        }
        let old = self.link.lock().replace(link);
        drop(old);
        Ok(())
    }

    fn link_to(&self, attachment: &Attachment, tty: &Arc<Tty>) -> Result<Link> {
        let near = attachment.input.open()?;
        let far = attachment.output.as_ref().map(|spec| spec.open()).transpose()?;
        let text = match &far {
            None => near.text.clone(),
            Some(far) => format!("{},{}", near.text, far.text),
        };
        for name in [&near]
            .into_iter()
            .chain(&far)
            .filter_map(|endpoint| endpoint.assigned.as_ref())
        {
            log::info!("{} {} assigned device '{name}'", self.family.title(), self.index);
        }
        let output = Output::new(far.as_ref().unwrap_or(&near).host.clone())?;
        output.attach(Arc::downgrade(tty));
        let (eagerness, overflow) = match near.is_interactive() {
            true => (Eagerness::Watching, Overflow::Discard),
            false => (Eagerness::OnDemand, Overflow::Split),
        };
        let input = near.host.clone().map(|host| Input::new(host, eagerness));
        let hosts = [&near]
            .into_iter()
            .chain(&far)
            .filter_map(|endpoint| endpoint.host.as_ref());
        let terminals = hosts
            .filter_map(|host| self.terminal_on(host, tty, input.as_ref()))
            .collect();
        let endpoints = [Some(near), far].into_iter().flatten().collect();
        Ok(Link {
            input,
            output,
            terminals,
            overflow,
            text,
            _endpoints: endpoints,
        })
    }

    /// A host terminal is put in raw mode, and its size and character set become the guest's.
    fn terminal_on(&self, host: &Host, tty: &Arc<Tty>, input: Option<&Arc<Input>>) -> Option<Arc<HostTerminal>> {
        let mode = if self.family == Family::Console {
            SerialMode::Raw
        } else {
            self.serial_mode
        };
        let terminal = HostTerminal::enter(host, tty, input, mode)?;
        if terminal.is_utf8() {
            let mut termios = tty.termios();
            termios.iflag |= Iflag::IUTF8;
            tty.set_termios(termios);
        }
        Some(terminal)
    }

    /// The way out of the process: what was written is shown.
    pub fn drain(&self) {
        let output = self
            .link
            .try_lock()
            .and_then(|link| link.as_ref().map(|link| link.output.clone()));
        if let Some(output) = output {
            output.drain();
        }
    }
}

impl TtyDriver for Line {
    fn open(&self) -> Result<()> {
        self.connect()
    }

    fn write_room(&self) -> usize {
        self.link.lock().as_ref().map_or(0, |link| link.output.room())
    }

    fn write(&self, data: &[u8]) {
        if let Some(link) = &*self.link.lock() {
            link.output.push(data);
        }
    }

    fn queued(&self) -> usize {
        self.link.lock().as_ref().map_or(0, |link| link.output.queued())
    }

    fn transmit(&self) {
        if let Some(output) = self.output()
            && output.transmit() == Sent::All
            && let Some(tty) = self.terminal()
        {
            tty.output_left();
        }
    }

    fn flush_output(&self) {
        if let Some(link) = &*self.link.lock() {
            link.output.flush();
        }
    }

    fn accept_input(&self) {
        if let Some(input) = self.input() {
            input.room_again();
        }
    }

    fn input_wanted(&self) {
        if let Some(input) = self.input() {
            input.want();
        }
    }

    fn overflow(&self) -> Overflow {
        self.link
            .lock()
            .as_ref()
            .map_or(Overflow::Discard, |link| link.overflow)
    }
}
