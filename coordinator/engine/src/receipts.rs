//! Who enforces what, by their own signed word. Only verified receipts come in here. They live as long as the
//! process: after a restart every node that returns acknowledges again.

use bulkhead_identity::{Epoch, Generation, NodeName};
use bulkhead_protocol::admin::ReceiptView;
use std::collections::{BTreeMap, BTreeSet};

/// How many epochs and generations keep the first receipt of every node; older ones show the latest.
const MAX_TRACKED: usize = 16;

/// The receipts.
#[derive(Default)]
pub(crate) struct Receipts {
    latest: BTreeMap<NodeName, ReceiptView>,
    epochs: Tracked,
    generations: Tracked,
}

/// The first receipt of each node for a counter that has reached a value.
#[derive(Default)]
struct Tracked(BTreeMap<u64, BTreeMap<NodeName, ReceiptView>>);

impl Tracked {
    fn track(&mut self, value: u64) {
        self.0.entry(value).or_default();
        while self.0.len() > MAX_TRACKED {
            self.0.pop_first();
        }
    }

    fn record(&mut self, reached: u64, name: &NodeName, view: &ReceiptView) {
        for receipts in self.0.range_mut(..=reached).map(|(_, receipts)| receipts) {
            if !receipts.contains_key(name) {
                receipts.insert(name.clone(), view.clone());
            }
        }
    }
}

impl Receipts {
    pub(crate) fn track_epoch(&mut self, epoch: Epoch) {
        self.epochs.track(epoch.0);
    }

    pub(crate) fn track_generation(&mut self, generation: Generation) {
        self.generations.track(generation.0);
    }

    pub(crate) fn record(&mut self, name: &NodeName, view: ReceiptView) {
        self.epochs.record(view.epoch, name, &view);
        self.generations.record(view.generation, name, &view);
        self.latest.insert(name.clone(), view);
    }

    pub(crate) fn latest(&self, name: &NodeName) -> Option<&ReceiptView> {
        self.latest.get(name)
    }

    /// Receipts for this epoch or a later one, in order of arrival.
    pub(crate) fn of_epoch(&self, epoch: Epoch) -> Vec<ReceiptView> {
        self.reached(&self.epochs, epoch.0, |view| view.epoch)
    }

    /// Receipts for this generation or a later one, in order of arrival.
    pub(crate) fn of_generation(&self, generation: Generation) -> Vec<ReceiptView> {
        self.reached(&self.generations, generation.0, |view| view.generation)
    }

    /// A node that is revoked or gone counts no longer.
    pub(crate) fn forget(&mut self, name: &NodeName) {
        self.latest.remove(name);
        for receipts in self.epochs.0.values_mut().chain(self.generations.0.values_mut()) {
            receipts.remove(name);
        }
    }

    fn reached(&self, tracked: &Tracked, value: u64, of: impl Fn(&ReceiptView) -> u64) -> Vec<ReceiptView> {
        let first = tracked.0.get(&value).into_iter().flat_map(|receipts| receipts.values());
        let first: Vec<_> = first.cloned().collect();
        let seen: BTreeSet<_> = first.iter().map(|view| view.node.clone()).collect();
        let later = self.latest.values().filter(|view| of(view) >= value && !seen.contains(&view.node));
        let mut all: Vec<_> = first.iter().chain(later).cloned().collect();
        all.sort_by(|a, b| (a.arrived_ms, &a.node).cmp(&(b.arrived_ms, &b.node)));
        all
    }
}
