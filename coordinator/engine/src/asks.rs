//! Questions to nodes whose answers come later: how many may be under way, how long they last, and what becomes of
//! them. A node that says nothing delays an answer by two seconds, and never longer.

use crate::command::{ConnectionId, RequestId};
use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::event::Actor;
use crate::flows::Gathered;
use crate::refusal::{Class, Refusal};
use crate::timing::ANSWER_WINDOW;
use bulkhead_identity::{NodeName, Now};
use bulkhead_protocol::admin::Confirm;
use bulkhead_protocol::control::{FlowReport, ToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Questions under way at once.
pub(crate) const MAX_ASKS: usize = 4;

/// The questions under way. They end with the process, as the requests behind them do.
#[derive(Default)]
pub(crate) struct Asks {
    last: u64,
    open: BTreeMap<u64, Ask>,
}

struct Ask {
    request: RequestId,
    due: Duration,
    /// Asked and not heard.
    waiting: BTreeSet<NodeName>,
    purpose: Purpose,
}

/// Why nodes are asked for their flows.
pub(crate) enum Purpose {
    /// Somebody wants to see them.
    Flows(Gathered),
    /// Somebody confirms a policy: an answer is a sign of life, over a link that carries both ways under it.
    Confirm { actor: Actor, confirm: Confirm },
}

impl Asks {
    /// When the next question ends with what there is.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.open.values().map(|ask| ask.due).min()
    }
}

impl Coordinator {
    /// Asks these nodes. The request is answered when all have answered, or their time is over.
    pub(crate) fn ask(
        &mut self,
        request: RequestId,
        waiting: BTreeSet<NodeName>,
        purpose: Purpose,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if self.asks.open.len() >= MAX_ASKS {
            let message = format!("{MAX_ASKS} questions to the nodes (MAX_ASKS) are under way");
            return Err(Refusal::new(Class::TooMany, "BH-C183", message).help("try again in two seconds"));
        }
        self.asks.last += 1;
        let number = self.asks.last;
        let message = Arc::new(ToNode::WantFlows { ask: number });
        for connection in waiting.iter().filter_map(|name| self.links.connection(name)) {
            effects.send(connection, Arc::clone(&message));
        }
        let ask = Ask { request, due: now.mono.saturating_add(ANSWER_WINDOW), waiting, purpose };
        if ask.waiting.is_empty() {
            self.conclude(ask, now, effects);
        } else {
            self.asks.open.insert(number, ask);
        }
        Ok(())
    }

    /// A node answers. Twice, late or unasked is harmless.
    pub(crate) fn answered(
        &mut self,
        connection: ConnectionId,
        number: u64,
        (reports, truncated): (Vec<FlowReport>, bool),
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(name) = self.links.link(connection).map(|link| link.name.clone()) else { return };
        let Some(ask) = self.asks.open.get_mut(&number) else { return };
        if !ask.waiting.remove(&name) {
            return;
        }
        match &mut ask.purpose {
            Purpose::Flows(gathered) => gathered.add(&name, reports, truncated, &self.state),
            Purpose::Confirm { .. } => {}
        }
        if ask.waiting.is_empty()
            && let Some(ask) = self.asks.open.remove(&number)
        {
            self.conclude(ask, now, effects);
        }
    }

    /// Ends the questions whose time is over.
    pub(crate) fn end_asks(&mut self, now: Now, effects: &mut Effects) {
        let over: Vec<_> = self.asks.open.extract_if(.., |_, ask| now.mono >= ask.due).collect();
        for (_, ask) in over {
            self.conclude(ask, now, effects);
        }
    }

    fn conclude(&mut self, ask: Ask, now: Now, effects: &mut Effects) {
        let Ask { request, waiting: silent, purpose, .. } = ask;
        let answer = match purpose {
            Purpose::Flows(gathered) => Ok(gathered.reply(&silent)),
            Purpose::Confirm { actor, confirm } => {
                self.conclude_confirmation(actor, &confirm, &silent, now, effects)
            }
        };
        effects.answer(request, answer);
    }
}
