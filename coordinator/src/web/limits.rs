//! Every limit of the pages, with its reason.

use std::time::Duration;

/// Sign-ins of browsers at once, over all addresses. One takes a few hundred bytes, or a few kilobytes while its
/// provider's answer is looked at.
pub const MAX_BROWSERS: usize = 4096;
/// How long one lasts: as long as the user code that it is for.
pub const BROWSER_LIFETIME: Duration = Duration::from_secs(600);
/// Largest form: two short fields.
pub const MAX_FORM_BYTES: usize = 2048;
/// Longest query of a provider's answer. RFC 6749 sets no limit for codes; real ones stay below 2 KiB.
pub const MAX_CALLBACK_BYTES: usize = 8192;
/// Longest text from outside that a page shows; the rest is cut.
pub const MAX_SHOWN_CHARS: usize = 200;
/// Largest certificate or key file of the listener.
pub const MAX_PEM_BYTES: u64 = 256 * 1024;
/// How often the listener's certificate is looked at for a change.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);
