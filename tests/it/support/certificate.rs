//! A certificate of `localhost` in files.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertifiedKey, KeyPair};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Files of a certificate and its key, removed when dropped.
pub(crate) struct CertificateFiles {
    folder: PathBuf,
    pub(crate) certificate: CertificateDer<'static>,
}

impl CertificateFiles {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("stentor-it-{}-tls-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut files = Self { folder, certificate: CertificateDer::from(Vec::new()) };
        files.renew();
        files
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a new certificate with a new key.
    pub(crate) fn renew(&mut self) {
        let made: CertifiedKey<KeyPair> = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.certificate = made.cert.der().clone();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }
}

impl Drop for CertificateFiles {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
