use super::*;

fn entry(
    uid: &str,
    number: u64,
    priority: TestPriority,
    group: Option<(&str, u32, ConcurrencyMode)>,
) -> Entry {
    let group = group.map(|(group, max, mode)| PlannedConcurrency { group: group.to_owned(), max, mode });
    Entry { uid: uid.to_owned(), number, priority, group }
}

fn plain(uid: &str, number: u64) -> Entry {
    entry(uid, number, TestPriority::Normal, None)
}

fn all(queue: &mut Queue) -> Vec<String> {
    std::iter::from_fn(|| queue.next()).collect()
}

fn waits() -> Offer {
    Offer::Waits { cancel: Vec::new() }
}

#[test]
fn a_higher_class_goes_first_and_older_ones_before_newer_ones() {
    let mut queue = Queue::new(1);
    assert_eq!(queue.offer(plain("first", 1)), waits());
    assert_eq!(all(&mut queue), ["first"]);
    for (uid, number, priority) in [
        ("late", 2, TestPriority::Background),
        ("b", 4, TestPriority::Normal),
        ("a", 3, TestPriority::Normal),
        ("now", 5, TestPriority::Urgent),
    ] {
        assert_eq!(queue.offer(entry(uid, number, priority, None)), waits());
    }
    assert_eq!(all(&mut queue), Vec::<String>::new(), "the one place is taken");
    assert_eq!(queue.waits_for("a").as_deref(), Some("waits for a place: 1 of 1 are taken"));
    let mut order = Vec::new();
    let mut last = "first".to_owned();
    while queue.waiting() > 0 {
        queue.ended(&last);
        last = queue.next().expect("a place is free");
        order.push(last.clone());
    }
    assert_eq!(order, ["now", "a", "b", "late"]);
}

#[test]
fn a_full_group_lets_others_pass() {
    let mut queue = Queue::new(10);
    let of =
        |uid: &str, number| entry(uid, number, TestPriority::Normal, Some(("db", 2, ConcurrencyMode::Queue)));
    for number in 1..=3 {
        queue.offer(of(&format!("g{number}"), number));
    }
    queue.offer(plain("other", 4));
    assert_eq!(all(&mut queue), ["g1", "g2", "other"]);
    assert_eq!(queue.waits_for("g3").as_deref(), Some("waits for concurrency group db: 2 of it run"));
    queue.ended("g1");
    assert_eq!(all(&mut queue), ["g3"]);
}

#[test]
fn the_oldest_of_a_group_make_room_or_the_new_one_is_left_out() {
    let mut queue = Queue::new(10);
    let of = |uid: &str, number, mode| entry(uid, number, TestPriority::Normal, Some(("db", 1, mode)));
    queue.offer(of("old", 1, ConcurrencyMode::CancelRunning));
    assert_eq!(all(&mut queue), ["old"]);
    let cancel = |uid: &str| Offer::Waits { cancel: vec![uid.to_owned()] };
    assert_eq!(queue.offer(of("new", 2, ConcurrencyMode::CancelRunning)), cancel("old"));
    queue.settle("old");
    assert_eq!(
        queue.offer(of("newer", 3, ConcurrencyMode::CancelRunning)),
        cancel("new"),
        "one that waits as well"
    );
    queue.settle("new");
    assert_eq!(
        all(&mut queue),
        ["new"],
        "it is settled at once; the newest waits until the oldest has ended"
    );
    queue.ended("new");
    queue.ended("old");
    assert_eq!(all(&mut queue), ["newer"]);
    let left = queue.offer(of("skipped", 4, ConcurrencyMode::Skip));
    let message = "concurrency group db is taken: 1 of 1".to_owned();
    assert_eq!(left, Offer::LeftOut { reason: "GroupTaken", message });
    queue.ended("newer");
    assert_eq!(queue.offer(of("again", 5, ConcurrencyMode::Skip)), waits());
}

#[test]
fn after_a_restart_the_same_ones_make_room() {
    let mut queue = Queue::new(10);
    let of = |uid: &str, number| {
        entry(uid, number, TestPriority::Normal, Some(("db", 1, ConcurrencyMode::CancelRunning)))
    };
    queue.resume(&of("old", 1));
    queue.insert(of("new", 2), false);
    assert_eq!(queue.superseded(), [("old".to_owned(), "db".to_owned())]);
}

#[test]
fn what_is_cancelled_never_waits_for_tests_and_the_queue_is_bounded() {
    let mut queue = Queue::new(1);
    queue.offer(plain("long", 0));
    assert_eq!(all(&mut queue), ["long"]);
    for number in 1..=MAX_WAITING as u64 {
        assert_eq!(queue.offer(plain(&format!("w{number}"), number)), waits());
    }
    assert!(matches!(queue.offer(plain("more", 99_999)), Offer::LeftOut { reason: "QueueFull", .. }));
    queue.settle("w77");
    assert_eq!(all(&mut queue), ["w77"]);
}

#[test]
fn how_many_may_run_is_each_one_s_own_word() {
    let mut queue = Queue::new(10);
    let of = |uid: &str, number, max| {
        entry(uid, number, TestPriority::Normal, Some(("db", max, ConcurrencyMode::Queue)))
    };
    for (uid, number, max) in [("a", 1, 1), ("b", 2, 1), ("c", 3, 3), ("d", 4, 2)] {
        queue.offer(of(uid, number, max));
    }
    // One runs: those that would be alone wait, others may run beside it.
    assert_eq!(all(&mut queue), ["a", "c"]);
    queue.ended("a");
    assert_eq!(all(&mut queue), ["d"]);
    queue.ended("c");
    assert_eq!(all(&mut queue), Vec::<String>::new());
    queue.settle("b");
    assert_eq!(all(&mut queue), ["b"]);
    queue.ended("b");
    queue.ended("d");
    assert!(queue.groups.is_empty() && queue.ready.is_empty() && queue.by_uid.is_empty());
}

#[test]
fn a_long_queue_for_one_group_is_drained_without_looking_at_all_of_it() {
    let mut queue = Queue::new(32);
    let count = MAX_WAITING as u64;
    for number in 0..count {
        let group = Some(("db", 1, ConcurrencyMode::Queue));
        assert_eq!(queue.offer(entry(&number.to_string(), number, TestPriority::Normal, group)), waits());
    }
    // Looking at each of those that wait would be 400 million looks here.
    for number in 0..count {
        assert_eq!(queue.next(), Some(number.to_string()));
        assert_eq!(queue.next(), None);
        queue.ended(&number.to_string());
    }
}
