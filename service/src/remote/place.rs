//! Which service a URL means, and how it is asked: with the credentials of the environment, a limit
//! on each silence, and a bounded number of retries.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme,
    PutMode, PutOptions, RetryConfig,
};
use url::Url;
use vrift_store::StoreError;
use vrift_store::text::Shown;

use super::error::{RemoteError, why};

/// What a remote's `format` says.
const FORMAT: &[u8] = b"vrift remote 1\n";
/// A store's own `format`: it can be pulled from as it stands, but is written by its owner only.
const STORE_FORMAT: &[u8] = b"vrift store 1\n";
/// Longest `format` or ref that is read.
const SMALL: u64 = 200;
/// Most retries of one request.
const RETRIES: usize = 8;

/// How a remote is asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests at once.
    pub jobs: usize,
    /// How long the service may be silent within one request. A request and its retries end after
    /// three times as long.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { jobs: 32, timeout: Duration::from_secs(30) }
    }
}

/// Where a remote is, which decides about what can be done there.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A directory.
    Directory(PathBuf),
    /// An object store with conditional puts.
    Service,
    /// A web server: it can be read.
    Http,
}

/// An open remote. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The same, waiting for the disk at each file, where the remote is a directory.
    pub(super) durable: Arc<dyn ObjectStore>,
    pub(super) kind: Kind,
    pub(super) options: Options,
    prefix: Path,
    url: Arc<str>,
}

impl Remote {
    /// As [`Remote::open`], and makes the directory if it is one that doesn't exist yet.
    ///
    /// # Errors
    /// As [`Remote::open`], or it can't be made.
    pub fn open_or_create(place: &OsStr, options: Options) -> Result<Remote, RemoteError> {
        let path = match place.to_str().filter(|text| text.contains("://")) {
            None => Some(PathBuf::from(place)),
            Some(text) => Url::parse(text).ok().and_then(|url| url.to_file_path().ok()),
        };
        if let Some(path) = path {
            std::fs::create_dir_all(&path).map_err(StoreError::io("create", path))?;
        }
        Self::open(place, options)
    }

    /// Finds out what `place` means: a URL, or the path of a directory. Nothing is asked yet.
    ///
    /// # Errors
    /// It means nothing, or the environment lacks what the service needs.
    pub fn open(place: &OsStr, options: Options) -> Result<Remote, RemoteError> {
        let text = place.to_str();
        let url = match text.filter(|text| text.contains("://")) {
            None => return Self::directory(FilePath::new(place), options),
            Some(text) => Url::parse(text).map_err(|error| RemoteError::Url {
                url: Shown(text.as_bytes()).to_string(),
                why: error.to_string(),
            })?,
        };
        let shown = shown(&url);
        let bad = |why: &str| RemoteError::Url { url: shown.clone(), why: why.to_owned() };
        if url.password().is_some() {
            return Err(bad("credentials belong into the environment"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a query or a fragment"));
        }
        let failed = |error: object_store::Error| bad(&why(&error));
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).map_err(|error| failed(error.into()))?;
        // Where a program already chose, its choice stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (retry, client) = (retry_config(&options), trusting(client_options(&options)));
        let mut kind = Kind::Service;
        let objects: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                let path = url.to_file_path().map_err(|()| bad("it names another machine"))?;
                return Self::directory(&path, options);
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(url.as_str());
                let builder = builder.with_retry(retry).with_client_options(plain(client, "AWS"));
                Arc::new(builder.build().map_err(failed)?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                let client = plain(client, "GOOGLE");
                let builder = builder.with_retry(retry).with_client_options(client);
                Arc::new(builder.build().map_err(failed)?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
                let client = plain(client, "AZURE");
                let builder = builder.with_retry(retry).with_client_options(client);
                Arc::new(builder.build().map_err(failed)?)
            }
            ObjectStoreScheme::Http => {
                kind = Kind::Http;
                let builder = HttpBuilder::new().with_url(&url[..url::Position::BeforePath]);
                // Plain text may be read: everything is checked by its hash, but for the ref.
                let client = client.with_allow_http(true);
                let builder = builder.with_retry(retry).with_client_options(client);
                Arc::new(builder.build().map_err(failed)?)
            }
            _ => return Err(bad("there is no such service")),
        };
        let durable = Arc::clone(&objects);
        Ok(Remote { objects, durable, kind, options, prefix, url: shown.into() })
    }

    fn directory(path: &FilePath, options: Options) -> Result<Remote, RemoteError> {
        let url = Shown(path.as_os_str().as_bytes()).to_string();
        let open = || LocalFileSystem::new_with_prefix(path);
        let failed = |error| RemoteError::NotARemote { url: url.clone(), what: why(&error) };
        Ok(Remote {
            objects: Arc::new(open().map_err(failed)?),
            durable: Arc::new(open().map_err(failed)?.with_fsync(true)),
            prefix: Path::default(),
            kind: Kind::Directory(path.to_owned()),
            options,
            url: url.into(),
        })
    }

    /// Its URL, for messages.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The object with this name below the remote's own place.
    pub(super) fn path(&self, name: &str) -> Result<Path, RemoteError> {
        let result = match (&self.kind, self.prefix.as_ref()) {
            (_, "") => Path::parse(name),
            (_, prefix) => Path::parse(format!("{prefix}/{name}")),
        };
        result.map_err(|error| self.failed("name", name, &error.into()))
    }

    pub(super) fn failed(
        &self,
        what: &str,
        name: &str,
        error: &object_store::Error,
    ) -> RemoteError {
        let (what, url) = (format!("{what} {name}"), self.url.to_string());
        RemoteError::Service { what, url, why: why(error) }
    }

    pub(super) fn junk(&self, what: impl Into<String>, why: impl Into<String>) -> RemoteError {
        RemoteError::Junk { what: what.into(), url: self.url.to_string(), why: why.into() }
    }

    /// A short object and its version; None when there is none.
    pub(super) async fn read_small(
        &self,
        name: &str,
    ) -> Result<Option<(Vec<u8>, object_store::UpdateVersion)>, RemoteError> {
        let found = match self.objects.get(&self.path(name)?).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", name, &error)),
        };
        let version = object_store::UpdateVersion {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        };
        if found.meta.size > SMALL {
            return Err(self.junk(name, format!("it has {} bytes", found.meta.size)));
        }
        let bytes = found.bytes().await.map_err(|error| self.failed("read", name, &error))?;
        Ok(Some((bytes.to_vec(), version)))
    }

