//! `con=`, `con<n>=`, `ssl=`, `ssl<n>=`, `ssl-non-raw`: which line gets which channel.
//!
//! A line's own option beats the general one, wherever they stand; of equal ones the last counts. `A,B` gives input and output each a channel.

use crate::channel::Spec;

/// Consoles tty0..tty15.
pub const CONSOLES: usize = 16;
/// Serial lines ttyS0..ttyS63.
pub const SERIALS: usize = 64;

/// The two families of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `con`, tty0..
    Console,
    /// `ssl`, ttyS0..
    Serial,
}

impl Family {
    /// How many lines there are.
    pub fn count(self) -> usize {
        match self {
            Family::Console => CONSOLES,
            Family::Serial => SERIALS,
        }
    }

    /// The option's name.
    pub fn option(self) -> &'static str {
        match self {
            Family::Console => "con",
            Family::Serial => "ssl",
        }
    }

    /// What a line is called in messages, as UML does.
    pub fn title(self) -> &'static str {
        match self {
            Family::Console => "Virtual console",
            Family::Serial => "Serial line",
        }
    }

    /// What the file in /dev begins with.
    pub fn node(self) -> &'static str {
        match self {
            Family::Console => "tty",
            Family::Serial => "ttyS",
        }
    }

    fn default_spec(self, index: usize) -> Attachment {
        match (self, index) {
            (Family::Console, 0) => Attachment::pair(Spec::Fd(0), Spec::Fd(1)),
            _ => Attachment::both(Spec::Pts),
        }
    }
}

/// A line's channels: one for both directions, or one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Where input comes from.
    pub input: Spec,
    /// Where output goes; none: to the input's channel.
    pub output: Option<Spec>,
}

impl Attachment {
    /// One channel.
    pub fn both(spec: Spec) -> Self {
        Self {
            input: spec,
            output: None,
        }
    }

    /// A channel for each direction.
    pub fn pair(input: Spec, output: Spec) -> Self {
        Self {
            input,
            output: Some(output),
        }
    }

    /// Reads `A` or `A,B`.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(',') {
            None => Ok(Self::both(Spec::parse(text)?)),
            Some((input, output)) => Ok(Self::pair(Spec::parse(input)?, Spec::parse(output)?)),
        }
    }

    /// As on the command line.
    pub fn text(&self) -> String {
        match &self.output {
            None => self.input.text(),
            Some(output) => format!("{},{}", self.input.text(), output.text()),
        }
    }
}

/// What a line was told, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nobody said anything: no noise if it cannot be had.
    Default(Attachment),
    /// The user did.
    Given(Attachment),
    /// The user did, and it makes no sense; the sentence was printed.
    Unusable,
}

/// Are host terminals of serial lines put in raw mode?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialMode {
    /// Yes.
    Raw,
    /// `ssl-non-raw`.
    AsIs,
}

/// What the command line says about lines.
#[derive(Debug)]
pub struct Options {
    consoles: FamilyOptions,
    serials: FamilyOptions,
    /// `ssl-non-raw`.
    pub serial_mode: SerialMode,
    /// Sentences for the user about what was not understood.
    pub complaints: Vec<String>,
}

#[derive(Debug, Default)]
struct FamilyOptions {
    general: Option<Attachment>,
    own: Vec<Option<Choice>>,
}

