//! The ground that tests of single sign-on stand on: a certified OpenID provider and a real browser, without a coordinator.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bulkhead_tests::web_ca::ServerFiles;
use bulkhead_tests::{Idp, Lab, Namespace, Person, WebCa};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const SCOPES: &str = "openid profile groups offline_access";

/// How long a browser that has been sent here may take to come.
const CALLBACK_LIMIT: Duration = Duration::from_secs(30);

/// The application that sends a person to the provider: here is where he comes back.
struct Application {
    host: Namespace,
    ca: WebCa,
    callbacks: Receiver<String>,
}

impl Application {
    fn start(lab: &Lab) -> Self {
        let host = lab.host("app").unwrap();
        let ca = WebCa::create(&lab.folder().join("ca")).unwrap();
        let files = ca.issue("app", IpAddr::V4(host.v4)).unwrap();
        let listener = host.inside(|| TcpListener::bind("0.0.0.0:443").unwrap()).unwrap();
        let (sender, callbacks) = channel();
        // It ends with the test: its listener is in a namespace that nobody reaches any more.
        std::thread::spawn(move || {
            let config = Arc::new(tls(&files));
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, sender) = (config.clone(), sender.clone());
                std::thread::spawn(move || answer(stream, config).map(|target| sender.send(target)));
            }
        });
        Self { host, ca, callbacks }
    }

    fn redirect(&self) -> String {
        format!("https://{}/callback", self.host.v4)
    }

    /// The parameters that the browser has brought back.
    fn callback(&self) -> Vec<(String, String)> {
        let target = loop {
            let target = self.callbacks.recv_timeout(CALLBACK_LIMIT).expect("the browser comes back");
            if target.starts_with("/callback?") {
                break target;
            }
        };
        parameters(&target)
    }

    /// POSTs a form to the provider, as `client`: what it answers.
    fn post(&self, url: &str, client: &str, form: &[(&str, &str)]) -> Value {
        let ca = self.ca.certificate();
        let mut args = vec!["-s".to_owned(), "--cacert".to_owned(), ca.to_string_lossy().into_owned()];
        if client == Idp::CLIENT {
            args.extend(["--user".to_owned(), format!("{client}:{}", Idp::CLIENT_SECRET)]);
        } else {
            args.extend(["--data-urlencode".to_owned(), format!("client_id={client}")]);
        }
        for (name, value) in form {
            args.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        args.push(url.to_owned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.host.run("curl", &args).unwrap().json().unwrap()
    }

    fn get(&self, url: &str) -> Value {
        let ca = self.ca.certificate();
        self.host.run("curl", &["-s", "--cacert", &ca.to_string_lossy(), url]).unwrap().json().unwrap()
    }

    /// Where a person is sent to sign in.
    fn authorize(&self, metadata: &Value, client: &str) -> String {
        format!(
            "{}?response_type=code&client_id={client}&redirect_uri={}&scope={}&state=st-1&nonce=no-1&prompt=consent\
             &code_challenge={CHALLENGE}&code_challenge_method=S256",
            text(&metadata["authorization_endpoint"]),
            self.redirect(),
            SCOPES.replace(' ', "%20"),
        )
    }
}

fn tls(files: &ServerFiles) -> rustls::ServerConfig {
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// One request of a browser, answered: its target.
fn answer(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Option<String> {
    stream.set_read_timeout(Some(CALLBACK_LIMIT)).ok()?;
    let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).ok()?, stream);
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 16_384 {
        let mut piece = [0; 2048];
        let read = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&piece[..read]);
    }
    let body = "<!doctype html><title>Back</title><p>Back at the application";
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()?;
    String::from_utf8(head).ok()?.split(' ').nth(1).map(ToOwned::to_owned)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// The query of an address.
fn parameters(url: &str) -> Vec<(String, String)> {
    let (_, query) = url.split_once('?').unwrap();
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

fn of<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
    &parameters.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}: {parameters:?}")).1
}

