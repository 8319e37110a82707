//! A socket that takes nothing for a while.

use super::*;

/// Whatever is due meanwhile: no more than a try each millisecond.
#[test]
fn a_full_socket_is_tried_once_a_millisecond() {
    let mut pair = Pair::linked();
    pair.between.borrow_mut().is_full = true;
    ping(&mut pair.asker, 5);
    pair.asker.flush();
    pair.between.borrow_mut().sends = 0;
    // For longer than a probe waits.
    let until = pair.between.borrow().now + 3_000_000;
    let mut turns = 0;
    while pair.between.borrow().now < until {
        pair.wait();
        pair.asker.poll().expect("it lives");
        pair.asker.flush();
        turns += 1;
        assert!(pair.between.borrow().sends <= turns, "once a turn");
    }
    assert!((1000..=3000).contains(&turns), "{turns}");
    pair.between.borrow_mut().is_full = false;
    // A probe may have brought it again.
    assert_eq!(pair.run(50_000).map(|all| all[0]), Ok(5));
}
