//! A network that says that nobody listens.

use super::*;

/// The end that asked, alone with what it is told, turn by turn as it wants them; when it gave up, in
/// microseconds from now.
fn alone(pair: &mut Pair, for_micros: u64) -> Option<u64> {
    let begun = pair.between.borrow().now;
    while pair.between.borrow().now < begun + for_micros {
        if let Err(reason) = turn(&mut pair.asker) {
            assert_eq!(reason, FailReason::LinkDown);
            return Some(pair.between.borrow().now - begun);
        }
        pair.wait();
    }
    None
}

/// Though nobody has anything to say.
#[test]
fn a_peer_that_is_gone_is_known_to_be_after_a_second() {
    let mut pair = Pair::linked();
    assert_eq!(pair.run(3_000_000), Ok(vec![]));
    pair.between.borrow_mut().heard = Some(Errno::CONNREFUSED);
    let gone = alone(&mut pair, 5_000_000).expect("it is believed");
    assert!((1_000_000..1_100_000).contains(&gone), "after {gone} us");
}

/// Anybody can say so: a peer that is there is asked, and its answer believed.
#[test]
fn a_peer_that_answers_is_not_gone() {
    let mut pair = Pair::linked();
    assert_eq!(pair.run(3_000_000), Ok(vec![]));
    for _ in 0..3 {
        pair.between.borrow_mut().heard = Some(Errno::CONNREFUSED);
        assert_eq!(pair.run(3_000_000), Ok(vec![]));
    }
}
