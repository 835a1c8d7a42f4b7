//! An S3 server on loopback, for as long as a test lives: s3s speaks the protocol and checks
//! signatures, s3s-fs keeps the objects in a directory. What s3s-fs leaves out, conditional puts, is
//! added here.

#![allow(dead_code, reason = "no program that uses it needs all of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";
pub const BUCKET: &str = "bucket";

/// A running server.
pub struct Server {
    pub addr: SocketAddr,
    objects: tempfile::TempDir,
    /// Ends the server when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// With an empty bucket.
    pub fn start() -> Server {
        let objects = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(objects.path().join(BUCKET)).expect("bucket");
        let files = FileSystem::new(objects.path()).expect("the server's directory");
        let mut builder = S3ServiceBuilder::new(Conditional { files, puts: Default::default() });
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build().into_shared();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))
            .expect("a port on loopback");
        let addr = listener.local_addr().expect("its number");
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A connection that was cut is what these tests are about.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Server { addr, objects, _runtime: runtime }
    }

    /// Where the server keeps an object.
    pub fn object(&self, name: impl AsRef<Path>) -> PathBuf {
        self.objects.path().join(BUCKET).join("trees").join(name)
    }

    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/trees")
    }
}

/// The environment of who uses the S3 server at `addr`.
pub fn environment(addr: SocketAddr) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT", format!("http://{addr}")),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ACCESS_KEY_ID", KEY.into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
    ]
}

/// Has `command` use the S3 server at `addr`.
pub fn with_s3(command: &mut Command, addr: SocketAddr) -> &mut Command {
    command.envs(environment(addr))
}

/// The objects with If-Match and If-None-Match as S3 has them.
struct Conditional {
    files: FileSystem,
    /// Between a look at an object and its put nobody else may put.
    puts: tokio::sync::Mutex<()>,
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Conditional {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (wanted, absent) = (req.input.if_match.clone(), req.input.if_none_match.is_some());
        if wanted.is_none() && !absent {
            return self.files.put_object(req).await;
        }
        let _alone = self.puts.lock().await;
        let look = GetObjectInput::builder()
            .bucket(req.input.bucket.clone())
            .key(req.input.key.clone())
            .build()
            .expect("a bucket and a key");
        let there = self.files.get_object(S3Request::new(look)).await.ok();
        let there = there.map(|object| object.output.e_tag);
        match (wanted, there) {
            (None, Some(_)) => Err(s3_error!(PreconditionFailed)),
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(wanted), Some(there)) if there.as_ref() != Some(&wanted) => {
                Err(s3_error!(PreconditionFailed))
            }
            _ => self.files.put_object(req).await,
        }
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.files.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.files.head_object(req).await
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        self.files.list_objects_v2(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.files.create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.files.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.files.complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.files.abort_multipart_upload(req).await
    }
}
