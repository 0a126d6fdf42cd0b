//! Whom to ask about next. Each provider has slots of its own and is asked in the order in which its people are due,
//! so that neither a provider that hangs nor many people of one keep others waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Persons of one provider that are asked about at once.
pub(super) const MAX_AT_ONCE: usize = 8;

/// Everybody, by name.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<Name, Entry>,
    /// By issuer.
    lanes: BTreeMap<String, Lane>,
    serial: u64,
}

/// One person, in digests of the issuer, and of issuer and subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) issuer: String,
    pub(super) person: String,
}

/// A person who is being asked about. Stale as soon as there is a new sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) name: Name,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// When to ask; `None` while it is being asked.
    due: Option<Instant>,
}

/// The people of one issuer.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<(Instant, Name)>,
    asked: usize,
}

impl Lane {
    fn next(&self) -> Option<Instant> {
        let first = self.waiting.first().filter(|_| self.asked < MAX_AT_ONCE);
        first.map(|(due, _)| *due)
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        self.entries.contains_key(name)
    }

    /// Takes a person up, anew if known: earlier tickets are stale.
    pub(super) fn admit(&mut self, name: Name, due: Instant) {
        self.remove(&name);
        self.serial += 1;
        self.lane(&name).waiting.insert((due, name.clone()));
        self.entries.insert(name, Entry { serial: self.serial, due: Some(due) });
    }

    /// All who are due and have a slot.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Ticket> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            while lane.next().is_some_and(|due| due <= now)
                && let Some((_, name)) = lane.waiting.pop_first()
            {
                let Some(entry) = self.entries.get_mut(&name) else { continue };
                entry.due = None;
                lane.asked += 1;
                taken.push(Ticket { name, serial: entry.serial });
            }
        }
        taken
    }

    /// When the next has a slot and is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lanes.values().filter_map(Lane::next).min()
    }

    /// Whether there was no new sign-in.
    pub(super) fn is_current(&self, ticket: &Ticket) -> bool {
        self.entries.get(&ticket.name).is_some_and(|entry| entry.serial == ticket.serial)
    }

    /// Gives a ticket back: to be asked again at `due`.
    pub(super) fn wait(&mut self, ticket: &Ticket, due: Instant) {
        if self.is_current(ticket) {
            self.leave(&ticket.name);
            self.lane(&ticket.name).waiting.insert((due, ticket.name.clone()));
            if let Some(entry) = self.entries.get_mut(&ticket.name) {
                entry.due = Some(due);
            }
        }
    }

    /// Forgets a person.
    pub(super) fn remove(&mut self, name: &Name) {
        self.leave(name);
        self.entries.remove(name);
    }

    /// Takes a person out of the lane, waiting or asked about.
    fn leave(&mut self, name: &Name) {
        let Some(entry) = self.entries.get(name) else { return };
        let (due, lane) = (entry.due, self.lane(name));
        match due {
            Some(due) => drop(lane.waiting.remove(&(due, name.clone()))),
            None => lane.asked -= 1,
        }
    }

    fn lane(&mut self, name: &Name) -> &mut Lane {
        self.lanes.entry(name.issuer.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(issuer: &str, person: usize) -> Name {
        Name { issuer: issuer.to_owned(), person: person.to_string() }
    }

    fn issuers(tickets: &[Ticket]) -> Vec<&str> {
        tickets.iter().map(|ticket| ticket.name.issuer.as_str()).collect()
    }

    #[test]
    fn a_provider_that_hangs_does_not_keep_others_waiting() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for person in 0..100 {
            queue.admit(name("hangs", person), now);
        }
        assert_eq!(issuers(&queue.take_due(now)), ["hangs"; MAX_AT_ONCE]);
        assert_eq!((queue.next_due(), queue.take_due(now)), (None, Vec::new()), "its slots are taken");
        queue.admit(name("works", 0), now);
        assert_eq!((queue.next_due(), issuers(&queue.take_due(now))), (Some(now), vec!["works"]));
    }

    #[test]
    fn nobody_waits_for_whom_is_due_later() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        for person in 0..100 {
            queue.admit(name("fails", person), now);
        }
        // Whoever failed comes back while others have waited longer.
        let mut asked = BTreeSet::new();
        for _ in 0..100usize.div_ceil(MAX_AT_ONCE) {
            now += 61 * SECOND;
            for ticket in queue.take_due(now) {
                queue.wait(&ticket, now + 60 * SECOND);
                asked.insert(ticket.name);
            }
        }
        assert_eq!(asked.len(), 100);
    }

    #[test]
    fn a_slot_is_free_again_however_its_question_ends() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let crowd = |queue: &mut Queue| (0..100).for_each(|person| queue.admit(name("acme", person), now));
        crowd(&mut queue);
        for end in [Queue::admit_again, Queue::wait_again, Queue::end] {
            let taken = queue.take_due(now);
            assert_eq!((taken.len(), queue.take_due(now).len()), (MAX_AT_ONCE, 0));
            taken.iter().for_each(|ticket| end(&mut queue, ticket, now + SECOND));
            // Stale or not, a ticket that is given back twice frees one slot.
            taken.iter().for_each(|ticket| queue.wait(ticket, now + SECOND));
        }
        assert_eq!(queue.len(), 100 - MAX_AT_ONCE);
        queue.lanes.values().for_each(|lane| assert_eq!(lane.asked, 0));
    }

    impl Queue {
        fn admit_again(&mut self, ticket: &Ticket, due: Instant) {
            self.admit(ticket.name.clone(), due);
        }

        fn wait_again(&mut self, ticket: &Ticket, due: Instant) {
            self.wait(ticket, due);
        }

        fn end(&mut self, ticket: &Ticket, _: Instant) {
            self.remove(&ticket.name);
        }
    }
}
