//! What `apply` refuses, and that each refusal names the override that works.

use super::scene::{Scene, rule, web_to_db};
use crate::Class;
use bulkhead_acl::Sources;
use bulkhead_identity::Generation;
use bulkhead_protocol::admin::{Overrides, PolicyText};

/// A policy whose test does not hold.
fn failing() -> Sources {
    let mut sources = web_to_db();
    let test = "\n[[test]]\nname = \"ssh\"\nfrom = \"role=web\"\nto = \"role=db\"\nallow = [\"tcp/22\"]\n";
    sources.0.values_mut().for_each(|text| text.push_str(test));
    sources
}

fn text(sources: Sources) -> PolicyText {
    PolicyText { sources, ..PolicyText::default() }
}

#[test]
fn failing_tests_are_refused_unless_overridden() {
    let mut scene = Scene::new();
    let refusal = scene.propose(text(failing())).unwrap_err();
    assert_eq!((refusal.class, refusal.code), (Class::Unprocessable, "BH-C157"));
    assert!(refusal.help.unwrap().contains("--allow-failing-tests"));
    assert_eq!(refusal.diagnostics.len(), 1);
    assert_eq!(scene.coordinator.state().generation(), Generation(0));

    let overrides = Overrides { failing_tests: true, ..Overrides::default() };
    let applied = scene.propose(PolicyText { overrides, ..text(failing()) }).unwrap();
    assert_eq!((applied.generation, applied.warnings.len()), (1, 1));
}

#[test]
fn a_policy_that_was_applied_with_failing_tests_is_in_force_after_a_restart_too() {
    let mut scene = Scene::new();
    let overrides = Overrides { failing_tests: true, ..Overrides::default() };
    scene.propose(PolicyText { overrides, ..text(failing()) }).unwrap();
    // So late that the bundle has ended, and the text is what is left.
    scene.wait(std::time::Duration::from_secs(400 * 24 * 3600));
    let mut scene = scene.restarted(scene.journal.len());
    scene.tick();
    assert_eq!(scene.coordinator.state().generation(), Generation(2));
    assert_eq!(scene.policy().sources, failing());
}

#[test]
fn going_back_to_failing_tests_takes_the_override_as_well() {
    let mut scene = Scene::new();
    let overrides = Overrides { failing_tests: true, ..Overrides::default() };
    scene.propose(PolicyText { overrides, ..text(failing()) }).unwrap();
    scene.apply(web_to_db());
    assert_eq!(scene.rollback(1).unwrap_err().code, "BH-C157");
    assert_eq!(scene.rollback_all_the_same(1).unwrap().generation, 3);
}

#[test]
fn errors_have_no_override() {
    let mut scene = Scene::new();
    let mut sources = failing();
    sources.0.values_mut().for_each(|text| text.push_str("\n[[allow]]\nid = 7\n"));
    let overrides = Overrides { failing_tests: true, lockout: true };
    let refusal = scene.propose(PolicyText { overrides, ..text(sources) }).unwrap_err();
    assert_eq!(refusal.code, "BH-C151");
}

#[test]
fn a_stale_base_names_the_base_that_works() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    scene.apply(rule("other", "role=a", "role=b", ""));
    let refusal = scene.propose(PolicyText { base: Some(1), ..text(web_to_db()) }).unwrap_err();
    assert_eq!((refusal.class, refusal.code), (Class::Conflict, "BH-C150"));
    assert!(refusal.help.unwrap().contains("--base 2"));
    assert!(scene.propose(PolicyText { base: Some(2), ..text(web_to_db()) }).is_ok());
}

#[test]
fn generation_0_is_nobody_and_can_be_gone_back_to() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    assert_eq!(scene.rollback(0).unwrap().generation, 2);
    assert_eq!(scene.policy().sources, Sources::default());
}

#[test]
fn a_label_that_only_the_policy_seals_is_a_warning() {
    let mut scene = Scene::new();
    let mut sources = web_to_db();
    let schema = "\n[labels.role]\nvalues = [\"web\", \"db\"]\nsealed = true\n";
    sources.0.values_mut().for_each(|text| text.push_str(schema));
    let warnings = scene.apply(sources).warnings;
    assert!(warnings.iter().any(|warning| warning.message.contains("label role is sealed")), "{warnings:?}");
}

#[test]
fn a_bundle_that_is_not_base64_is_refused_before_anything_else() {
    let mut scene = Scene::new();
    let bundle = Some("!".to_owned());
    let refusal = scene.propose(PolicyText { bundle, ..text(web_to_db()) }).unwrap_err();
    assert_eq!((refusal.class, refusal.code), (Class::BadRequest, "BH-C156"));
}
