//! Waiting for nodes to say that they enforce something. Each node's signed word is shown once, as it arrives,
//! and nobody is counted who has not given it.

use crate::client::Client;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::printable;
use bulkhead_protocol::admin::ReceiptView;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often to ask for news.
const POLL: Duration = Duration::from_millis(50);

/// A state of acknowledgement that can be asked for again and again.
pub(crate) trait Acknowledgements: DeserializeOwned {
    /// Who has.
    fn receipts(&self) -> &[ReceiptView];
    /// How many have not, and are waited for.
    fn missing(&self) -> usize;
}

/// Asks at `path`, starting from what is known already, until nobody is missing or `patience` ends. Returns the
/// last state; the caller looks at who is missing in it. A coordinator that goes away meanwhile is asked again.
pub(crate) async fn watch<A: Acknowledgements>(
    client: &mut Client,
    path: &str,
    known: A,
    patience: Duration,
    screen: Screen,
) -> Result<A, Failure> {
    let started = Instant::now();
    let bar = spinner();
    let mut shown = BTreeSet::new();
    let mut state = known;
    loop {
        for receipt in state.receipts() {
            if shown.insert(receipt.node.clone()) {
                bar.suspend(|| screen.line(&line(receipt)))?;
            }
        }
        if state.missing() == 0 || started.elapsed() >= patience {
            bar.finish_and_clear();
            return Ok(state);
        }
        bar.set_message(format!("waiting for {} more", state.missing()));
        bar.tick();
        tokio::time::sleep(POLL).await;
        match client.get(path).await {
            Ok(news) => state = news,
            Err(failure) if failure.is_transient() => bar.set_message("the coordinator does not answer"),
            Err(failure) => return Err(failure),
        }
    }
}

fn line(receipt: &ReceiptView) -> String {
    printable(&format!(
        "{:<16}  enforces policy {} and epoch {}, since {}",
        receipt.node,
        receipt.generation,
        receipt.epoch,
        moment::show_ms(receipt.arrived_ms)
    ))
}

/// `3 receipts`.
pub(crate) fn count(receipts: usize) -> String {
    format!("{receipts} {}", if receipts == 1 { "receipt" } else { "receipts" })
}

// Draws on standard error, and only when that is a terminal.
fn spinner() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}
