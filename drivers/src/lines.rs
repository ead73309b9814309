//! All lines: brought up at boot, changed at run time by name (`con3`, `ssl0`), as the management console does.

use std::sync::{Arc, Once};

use arch_um::printk::{self, StdConsole};
use arch_um::sync::{SpinLock, order};
use kernel::tty::console;

use crate::channel::Spec;
use crate::host_terminal;
use crate::line::Line;
use crate::options::{Attachment, CONSOLES, Choice, Family, Options, SERIALS, SerialMode, parse_number};

static LINES: SpinLock<Lines> = SpinLock::new(
    &order::DRIVER,
    Lines {
        consoles: [const { None }; CONSOLES],
        serials: [const { None }; SERIALS],
        serial_mode: SerialMode::Raw,
    },
);

struct Lines {
    consoles: [Option<Arc<Line>>; CONSOLES],
    serials: [Option<Arc<Line>>; SERIALS],
    serial_mode: SerialMode,
}

impl Lines {
    fn slot(&mut self, family: Family, index: usize) -> Option<&mut Option<Arc<Line>>> {
        match family {
            Family::Console => self.consoles.get_mut(index),
            Family::Serial => self.serials.get_mut(index),
        }
    }

    fn all(&self) -> Vec<Arc<Line>> {
        self.consoles.iter().chain(&self.serials).flatten().cloned().collect()
    }
}

fn find(family: Family, index: usize) -> Option<Arc<Line>> {
    LINES.lock().slot(family, index).and_then(|slot| slot.clone())
}

/// Brings all lines up: `words` are the `con…`, `ssl…` options, `consoles` the values of `console=`, each in order. Once, at boot, after
/// `kernel::tty::init`.
pub fn start<S: AsRef<str>, T: AsRef<str>>(words: &[S], consoles: &[T]) {
    let options = Options::parse(words);
    for complaint in &options.complaints {
        log::error!("{complaint}");
    }
    for value in consoles {
        match value.as_ref() {
            "stderr" => {
                printk::register_console(Arc::new(StdConsole::Stderr));
            }
            value => console::add_named(value),
        }
    }
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| arch_um::exit::at_exit(Box::new(leave)));
    LINES.lock().serial_mode = options.serial_mode;
    log::info!("Initialized stdio console driver");
    bring_up(Family::Console, &options);
    log::info!("Initializing software serial port version 1");
    bring_up(Family::Serial, &options);
    for name in console::named() {
        let Some(line) = by_node(&name) else { continue };
        match line.take_messages() {
            Ok(()) => log::info!("Console initialized on /dev/{name}"),
            Err(error) => log::error!("{name}: cannot open {}: {error}", line.config_text()),
        }
    }
}

fn bring_up(family: Family, options: &Options) {
    for index in 0..family.count() {
        let (attachment, given) = match options.choice(family, index) {
            Choice::Default(attachment) => (attachment, false),
            Choice::Given(attachment) => (attachment, true),
            Choice::Unusable => continue,
        };
        if let Err(why) = add(family, index, attachment, options.serial_mode)
            && given
        {
            log::error!("{why}");
        }
    }
}

/// Makes a line. The error is a sentence.
fn add(family: Family, index: usize, attachment: Attachment, mode: SerialMode) -> Result<(), String> {
    for spec in [&attachment.input].into_iter().chain(&attachment.output) {
        match spec {
            Spec::NotBuiltIn(word) => {
                let option = family.option();
                return Err(format!(
                    "{option}{index}: the channel \"{word}\" is not built in yet; use fd:<n>, pts or tty:<path>"
                ));
            }
            spec if !spec.is_device() => {
                return Err(format!(
                    "setup_one_line failed for device {index} : configured as 'none'"
                ));
            }
            _ => {}
        }
    }
    let line =
        Line::new(family, index, attachment, mode).map_err(|error| format!("{}{index}: {error}", family.node()))?;
    if let Some(slot) = LINES.lock().slot(family, index) {
        *slot = Some(line);
    }
    Ok(())
}

/// The line whose file in /dev is called `name`.
fn by_node(name: &str) -> Option<Arc<Line>> {
    // "ttyS" first: it begins with "tty" too.
    [Family::Serial, Family::Console].into_iter().find_map(|family| {
        let index = parse_number(name.strip_prefix(family.node())?)?;
        find(family, index)
    })
}

/// A line by its option's name (`con3`, `ssl0`).
fn by_option(name: &str) -> Result<(Family, usize), &'static str> {
    for family in [Family::Console, Family::Serial] {
        if let Some(number) = name.strip_prefix(family.option()) {
            let index = parse_number(number).ok_or("Couldn't parse device number")?;
            if index >= family.count() {
                return Err("Device number out of range");
            }
            return Ok((family, index));
        }
    }
    Err("Bad configuration option")
}

/// `config con3=pts`: gives a line a channel while the guest runs.
///
/// # Errors
/// A sentence for the user.
pub fn config(option: &str) -> Result<(), String> {
    let (name, text) = option.split_once('=').ok_or("Bad configuration option")?;
    if name == Family::Console.option() || name == Family::Serial.option() {
        return Err("Can't configure all devices from mconsole".into());
    }
    let (family, index) = by_option(name)?;
    let attachment = Attachment::parse(text)?;
    match find(family, index) {
        Some(line) if attachment.input.is_device() => {
            line.configure(attachment);
            Ok(())
        }
        Some(_) => remove(name),
        None => {
            let mode = LINES.lock().serial_mode;
            add(family, index, attachment, mode)
        }
    }
}

/// `config con3`: the channel of a line, with the pseudo-terminal's name once there is one; `none` without a line.
///
/// # Errors
/// A sentence for the user.
pub fn get_config(name: &str) -> Result<String, String> {
    let (family, index) = by_option(name)?;
    Ok(find(family, index).map_or_else(|| "none".into(), |line| line.config_text()))
}

/// `remove con3`.
///
/// # Errors
/// A sentence for the user.
pub fn remove(name: &str) -> Result<(), String> {
    let (family, index) = by_option(name)?;
    let line = find(family, index).ok_or("Device doesn't exist")?;
    line.remove().map_err(|_| "Device is currently open")?;
    let gone = LINES.lock().slot(family, index).and_then(Option::take);
    drop(gone);
    Ok(())
}

/// Every way out of the process: output is shown, host terminals are as they were.
fn leave() {
    let lines = LINES.try_lock().map(|lines| lines.all()).unwrap_or_default();
    lines.iter().for_each(|line| line.drain());
    host_terminal::restore_all();
}
