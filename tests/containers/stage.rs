//! What a container test plays on: a network and a volume of its own, a broker that can be killed, clients in containers.

use sagamq_sdk::Client;
use serde_json::Value;
use std::process::Command;
use std::sync::OnceLock;
use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{ExecCommand, IntoContainerPort as _, Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use uuid::Uuid;

/// The port of the server in its container.
const PORT: u16 = 7070;

/// Where the image keeps its data.
const DATA: &str = "/var/lib/sagamq";

/// A network and a volume. The volume outlives the containers and goes with the stage.
#[derive(Debug)]
pub(crate) struct Stage {
    id: String,
    /// The secret of the administrator's key, which the first start on the volume makes.
    key: OnceLock<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { id: format!("sagamq-test-{}", Uuid::new_v4().simple()), key: OnceLock::new() }
    }

    /// Starts a broker on the stage's volume and waits until its health check says that it takes reads and writes.
    pub(crate) async fn broker(&self) -> Broker {
        let container = image()
            .with_exposed_port(PORT.tcp())
            .with_wait_for(WaitFor::healthcheck())
            .with_container_name(self.broker_name())
            .with_network(&self.id)
            .with_mount(Mount::volume_mount(self.volume(), DATA))
            .start()
            .await
            .expect("the broker starts and becomes healthy");
        let unkeyed = Broker { container, key: String::new() };
        let read = unkeyed.read(&format!("{DATA}/admin-key")).await;
        let key = self.key.get_or_init(|| read.trim().to_owned()).clone();
        Broker { key, ..unkeyed }
    }

    /// Runs `sagamq` in a container of its own, on the network of the broker, and returns its answer: one JSON document.
    pub(crate) async fn sagamq(&self, args: &[&str]) -> Value {
        let server = format!("http://{}:{PORT}", self.broker_name());
        let command = ["--server", &server, "--output", "json"].into_iter().chain(args.iter().copied()).map(str::to_owned);
        let client = image()
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::new()))
            .with_network(&self.id)
            .with_env_var("SAGAMQ_API_KEY", self.key.get().expect("the broker was started"))
            .with_cmd(command)
            .start()
            .await
            .expect("the client runs");
        let (out, err) = (client.stdout_to_vec().await.expect("its output"), client.stderr_to_vec().await.expect("its errors"));
        let code = client.exit_code().await.expect("its exit code");
        assert_eq!(code, Some(0), "sagamq {args:?}: {}", String::from_utf8_lossy(&err));
        serde_json::from_slice(&out).expect("one JSON document")
    }

    fn broker_name(&self) -> String {
        format!("{}-broker", self.id)
    }

    fn volume(&self) -> String {
        format!("{}-data", self.id)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Fails while a container of a failed test still has it; then it stays, which is a nuisance and no more.
        let _ = docker(&["volume", "rm", "--force", &self.volume()]);
    }
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    container: ContainerAsync<GenericImage>,
    key: String,
}

impl Broker {
    /// A client through the port that is mapped to this machine.
    pub(crate) async fn client(&self) -> Client {
        let host = self.container.get_host().await.expect("the engine's host");
        let port = self.container.get_host_port_ipv4(PORT.tcp()).await.expect("a mapped port");
        Client::builder(format!("http://{host}:{port}")).api_key(&self.key).build().expect("an address")
    }

    /// Reads a file in the container.
    pub(crate) async fn read(&self, path: &str) -> String {
        let mut result = self.container.exec(ExecCommand::new(["cat", path])).await.expect("cat runs");
        String::from_utf8(result.stdout_to_vec().await.expect("its output")).expect("text")
    }

    /// `kill -9`, then removes the container. The volume stays.
    pub(crate) async fn kill(self) {
        assert!(docker(&["kill", "--signal", "KILL", self.container.id()]), "the container ran and is killed");
        self.container.rm().await.expect("the container is removed");
    }
}

/// The image under test, named by the environment: `scripts/test-containers` builds it.
fn image() -> GenericImage {
    let image = std::env::var("SAGAMQ_TEST_IMAGE").expect("SAGAMQ_TEST_IMAGE names the image; run `make test-containers`");
    let (name, tag) = image.rsplit_once(':').expect("SAGAMQ_TEST_IMAGE has the form name:tag");
    GenericImage::new(name, tag)
}

fn docker(args: &[&str]) -> bool {
    Command::new("docker").args(args).output().is_ok_and(|output| output.status.success())
}