    /// Tells `each` of all objects below `dir` and their lengths, until it has enough of them; false
    /// then.
    pub(super) async fn list(
        &self,
        dir: &str,
        mut each: impl FnMut(&str, u64) -> ControlFlow<()>,
    ) -> Result<bool, RemoteError> {
        let prefix = self.path(dir)?;
        let mut listed = self.objects.list(Some(&prefix));
        while let Some(meta) = listed.next().await {
            let meta = match meta {
                Ok(meta) => meta,
                // A directory that isn't there yet.
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => return Err(self.failed("list", dir, &error)),
            };
            let Some(name) = meta.location.filename() else { continue };
            if each(name, meta.size).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Is there a remote that this program knows? For `push`, one is made where nothing is.
    pub(super) async fn check_format(&self, push: bool) -> Result<(), RemoteError> {
        let not = |what: String| RemoteError::NotARemote { url: self.url.to_string(), what };
        if push && matches!(self.kind, Kind::Http) {
            return Err(not("a web server can only be pulled from; push to what it shows".into()));
        }
        match self.read_small("format").await? {
            Some((found, _)) if found == FORMAT => Ok(()),
            Some((found, _)) if found == STORE_FORMAT && !push => Ok(()),
            Some((found, _)) if found == STORE_FORMAT => {
                Err(not("it is a store itself: pull from there into it, with --store".into()))
            }
            Some((found, _)) => Err(not(format!(
                "its format is {:?}, this program knows {:?}",
                String::from_utf8_lossy(&found).trim_end(),
                "vrift remote 1"
            ))),
            None if !push => Err(not("it has no object `format`; `vrift push` makes one".into())),
            None => {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                let path = self.path("format")?;
                match self.durable.put_opts(&path, FORMAT.into(), options).await {
                    // Somebody else was quicker.
                    Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(self.failed("create", "format", &error)),
                }
            }
        }
    }
}

/// Without a password, should there be one.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some("…"));
    }
    url.to_string()
}

fn retry_config(options: &Options) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: options.timeout * 2,
    }
}

fn client_options(options: &Options) -> ClientOptions {
    // No limit on a whole request: a large blob takes as long as it takes, as long as it moves.
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(options.timeout)
        .with_connect_timeout(options.timeout.min(Duration::from_secs(10)))
        .with_pool_max_idle_per_host(options.jobs)
}

/// Where the system has no certificates at all, as in a small container, Mozilla's are trusted, as of when
/// this was built. Without any no client can be had, also for plain text.
fn trusting(mut client: ClientOptions) -> ClientOptions {
    // Read once: a daemon opens a remote for each request, and each client reads them again.
    static NONE: LazyLock<bool> =
        LazyLock::new(|| rustls_native_certs::load_native_certs().certs.is_empty());
    if *NONE {
        for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            if let Ok(certificate) = Certificate::from_der(root) {
                client = client.with_root_certificate(certificate);
            }
        }
    }
    client
}

/// `AWS_ALLOW_HTTP` and its like are read by `from_env`, and lost with the client's options set here.
fn plain(client: ClientOptions, service: &str) -> ClientOptions {
    let allowed = std::env::var(format!("{service}_ALLOW_HTTP")).is_ok_and(|value| {
        matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
    });
    client.with_allow_http(allowed)
}
