"""Options: one table for Rust and Python, the URL and its query, and files."""

import subprocess
import sys

import oslo_messaging
import pytest
from conftest import configured
from oslo_config import cfg
from oslo_messaging_zmqv2 import _native, errors, options


def test_every_option_of_the_table_is_one_of_oslo_config():
    ours = {opt.name: (group, opt) for group, opts in options.list_opts() for opt in opts}
    table = {row["name"]: row for row in _native.option_table()}
    assert set(table) == set(ours) | options.OF_OSLO_MESSAGING
    kinds = {
        "integer": cfg.IntOpt,
        "seconds": cfg.FloatOpt,
        "boolean": cfg.BoolOpt,
        "list": cfg.ListOpt,
        "text": cfg.StrOpt,
    }
    for name, (_, opt) in ours.items():
        row = table[name]
        assert isinstance(opt, kinds[row["kind"]]), name
        assert row["help"] in opt.help and row["allowed"] in opt.help, name
        assert opt.secret == row["secret"]
        if row["default"] is not None:
            assert (
                options._text(opt.default).rstrip("0").rstrip(".") in row["default"]
                or str(opt.default).lower() == row["default"]
            ), name
        if row["kind"] == "integer":
            assert (opt.type.min, opt.type.max) == (row["min"], row["max"])


def values(url, **overrides):
    conf = configured("/tmp/x", **overrides)
    return dict(options.values(conf, oslo_messaging.TransportURL.parse(conf, url), "openstack"))


def test_defaults_and_overrides_reach_the_native_part():
    found = values("zmqv2://", rpc_zmq_window=7, matchmaker_redis__port=7000)
    assert found["DEFAULT.rpc_zmq_window"] == "7"
    assert found["matchmaker_redis.port"] == "7000"
    assert found["DEFAULT.rpc_zmq_ipc_dir"] == "/tmp/x"
    _native.check_options(list(found.items()))


@pytest.mark.parametrize(
    "url",
    [
        "zmqv2://",
        "zmqv2:///a-virtual-host",
        "zmqv2+local://",
        "zmqv2+ring:///etc/ring.json",
        "zmqv2+redis://",
        "zmqv2+redis://user:p%40ss@host:7000/3",
        "zmqv2+rediss://host",
        "zmqv2+sentinel://user:pw@one:1,user:pw@two:2/group",
        "zmqv2+sentinel://one,two/group",
    ],
)
def test_urls_of_every_directory_are_taken(url):
    found = values(url)
    _native.check_options(list(found.items()))
    assert found["DEFAULT.transport_url"].partition("://")[0] == url.partition("://")[0]


def test_a_query_overrides_options():
    found = values("zmqv2://?rpc_zmq_window=9&rpc_zmq_drain_timeout=2.5")
    assert found["DEFAULT.rpc_zmq_window"] == "9"
    assert found["DEFAULT.rpc_zmq_drain_timeout"] == "2.500000"
    assert found["DEFAULT.transport_url"] == "zmqv2:///"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("zmqv2://?nothing=1", "nothing"),
        ("zmqv2://?rpc_zmq_window=x", "rpc_zmq_window|x"),
        ("zmqv2://host:1", "transport_url"),
        ("zmqv2+nothing://", "transport_url"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(url, text):
    with pytest.raises(errors.InvalidOptions, match=text):
        oslo_messaging.get_rpc_transport(configured("/tmp/x"), url)


def test_the_generator_writes_a_sample(tmp_path):
    sample = tmp_path / "sample.conf"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "oslo_config.generator",
            "--namespace",
            "oslo.messaging.zmqv2",
            "--output-file",
            str(sample),
        ],
        check=True,
    )
    text = sample.read_text()
    assert "[oslo_messaging_zmq]" in text and "[matchmaker_redis]" in text
    assert "#rpc_zmq_port = 9501" in text
