//! Certificate and key of encrypted ports, and their replacement while the server runs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error as RustlsError, InconsistentKeys, ServerConfig};

/// Interval between checks for changed files. A change is used once two checks in a row have found
/// the same files, so that a certificate is not read before its key has been written.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum size of a file with certificates or a key. A chain of certificates takes some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Error of [`Tls::from_files`] and [`Tls::reload`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read. Check its path and its permissions.
    #[error("{}: cannot be read: {error}", .path.display())]
    Read {
        /// File that cannot be read.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// A file has no PEM section of the expected kind, or a damaged one.
    #[error("{}: expected a PEM file with {expected}, found {found}", .path.display())]
    Pem {
        /// File with other content.
        path: PathBuf,
        /// Kind of section that is expected.
        expected: &'static str,
        /// Content that was found instead.
        found: String,
    },
    /// The key belongs to another certificate.
    #[error("{} does not have the key of the certificate in {}", .key.display(), .certificate.display())]
    KeyMismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// The certificate or the key cannot be used for another reason.
    #[error("{} with {}: {error}", .certificate.display(), .key.display())]
    Unusable {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Reason that rustls gives.
        error: String,
    },
}

/// Certificate and key of [encrypted ports](crate::Port::tls), with TLS 1.2 and 1.3.
///
/// While a [`Listener`](crate::Listener) runs, it checks the files every second. Changed files
/// are used for new connections. If they have an error, it is logged, and the earlier certificate
/// stays in use. The handle is cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    config: watch::Sender<Arc<ServerConfig>>,
}

/// State of both files. A file that cannot be found has none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStates([Option<(SystemTime, u64, u64)>; 2]);

impl Tls {
    /// Reads the certificate of the server, followed by those of its issuers, and the private key,
    /// from PEM files.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let (config, _) = watch::channel(Arc::new(read(&certificate, &key)?));
        Ok(Self(Arc::new(Inner { certificate, key, config })))
    }

    /// Reads the files again. New connections use the new certificate. After an error, the earlier
    /// certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.0.certificate, &self.0.key)?;
        self.0.config.send_replace(Arc::new(config));
        log::info!("certificate read certificate={:?} key={:?}", self.0.certificate, self.0.key);
        Ok(())
    }

    /// Returns whether both are handles of the same certificate.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.config.borrow().clone()
    }

    /// Reads the files again whenever they change. Never completes.
    pub(super) async fn watch(&self) {
        let mut used = self.files().await;
        let mut seen = used.clone();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let now = self.files().await;
            if now != used && now == seen {
                used = now.clone();
                if let Err(error) = self.reload() {
                    log::error!("certificate not replaced, the earlier one stays in use error=\"{error}\"");
                }
            }
            seen = now;
        }
    }

    /// Reads the state of the files on a thread that may block.
    async fn files(&self) -> FileStates {
        let this = self.clone();
        let states = tokio::task::spawn_blocking(move || FileStates::of(&this.0.certificate, &this.0.key));
        states.await.unwrap_or(FileStates([None; 2]))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { certificate, key, .. } = &*self.0;
        f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish_non_exhaustive()
    }
}

impl FileStates {
    fn of(certificate: &Path, key: &Path) -> Self {
        Self([certificate, key].map(|path| {
            let found = fs::metadata(path).ok()?;
            #[cfg(unix)]
            let number = std::os::unix::fs::MetadataExt::ino(&found);
            #[cfg(not(unix))]
            let number = 0;
            Some((found.modified().ok()?, found.len(), number))
        }))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = read_chain(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read_file(key)?)
        .map_err(|error| pem_error(key, "a private key (PKCS #8, SEC 1 or PKCS #1, not encrypted)", &error))?;
    let unusable = |error: RustlsError| match error {
        RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        error => {
            TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), error: error.to_string() }
        }
    };
    let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, private).map_err(unusable)?;
    // Clients that prefer HTTP/2 must not choose it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "certificates";
    let text = read_file(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| pem_error(path, EXPECTED, &error))?;
    if chain.is_empty() { Err(pem_error(path, EXPECTED, &PemError::NoItemsFound)) } else { Ok(chain) }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read { path: path.to_owned(), error };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        let error = format!("file of {bytes} bytes exceeds the limit of {FILE_BYTES_MAX}");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, error)));
    }
    fs::read(path).map_err(failed)
}

fn pem_error(path: &Path, expected: &'static str, error: &PemError) -> TlsError {
    let found = match error {
        PemError::NoItemsFound => "none".to_owned(),
        error => error.to_string(),
    };
    TlsError::Pem { path: path.to_owned(), expected, found }
}
