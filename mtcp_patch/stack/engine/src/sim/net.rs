//! The hosts and links of a scenario: who sends by which line, and what its luck and weather are.

use super::link::{Link, Weather};
use super::switch::Switch;
use super::{app, Host, Random, Scenario, DEVICE, SERVER};
use crate::device::faults::Faults;
use crate::device::Device;
use crate::limits::Config;
use crate::shard::Shard;
use crate::time::Instant;

/// Builds hosts and links.
pub(super) struct Net<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) begin: Instant,
}

impl Net<'_> {
    fn link(&self, faults: Faults, weather: Weather, salt: u64) -> Link {
        let Scenario { seed, mtu, .. } = *self.scenario;
        Link::new(faults, weather, mtu, Random::new(seed ^ salt << 32), self.begin)
    }

    /// The scenario's link with the weather of one direction: 0 to the server, 1 from it.
    pub(super) fn trunk(&self, direction: usize, salt: u64) -> Link {
        let weather = self.scenario.weather.get(direction).cloned().unwrap_or_default();
        self.link(self.scenario.faults, weather, salt)
    }

    fn access(&self, host: usize, salt: u64) -> Option<Link> {
        let client = host.checked_sub(usize::from(host > SERVER))?;
        let faults = *self.scenario.access.get(client)?;
        Some(self.link(faults, Weather::default(), salt))
    }

    pub(super) fn host(&self, number: usize, plan: &app::Plan) -> Host {
        let scenario = self.scenario;
        let server = number == SERVER;
        let of = |[client, at_server]: [bool; 2]| if server { at_server } else { client };
        let [client_ecn, server_ecn] = scenario.ecn;
        let config = Config {
            timestamps: of(scenario.timestamps),
            sack: of(scenario.sack),
            ecn: if server { server_ecn } else { client_ecn },
            ..scenario.config.clone()
        };
        let salt = number as u8 + 1;
        let line = match self.access(number, u64::from(salt)).filter(|_| !server) {
            Some(line) => line,
            None => self.trunk(usize::from(server), u64::from(salt)),
        };
        let mut shard = Shard::new(config, [salt; 32]);
        shard.add_device(DEVICE, line.caps());
        let random = Random::new(scenario.seed + u64::from(salt));
        let address = app::address(number, scenario.v6);
        Host {
            name: app::name(address),
            shard,
            app: app::Application::new(plan, number, random),
            line,
        }
    }

    pub(super) fn switch(&self, hosts: usize) -> Option<Switch> {
        if self.scenario.access.is_empty() {
            return None;
        }
        let ports = (0..hosts).filter_map(|number| {
            let salt = 100 + number as u64;
            let port =
                if number == SERVER { self.trunk(0, salt) } else { self.access(number, salt)? };
            Some((app::address(number, self.scenario.v6), port))
        });
        Some(Switch::new(ports.collect()))
    }
}
