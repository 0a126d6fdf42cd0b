//! The pages. Plain HTML in one column: it works on a phone, for a screen reader, without the style sheet, and has
//! no script at all.
//!
//! What came from outside is escaped by construction: `maud` escapes every value, and [`Outside`] is the type of
//! whatever a stranger chose, which also loses what would reorder or hide text (C4). Only our own style sheet goes
//! into a page as it is.

use crate::web::limits::MAX_SHOWN_CHARS;
use bulkhead_coordinator_engine::{Claims, Preview, Refusal, SignInOutcome, SignInPurpose, SignInView};
use bulkhead_identity::{Labels, Timestamp};
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};
use std::time::Duration;

/// The style sheet; its hash is in the content security policy.
pub(super) const STYLE: &str = include_str!("style.css");

/// Text that a stranger chose, for example a device's name or a provider's error: cut, without characters that a
/// browser acts on rather than shows, and set apart from the direction of the text around it.
pub(super) struct Outside<'a>(pub(super) &'a str);

impl Render for Outside<'_> {
    fn render(&self) -> Markup {
        html! { bdi { (shown(self.0)) } }
    }
}

/// What is left of it when it is shown, or logged.
pub(super) fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).map(visible).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Marks that reorder text or take no room (Unicode TR 36, section 2.10), and the private characters.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{10ffff}')
}

fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · Bulkhead" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { "Bulkhead" }
                main {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
}

/// What the engine says, with what to do next.
pub(super) fn refusal(refusal: &Refusal) -> Markup {
    html! {
        (Outside(&refusal.message))
        @if let Some(help) = &refusal.help { ": " (Outside(help)) }
        "."
    }
}

/// Asks for the code; `wrong` says what was wrong with the last one.
pub(super) fn ask_code(wrong: Option<&Refusal>) -> Markup {
    page(
        "Enter the code",
        &html! {
            @if let Some(wrong) = wrong {
                p #wrong .alarm role="alert" { (refusal(wrong)) }
            }
            form action="/device" method="get" {
                label for="code" { "Code that your device shows" }
                input #code type="text" name="code" required maxlength="32" autocomplete="off"
                    autocapitalize="characters" spellcheck="false" aria-describedby=(described(wrong))
                    aria-invalid=[wrong.map(|_| "true")];
                p #hint .hint { "Eight letters, like WDJB-MJHT." }
                button { "Continue" }
            }
        },
    )
}

fn described(wrong: Option<&Refusal>) -> &'static str {
    if wrong.is_some() { "wrong hint" } else { "hint" }
}

/// Offers the providers.
pub(super) fn choose_provider(code: &str, providers: &[String], form: &str) -> Markup {
    page(
        "Sign in",
        &html! {
            p { "The code is" }
            p { strong .match { (code) } }
            p {
                "Go on only if your own device shows this code now. If somebody sent you this link or this code, close \
                 this page: whoever sent it would act in your name."
            }
            @for provider in providers {
                form action={ "/signin/" (provider) } method="post" {
                    input type="hidden" name="form" value=(form);
                    button { "Sign in with " (provider) }
                }
            }
            @if providers.is_empty() {
                p .alarm role="alert" { "No provider is set up to sign in with. Ask your administrator." }
            }
        },
    )
}

/// Between us and the provider. The `refresh` header takes the browser on: no form leads to another site, so that the
/// content security policy need not know where a provider sends people.
pub(super) fn leaving(provider: &str, url: &str) -> Markup {
    page(
        "Going to your provider",
        &html! {
            p role="status" { "Your browser goes on to " (provider) " to sign you in, and comes back here after that." }
            p { a href=(url) { "Continue to " (provider) } " if nothing happens." }
        },
    )
}

