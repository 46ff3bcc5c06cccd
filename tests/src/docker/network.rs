//! A private network between hosts and this machine; it leads nowhere else.

use std::net::Ipv4Addr;

use super::{docker, label, remove, try_docker, unique};

/// A network, removed with this. Its hosts must be gone by then.
pub struct Network {
    pub(super) name: String,
    /// The address of the network itself.
    base: Ipv4Addr,
}

impl Network {
    /// Makes one whose addresses nobody uses.
    #[must_use]
    pub fn make() -> Self {
        let name = unique();
        // Docker finds the addresses, but gives hosts a fixed one only where it was told them.
        for _ in 0..10 {
            create(&name, &[]).unwrap_or_else(|error| panic!("{error}"));
            let format = "{{(index .IPAM.Config 0).Subnet}}";
            let subnet = docker(&["network", "inspect", "--format", format, &name]);
            docker(&["network", "rm", &name]);
            let base = subnet.split_once('/').unwrap().0.parse().unwrap();
            // Somebody else may have taken them meanwhile.
            if create(&name, &["--subnet", &subnet]).is_ok() {
                return Self { name, base };
            }
        }
        panic!("there are no free addresses for a network");
    }

    /// The address of host `number`, from 1.
    #[must_use]
    pub fn address(&self, number: u8) -> Ipv4Addr {
        // The first ones are the network's own.
        Ipv4Addr::from(u32::from(self.base) + 10 + u32::from(number))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&["network", "rm", &self.name]);
    }
}

fn create(name: &str, options: &[&str]) -> Result<String, String> {
    let label = label();
    let fixed = ["network", "create", "--internal", "--label", &label];
    try_docker(&[&fixed, options, &[name]].concat())
}
