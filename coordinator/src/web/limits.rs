//! Every limit of the pages, with its reason.

use std::time::Duration;

/// Sign-ins of browsers at once, over all addresses. One takes a few hundred bytes, or a few kilobytes while its
/// provider's answer is looked at.
pub const MAX_BROWSERS: usize = 4096;
/// How long one lasts: as long as the user code that it is for.
pub const BROWSER_LIFETIME: Duration = Duration::from_secs(600);
/// Wrong user codes that one network may try within [`GUESS_WINDOW`]. RFC 8628, section 5.1: of 20^8 codes, even
/// a thousand live ones are not found at this rate in the ten minutes that they live.
pub const MAX_WRONG_CODES: u32 = 10;
/// See [`MAX_WRONG_CODES`].
pub const GUESS_WINDOW: Duration = Duration::from_secs(60);
/// Networks whose wrong codes are counted at once.
pub const MAX_GUESSING_NETWORKS: usize = 4096;
/// Largest form: two short fields.
pub const MAX_FORM_BYTES: usize = 2048;
/// Longest code that a person may type: eight letters, with room for separators of every kind.
pub const MAX_TYPED_CODE_BYTES: usize = 32;
/// Longest query of a provider's answer. RFC 6749 sets no limit for codes; real ones stay below 2 KiB.
pub const MAX_CALLBACK_BYTES: usize = 8192;
/// Longest text from outside that a page shows; the rest is cut.
pub const MAX_SHOWN_CHARS: usize = 200;
/// Groups that a page lists; how many more there are is said.
pub const MAX_SHOWN_GROUPS: usize = 20;
/// Largest certificate or key file of the listener.
pub const MAX_PEM_BYTES: u64 = 256 * 1024;
/// How often the listener's certificate is looked at for a change.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);
