//! The codec: headers as a broker sees them, and bodies as clients and servers do.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use zmqv2_proto::{
    Header, HeaderView, Kind, MessageId, Reply, Request, RequestContext, RequestRef, Target, Ttl, envelope, json_text,
    rewrite_hop,
};

fn header() -> Header {
    let target = Target::topic("nova.compute").and_then(|target| target.with_server("node-7")).expect("a target");
    let mut header = Header::new(Kind::Call, MessageId::random());
    (header.key, header.server, header.ttl) = (Some(target.key()), target.server, Ttl::from(Duration::from_secs(60)));
    header
}

fn headers(criterion: &mut Criterion) {
    let (header, mut bytes) = (header(), header().encode());
    let mut group = criterion.benchmark_group("header");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&header).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| Header::decode(black_box(&bytes))));
    group.bench_function("view", |bencher| {
        bencher.iter(|| HeaderView::new(black_box(&bytes)).map(|view| (view.kind(), view.id(), view.ttl())));
    });
    group.bench_function("rewrite a hop", |bencher| {
        bencher.iter(|| rewrite_hop(black_box(&mut bytes), 42, Ttl::from(Duration::from_secs(59))));
    });
}

fn write_reply(payload: &str) -> Vec<u8> {
    json_text(payload).and_then(|result| Reply::Result(result).encode()).expect("JSON")
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    let (context, id) = (RequestContext::new(), MessageId::random());
    for size in [128, 1_024, 65_536] {
        group.throughput(Throughput::Bytes(size as u64));
        let payload = "x".repeat(size);
        let request = || {
            let method = "echo".parse().expect("a name");
            let mut borrowed = RequestRef::new(&method, black_box(&payload), &context);
            borrowed.unique_id = Some(id);
            borrowed.encode().expect("JSON")
        };
        let body = request();
        let reply = write_reply(&payload);
        let text = envelope::open(&body).expect("an envelope");
        let mut bench = |name: &str, run: &dyn Fn()| {
            group.bench_function(BenchmarkId::new(name, size), |bencher| bencher.iter(run));
        };
        bench("seal", &|| drop(black_box(envelope::seal(black_box(&text)))));
        bench("open", &|| drop(black_box(envelope::open(black_box(&body)))));
        bench("write a request", &|| drop(black_box(request())));
        bench("read a request", &|| {
            let read = Request::decode(black_box(&body)).expect("a request");
            drop(black_box(read.args::<String>()));
        });
        bench("write a reply", &|| drop(black_box(write_reply(black_box(&payload)))));
        bench("read a reply", &|| {
            drop(black_box(Reply::decode::<String>(black_box(&reply)).expect("a reply")));
        });
    }
}

fn ids(criterion: &mut Criterion) {
    criterion.bench_function("id/random", |bencher| bencher.iter(MessageId::random));
    let id = MessageId::random();
    criterion.bench_function("id/text", |bencher| bencher.iter(|| black_box(id).to_string().parse::<MessageId>()));
}

criterion_group!(benches, headers, ids, bodies);
criterion_main!(benches);
