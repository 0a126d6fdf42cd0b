//! A company that could be: a policy of 2,000 rules and an inventory of 10,000 nodes, the same every time.
//!
//! 25 applications of 5 tiers each, in production on two sites, in staging, in development; a plant beside
//! them. Within an application the tiers talk as tiers do; applications call some others; operators come in
//! by ssh, some of them in working hours, some vendors until a day; guard rails hold the rest apart.

use std::fmt::Write as _;

use bulkhead_acl::{Sources, Subject};
use bulkhead_identity::{Labels, NodeName};

pub(crate) const RULES: usize = 2000;
pub(crate) const NODES: usize = 10_000;

const APPS: usize = 24;
const TIERS: [&str; 5] = ["web", "api", "worker", "cache", "db"];
/// Environment and site.
const HOMES: [(&str, &str); 4] = [("prod", "north"), ("prod", "south"), ("stage", "north"), ("dev", "lab")];
const LINES: usize = 5;
const MACHINES: [&str; 4] = ["historian", "plc", "hmi", "gateway"];

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

fn app(number: usize) -> String {
    format!("app{number:02}")
}

/// The labels that machines of the company carry: 500 combinations.
pub(crate) fn label_sets() -> Vec<String> {
    let mut sets = Vec::new();
    for number in 0..APPS {
        for (env, site) in HOMES {
            for role in TIERS {
                sets.push(format!("env={env},site={site},app={},role={role}", app(number)));
            }
        }
    }
    for line in 0..LINES {
        for role in MACHINES {
            sets.push(format!("env=ot,site=plant,app=line{line},role={role}"));
        }
    }
    sets
}

/// Ten thousand machines, twenty of each kind on average, and a few that no application owns.
pub(crate) fn nodes() -> Vec<Subject> {
    let (sets, mut dice) = (label_sets(), Dice::new(1));
    let labels: Vec<_> = sets.iter().map(|set| Labels::parse(set).unwrap()).collect();
    let subject = |number: usize| {
        // Each kind once, then by chance.
        let kind = if number < labels.len() { number } else { dice.below(labels.len()) };
        Subject { name: NodeName::parse(&format!("host-{number:05}")).unwrap(), labels: labels[kind].clone() }
    };
    (0..NODES).map(subject).collect()
}

/// Text of one policy, by file.
pub(crate) struct Company {
    files: Vec<(String, String)>,
    rules: usize,
}

impl Company {
    /// The policy; every `widened`th rule, if any, allows one port more than the first edition has.
    pub(crate) fn policy(widened: Option<usize>) -> Sources {
        let mut company = Self { files: vec![("main.toml".to_owned(), main())], rules: 0 };
        let mut dice = Dice::new(2);
        company.guards();
        company.operators();
        company.plant();
        for number in 0..APPS {
            company.application(number, widened);
        }
        let mut next = 0;
        while company.rules < RULES {
            company.call(next, &mut dice, widened);
            next += 1;
        }
        let files = company.files.into_iter();
        Sources(files.map(|(name, text)| (name, format!("version = 1\n{text}"))).collect())
    }

