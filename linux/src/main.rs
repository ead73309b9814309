//! The executable: command line, boot, and nothing else.

fn main() {}
