//! The lab's cloud alone, over a driver that only says yes: to point the OpenStack CLI, curl or a test at.
//!
//! `cargo run -p lbsidecar-lab --example api`, then `eval` what it prints.

use std::sync::Arc;

use lbsidecar_lab::cloud::{
    null::NullDriver,
    options::{Options, Ports},
    serve,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options { ports: Ports::CUSTOMARY, ..Options::default() };
    let password = options.admin_password.clone();
    let cloud = serve(Arc::new(NullDriver::default()), options).await?;
    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    {
        println!("export OS_AUTH_URL={} OS_USERNAME=admin OS_PASSWORD={password}", cloud.urls().keystone);
        println!("export OS_PROJECT_NAME=admin OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default");
        println!(
            "export OS_REGION_NAME=microstack OS_IDENTITY_API_VERSION=3 # faults, log, clock: {}",
            cloud.urls().control
        );
    }
    tokio::signal::ctrl_c().await?;
    cloud.shutdown().await;
    Ok(())
}
