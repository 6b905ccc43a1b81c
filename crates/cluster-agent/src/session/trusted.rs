//! By what the agent recognises its hub, as far as a session has told the hub: pings are frequent, and this is nearly always the
//! same.

use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use crate::credentials::Credentials;

/// What was read, and whether it was told.
#[derive(Default)]
pub(super) struct Trusted {
    /// Of which file: when it was written, which one it is (two may be of one tick of the clock), how long it is.
    file: Option<(SystemTime, u64, u64)>,
    pins: Option<Vec<String>>,
    told: bool,
}

impl Trusted {
    /// What the hub has not been told. The file is looked at each time, for a person may have bound the agent anew, and read
    /// when it is another one.
    pub(super) async fn untold(&mut self, credentials: &Credentials) -> Option<Vec<String>> {
        let found = tokio::fs::metadata(credentials.ca_path()).await.ok();
        let file = found.and_then(|found| Some((found.modified().ok()?, found.ino(), found.len())));
        if file.is_none() || file != self.file {
            let pins = credentials.pins();
            self.told &= pins == self.pins;
            (self.file, self.pins) = (file, pins);
        }
        self.pins.clone().filter(|_| !self.told)
    }

    /// The hub has heard what was untold.
    pub(super) fn told(&mut self) {
        self.told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn what_is_trusted_is_told_once_and_again_when_it_is_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::open(dir.path().to_owned()).unwrap();
        let mut trusted = Trusted::default();
        assert_eq!(trusted.untold(&credentials).await, None, "nothing is known yet");
        trusted.told();
        assert!(credentials.learn_ca(&authority()).unwrap());
        let first = trusted.untold(&credentials).await.unwrap();
        assert_eq!(trusted.untold(&credentials).await, Some(first.clone()), "the hub has not heard it");
        trusted.told();
        assert_eq!(trusted.untold(&credentials).await, None);
        assert!(credentials.learn_ca(&authority()).unwrap());
        let second = trusted.untold(&credentials).await.unwrap();
        assert_ne!(first, second);
    }
}
