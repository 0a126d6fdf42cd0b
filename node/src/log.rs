//! Logging to standard error.
//!
//! Property: one line per event, whatever a peer put into a name: fields are escaped by the formatter (E6). Times
//! are left to the service manager that collects the lines, unless standard error is a terminal.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging with `filter`, which [`crate::config`] has checked. A second call changes nothing.
pub(crate) fn start(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // Already started, by a test of the same process: the first one stays.
    let _ = if terminal { builder.try_init() } else { builder.without_time().try_init() };
}
