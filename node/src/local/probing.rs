//! Asking peers inside the tunnel, for whoever asks over the local API.
//!
//! The engine keeps one list of finished probes; here each result finds its asker. Only results that somebody
//! waits for are kept, so the table is as small as the number of requests in progress.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_identity::NodeName;
use bulkhead_node_engine::{Probe, ProbeId, ProbeOutcome};

use crate::handle::DaemonHandle;

/// How often finished probes are fetched while somebody waits. The round trip is measured by the engine.
const POLL: Duration = Duration::from_millis(5);

/// Results by question; `None` until there is one.
#[derive(Debug, Default)]
pub(super) struct Probing {
    waiting: Mutex<BTreeMap<ProbeId, Option<ProbeOutcome>>>,
}

/// Takes the questions back when the asker gives up.
struct Asked<'a> {
    probing: &'a Probing,
    ids: Vec<(NodeName, ProbeId)>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut waiting = self.probing.lock();
        for (_, id) in &self.ids {
            waiting.remove(id);
        }
    }
}

impl Probing {
    /// Asks `peers` the same at once, and waits until all have answered or `patience` is over. Peers that the
    /// engine could not ask, and peers that gave no answer, are not in the result.
    pub(super) async fn ask(
        &self,
        daemon: &DaemonHandle,
        peers: impl IntoIterator<Item = NodeName>,
        probe: Probe,
        patience: Duration,
    ) -> BTreeMap<NodeName, ProbeOutcome> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut asked = Asked { probing: self, ids: Vec::new() };
        for peer in peers {
            let sent = daemon.with_output(|engine, now, out| engine.probe(&peer, probe, now, out));
            if let Ok(id) = sent {
                self.lock().insert(id, None);
                asked.ids.push((peer, id));
            }
        }
        while !self.collect(daemon, &asked) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        let waiting = self.lock();
        let answered = asked.ids.iter().filter_map(|(peer, id)| Some((peer, (*waiting.get(id)?)?)));
        answered
            .filter(|(_, outcome)| *outcome != ProbeOutcome::TimedOut)
            .map(|(peer, outcome)| (peer.clone(), outcome))
            .collect()
    }

    /// Fetches what finished; whether all of `asked` has.
    fn collect(&self, daemon: &DaemonHandle, asked: &Asked<'_>) -> bool {
        let mut waiting = self.lock();
        for result in daemon.engine().probe_results() {
            if let Some(slot) = waiting.get_mut(&result.id) {
                *slot = Some(result.outcome);
            }
        }
        asked.ids.iter().all(|(_, id)| waiting.get(id).is_none_or(Option::is_some))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProbeId, Option<ProbeOutcome>>> {
        // The table is valid after any panic: each entry stands for itself.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