/// What a token says, without a look at its signature: that is for the programs under test.
fn claims(token: &Value) -> Value {
    part(text(token), 1)
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_person_signs_in_by_code_and_the_provider_takes_groups_and_account_away() {
    let lab = Lab::new().unwrap();
    let app = Application::start(&lab);
    let mut idp = Idp::start(&lab, "acme", &app.ca, &[&app.redirect()]).unwrap();
    idp.put_user("alice", &["engineering", "netops"]).unwrap();
    let metadata = app.get(&format!("{}/.well-known/openid-configuration", idp.issuer));
    assert_eq!(metadata["issuer"], json!(idp.issuer));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], json!(true));
    let token_endpoint = text(&metadata["token_endpoint"]);
    let sofa = lab.host("sofa").unwrap();

    // Without PKCE there is no way in.
    let bare = app.authorize(&metadata, Idp::CLIENT).replace("code_challenge", "ignored");
    let back = parameters(&idp.sign_in(&sofa, &app.ca, &bare, "alice").unwrap());
    assert_eq!(of(&back, "error"), "invalid_request");

    let mut alice = Person::new(&lab, &sofa, "alice", &app.ca, &[]).unwrap();
    for (client, algorithm) in [(Idp::CLIENT, "RS256"), (Idp::PUBLIC_CLIENT, "ES256")] {
        idp.put_user("alice", &["engineering", "netops"]).unwrap();
        let mut seen = alice.open(&app.authorize(&metadata, client)).unwrap();
        // Once signed in, the provider knows her browser: the second application is only for her to allow.
        if client == Idp::CLIENT {
            seen = alice.sign_in("alice").unwrap();
        }
        assert!(seen.title.starts_with("Allow Bulkhead"), "{seen:?}");
        let seen = alice.press("Allow").unwrap();
        assert_eq!(seen.text.trim(), "Back at the application");
        let back = app.callback();
        assert_eq!(of(&back, "state"), "st-1");
        assert_eq!(of(&back, "iss").replace("%3A", ":").replace("%2F", "/"), idp.issuer, "RFC 9207");

        let code = of(&back, "code");
        let redirect = app.redirect();
        let exchange = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", VERIFIER),
        ];
        let answer = app.post(token_endpoint, client, &exchange);
        let signed_in = claims(&answer["id_token"]);
        assert_eq!(part(text(&answer["id_token"]), 0)["alg"], json!(algorithm));
        assert_eq!(signed_in["sub"], json!(Idp::subject("alice")));
        assert_eq!(signed_in["aud"], json!(client));
        assert_eq!(signed_in["nonce"], json!("no-1"));
        assert_eq!(signed_in["groups"], json!(["engineering", "netops"]));

        let refresh = |token: &Value| {
            app.post(
                token_endpoint,
                client,
                &[("grant_type", "refresh_token"), ("refresh_token", text(token))],
            )
        };
        idp.put_user("alice", &["engineering"]).unwrap();
        let fresh = refresh(&answer["refresh_token"]);
        assert_eq!(claims(&fresh["id_token"])["groups"], json!(["engineering"]), "removed, so gone");
        idp.disable("alice").unwrap();
        assert_eq!(refresh(&fresh["refresh_token"])["error"], json!("invalid_grant"), "disabled, so refused");
        // A token that was used ends all that came of it (RFC 9700, section 4.14.2).
        idp.put_user("alice", &["engineering"]).unwrap();
        assert_eq!(refresh(&answer["refresh_token"])["error"], json!("invalid_grant"));
        assert_eq!(refresh(&fresh["refresh_token"])["error"], json!("invalid_grant"));

        // A code that someone else took is of no use to him.
        let url = idp.sign_in(&sofa, &app.ca, &app.authorize(&metadata, client), "alice").unwrap();
        let mut stolen = exchange;
        let back = parameters(&url);
        stolen[1].1 = of(&back, "code");
        stolen[3].1 = "another-verifier-of-the-length-that-is-asked-for";
        assert_eq!(app.post(token_endpoint, client, &stolen)["error"], json!("invalid_grant"));
    }
}

