//! A link as a QR code, for a phone: two modules in one character.

use std::io::IsTerminal as _;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code as lines, if standard output is a terminal that is wide enough for it.
pub(super) fn for_terminal(link: &str) -> Option<String> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    drawn(link, size.ws_col.into())
}

/// At most `columns` wide. Light modules are drawn and dark ones left out, which is right way round on a dark screen;
/// phones read either.
fn drawn(link: &str, columns: usize) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    let text = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    let width = text.lines().map(|line| line.chars().count()).max()?;
    (width <= columns).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINK: &str = "https://bulkhead.acme.example:8444/device?code=WDJB-MJHT";

    #[test]
    fn a_code_fits_a_usual_terminal_and_is_left_out_of_a_narrow_one() {
        let text = drawn(LINK, 80).unwrap();
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= 48), "{widths:?}");
        assert!(text.lines().count() <= 24, "it fits a screen of 24 lines");
        assert!(text.chars().all(|c| matches!(c, ' ' | '▀' | '▄' | '█' | '\n')), "{text}");
        assert!(drawn(LINK, widths[0] - 1).is_none());
    }

    #[test]
    fn a_link_that_is_too_long_for_any_code_is_left_out() {
        assert!(drawn(&"x".repeat(10_000), 1000).is_none());
    }
}
