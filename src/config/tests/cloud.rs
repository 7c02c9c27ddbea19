//! Credentials, as the OpenStack CLI finds them, and what is said when they are not there or lie open.

use secrecy::ExposeSecret;

use super::*;
use crate::openstack::settings::{CloudSettings, Credentials, Domain, Project, Tls};

const CLOUDS: &str = "
clouds:
  one:
    auth:
      auth_url: https://one:5000/v3
      username: ann
      password: hush
      project_name: web
      user_domain_name: Default
      project_domain_id: d1
    region_name: r1
    interface: internalURL
    verify: false
  two:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://two:5000
      application_credential_id: \"0123\"
      application_credential_secret: hush-too
    cacert: ca.pem
";

fn cloud(machine: &Machine, line: &str) -> CloudSettings {
    machine.good(&format!("--clone c {line}")).cloud
}

fn password(cloud: &CloudSettings) -> (&str, &str, &Domain, &Project) {
    match &cloud.credentials {
        Credentials::Password { username, password, user_domain, project } => {
            (username, password.expose_secret(), user_domain, project)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_are_enough() {
    let mut machine = Machine::new();
    let found = cloud(&machine, "");
    assert_eq!(found.auth_url, "https://10.20.20.1:5000/v3");
    assert_eq!(
        (found.interface.as_str(), found.region.as_deref(), &found.tls),
        ("public", None, &Tls::System)
    );
    let default = Domain::Id("default".into());
    assert_eq!(
        password(&found),
        ("admin", "hush", &default, &Project::Name("admin".into(), default.clone()))
    );
    machine
        .file("srv/ca.pem", 0o644, "")
        .set("OS_USER_DOMAIN_NAME", "Users")
        .set("OS_PROJECT_ID", "p1")
        .set("OS_REGION_NAME", "r1")
        .set("OS_INTERFACE", "admin")
        .set("OS_CACERT", "ca.pem");
    let found = cloud(&machine, "");
    assert_eq!(password(&found), ("admin", "hush", &Domain::Name("Users".into()), &Project::Id("p1".into())));
    assert_eq!((found.interface.as_str(), found.region.as_deref()), ("admin", Some("r1")));
    assert_eq!(found.tls, Tls::CaFile(machine.path("srv/ca.pem")));
    assert_eq!(cloud(machine.set("OS_INSECURE", "True"), "").tls, Tls::Insecure);
}

#[test]
fn a_cloud_is_taken_by_name_from_the_first_file_that_is_there() {
    let mut machine = Machine::bare();
    machine.file("etc/openstack/clouds.yaml", 0o600, CLOUDS).set("HOME", "ROOT/home/ann");
    let one = cloud(&machine, "--os-cloud one");
    assert_eq!(
        (one.auth_url.as_str(), one.interface.as_str(), one.region.as_deref()),
        ("https://one:5000/v3", "internal", Some("r1"))
    );
    assert_eq!(one.tls, Tls::Insecure);
    let (users, projects) = (Domain::Name("Default".into()), Domain::Id("d1".into()));
    assert_eq!(password(&one), ("ann", "hush", &users, &Project::Name("web".into(), projects)));

    machine.file("home/ann/.config/openstack/clouds.yaml", 0o600, &CLOUDS.replace("one:5000", "home:5000"));
    assert_eq!(cloud(machine.set("OS_CLOUD", "one"), "").auth_url, "https://home:5000/v3");
    machine.file("srv/clouds.yaml", 0o600, &CLOUDS.replace("one:5000", "here:5000"));
    assert_eq!(cloud(&machine, "").auth_url, "https://here:5000/v3");
    machine.file("creds/clouds.yaml", 0o400, &CLOUDS.replace("one:5000", "creds:5000"));
    assert_eq!(
        cloud(machine.set("CREDENTIALS_DIRECTORY", "ROOT/creds"), "").auth_url,
        "https://creds:5000/v3"
    );
    machine.file("named.yaml", 0o600, &CLOUDS.replace("one:5000", "named:5000"));
    assert_eq!(
        cloud(machine.set("OS_CLIENT_CONFIG_FILE", "ROOT/named.yaml"), "").auth_url,
        "https://named:5000/v3"
    );

    machine.file("srv/ca.pem", 0o644, "");
    let two = cloud(&machine, "--os-cloud two");
    assert!(matches!(&two.credentials, Credentials::ApplicationCredential { id, secret }
        if id == "0123" && secret.expose_secret() == "hush-too"));
    assert_eq!(two.tls, Tls::CaFile(machine.path("srv/ca.pem")));
    assert!(!format!("{one:?} {two:?}").contains("hush"));
}

#[test]
fn our_own_keys_and_the_way_there_stand_above_the_file() {
    let mut machine = Machine::bare();
    machine.file("srv/clouds.yaml", 0o600, CLOUDS).set("OS_REGION_NAME", "r2").set("OS_PASSWORD", "other");
    let one = cloud(&machine, "--os-cloud one");
    assert_eq!((one.region.as_deref(), password(&one).1), (Some("r2"), "hush"));
    machine.toml("[cloud]\nregion = 'r3'\ninterface = 'admin'\ninsecure = false\ntimeout = '5s'\n");
    let one = cloud(&machine, "--os-cloud one");
    assert_eq!(
        (one.region.as_deref(), one.interface.as_str(), one.timeout.as_secs()),
        (Some("r3"), "admin", 5)
    );
    assert_eq!(one.tls, Tls::System, "verify: false of the file is overridden");
}

#[test]
fn secrets_may_be_in_secure_yaml_or_in_variables() {
    let mut machine = Machine::bare();
    machine
        .file(
            "etc/openstack/clouds.yaml",
            0o644,
            &CLOUDS
                .replace("      password: hush\n", "")
                .replace("      application_credential_secret: hush-too\n", ""),
        )
        .set("OS_CLOUD", "one");
    assert_eq!(
        machine.bad("--clone c"),
        "cloud \"one\" in /etc/openstack/clouds.yaml: auth.password is missing"
    );
    machine.set("OS_PASSWORD", "from-variable");
    assert_eq!(password(&cloud(&machine, "")).1, "from-variable");
    machine.file("etc/openstack/secure.yaml", 0o600, "clouds: {one: {auth: {password: from-secure}}}");
    assert_eq!(password(&cloud(&machine, "")).1, "from-secure");
}

#[test]
fn certificates_are_unchecked_only_on_a_clear_word() {
    for (word, tls) in [
        ("verify: false", Tls::Insecure),
        ("verify: False", Tls::Insecure),
        ("verify: no", Tls::Insecure),
        ("verify: 0", Tls::Insecure),
        ("insecure: true", Tls::Insecure),
        ("verify: true", Tls::System),
        ("verify: yes", Tls::System),
        ("insecure: false", Tls::System),
        ("verify: ''", Tls::System),
    ] {
        let mut machine = Machine::bare();
        machine.file("srv/clouds.yaml", 0o600, &CLOUDS.replace("verify: false", word));
        assert_eq!(cloud(&machine, "--os-cloud one").tls, tls, "{word}");
    }
}

#[test]
fn without_a_name_the_only_cloud_or_microstacks_is_taken() {
    let mut machine = Machine::bare();
    let openrc = "export OS_AUTH_URL=https://10.20.20.1:5000/v3/\nexport OS_USERNAME=admin\nexport OS_PASSWORD='hush'\nexport OS_PROJECT_NAME=admin\n";
    machine.file("var/snap/microstack/common/etc/microstack.rc", 0o644, openrc);
    let found = cloud(&machine, "");
    assert_eq!(machine.cut(vec![found.origin]), "/var/snap/microstack/common/etc/microstack.rc");
    assert_eq!(
        machine.doubtful("--clone c"),
        "/var/snap/microstack/common/etc/microstack.rc: it holds a secret and every user of this machine may read it: \
         chmod 600 /var/snap/microstack/common/etc/microstack.rc"
    );
    machine.file("srv/clouds.yaml", 0o600, CLOUDS);
    assert_eq!(
        machine.bad("--clone c"),
        "/srv/clouds.yaml has several clouds (one, two): choose one by --os-cloud, OS_CLOUD or cloud.name"
    );
    machine.file("srv/clouds.yaml", 0o600, &CLOUDS.replace("  one:", "  openstack:"));
    assert_eq!(cloud(&machine, "").auth_url, "https://one:5000/v3");
    machine.file("srv/clouds.yaml", 0o600, CLOUDS.split("  two:").next().unwrap());
    assert_eq!(cloud(&machine, "").auth_url, "https://one:5000/v3");
    machine
        .set("OS_AUTH_URL", "http://x")
        .set("OS_USERNAME", "u")
        .set("OS_PASSWORD", "p")
        .set("OS_PROJECT_ID", "i");
    assert_eq!(cloud(&machine, "").auth_url, "http://x");
}

#[test]
fn what_is_missing_or_lies_open_is_told() {
    let with = |text: &str, mode: u32, line: &str| {
        Machine::bare().file("srv/clouds.yaml", mode, text).bad(&format!("--clone c {line}"))
    };
    let edit = |from: &str, to: &str| {
        assert!(CLOUDS.contains(from));
        CLOUDS.replace(from, to)
    };
    for (told, expected) in [
        (
            with(CLOUDS, 0o644, "--os-cloud one"),
            "/srv/clouds.yaml: it holds a secret and every user of this machine may read it: chmod 600 /srv/clouds.yaml",
        ),
        (
            with(CLOUDS, 0o600, "--os-cloud three"),
            "--os-cloud: cloud \"three\": /srv/clouds.yaml has no such cloud: it has one, two",
        ),
        (
            with("clouds: {}", 0o600, "--os-cloud x"),
            "--os-cloud: cloud \"x\": /srv/clouds.yaml has no such cloud: it has none",
        ),
        (
            with("clouds:\n  one: [", 0o600, "--os-cloud x"),
            "/srv/clouds.yaml:2: this is not YAML that can be read",
        ),
        (
            with(&edit("username: ann", "username:"), 0o600, "--os-cloud one"),
            "cloud \"one\" in /srv/clouds.yaml: auth.username is missing",
        ),
        (
            with(&edit("username: ann", "user_id: x"), 0o600, "--os-cloud one"),
            "cloud \"one\" in /srv/clouds.yaml: auth.username is missing\n\
             cloud \"one\" in /srv/clouds.yaml: auth.user_id is not understood: give the user's name and domain",
        ),
        (
            with(&edit("password: hush", "password: 0123"), 0o600, "--os-cloud one"),
            "cloud \"one\" in /srv/clouds.yaml: password looks like a number to YAML: put it in quotes",
        ),
        (
            with(&edit("https://one", "one"), 0o600, "--os-cloud one"),
            "cloud \"one\" in /srv/clouds.yaml: auth.auth_url = \"one:5000/v3\": it must begin with https:// or http://",
        ),
        (
            with(&edit("internalURL", "secret"), 0o600, "--os-cloud one"),
            "cloud \"one\" in /srv/clouds.yaml: interface = \"secret\": use public, internal or admin",
        ),
        (
            with(&edit("v3applicationcredential", "v3oidc"), 0o600, "--os-cloud two"),
            "cloud \"two\" in /srv/clouds.yaml: auth_type = \"v3oidc\" is not understood: use password or v3applicationcredential \
             (`openstack application credential create lbsidecar` makes one)\n\
             cloud \"two\" in /srv/clouds.yaml: cacert = \"/srv/ca.pem\": there is no such file",
        ),
        (
            Machine::bare().set("OS_CLOUD", "x").bad("--clone c"),
            "OS_CLOUD: cloud \"x\": no clouds.yaml was found: looked for /srv/clouds.yaml, /etc/openstack/clouds.yaml",
        ),
        (
            Machine::bare().set("OS_CLIENT_CONFIG_FILE", "gone.yaml").bad("--clone c"),
            "/srv/gone.yaml: there is no such file",
        ),
        (
            Machine::bare().set("OS_AUTH_URL", "https://x").set("OS_USERNAME", "").bad("--clone c"),
            "the OS_* variables: OS_USERNAME is missing\n\
             the OS_* variables: OS_PASSWORD is missing\n\
             the OS_* variables: OS_PROJECT_NAME is missing",
        ),
        (
            Machine::bare().toml("cloud.openrc = 'rc'").bad("--clone c"),
            "/etc/lbsidecar/config.toml:1: cloud.openrc = \"rc\": there is no such file",
        ),
        (
            Machine::bare()
                .toml("cloud.openrc = 'rc'")
                .file("srv/rc", 0o600, "read -sr OS_PASSWORD_INPUT\nexport OS_PASSWORD=$OS_PASSWORD_INPUT\n")
                .bad("--clone c"),
            "/srv/rc:2: OS_PASSWORD: its value is worked out or asked for by a shell, which is not run here: source the file before, or use clouds.yaml",
        ),
    ] {
        assert_eq!(told, expected);
    }
}