/// Shows what is asked, and what a yes would do (D7).
pub(super) fn confirm(asked: &SignInView, preview: &Preview, person: &Claims, form: &str) -> Markup {
    let (title, shows) = match asked.purpose {
        SignInPurpose::Enrol => ("Add this device?", "device"),
        SignInPurpose::Login => ("Log in as an administrator?", "terminal"),
    };
    page(
        title,
        &html! {
            p { "Compare this with what your " (shows) " shows. If it differs, or if you did not ask for this, refuse." }
            dl {
                dt { "Match code" }
                dd { strong .match { (Outside(&asked.match_code)) } }
                @if let Some(device) = &asked.device {
                    dt { "Device" }
                    dd { (device) }
                }
                @if let Some(fingerprint) = &asked.fingerprint {
                    dt { "Key fingerprint" }
                    dd { code { (fingerprint) } }
                }
                dt { "Asked from address" }
                dd { (asked.source.to_canonical()) }
                dt { "You are signed in as" }
                dd { (Outside(if person.name.is_empty() { &person.subject } else { &person.name })) " at " (person.provider) }
            }
            h2 { "If you confirm" }
            ul { (gain(preview)) }
            form action="/confirm" method="post" {
                input type="hidden" name="form" value=(form);
                button name="answer" value="confirm" { "Confirm" }
                button .no name="answer" value="refuse" { "Refuse" }
            }
            p .hint { "This question ends at " (moment(asked.expires)) "." }
        },
    )
}

fn gain(preview: &Preview) -> Markup {
    match preview {
        Preview::Enrol { name, labels, lifetime, session, approval, again } => html! {
            li {
                @if *again { "The device stays node " } @else { "The device becomes node " }
                strong { (name) } (with(labels)) "."
            }
            @if *approval {
                li { "It waits until an administrator approves it." }
            }
            li { "Its certificates last " (span(*lifetime)) " each and renew by themselves." }
            li { "You sign in again within " (span(*session)) ", or it stops." }
        },
        Preview::Login { user, role, session } => html! {
            li { "The terminal may do in your name whatever your role permits: " strong { (role.as_str()) } "." }
            li { "The log of changes calls you " (Outside(user)) "." }
            li { "It ends after " (span(*session)) "." }
        },
    }
}

/// `, with team=eng, site=muc`
fn with(labels: &Labels) -> Markup {
    html! {
        @for (at, (key, value)) in labels.iter().enumerate() {
            @if at == 0 { ", with " } @else { ", " }
            code { (key) "=" (value) }
        }
    }
}

/// It is done.
pub(super) fn done(outcome: &SignInOutcome) -> Markup {
    const CLOSE: &str = "You can close this page.";
    match outcome {
        SignInOutcome::Enrolled { name, labels } => page(
            "The device has joined",
            &html! {
                p role="status" { strong { (name) } " is a node now" (with(labels)) "." }
                p { (CLOSE) }
            },
        ),
        SignInOutcome::Pending { name } => page(
            "Waiting for an administrator",
            &html! {
                p role="status" { strong { (name) } " waits until an administrator approves it." }
                p { "It goes on by itself then, also after a restart. " (CLOSE) }
            },
        ),
        SignInOutcome::LoggedIn { user, role } => page(
            "You are logged in",
            &html! {
                p role="status" { "The terminal goes on as " strong { (Outside(user)) } " (" (role.as_str()) ")." }
                p { (CLOSE) }
            },
        ),
    }
}

/// The person said no.
pub(super) fn refused() -> Markup {
    page(
        "Refused",
        &html! {
            p role="status" { "Nothing was added and nobody was logged in." }
            p {
                "If you did not start this yourself, tell your administrator: somebody tried to act in your name. You can \
                 close this page."
            }
        },
    )
}

/// What went wrong, and what to do next.
pub(super) fn trouble(title: &str, what: &Markup, next: &str) -> Markup {
    page(
        title,
        &html! {
            p .alarm role="alert" { (what) }
            p { (next) }
        },
    )
}

/// `2026-11-21 22:00 UTC`
fn moment(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "the end of time".to_owned(),
    }
}

/// `8 hours`, `90 minutes`, `30 seconds`.
fn span(duration: Duration) -> String {
    let (count, unit) = match duration.as_secs() {
        secs if secs >= 3600 && secs.is_multiple_of(3600) => (secs / 3600, "hour"),
        secs if secs >= 60 && secs.is_multiple_of(60) => (secs / 60, "minute"),
        secs => (secs, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
