//! gRPC (tonic): a client and a server with a direct connection. Bodies are bytes.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use clap::Subcommand;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use zmqv2_tests::measured_process::Error;
use zmqv2_tests::{Cluster, binary, eventually};

use super::async_callers;
use crate::chain::Chain;
use crate::process::{MeasuredProcess, Role};
use crate::workload::Workload;

#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    GrpcServe { address: SocketAddr },
    GrpcClient { url: String, callers: usize, payload: usize },
}

pub(super) fn start(load: &Workload) -> anyhow::Result<Chain> {
    let cluster = Cluster::new(1, &[]);
    let address = format!("{}:50051", cluster.node(0).host);
    let server = MeasuredProcess::start("a gRPC server", Command::new(binary("bench")).args(["grpc-serve", &address]))?;
    eventually("the gRPC server listens", || std::net::TcpStream::connect(&address).is_ok());
    let (url, callers, payload) = (format!("http://{address}"), load.senders.to_string(), load.payload.to_string());
    let words = ["grpc-client", &url, &callers, &payload];
    let client = MeasuredProcess::start("a gRPC client", Command::new(binary("bench")).args(words))?;
    let others = vec![(Role::Server, server.id())];
    Ok(Chain { client, others, kept: vec![Box::new(cluster), Box::new(server)] })
}

impl Part {
    pub(super) fn run(&self) -> Result<(), Error> {
        let runtime = Runtime::new()?;
        match self {
            Self::GrpcServe { address } => {
                let address = *address;
                async_callers::serve(
                    &runtime,
                    async move { Ok(Server::builder().add_service(Echo).serve(address).await?) },
                )
            }
            Self::GrpcClient { url, callers, payload } => {
                let channel = runtime.block_on(Endpoint::from_shared(url.clone())?.tcp_nodelay(true).connect())?;
                let payload = Bytes::from(vec![b'x'; *payload]);
                async_callers::callers(&runtime, *callers, move || {
                    let (channel, payload) = (channel.clone(), payload.clone());
                    async move {
                        let mut client = tonic::client::Grpc::new(channel);
                        client.ready().await?;
                        let path = PathAndQuery::from_static("/bench.Echo/Echo");
                        client.unary(Request::new(payload), path, Plain).await?;
                        Ok(())
                    }
                })
            }
        }
    }
}

/// A service that answers with the request.
#[derive(Debug, Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(tonic::server::Grpc::new(Plain).unary(Echo, request).await) })
    }
}

impl Service<Request<Bytes>> for Echo {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// Bodies as they are.
#[derive(Debug, Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
