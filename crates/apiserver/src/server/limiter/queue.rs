//! The order in which users get seats. Pure: what waits is whatever the caller hands in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Requests of one user that may wait: what upstream's six queues of fifty hold for one flow.
const WAITING_PER_FLOW: usize = 300;

/// Requests of all users that may wait: each costs a task and its buffers, about 10 kB.
const WAITING: usize = 6_000;

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It runs now.
    Run(Arc<str>),
    /// It waits under this number.
    Wait(u64),
    /// Too many wait already.
    Full,
}

struct Flow<T> {
    name: Arc<str>,
    running: usize,
    waiting: VecDeque<(u64, T)>,
    /// Its place among those who wait, if it does.
    place: Option<(usize, u64)>,
}

/// Seats, who has them and who is next: of the users who wait, the one with the fewest seats, and among equals the one
/// that has waited longest for its turn.
pub(super) struct Queue<T> {
    seats: usize,
    /// One user's share when nobody else is there: the rest stays free for whoever comes next.
    cap: usize,
    running: usize,
    waiting: usize,
    tickets: u64,
    flows: HashMap<Arc<str>, Flow<T>>,
    /// By running requests and arrival: flows that wait.
    next: BTreeMap<(usize, u64), Arc<str>>,
}

impl<T> Queue<T> {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            seats,
            cap: (seats - seats / 4).max(1),
            running: 0,
            waiting: 0,
            tickets: 0,
            flows: HashMap::new(),
            next: BTreeMap::new(),
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A request of `flow` arrives; `waiter` is kept when it has to wait.
    pub(super) fn arrive(&mut self, flow: &str, waiter: T) -> Arrival {
        let found = self.flows.get_mut(flow);
        let (running, queued) = found.as_ref().map_or((0, 0), |flow| (flow.running, flow.waiting.len()));
        if queued == 0 && self.running < self.seats && running < self.cap {
            self.running += 1;
            let flow = self.flow(flow);
            flow.running += 1;
            return Arrival::Run(Arc::clone(&flow.name));
        }
        if queued >= WAITING_PER_FLOW || self.waiting >= WAITING {
            return Arrival::Full;
        }
        self.tickets += 1;
        self.waiting += 1;
        let ticket = self.tickets;
        let flow = self.flow(flow);
        flow.waiting.push_back((ticket, waiter));
        if flow.place.is_none() {
            let place = (flow.running, ticket);
            flow.place = Some(place);
            let name = Arc::clone(&flow.name);
            self.next.insert(place, name);
        }
        Arrival::Wait(ticket)
    }

    /// A running request of `flow` ended; answers who runs now.
    pub(super) fn leave(&mut self, flow: &Arc<str>) -> Vec<(Arc<str>, T)> {
        self.running -= 1;
        if let Some(left) = self.flows.get_mut(flow) {
            left.running -= 1;
            self.place_again(flow);
        }
        let mut started = Vec::new();
        while self.running < self.seats {
            // The first has the fewest seats: if it is at its cap, so are the others.
            let Some((place, name)) = self.next.first_key_value() else { break };
            if place.0 >= self.cap {
                break;
            }
            let name = Arc::clone(name);
            let Some(flow) = self.flows.get_mut(&name) else { break };
            let Some((_, waiter)) = flow.waiting.pop_front() else { break };
            flow.running += 1;
            self.running += 1;
            self.waiting -= 1;
            self.place_again(&name);
            started.push((name, waiter));
        }
        started
    }

    /// A waiting request gave up. One that has got its seat meanwhile is not there any more, which is no matter.
    pub(super) fn forget(&mut self, flow: &str, ticket: u64) {
        let Some(found) = self.flows.get_mut(flow) else { return };
        let Some(index) = found.waiting.iter().position(|(own, _)| *own == ticket) else { return };
        found.waiting.remove(index);
        self.waiting -= 1;
        let name = Arc::clone(&found.name);
        self.place_again(&name);
    }

    fn flow(&mut self, name: &str) -> &mut Flow<T> {
        let name: Arc<str> = Arc::from(name);
        self.flows.entry(Arc::clone(&name)).or_insert_with(|| Flow {
            name,
            running: 0,
            waiting: VecDeque::new(),
            place: None,
        })
    }

    /// Moves a flow to where its running requests put it, behind those that are there; forgets it when it is idle.
    fn place_again(&mut self, name: &Arc<str>) {
        let Some(flow) = self.flows.get_mut(name) else { return };
        if let Some(place) = flow.place.take() {
            self.next.remove(&place);
        }
        if !flow.waiting.is_empty() {
            self.tickets += 1;
            let place = (flow.running, self.tickets);
            flow.place = Some(place);
            self.next.insert(place, Arc::clone(name));
        } else if flow.running == 0 {
            self.flows.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_alone_leaves_seats_for_the_next() {
        let mut queue = Queue::new(8);
        let arrivals: Vec<_> = (0..500).map(|number| queue.arrive("greedy", number)).collect();
        assert_eq!(arrivals.iter().filter(|arrival| matches!(arrival, Arrival::Run(_))).count(), 6);
        assert_eq!(arrivals.iter().filter(|arrival| matches!(arrival, Arrival::Wait(_))).count(), 300);
        assert_eq!(arrivals.iter().filter(|arrival| **arrival == Arrival::Full).count(), 194);
        assert!(matches!(queue.arrive("other", 0), Arrival::Run(_)));
    }

    #[test]
    fn freed_seats_go_to_whoever_has_fewest() {
        let mut queue = Queue::new(4);
        let mut greedy = Vec::new();
        for number in 0..20 {
            if let Arrival::Run(flow) = queue.arrive("greedy", number) {
                greedy.push(flow);
            }
        }
        let Arrival::Run(a) = queue.arrive("a", 100) else { panic!("the fourth seat was kept free") };
        assert!(matches!(queue.arrive("b", 200), Arrival::Wait(_)));
        assert!(matches!(queue.arrive("b", 201), Arrival::Wait(_)));
        let started = queue.leave(&greedy.pop().expect("three run"));
        assert_eq!(started.iter().map(|(_, waiter)| *waiter).collect::<Vec<_>>(), [200]);
        let started = queue.leave(&greedy.pop().expect("two run"));
        assert_eq!(started[0].1, 201, "b has one, greedy has one and moved behind");
        assert!(queue.leave(&a).len() == 1);
    }

    #[test]
    fn who_gives_up_is_forgotten() {
        let mut queue = Queue::new(2);
        let Arrival::Run(flow) = queue.arrive("a", 1) else { panic!("free") };
        let Arrival::Run(second) = queue.arrive("b", 2) else { panic!("free") };
        let Arrival::Wait(ticket) = queue.arrive("c", 3) else { panic!("full") };
        queue.forget("c", ticket);
        assert_eq!(queue.waiting(), 0);
        assert!(queue.leave(&flow).is_empty());
        assert!(queue.leave(&second).is_empty());
        assert!(queue.flows.is_empty() && queue.next.is_empty());
    }
}
