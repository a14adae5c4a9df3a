"""The devstack plugin, against stubs of devstack's functions."""

import configparser
import pathlib
import shutil
import subprocess

import pytest

DEVSTACK = pathlib.Path(__file__).parent.parent / "devstack"

#: What devstack offers to a plugin. Each stub writes its name and arguments to the log.
STUBS = r"""
set -eu
log() { echo "$*" >>"$LOG"; }
define_plugin() { log define_plugin "$@"; }
enable_service() { ENABLED="$ENABLED $1"; }
disable_service() { ENABLED="${ENABLED/ $1/}"; }
is_service_enabled() { [[ "$ENABLED " == *" $1 "* ]]; }
install_package() { log install_package "$@"; }
pip_install() { log pip_install "$@"; }
run_process() { log run_process "$@"; }
stop_process() { log stop_process "$@"; }
restart_service() { log restart_service "$@"; }
echo_summary() { log echo_summary "$@"; }
sudo() { log sudo "$@"; }
cargo() { log cargo "$@"; }
iniset() {
    python3 - "$@" <<'PY'
import configparser, sys
file, section, name, value = sys.argv[1:]
parser = configparser.RawConfigParser(default_section="none")
parser.read(file)
if not parser.has_section(section):
    parser.add_section(section)
parser.set(section, name, value)
with open(file, "w") as out:
    parser.write(out)
PY
}
ENABLED=" rabbit key n-api"
STACK_USER=$(id -un) DEST=$DIR DATA_DIR=$DIR/data SERVICE_HOST=10.0.0.1 HOST_IP=10.0.0.2
ZMQV2_DIR=$DIR/zmqv2 ZMQV2_CONF_DIR=$DIR/etc
mkdir -p "$ZMQV2_DIR" "$ZMQV2_CONF_DIR"
"""


def run(tmp_path: pathlib.Path, script: str, before: str = "") -> tuple[str, list[str]]:
    """Runs a script after devstack has read the plugin. Returns its output and the log."""
    log = tmp_path / "log"
    text = f"LOG={log} DIR={tmp_path}\n{STUBS}\n{before}\nsource {DEVSTACK}/settings\n{script}"
    # The path of the broker is that of an installed one.
    text = text.replace("plugin.sh", str(patched(tmp_path)))
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), log.read_text().splitlines()


def patched(tmp_path: pathlib.Path) -> pathlib.Path:
    """The plugin with a broker that says what it was asked."""
    broker = tmp_path / "zmqv2-broker"
    broker.write_text(f'#!/bin/sh\necho "zmqv2-broker $*" >>{tmp_path}/log\n')
    broker.chmod(0o755)
    plugin = tmp_path / "plugin"
    text = (DEVSTACK / "plugin.sh").read_text()
    plugin.write_text(text.replace("/usr/local/bin/zmqv2-broker", str(broker)))
    return plugin


def read(file: pathlib.Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="none")
    parser.read(file)
    return parser


def test_a_service_gets_the_url_and_the_options(tmp_path: pathlib.Path) -> None:
    conf = tmp_path / "nova.conf"
    script = f"source plugin.sh stack\niniset_rpc_backend nova {conf} DEFAULT nova_cell1"
    run(tmp_path, script)
    written = read(conf)
    assert written["DEFAULT"]["transport_url"] == "zmqv2:///nova_cell1"
    assert written["oslo_messaging_notifications"]["transport_url"] == "zmqv2:///"
    options = dict(written["oslo_messaging_zmq"])
    assert options == {
        "rpc_zmq_ipc_dir": f"{tmp_path}/data/zmqv2",
        "rpc_zmq_host": "10.0.0.2",
        "rpc_zmq_port": "9501",
        "rpc_zmq_matchmaker": "local",
    }


def test_several_nodes_share_redis_and_notifications_may_stay(tmp_path: pathlib.Path) -> None:
    conf = tmp_path / "nova.conf"
    before = "ZMQV2_MATCHMAKER=redis ZMQV2_NOTIFICATION_URL=rabbit://me@there/"
    phases = "source plugin.sh stack pre-install\nsource plugin.sh stack install\n"
    _, log = run(tmp_path, f"{phases}iniset_rpc_backend nova {conf}", before)
    written = read(conf)
    assert written["matchmaker_redis"]["host"] == "10.0.0.1"
    assert written["oslo_messaging_notifications"]["transport_url"] == "rabbit://me@there/"
    assert "install_package redis-server" in log
    assert "restart_service redis-server" in log


def test_the_phases_install_configure_and_stop(tmp_path: pathlib.Path) -> None:
    phases = ["stack pre-install", "stack install", "stack post-config", "stack extra"]
    script = "\n".join(f"source plugin.sh {phase}" for phase in [*phases, "unstack", "clean"])
    script += '\nrpc_backend_add_vhost nova_cell1\nis_service_enabled rabbit || echo "no rabbit"'
    output, log = run(tmp_path, script)
    assert output == "no rabbit"
    named = [line.split()[0] for line in log]
    assert named[0] == "define_plugin"
    order = ["install_package", "cargo", "pip_install", "zmqv2-broker", "run_process"]
    assert [name for name in named if name in order] == order
    assert "stop_process zmqv2-broker" in log
    conf = f"{tmp_path}/etc/zmqv2.conf"
    assert f"zmqv2-broker --config-file {conf} --check-config" in log
    assert f"run_process zmqv2-broker {tmp_path}/zmqv2-broker --config-file {conf}" in log
    assert log[-1].startswith("sudo rm -f"), "clean removes the programs"


def test_functions_reach_the_shells_that_devstack_starts(tmp_path: pathlib.Path) -> None:
    script = "source plugin.sh stack\nbash -c 'get_transport_url; get_notification_url cell'"
    output, _ = run(tmp_path, script)
    assert output.split() == ["zmqv2:///", "zmqv2:///cell"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    files = [str(DEVSTACK / name) for name in ("settings", "plugin.sh")]
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
