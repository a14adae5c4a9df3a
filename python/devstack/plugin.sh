#!/usr/bin/env bash
# The devstack plugin of zmqv2: installs the broker and the driver, and points all services at it.
# devstack calls it as `source plugin.sh <mode> [phase]`.

# Whether this node has Redis as the directory of a deployment with several nodes.
function _zmqv2_has_redis {
    [[ "$ZMQV2_MATCHMAKER" == redis && "$ZMQV2_REDIS_HOST" == "$SERVICE_HOST" ]] && is_service_enabled key
}

# Writes the options that the broker and every service share into the file $1.
function _zmqv2_iniset {
    local file=$1
    iniset "$file" oslo_messaging_zmq rpc_zmq_ipc_dir "$ZMQV2_IPC_DIR"
    iniset "$file" oslo_messaging_zmq rpc_zmq_host "$ZMQV2_HOST"
    iniset "$file" oslo_messaging_zmq rpc_zmq_port "$ZMQV2_PORT"
    iniset "$file" oslo_messaging_zmq rpc_zmq_matchmaker "$ZMQV2_MATCHMAKER"
    if [[ "$ZMQV2_MATCHMAKER" == redis ]]; then
        iniset "$file" matchmaker_redis host "$ZMQV2_REDIS_HOST"
        iniset "$file" matchmaker_redis port "$ZMQV2_REDIS_PORT"
    fi
}

# devstack calls these functions for every service. They replace those for RabbitMQ.

# The URL of RPC. A virtual host, such as that of a cell of nova, keeps its services apart.
function get_transport_url {
    local virtual_host=${1:-}
    echo "zmqv2:///$virtual_host"
}

# The URL of notifications.
function get_notification_url {
    echo "${ZMQV2_NOTIFICATION_URL:-$(get_transport_url "${1:-}")}"
}

function iniset_rpc_backend {
    local package=$1 file=$2 section=${3:-DEFAULT} virtual_host=${4:-}
    : "$package"
    iniset "$file" "$section" transport_url "$(get_transport_url "$virtual_host")"
    iniset "$file" oslo_messaging_notifications transport_url "$(get_notification_url "")"
    _zmqv2_iniset "$file"
}

# Nothing to make: a virtual host is a part of the names.
function rpc_backend_add_vhost {
    :
}

export -f get_transport_url get_notification_url iniset_rpc_backend rpc_backend_add_vhost _zmqv2_iniset

function install_zmqv2 {
    if ! command -v cargo >/dev/null; then
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
        # shellcheck disable=SC1091
        source "$HOME/.cargo/env"
    fi
    (cd "$ZMQV2_DIR" && cargo build --release --locked -p zmqv2-broker)
    sudo install -m 755 "$ZMQV2_DIR/target/release/zmqv2-broker" "$ZMQV2_DIR/target/release/zmqv2" /usr/local/bin/
    pip_install "$ZMQV2_DIR/python"
}

function configure_zmqv2 {
    sudo install -d -o "$STACK_USER" -m 755 "$ZMQV2_CONF_DIR"
    sudo install -d -o "$STACK_USER" -m 700 "$ZMQV2_IPC_DIR"
    rm -f "$ZMQV2_CONF"
    _zmqv2_iniset "$ZMQV2_CONF"
    /usr/local/bin/zmqv2-broker --config-file "$ZMQV2_CONF" --check-config
}

if is_service_enabled zmqv2-broker; then
    case "$1 ${2:-}" in
        "stack pre-install")
            install_package g++ pkg-config
            if _zmqv2_has_redis; then
                install_package redis-server
            fi
            ;;
        "stack install")
            # Before any service starts: the broker must be there when nova-manage asks for cells.
            echo_summary "Installing zmqv2"
            install_zmqv2
            configure_zmqv2
            if _zmqv2_has_redis; then
                restart_service redis-server
            fi
            run_process zmqv2-broker "/usr/local/bin/zmqv2-broker --config-file $ZMQV2_CONF"
            ;;
        "unstack ")
            stop_process zmqv2-broker
            ;;
        "clean ")
            sudo rm -rf "$ZMQV2_CONF_DIR" "$ZMQV2_IPC_DIR"
            sudo rm -f /usr/local/bin/zmqv2-broker /usr/local/bin/zmqv2
            ;;
    esac
fi