    fn file(&mut self, name: &str) -> &mut String {
        let name = format!("{name}.toml");
        let at = self.files.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.files.push((name, String::new()));
            self.files.len() - 1
        });
        &mut self.files[at].1
    }

    fn rule(&mut self, file: &str, kind: &str, id: &str, sides: (&str, &str), more: &str) {
        self.rules += 1;
        let (from, to) = sides;
        let text = self.file(file);
        write!(text, "\n[[{kind}]]\nid = \"{id}\"\nfrom = \"{from}\"\nto = \"{to}\"\n{more}\n").unwrap();
        if kind == "allow" {
            text.push_str("owner = \"platform@acme.example\"\nwhy = \"it has to\"\nreview_by = 2099-01-01\n");
        }
    }

    fn allow(&mut self, file: &str, id: &str, sides: (&str, &str), ports: &str, widened: Option<usize>) {
        let wide = widened.is_some_and(|every| self.rules.is_multiple_of(every));
        let extra = if wide { ", \"tcp/6666\"" } else { "" };
        self.rule(file, "allow", id, sides, &format!("ports = [{ports}{extra}]"));
    }

    fn guards(&mut self) {
        let any = ("*", "*");
        self.rule("guards", "never", "environments-apart", ("role!=metrics", "*"), "differ = [\"env\"]");
        self.rule("guards", "never", "no-telnet", any, "ports = [\"tcp/23\"]");
        self.rule("guards", "never", "no-smb", any, "ports = [\"tcp/139\", \"tcp/445\"]");
        self.rule(
            "guards",
            "never",
            "plc-by-historian-only",
            ("role notin (historian, gateway)", "role=plc"),
            "",
        );
        self.rule("guards", "never", "plant-lines-apart", ("env=ot", "env=ot"), "differ = [\"app\"]");
        for number in 0..APPS {
            let app = app(number);
            let (outside, inside) = (format!("app!={app}"), format!("app={app}, role=db"));
            self.rule(&app, "never", &format!("{app}-db-is-its-own"), (&outside, &inside), "");
            let (web, db) = (format!("app={app}, role=web"), format!("app={app}, role=db"));
            self.rule(&app, "never", &format!("{app}-web-not-db"), (&web, &db), "");
        }
    }

    fn operators(&mut self) {
        for (env, _) in HOMES {
            let to = format!("env={env}");
            let hours = if env == "prod" { "\nhours = \"Mon-Fri 06:00-22:00 Europe/Berlin\"" } else { "" };
            let id = format!("ops-ssh-{env}-{}", self.rules);
            self.rule(
                "operators",
                "allow",
                &id,
                ("app=app00, role=worker", &to),
                &format!("ports = [\"ssh\"]{hours}"),
            );
        }
        let any = ("*", "*");
        self.allow("operators", "metrics", ("app=app01, role=worker", "*"), "\"tcp/9100-9110\"", None);
        self.allow("operators", "dns", ("*", "app=app02, role=api"), "\"dns\"", None);
        self.rule("operators", "allow", "echo", any, "ports = [\"icmp\"]\nsame = [\"env\", \"app\"]");
        for vendor in 0..5 {
            let (from, to) =
                (format!("app=app{vendor:02}, role=web"), format!("app=line{vendor}, role=gateway"));
            let more =
                "ports = [\"tcp/8443\"]\nnot_before = 2026-01-01T00:00:00Z\nuntil = 2027-06-30T18:00:00Z";
            self.rule("operators", "allow", &format!("vendor-{vendor}"), (&from, &to), more);
        }
    }

    fn plant(&mut self) {
        for line in 0..LINES {
            let side = |role: &str| format!("app=line{line}, role={role}");
            let id = |what: &str| format!("line{line}-{what}");
            self.allow("plant", &id("poll"), (&side("historian"), &side("plc")), "\"modbus\"", None);
            self.allow("plant", &id("view"), (&side("hmi"), &side("historian")), "\"tcp/4840\"", None);
            self.allow("plant", &id("out"), (&side("historian"), &side("gateway")), "\"https\"", None);
        }
    }

    fn application(&mut self, number: usize, widened: Option<usize>) {
        let app = app(number);
        for (env, site) in HOMES {
            let side = |role: &str| format!("env={env}, site={site}, app={app}, role={role}");
            let paths = [
                ("web", "api", "\"https\", \"tcp/8080-8089\""),
                ("api", "cache", "\"redis\""),
                ("api", "db", "\"postgres\""),
                ("worker", "db", "\"postgres\""),
                ("worker", "cache", "\"redis\""),
                ("worker", "api", "\"https\""),
                ("db", "db", "\"tcp/5432-5440\""),
                ("api", "worker", "\"udp/5000-5100\""),
            ];
            for (from, to, ports) in paths {
                let id = format!("{app}-{env}-{site}-{from}-{to}");
                self.allow(&app, &id, (&side(from), &side(to)), ports, widened);
            }
        }
        let own = format!("app={app}");
        self.rule(
            &app,
            "allow",
            &format!("{app}-gossip"),
            (&own, &own),
            "ports = [\"tcp/7946\", \"udp/7946\"]\nsame = [\"env\", \"site\"]",
        );
        let (test, db) = (format!("{own}, role=api, env=prod"), format!("{own}, role=db, env=prod"));
        let text = self.file(&app);
        write!(
            text,
            "\n[[test]]\nname = \"{app} reaches its own db\"\n\
             from = {{ labels = {{ env = \"prod\", site = \"north\", app = \"{app}\", role = \"api\" }} }}\n\
             to = {{ labels = {{ env = \"prod\", site = \"north\", app = \"{app}\", role = \"db\" }} }}\n\
             allow = [\"postgres\"]\ndeny = [\"tcp/22\"]\n\
             [[test]]\nname = \"{app} is closed to staging\"\nfrom = \"env=stage, role in (web, api)\"\n\
             to = \"{db}\"\ndeny = [\"tcp/5432\", \"tcp/22\"]\n\
             [[test]]\nname = \"{app} web stays away from its db\"\n\
             from = \"{own}, role=web, env=prod\"\nto = \"{test}\"\ndeny = [\"tcp/23\"]\n"
        )
        .unwrap();
    }

    /// One application calls another's interface, in every environment or in one.
    fn call(&mut self, number: usize, dice: &mut Dice, widened: Option<usize>) {
        let (caller, called) = (dice.below(APPS), dice.below(APPS));
        let role = ["web", "api", "worker"][dice.below(3)];
        let port = 9000 + dice.below(500);
        let (mut from, mut to) =
            (format!("app={}, role={role}", app(caller)), format!("app={}, role=api", app(called)));
        if dice.below(4) > 0 {
            let (env, site) = HOMES[dice.below(4)];
            write!(from, ", env={env}").unwrap();
            write!(to, ", env={env}, site={site}").unwrap();
        }
        let until = if dice.below(20) == 0 { "\nuntil = 2027-12-31T18:00:00Z" } else { "" };
        let same = if dice.below(3) == 0 { "\nsame = [\"site\"]" } else { "" };
        let wide = widened.is_some_and(|every| self.rules.is_multiple_of(every));
        let extra = if wide { ", \"tcp/6666\"" } else { "" };
        let more = format!("ports = [\"tcp/{port}-{}\"{extra}]{until}{same}", port + dice.below(4));
        self.rule(&app(caller), "allow", &format!("call-{number:04}"), (&from, &to), &more);
    }
}

fn main() -> String {
    let listed =
        |texts: Vec<String>| texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
    let apps = (0..APPS).map(app).chain((0..LINES).map(|line| format!("line{line}")));
    let roles = TIERS.iter().chain(&MACHINES).chain(&["metrics"]).map(ToString::to_string);
    format!(
        "[labels.env]\nvalues = [\"prod\", \"stage\", \"dev\", \"ot\"]\n\
         [labels.site]\nvalues = [\"north\", \"south\", \"lab\", \"plant\"]\n\
         [labels.app]\nvalues = [{}]\n[labels.role]\nvalues = [{}]\n\
         [services]\nhttps = [\"tcp/443\"]\nssh = [\"tcp/22\"]\npostgres = [\"tcp/5432\"]\nredis = [\"tcp/6379\"]\n\
         dns = [\"tcp/53\", \"udp/53\"]\nmodbus = [\"tcp/502\"]\n",
        listed(apps.collect()),
        listed(roles.collect()),
    )
}