impl Options {
    /// Reads option words (`con0=fd:0,fd:1`, `ssl=pts`, `ssl-non-raw`) in order.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Self {
        let family = |count| FamilyOptions {
            general: None,
            own: vec![None; count],
        };
        let mut options = Self {
            consoles: family(CONSOLES),
            serials: family(SERIALS),
            serial_mode: SerialMode::Raw,
            complaints: Vec::new(),
        };
        for word in words {
            let word = word.as_ref();
            if word == "ssl-non-raw" {
                options.serial_mode = SerialMode::AsIs;
            } else if let Err(complaint) = options.apply(word) {
                options.complaints.push(complaint);
            }
        }
        options
    }

    fn apply(&mut self, word: &str) -> Result<(), String> {
        let (family, rest) = [Family::Console, Family::Serial]
            .into_iter()
            .find_map(|family| Some((family, word.strip_prefix(family.option())?)))
            .ok_or_else(|| format!("\"{word}\" is no option of a console or serial line"))?;
        let option = family.option();
        let (number, text) = rest.split_once('=').ok_or_else(|| format!("{word}: Expected '='"))?;
        let attachment = Attachment::parse(text).map_err(|why| format!("{word}: {why}"));
        let lines = self.family_mut(family);
        if number.is_empty() {
            lines.general = Some(attachment?);
            return Ok(());
        }
        let index = parse_number(number).ok_or_else(|| format!("{word}: Bad device number"))?;
        let slot = lines.own.get_mut(index);
        let slot = slot.ok_or_else(|| {
            format!(
                "{option}{index}: device number out of range (0 to {} allowed)",
                family.count() - 1
            )
        })?;
        match attachment {
            Ok(attachment) => *slot = Some(Choice::Given(attachment)),
            Err(complaint) => {
                *slot = Some(Choice::Unusable);
                return Err(complaint);
            }
        }
        Ok(())
    }

    fn family_mut(&mut self, family: Family) -> &mut FamilyOptions {
        match family {
            Family::Console => &mut self.consoles,
            Family::Serial => &mut self.serials,
        }
    }

    /// What line `index` is to be attached to.
    pub fn choice(&self, family: Family, index: usize) -> Choice {
        let options = match family {
            Family::Console => &self.consoles,
            Family::Serial => &self.serials,
        };
        let own = options.own.get(index).cloned().flatten();
        own.or_else(|| options.general.clone().map(Choice::Given))
            .unwrap_or_else(|| Choice::Default(family.default_spec(index)))
    }
}

/// A device number as `strtoul` reads it: decimal, `0x` or octal.
pub fn parse_number(text: &str) -> Option<usize> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return usize::from_str_radix(hex, 16).ok();
    }
    let radix = if text.len() > 1 && text.starts_with('0') { 8 } else { 10 };
    usize::from_str_radix(text, radix)
        .ok()
        .filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(words: &[&str], family: Family, index: usize) -> String {
        match Options::parse(words).choice(family, index) {
            Choice::Default(attachment) => format!("default {}", attachment.text()),
            Choice::Given(attachment) => attachment.text(),
            Choice::Unusable => "unusable".into(),
        }
    }

    #[test]
    fn a_lines_own_option_beats_the_general_one_in_any_order() {
        for words in [["con=null", "con0=fd:0,fd:1"], ["con0=fd:0,fd:1", "con=null"]] {
            assert_eq!(choice(&words, Family::Console, 0), "fd:0,fd:1");
            assert_eq!(choice(&words, Family::Console, 3), "null");
            assert_eq!(choice(&words, Family::Serial, 0), "default pts");
        }
        assert_eq!(choice(&["con=null"], Family::Console, 0), "null");
    }

    #[test]
    fn defaults_are_the_streams_for_the_first_console_and_pts_for_the_rest() {
        assert_eq!(choice(&[], Family::Console, 0), "default fd:0,fd:1");
        assert_eq!(choice(&[], Family::Console, 1), "default pts");
    }

    #[test]
    fn the_idioms_of_the_field_parse() {
        let words = [
            "con1=fd:0,fd:1",
            "con0=null,fd:2",
            "ssl0=fd:3",
            "ssl0x1=tty:/dev/tty7",
            "ssl2=/dev/tty8",
            "ssl-non-raw",
        ];
        let options = Options::parse(&words);
        assert!(options.complaints.is_empty(), "{:?}", options.complaints);
        assert_eq!(options.serial_mode, SerialMode::AsIs);
        assert_eq!(choice(&words, Family::Console, 0), "null,fd:2");
        assert_eq!(choice(&words, Family::Serial, 1), "tty:/dev/tty7");
        assert_eq!(choice(&words, Family::Serial, 2), "tty:/dev/tty8");
    }

    #[test]
    fn nonsense_is_told_and_leaves_the_line_unusable() {
        let words = ["con99=null", "con3=fd:x", "ssl=whatever", "conx=null"];
        let options = Options::parse(&words);
        assert_eq!(options.complaints.len(), 4);
        assert!(options.complaints[0].contains("out of range"));
        assert_eq!(choice(&words, Family::Console, 3), "unusable");
        assert_eq!(choice(&words, Family::Serial, 3), "default pts");
    }
}
