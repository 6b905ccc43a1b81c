//! The contract written down as plainly as possible: every state of every revision is kept whole. Slow and obvious, it
//! shares nothing with [`mvcc`](crate::mvcc).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::contract::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, Operation, OperationResponse, RangeRequest,
    RangeResponse, Revision, Transaction, TransactionResponse,
};

type State = BTreeMap<Bytes, KeyValue>;

/// States by revision, beginning with revision 1.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    states: Vec<State>,
    pub(super) events: Vec<Event>,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self { states: vec![State::new()], events: Vec::new() }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    pub(super) fn at(&self, revision: Revision) -> &State {
        &self.states[usize::try_from(revision.0).expect("small") - 1]
    }

    pub(super) fn now(&self) -> &State {
        self.at(self.revision())
    }

    /// Events of a range from one revision on.
    pub(super) fn events(&self, range: &KeyRange, from: Revision) -> Vec<Event> {
        let wanted = |event: &&Event| range.contains(&event.kv.key) && event.kv.mod_revision >= from;
        self.events.iter().filter(wanted).cloned().collect()
    }

    pub(super) fn transact(&mut self, transaction: &Transaction) -> TransactionResponse {
        let succeeded = transaction.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &transaction.success } else { &transaction.failure };
        let revision = self.revision().next();
        let (mut state, mut events, mut responses) = (self.now().clone(), Vec::new(), Vec::new());
        for operation in branch {
            responses.push(match operation {
                Operation::Put(put) => {
                    let previous = state.get(&put.key).cloned();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: previous.as_ref().map_or(1, |kv| kv.version + 1),
                        lease: None,
                    };
                    state.insert(put.key.clone(), kv.clone());
                    events.push(Event { kind: EventKind::Put, kv, previous: previous.clone() });
                    OperationResponse::Put { previous }
                }
                Operation::Delete(delete) => {
                    let previous: Vec<KeyValue> =
                        state.values().filter(|kv| delete.range.contains(&kv.key)).cloned().collect();
                    for kv in &previous {
                        state.remove(&kv.key);
                        events.push(deletion(kv, revision));
                    }
                    OperationResponse::Delete { previous }
                }
                Operation::Range(request) => {
                    let newest = if events.is_empty() { self.revision() } else { revision };
                    OperationResponse::Range(range(&state, request, newest))
                }
            });
        }
        if !events.is_empty() {
            self.states.push(state);
            self.events.extend(events);
        }
        TransactionResponse { succeeded, revision: self.revision(), responses }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.now().get(&compare.key);
        match &compare.target {
            CompareTarget::ModRevision(wanted) => kv.map_or(Revision(0), |kv| kv.mod_revision) == *wanted,
            CompareTarget::CreateRevision(wanted) => {
                kv.map_or(Revision(0), |kv| kv.create_revision) == *wanted
            }
            CompareTarget::Version(wanted) => kv.map_or(0, |kv| kv.version) == *wanted,
            CompareTarget::Value(wanted) => kv.is_some_and(|kv| kv.value == *wanted),
        }
    }
}

fn deletion(kv: &KeyValue, revision: Revision) -> Event {
    let gone = KeyValue {
        key: kv.key.clone(),
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: revision,
        version: 0,
        lease: None,
    };
    Event { kind: EventKind::Delete, kv: gone, previous: Some(kv.clone()) }
}

pub(super) fn range(state: &State, request: &RangeRequest, newest: Revision) -> RangeResponse {
    let inside: Vec<&KeyValue> = state.values().filter(|kv| request.range.contains(&kv.key)).collect();
    let limit = if request.count_only { 0 } else { request.limit.unwrap_or(usize::MAX) };
    RangeResponse {
        revision: newest,
        kvs: inside.iter().take(limit).map(|kv| (*kv).clone()).collect(),
        count: inside.len(),
    }
}
