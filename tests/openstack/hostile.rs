//! Every read and write of the client against services that answer with anything but what was asked for.

#[path = "../mutate/mod.rs"]
mod mutate;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use lbsidecar::{
    core::ids::PoolName,
    openstack::{Cloud, Reach},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::stage::{BASE, FLOATING, PORT, Stage, copy_request, read_request, recorded};

/// A call that takes longer than this waits for something that will not come.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn no_answer_of_a_service_breaks_the_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seeds = mutate::seeds("openstack", "json");
    let dice = Arc::new(Mutex::new(Rng::with_seed(0)));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let mut settings = runtime.block_on(Stage::silent()).settings();
    settings.auth_url = format!("{here}/identity");
    runtime.spawn(serve(listener, Arc::clone(&dice), seeds, here));
    let mut cloud = Cloud::new(settings.clone()).unwrap();
    mutate::cases("OpenStack", |rng| {
        *dice.lock().unwrap() = rng.fork();
        // A new client costs as much as a hundred calls; now and then it is worth that, for its first token and version.
        if rng.u32(..100) == 0 {
            cloud = Cloud::new(settings.clone()).unwrap();
        }
        let call = rng.u32(..14);
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(&cloud, call)).await });
        ended.unwrap_or_else(|_| panic!("call {call} did not end within {DEADLINE:?}"));
    });
}

/// One call; whatever comes of it, an error is one line that names what was done.
async fn ask(cloud: &Cloud, call: u32) {
    let (base, pool) = (BASE.parse().unwrap(), PoolName::try_new("web").unwrap());
    let copy = copy_request();
    let result = match call {
        0 => cloud.servers().await.map(drop),
        1 => cloud.server(base).await.map(drop),
        2 => cloud.find_server("vm-test").await.map(drop),
        3 => cloud.servers_named("vm-test").await.map(drop),
        4 => cloud.find_intent(&pool, copy.mark.intent).await.map(drop),
        5 => cloud.room_for(base, &copy.settings, &Reach::Floating).await.map(drop),
        6 => cloud.ports_of(base).await.map(drop),
        7 => cloud.floating_ip(Ipv4Addr::new(10, 20, 20, 11)).await.map(drop),
        8 => cloud.floating_ips_of(base).await.map(drop),
        9 => cloud.lb_port(&pool).await.map(drop),
        10 => cloud.associate(FLOATING.parse().unwrap(), PORT.parse().unwrap()).await,
        11 => cloud.snapshots(&pool).await.map(drop),
        12 => cloud.delete(base).await,
        _ => cloud.create_copy(&copy).await.map(drop),
    };
    if let Err(error) = result {
        let said = error.to_string();
        assert!(!said.is_empty() && said.len() < 8_000, "{} bytes: {said}", said.len());
        assert!(!said.contains(['\n', '\u{1b}', '\u{202e}']), "{said:?}");
        assert!(!said.contains("a-secret"), "{said}");
    }
}

/// One answer a connection.
async fn serve(listener: TcpListener, dice: Arc<Mutex<Rng>>, seeds: Vec<String>, here: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Some(request) = read_request(&mut stream).await else { continue };
        let target = request.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let answer = answer(&mut dice.lock().unwrap_or_else(PoisonError::into_inner), path, &seeds, &here);
        // The client may hang up before it has all.
        let _ = stream.write_all(&answer).await;
    }
}

/// Mostly what such a request gets, made wrong.
fn answer(dice: &mut Rng, path: &str, seeds: &[String], here: &str) -> Vec<u8> {
    let mut status = 201;
    let mut header = "x-subject-token: t";
    let body = if path.ends_with("/auth/tokens") {
        let mut body = recorded("token").to_string();
        for (port, service) in [(5000, "identity"), (8774, "compute"), (9696, "network"), (9292, "image")] {
            body = body.replace(&format!("http://10.20.20.1:{port}"), &format!("{here}/{service}"));
        }
        if dice.u32(..50) == 0 {
            header = "x-subject-token: \u{202e}";
        }
        if dice.u32(..10) == 0 { mutate::wrong(dice, &[body]) } else { body }
    } else {
        // Those that are answered by another try are left to other tests: each takes a pause.
        status = [200, 200, 200, 200, 201, 202, 204, 300, 301, 400, 401, 403, 404, 409, 413, 500]
            [dice.usize(..16)];
        header = [
            "x-some: thing",
            "openstack-api-version: compute 99.99999999999",
            "x-openstack-request-id: \u{202e}\u{202e}\u{202e}",
            "location: http://elsewhere.invalid/",
        ][dice.usize(..4)];
        let own =
            FITTING.iter().find(|(end, _)| path.ends_with(end)).map(|(_, name)| recorded(name).to_string());
        match own {
            Some(own) if dice.u32(..3) == 0 => own,
            Some(own) if dice.u32(..4) != 0 => mutate::wrong(dice, &[own]),
            _ => mutate::wrong(dice, seeds),
        }
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Any\r\nContent-Length: {length}\r\nConnection: close\r\n{header}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What a path's answer is made of.
const FITTING: [(&str, &str); 11] = [
    ("/compute/v2.1/", "nova-version"),
    (BASE, "server-active"),
    ("/servers/detail", "servers"),
    ("/limits", "limits"),
    ("/quotas", "quota"),
    ("/flavors", "flavors"),
    ("/floatingips", "floatingips"),
    ("/ports", "ports"),
    ("/networks", "networks"),
    ("/subnets", "subnets"),
    ("/images", "images"),
];
