//! What operators do, from files to files: no coordinator anywhere.
#![allow(clippy::unwrap_used)]

use super::show;
use crate::command::CommandLine;
use crate::{key_file, moment, run};
use bulkhead_acl::{Bundle, SignedBundle, Sources};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::issue::default_ranges;
use bulkhead_identity::{
    Authority, Epoch, Generation, IdentityKey, Issuer, IssuerLimits, IssuerRequest, Revocations, Seal,
    Timestamp, Trust, TrustDocument, TrustDomain,
};
use bulkhead_protocol::admin::SignedPolicy;
use clap::Parser as _;
use data_encoding::BASE64;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An operators' machine: `operator.key` signs a deployment's first document, `trust.cbor`.
struct Desk {
    place: tempfile::TempDir,
    trust: Trust,
}

impl Desk {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let operator = key_file::create(&path("operator.key")).unwrap();
        let policy = key_file::create(&path("policy.key")).unwrap();
        let domain = TrustDomain::parse("acme.example").unwrap();
        let now = moment::now();
        let (from, to) = (Timestamp(now.0 - 60), now.plus(Duration::from_secs(1_000_000)));
        let root_key = IdentityKey::from_seed(zeroize::Zeroizing::new([1; 32]));
        let root = Authority::create(root_key, &domain, Serial([1; 16]), from, to).unwrap();
        let (overlay_v6, overlay_v4) = default_ranges(&domain);
        let document = TrustDocument {
            version: Epoch(1),
            trust_domain: domain,
            roots: vec![root.root_der().to_vec()],
            operator_keys: vec![operator.public()],
            operator_threshold: 1,
            policy_keys: vec![policy.public()],
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6,
            overlay_v4,
            issued: from,
            expires: to,
        };
        let bytes = document.sign(&[&operator]);
        fs::write(path("trust.cbor"), &bytes).unwrap();
        Self { place, trust: Trust::stored(&bytes, now).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Runs one command line; `@name` is a file on this desk.
    async fn does(&self, line: &str) -> bool {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        };
        let words = std::iter::once("bulkheadctl".to_owned()).chain(line.split_whitespace().map(word));
        let line = CommandLine::try_parse_from(words).unwrap();
        run(line).await.is_ok()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn public(&self, name: &str) -> String {
        key_file::read(&self.path(name)).unwrap().public().to_string()
    }
}

#[tokio::test]
async fn a_second_operator_a_policy_key_a_root_and_a_sealed_label_in_one_document() {
    let desk = Desk::new();
    assert!(desk.does("trust keygen @two.key").await);
    assert!(!desk.does("trust keygen @two.key").await, "no key is ever replaced");
    assert!(desk.does("trust keygen @offline.key").await);
    assert!(desk.does("trust new-root --trust @trust.cbor --key @root2.key --out @root2.der").await);
    let draft = format!(
        "trust draft --from @trust.cbor --out @next.cbor --add-operator {} --operator-threshold 2 \
         --add-policy-key {} --add-root @root2.der --seal env",
        desk.public("two.key"),
        desk.public("offline.key"),
    );
    assert!(desk.does(&draft).await);
    assert!(desk.does("trust show --file @next.cbor").await);
    fs::copy(desk.path("next.cbor"), desk.path("copy.cbor")).unwrap();
    assert!(desk.does("trust sign @next.cbor --key @operator.key --yes").await);
    assert!(desk.trust.update(&desk.read("next.cbor"), moment::now()).is_err(), "one of two");
    assert!(desk.does("trust sign @copy.cbor --key @two.key --yes").await);
    assert!(desk.does("trust merge @next.cbor @copy.cbor").await);
    let next = desk.trust.update(&desk.read("next.cbor"), moment::now()).unwrap();
    let document = next.document();
    assert_eq!((document.version, document.operator_threshold, document.roots.len()), (Epoch(2), 2, 2));
    assert_eq!(document.sealed, ["env".parse().unwrap()]);

    // And the first root goes again, named by its key.
    let first = next.roots().next().unwrap().0;
    let draft = format!("trust draft --from @next.cbor --out @third.cbor --remove-root {first} --unseal env");
    assert!(desk.does(&draft).await);
    assert!(!desk.does("trust draft --from @next.cbor --out @none.cbor --unseal role").await);
    assert!(!desk.does("trust draft --from @next.cbor --out @none.cbor").await, "nothing would change");
    assert!(!desk.path("none.cbor").exists());
}

#[tokio::test]
async fn a_root_answers_an_issuers_request() {
    let desk = Desk::new();
    assert!(desk.does("trust new-root --trust-domain acme.example --key @root2.key --out @root2.der").await);
    let domain = TrustDomain::parse("acme.example").unwrap();
    let (v6, v4) = default_ranges(&domain);
    let limits = IssuerLimits { trust_domain: domain, label_keys: None, v6, v4 };
    let issuer = IdentityKey::from_seed(zeroize::Zeroizing::new([9; 32]));
    fs::write(desk.path("request"), IssuerRequest::create(&issuer, &limits)).unwrap();
    let answer = "trust sign-issuer @request --root-key @root2.key --root @root2.der --out @issuer.der --yes";
    assert!(desk.does(answer).await);
    assert!(!desk.does(answer).await, "no certificate is replaced");
    let issued = desk.read("issuer.der");
    Issuer::load(issuer, issued.clone()).unwrap();
    assert!(desk.trust.check_issuer(&issued, &Revocations::default(), moment::now()).is_err());
    assert!(desk.does("trust draft --from @trust.cbor --out @next.cbor --add-root @root2.der").await);
    assert!(desk.does("trust sign @next.cbor --key @operator.key --yes").await);
    let next = desk.trust.update(&desk.read("next.cbor"), moment::now()).unwrap();
    next.check_issuer(&issued, &Revocations::default(), moment::now()).unwrap();
    assert!(
        !desk
            .does("trust sign-issuer @request --root-key @operator.key --root @root2.der --out @x.der --yes")
            .await
    );
}

#[tokio::test]
async fn labels_are_sealed_hand_to_hand() {
    let desk = Desk::new();
    assert!(desk.does("trust keygen @two.key").await);
    let two = desk.public("two.key");
    let draft = format!(
        "trust draft --from @trust.cbor --out @next.cbor --seal env --add-operator {two} --operator-threshold 2"
    );
    assert!(desk.does(&draft).await);
    assert!(desk.does("trust sign @next.cbor --key @operator.key --yes").await);
    assert!(desk.does("trust sign @next.cbor --key @two.key --yes").await);
    let node = IdentityKey::from_seed(zeroize::Zeroizing::new([5; 32])).public();
    let nodes = format!(r#"{{"nodes": [{{"name": "web", "identity_key": "{node}", "labels": {{}}}}]}}"#);
    fs::write(desk.path("nodes.json"), nodes).unwrap();
    let files = "--nodes @nodes.json --trust @next.cbor";
    let seal = |labels: &str, more: &str| format!("trust seal {labels} --key @operator.key {files} {more}");
    assert!(!desk.does(&seal("db env=prod", "--out @x.seal --yes")).await, "nobody knows db");
    assert!(!desk.does(&seal("web env=prod", "--out @x.seal --fingerprint MFRG")).await, "another key");
    let fingerprint = node.fingerprint();
    assert!(desk.does(&seal("web env=prod", &format!("--out @web.seal --fingerprint {fingerprint}"))).await);
    let trust = Trust::stored(&desk.read("next.cbor"), moment::now()).unwrap();
    let held = |name: &str| Seal::decode(&desk.read(name)).unwrap();
    assert!(held("web.seal").verify(trust.document()).is_err(), "one of two");
    let again = "trust seal --in @web.seal --key @two.key";
    assert!(!desk.does(&format!("{again} --yes --fingerprint MFRG")).await, "another key");
    if !std::io::stdin().is_terminal() {
        assert!(
            !desk.does(&format!("{again} --fingerprint {fingerprint}")).await,
            "nobody looked at the labels"
        );
    }
    assert!(held("web.seal").verify(trust.document()).is_err(), "still one of two");
    assert!(desk.does(&format!("{again} --yes --fingerprint {fingerprint}")).await);
    let sealed = held("web.seal");
    sealed.verify(trust.document()).unwrap();
    assert_eq!(
        (sealed.statement().labels.to_string().as_str(), sealed.statement().identity_key),
        ("env=prod", node)
    );
}

fn policy(desk: &Desk, name: &str, port: u16) {
    let text = format!(
        "version = 1\n\n[[allow]]\nid = \"web-to-db\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/{port}\"]\n"
    );
    fs::create_dir(desk.path(name)).unwrap();
    fs::write(desk.path(name).join("main.toml"), text).unwrap();
}

fn signed(path: &Path) -> SignedPolicy {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_policy_is_signed_where_its_keys_are_and_by_as_many_as_it_takes() {
    let desk = Desk::new();
    policy(&desk, "new", 5432);
    policy(&desk, "old", 5433);
    assert!(desk.does("trust keygen @second.key").await);
    let second = desk.public("second.key");
    let draft = format!(
        "trust draft --from @trust.cbor --out @next.cbor --add-policy-key {second} --policy-threshold 2"
    );
    assert!(desk.does(&draft).await);
    assert!(desk.does("trust sign @next.cbor --key @operator.key --yes").await);
    let trust = desk.trust.update(&desk.read("next.cbor"), moment::now()).unwrap();

    let sign = "policy sign @new --trust @next.cbor --base 4 --fallback @old --out @signed.json --yes";
    assert!(!desk.does(&format!("{sign} --key @operator.key")).await, "no policy key");
    assert!(desk.does(&format!("{sign} --key @policy.key")).await);
    let verify = |bundle: &str| {
        let bytes = BASE64.decode(bundle.as_bytes()).unwrap();
        SignedBundle::verify(&bytes, &trust, Generation(0), moment::now())
    };
    assert!(verify(&signed(&desk.path("signed.json")).bundle).is_err(), "one of two");
    assert!(desk.does("policy sign @signed.json --key @second.key --yes").await);
    let policy = signed(&desk.path("signed.json"));
    let (bundle, fallback) = (verify(&policy.bundle).unwrap(), verify(&policy.fallback.unwrap()).unwrap());
    assert_eq!((bundle.generation(), fallback.generation()), (Generation(5), Generation(6)));
    assert_ne!(bundle.rules(), fallback.rules());

    let other = "policy sign @signed.json --key @operator.key --trust @next.cbor --yes";
    assert!(!desk.does(other).await, "no policy key, the second time either");

    // Whoever signs second signs what stands beside it.
    let mut forged = signed(&desk.path("signed.json"));
    let text = forged.sources.0.get_mut("main.toml").unwrap();
    *text = text.replace("5432", "22");
    fs::write(desk.path("signed.json"), serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(!desk.does("policy sign @signed.json --key @second.key --yes").await);
}

#[tokio::test]
async fn the_second_signer_of_a_policy_does_not_sign_a_fallback_unseen() {
    let desk = Desk::new();
    policy(&desk, "new", 5432);
    policy(&desk, "old", 5433);
    let sign = "policy sign @new --trust @trust.cbor --base 4 --fallback @old --key @policy.key";
    assert!(desk.does(&format!("{sign} --out @signed.json --yes")).await);
    let honest = signed(&desk.path("signed.json"));
    let key = key_file::read(&desk.path("policy.key")).unwrap();
    let text = honest.fallback_sources.clone().unwrap();
    let wider = Sources(text.0.into_iter().map(|(name, text)| (name, text.replace("5433", "22"))).collect());
    let refused = async |change: &dyn Fn(&mut Bundle, &mut SignedPolicy)| {
        let mut forged = honest.clone();
        let bytes = BASE64.decode(honest.fallback.as_ref().unwrap().as_bytes()).unwrap();
        let mut fallback = Bundle::read(&bytes).unwrap();
        change(&mut fallback, &mut forged);
        forged.fallback = forged.fallback.is_some().then(|| BASE64.encode(&fallback.sign(&[&key])));
        let forged = serde_json::to_vec(&forged).unwrap();
        fs::write(desk.path("forged.json"), &forged).unwrap();
        let agreed = desk.does("policy sign @forged.json --key @policy.key --trust @trust.cbor --yes").await;
        !agreed && desk.read("forged.json") == forged
    };
    assert!(!refused(&|_, _| ()).await, "what is honest is signed");
    assert!(refused(&|_, file| file.fallback_sources = None).await);
    assert!(refused(&|_, file| file.fallback = None).await);
    assert!(refused(&|_, file| file.fallback_sources = Some(wider.clone())).await);
    let rules = bulkhead_acl::check(&wider, moment::now()).unwrap().rules;
    assert!(refused(&|fallback, _| fallback.rules = rules.clone()).await);
    assert!(refused(&|fallback, _| fallback.generation = Generation(7)).await);
    assert!(
        refused(&|fallback, _| fallback.trust_domain = TrustDomain::parse("other.example").unwrap()).await
    );
}

#[tokio::test]
async fn operators_see_every_difference_before_they_sign() {
    let desk = Desk::new();
    let (operator, old_policy) = (desk.public("operator.key"), desk.public("policy.key"));
    assert!(desk.does("trust keygen @two.key").await);
    assert!(desk.does("trust new-root --trust @trust.cbor --key @root2.key --out @root2.der").await);
    let two = desk.public("two.key");
    let draft = format!(
        "trust draft --from @trust.cbor --out @next.cbor --add-policy-key {two} --add-root @root2.der --seal env"
    );
    assert!(desk.does(&draft).await);
    let read = |name: &str| super::read(&desk.path(name)).unwrap();
    let (before, next) = (read("trust.cbor"), read("next.cbor"));
    let differences = show::differences(before.document(), next.document()).unwrap();
    let has = |line: &str| differences.lines().any(|shown| shown.starts_with(line));
    let root = desk.public("root2.key");
    for line in [
        "-  version  1",
        "+  version  2",
        "-  policy keys  1 of 1 have to sign",
        "+  policy keys  1 of 2 have to sign",
        &format!("+  policy key  {two}"),
        &format!("+  root  {root}  to "),
        "-  sealed labels  none",
        "+  sealed label  env",
    ] {
        assert!(has(line), "{line} is not in\n{differences}");
    }
    assert!(!differences.contains(&operator) && !differences.contains(&old_policy), "{differences}");
    let all = show::text(&next, None).unwrap();
    for fact in [&operator, &old_policy, &two, &root, "100.64.0.0/10"] {
        assert!(all.contains(fact), "{fact} is not in\n{all}");
    }

    let sign = "trust sign @next.cbor --key @operator.key";
    assert!(!desk.does(&format!("{sign} --from @next.cbor --yes")).await, "not after itself");
    if !std::io::stdin().is_terminal() {
        assert!(!desk.does(&format!("{sign} --from @trust.cbor")).await, "nobody said yes");
    }
    assert!(read("next.cbor").signers().is_empty());
    assert!(desk.does(&format!("{sign} --from @trust.cbor --yes")).await);
    assert_eq!(read("next.cbor").signers().len(), 1);
}

#[test]
fn public_keys_are_read_as_they_are_printed() {
    let desk = Desk::new();
    let key = desk.public("operator.key");
    assert!(crate::command::parse_public_key(&key).is_ok());
    for wrong in ["", "00", &key[1..], &"00".repeat(32), &format!("{key}00")] {
        assert!(crate::command::parse_public_key(wrong).is_err(), "{wrong}");
    }
}
