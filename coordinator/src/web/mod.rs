//! Pages for people: the browser's side of a sign-in, for whoever enrols a device or logs in as an administrator.
//!
//! A browser brings a user code, goes to a provider, comes back as a person, sees what is asked for (D7) and says yes
//! or no. Its cookie holds nothing but a random number; state, nonce and verifier stay here, belong to that cookie, and
//! count once (D6). Only POST changes anything, and only from a form that this browser was given (D16).
//!
//! | module | concept |
//! |---|---|
//! | [`seam`] | what is asked of the engine and of the relying party |
//! | `routes`, `pages`, `trouble` | what is served, what it says, what it says when something is wrong |
//! | `browsers`, `cookie` | who is on the way, and how they are known again |
//! | `headers` | what every answer carries |
//! | [`certificate`] | the listener's certificate, which others renew |
//! | [`limits`] | how much of everything |

mod browsers;
pub mod certificate;
mod cookie;
mod headers;
pub mod limits;
mod pages;
mod routes;
pub mod seam;
#[cfg(test)]
mod tests;
mod trouble;

pub use routes::Web;