#[test]
fn a_person_signs_a_device_in_from_a_phone() {
    let lab = Lab::new().unwrap();
    let app = Application::start(&lab);
    let mut idp = Idp::start(&lab, "acme", &app.ca, &[&app.redirect()]).unwrap();
    idp.put_user("bob", &["operations"]).unwrap();
    idp.put_user("carol", &[]).unwrap();
    idp.disable("carol").unwrap();
    let metadata = app.get(&format!("{}/.well-known/openid-configuration", idp.issuer));
    let begin = || {
        let url = text(&metadata["device_authorization_endpoint"]);
        app.post(url, Idp::PUBLIC_CLIENT, &[("scope", SCOPES)])
    };
    let poll = |begun: &Value| {
        let form = [("grant_type", DEVICE_GRANT), ("device_code", text(&begun["device_code"]))];
        app.post(text(&metadata["token_endpoint"]), Idp::PUBLIC_CLIENT, &form)
    };
    let begun = begin();
    assert_eq!(poll(&begun)["error"], json!("authorization_pending"));

    let sofa = lab.host("sofa").unwrap();
    let mut bob = Person::new(&lab, &sofa, "bob", &app.ca, &["--phone", "--no-script"]).unwrap();
    bob.open(text(&begun["verification_uri"])).unwrap();
    bob.fill("Code", "BBBB-BBBB").unwrap();
    bob.press("Continue").unwrap();
    bob.expect("That code is not valid").unwrap();
    bob.fill("Code", text(&begun["user_code"])).unwrap();
    let seen = bob.press("Continue").unwrap();
    assert!(seen.text.contains(text(&begun["user_code"])), "{seen:?}");
    assert!(!seen.wide, "{} fits a phone", seen.url);
    bob.press("Confirm").unwrap();
    bob.attempt(&json!({ "sign_in": "bob", "password": "a guess" })).unwrap();
    bob.expect("Wrong user name or password").unwrap();
    bob.sign_in("carol").unwrap();
    bob.expect("This account is disabled").unwrap();
    bob.sign_in("bob").unwrap();
    bob.press("Allow").unwrap();
    let seen = bob.expect("Go back to the device").unwrap();
    assert!(std::fs::metadata(&seen.picture).unwrap().len() > 0);

    let signed_in = poll(&begun);
    assert_eq!(claims(&signed_in["id_token"])["groups"], json!(["operations"]));
    assert_eq!(poll(&begun)["error"], json!("invalid_grant"), "once");

    let refused = begin();
    bob.open(text(&refused["verification_uri"])).unwrap();
    bob.fill("Code", text(&refused["user_code"])).unwrap();
    bob.press("Continue").unwrap();
    bob.press("Abort").unwrap();
    assert_eq!(poll(&refused)["error"], json!("access_denied"));
}

#[test]
fn two_providers_have_the_same_subject_and_not_the_same_keys() {
    let lab = Lab::new().unwrap();
    let app = Application::start(&lab);
    let mut providers = ["acme", "globex"].map(|name| Idp::start(&lab, name, &app.ca, &[]).unwrap());
    let tokens = providers.each_mut().map(|idp| {
        idp.put_user("alice", &[]).unwrap();
        idp.workload_token("alice", "bulkhead", &json!({ "repository": "acme/app" })).unwrap()
    });
    let issuers = providers.each_ref().map(|idp| idp.issuer.clone());
    for (token, issuer) in tokens.iter().zip(&issuers) {
        let said = part(token, 1);
        assert_eq!((&said["iss"], &said["aud"]), (&json!(issuer), &json!("bulkhead")));
        assert_eq!((&said["sub"], &said["repository"]), (&json!("alice"), &json!("acme/app")));
    }
    let held = |issuer: &String| {
        let keys = app.get(&format!("{issuer}/jwks"))["keys"].as_array().unwrap().clone();
        keys.into_iter().map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    for (token, own, other) in
        [(&tokens[0], &issuers[0], &issuers[1]), (&tokens[1], &issuers[1], &issuers[0])]
    {
        let kid = &part(token, 0)["kid"];
        assert!(held(own).contains(kid) && !held(other).contains(kid), "{kid}");
    }

    // Nobody overlooks a certificate: a browser that was not told of the company's authority does not go there.
    let sofa = lab.host("sofa").unwrap();
    let mut stranger = Person::who_trusts_no_company(&lab, &sofa, "stranger").unwrap();
    let seen = stranger.attempt(&json!({ "open": issuers[0] })).unwrap();
    assert!(!seen.ok && seen.error.unwrap().contains("ERR_CERT_AUTHORITY_INVALID"));
}
