//! Says which public types may be sent to, or shared between, threads. The compiler checks it;
//! there is nothing to run.

use zmqv2_broker::{Broker, Settings, Stopper};
use zmqv2_client::{
    Answered, CallError, CallHandle, CastHandle, FanoutHandle, FanoutReport, Notifier, NotifyHandle, NotifyReport,
    Outcome, RpcClient, RpcClientBuilder, SendError,
};
use zmqv2_matchmaker::{LocalMatchmaker, Matchmaker, MatchmakerError, RingMatchmaker, Rotation};
use zmqv2_proto::transport::{Socket, Transport};
use zmqv2_proto::{Config, Header, Reply, Request, Target};
use zmqv2_server::{Methods, NotificationListener, RpcServer, RpcServerBuilder, ServerError};

const fn shared<T: ?Sized + Send + Sync>() {}
const fn sent<T: Send>() {}

const _: () = {
    shared::<RpcClient>();
    shared::<RpcClientBuilder>();
    shared::<Notifier>();
    shared::<Answered<u8>>();
    shared::<CastHandle>();
    shared::<CallHandle<u8>>();
    shared::<FanoutHandle>();
    shared::<NotifyHandle>();
    shared::<FanoutReport>();
    shared::<NotifyReport>();
    shared::<Outcome>();
    shared::<CallError>();
    shared::<SendError>();
    shared::<RpcServer>();
    sent::<RpcServerBuilder>();
    shared::<Methods>();
    shared::<NotificationListener>();
    shared::<ServerError>();
    shared::<dyn Matchmaker>();
    shared::<LocalMatchmaker>();
    shared::<RingMatchmaker>();
    shared::<Rotation>();
    shared::<MatchmakerError>();
    sent::<Broker>();
    shared::<Settings>();
    shared::<Stopper>();
    shared::<Transport>();
    sent::<Socket>();
    shared::<Config>();
    shared::<Target>();
    shared::<Header>();
    shared::<Request>();
    shared::<Reply>();
};
