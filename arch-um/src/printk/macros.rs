//! `printk!`, `pr_emerg!` to `pr_debug!` by level, and `stub!`.

/// `printk!(level, "text {}", x)`.
#[macro_export]
macro_rules! printk {
    ($level:expr, $($arg:tt)+) => { $crate::printk::vprintk($level, 0, ::core::format_args!($($arg)+)) };
}
/// Level 0.
#[macro_export]
macro_rules! pr_emerg { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Emerg, $($arg)+) }; }
/// Level 1.
#[macro_export]
macro_rules! pr_alert { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Alert, $($arg)+) }; }
/// Level 2.
#[macro_export]
macro_rules! pr_crit { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Crit, $($arg)+) }; }
/// Level 3.
#[macro_export]
macro_rules! pr_err { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Err, $($arg)+) }; }
/// Level 4.
#[macro_export]
macro_rules! pr_warn { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Warning, $($arg)+) }; }
/// Level 5.
#[macro_export]
macro_rules! pr_notice { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Notice, $($arg)+) }; }
/// Level 6.
#[macro_export]
macro_rules! pr_info { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Info, $($arg)+) }; }
/// Level 7.
#[macro_export]
macro_rules! pr_debug { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Debug, $($arg)+) }; }
/// Counts, and logs once, that a guest asked for something that is left out: `stub!("io_uring")`.
#[macro_export]
macro_rules! stub {
    ($what:expr) => {{
        static STUB: $crate::printk::Stub = $crate::printk::Stub::new($what);
        $crate::printk::stub_hit(&STUB)
    }};
}
