//! Commit-confirm under a wall clock that jumps: nobody gets more time by it, and nothing stays signed for a future
//! that was none.

use super::confirm::{Drill, SECOND, WINDOW, after};
use super::scene::{START, Scene, web_to_db};
use bulkhead_acl::SignedBundle;
use bulkhead_identity::Generation;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn a_clock_set_back_gives_no_more_time_than_was_given() {
    let mut drill = Drill::pending();
    drill.scene.now.wall.0 -= 365 * 24 * 3600;
    drill.scene.now.mono += WINDOW - SECOND;
    drill.scene.tick();
    assert_eq!(drill.scene.policy().sources, after());
    drill.scene.now.mono += SECOND;
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

#[test]
fn a_clock_set_back_while_the_coordinator_was_down_gives_the_window_once_more_and_not_for_ever() {
    let mut drill = Drill::pending();
    drill.scene.now.wall.0 -= 24 * 3600;
    drill.restart();
    drill.scene.now.mono += WINDOW;
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

#[test]
fn a_clock_set_forward_ends_the_window() {
    let mut drill = Drill::pending();
    drill.scene.now.wall = drill.scene.now.wall.plus(WINDOW);
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

/// Which nodes would take.
fn is_valid_now(scene: &Scene) -> bool {
    let (bundle, trust) = (&scene.coordinator.state().policy().unwrap().bundle, scene.coordinator.trust());
    SignedBundle::verify(bundle, trust, Generation(0), scene.now.wall).is_ok()
}

#[test]
fn what_was_signed_under_a_clock_that_was_ahead_is_signed_again() {
    let mut drill = Drill::pending();
    drill.scene.now.wall = drill.scene.now.wall.plus(YEAR);
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
    drill.scene.now.wall = START;
    assert!(!is_valid_now(&drill.scene));
    drill.restart();
    assert!(drill.scene.coordinator.next_timeout() <= drill.scene.now.mono + SECOND);
    drill.scene.tick();
    drill.reconnect();
    assert_eq!((drill.scene.policy().generation, drill.scene.policy().sources), (4, web_to_db()));
    assert!(is_valid_now(&drill.scene));
    for link in drill.links.clone() {
        assert_eq!(drill.scene.generation(link), Generation(4));
    }
    // Once.
    drill.wait(SECOND);
    assert_eq!(drill.scene.policy().generation, 4);
}

#[test]
fn what_waits_since_the_clock_was_ahead_is_signed_again_and_waits_no_longer_for_it() {
    for restarts in [false, true] {
        let mut drill = Drill::new();
        drill.scene.now.wall = drill.scene.now.wall.plus(YEAR);
        drill.apply(after(), WINDOW).unwrap();
        drill.scene.now.wall = START;
        drill.wait(SECOND);
        assert_eq!((drill.scene.policy().generation, drill.scene.policy().sources), (3, after()));
        assert!(is_valid_now(&drill.scene));
        if restarts {
            drill.restart();
        }
        drill.wait(WINDOW);
        drill.has_gone_back(&web_to_db());
        assert!(is_valid_now(&drill.scene));
    }
}

#[test]
fn a_coordinator_that_is_kept_busy_looks_at_the_time_as_often_as_one_that_is_not() {
    let mut scene = Scene::new();
    let second = Duration::from_secs(1);
    for _ in 0..59 {
        scene.wait(second);
        scene.policy();
        assert!(scene.coordinator.next_timeout() > scene.now.mono);
    }
    scene.wait(second);
    assert!(scene.coordinator.next_timeout() <= scene.now.mono);
    scene.tick();
    assert!(scene.coordinator.next_timeout() > scene.now.mono + 58 * second);
}
