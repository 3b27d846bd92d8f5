//! nginx with the module nchan, where both are installed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::failure::{During as _, Failure};
use super::options::Engine;
use super::proc;

/// Where Debian's package puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

const PROGRAM: &str = "/usr/sbin/nginx";

/// Longest wait until it accepts.
const START: Duration = Duration::from_secs(10);

pub(crate) fn is_installed() -> bool {
    Path::new(PROGRAM).exists() && Path::new(MODULE).exists()
}

/// A master and one worker; both end with it.
#[derive(Debug)]
pub(crate) struct Nginx {
    master: Child,
    pub(crate) worker: u32,
    pub(crate) address: SocketAddr,
    directory: PathBuf,
}

impl Nginx {
    pub(crate) fn start(core: usize) -> Result<Self, Failure> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("finding a port")?;
        let address = free.local_addr().during("finding a port")?;
        drop(free);
        let directory = env::temp_dir().join(format!("fanfare-sockets-{}", address.port()));
        fs::create_dir_all(&directory).during("making nginx's directory")?;
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration(&directory, address, core))
            .during("writing nginx's configuration")?;
        let master = Command::new(PROGRAM)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(&directory)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during("starting nginx")?;
        let mut nginx = Self {
            master,
            worker: 0,
            address,
            directory,
        };
        nginx.worker = nginx.wait()?;
        Ok(nginx)
    }

    fn wait(&self) -> Result<u32, Failure> {
        let start = Instant::now();
        while start.elapsed() < START {
            if TcpStream::connect(self.address).is_ok()
                && let [worker] = proc::children(self.master.id())?[..]
            {
                return Ok(worker);
            }
            thread::yield_now();
        }
        Err(Failure::Start {
            engine: Engine::Nchan,
            why: fs::read_to_string(self.directory.join("error.log")).unwrap_or_default(),
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends the worker when it is asked to; if it is gone already, so is the worker.
        let asked = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.directory.join("nginx.conf"))
            .arg("-p")
            .arg(&self.directory)
            .args(["-s", "stop"])
            .stderr(Stdio::null())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            drop(self.master.kill());
        }
        drop(self.master.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// One worker on `core`, messages kept in memory only, no access log. nginx takes connections away from clients when a
/// sixteenth of `worker_connections` is left, hence twice the descriptors.
fn configuration(directory: &Path, address: SocketAddr, core: usize) -> String {
    let mask = format!("1{}", "0".repeat(core));
    let directory = directory.display();
    format!(
        r"
load_module {MODULE};
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
worker_processes 1;
worker_cpu_affinity {mask};
worker_rlimit_nofile 20000;
events {{ worker_connections 40000; use epoll; multi_accept on; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_buffer_size 16k;
    nchan_shared_memory_size 512M;
    nchan_message_buffer_length 1024;
    nchan_message_timeout 60s;
    server {{
        listen {address} backlog=4096;
        location ~ ^/stream/(\d+)$ {{
            nchan_subscriber eventsource;
            nchan_subscriber_first_message newest;
            nchan_channel_id $1;
        }}
        location ~ ^/publish/(\d+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
    }}
}}
"
    )
}
