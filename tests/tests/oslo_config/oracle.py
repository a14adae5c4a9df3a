"""Reads configuration files with oslo.config itself. Input: a JSON list of texts. Output: for each, the values by name, or
null when oslo.config refuses the file or one of the values. A line of NEXT_FILE ends a file, and the next one wins."""

import json
import os
import sys
import tempfile

from oslo_config import cfg

ZMQ = [
    cfg.PortOpt("rpc_zmq_port", default=9501),
    cfg.StrOpt("rpc_zmq_bind_address", default="*"),
    cfg.IntOpt("rpc_zmq_contexts", default=1, min=1, max=64),
    cfg.StrOpt("rpc_zmq_ipc_dir"),
    cfg.StrOpt("rpc_zmq_host", default="localhost"),
    # As zmqv2 takes it, in both groups.
    cfg.IntOpt("rpc_response_timeout", default=60),
]
DEFAULT = [
    cfg.StrOpt("control_exchange", default="openstack"),
    cfg.IntOpt("executor_thread_pool_size", default=64, deprecated_opts=[
        cfg.DeprecatedOpt("rpc_thread_pool_size", group="oslo_messaging_zmq"),
        cfg.DeprecatedOpt("rpc_thread_pool_size", group="DEFAULT"),
    ]),
    # Of another program that shares the file.
    cfg.StrOpt("my_ip"),
]
REDIS = [
    cfg.StrOpt("host", default="127.0.0.1"),
    cfg.PortOpt("port", default=6379),
    cfg.StrOpt("password", default="", secret=True),
    cfg.BoolOpt("tls", default=False),
    cfg.ListOpt("sentinel_hosts", default=[]),
]
RING = [cfg.StrOpt("ringfile", default="/etc/oslo/matchmaker_ring.json", deprecated_name="matchmaker_ringfile",
                   deprecated_group="DEFAULT")]


NEXT_FILE = "#### next file\n"


def read(paths):
    conf = cfg.ConfigOpts()
    for opt in ZMQ:
        opt.deprecated_opts = [cfg.DeprecatedOpt(opt.name, group="DEFAULT")]
        conf.register_opt(opt, group="oslo_messaging_zmq")
    conf.register_opts(DEFAULT)
    conf.register_opts(REDIS, group="matchmaker_redis")
    conf.register_opts(RING, group="matchmaker_ring")
    conf([], project="x", default_config_files=paths, default_config_dirs=[])
    values = {opt.name: conf.oslo_messaging_zmq[opt.name] for opt in ZMQ}
    values["control_exchange"] = conf.control_exchange
    values["rpc_thread_pool_size"] = conf.executor_thread_pool_size
    values.update({opt.name: conf.matchmaker_redis[opt.name] for opt in REDIS})
    values["ringfile"] = conf.matchmaker_ring.ringfile
    values["sentinel_hosts"] = ",".join(values["sentinel_hosts"])
    return {name: "" if value is None else str(value) for name, value in values.items()}


answers = []
with tempfile.TemporaryDirectory() as directory:
    for text in json.load(sys.stdin):
        paths = []
        for part in text.split(NEXT_FILE):
            paths.append(os.path.join(directory, f"x{len(paths)}.conf"))
            with open(paths[-1], "w", newline="") as file:
                file.write(part)
        try:
            answers.append(read(paths))
        except (Exception, SystemExit):
            answers.append(None)
json.dump(answers, sys.stdout)
