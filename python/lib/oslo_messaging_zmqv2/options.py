"""The options of the driver.

There is one source: the table of options in the crate ``zmqv2-proto``, which the native part hands
over. So names, bounds, defaults and help texts are those of the broker.
"""

import functools
from typing import Any

from oslo_config import cfg
from oslo_messaging._drivers import common

from oslo_messaging_zmqv2 import _native, errors

#: The group of the options of the driver. A query in the transport URL sets these.
GROUP = "oslo_messaging_zmq"

#: oslo.messaging registers these in the group DEFAULT, and the driver takes its values.
OF_OSLO_MESSAGING = frozenset(
    {"control_exchange", "rpc_response_timeout", "rpc_thread_pool_size", "transport_url"}
)


def _option(row: dict[str, Any]) -> cfg.Opt:
    text = row["help"]
    if row["unset"]:
        text = f"{text} If it is not set: {row['unset']}."
    text = f"{text} Allowed: {row['allowed']}."
    shared: dict[str, Any] = {"help": text, "secret": row["secret"]}
    if len(row["groups"]) > 1:
        shared["deprecated_group"] = "DEFAULT"
    name, default = row["name"], row["default"]
    match row["kind"]:
        case "integer":
            number = None if default is None else int(default)
            return cfg.IntOpt(name, default=number, min=row["min"], max=row["max"], **shared)
        case "seconds":
            seconds = None if default is None else float(default)
            least = 0.001 if row["min"] else 0
            return cfg.FloatOpt(name, default=seconds, min=least, max=row["max"], **shared)
        case "boolean":
            return cfg.BoolOpt(name, default=default == "true", **shared)
        case "list":
            return cfg.ListOpt(name, default=None, **shared)
        case _:
            return cfg.StrOpt(name, default=default, **shared)


@functools.cache
def options() -> dict[str, list[cfg.Opt]]:
    """The options by group."""
    groups: dict[str, list[cfg.Opt]] = {}
    for row in _native.option_table():
        if row["name"] in OF_OSLO_MESSAGING:
            continue
        group = row["groups"][-1]
        groups.setdefault(GROUP if group == "DEFAULT" else group, []).append(_option(row))
    return groups


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For ``oslo-config-generator``."""
    return [(group, list(opts)) for group, opts in options().items()]


def register(conf: Any) -> None:
    """Declares the options."""
    for group, opts in options().items():
        title = f"Options of the driver zmqv2: {group}"
        conf.register_group(cfg.OptGroup(name=group, title=title))
        conf.register_opts(opts, group=group)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, list):
        return ",".join(value)
    return str(value)


def virtual_host(url: Any) -> str | None:
    """The virtual host of the transport URL.

    In a URL that names a directory, this part belongs to the directory: a file, or a database of
    Redis.
    """
    return url.virtual_host or None if url.transport == "zmqv2" else None


def _url(url: Any) -> str:
    """The transport URL without its query and virtual host, with one login for all hosts."""
    path = None if virtual_host(url) else url.virtual_host
    bare = type(url)(url.conf, url.transport, path, list(url.hosts))
    logins = {(host.username, host.password) for host in bare.hosts}
    if len(bare.hosts) > 1 and len(logins) == 1:
        first, *others = bare.hosts
        bare.hosts = [first, *(type(host)(host.hostname, host.port) for host in others)]
    return str(bare)


def values(conf: Any, url: Any, control_exchange: str | None) -> list[tuple[str, str]]:
    """Every option that is set, as the native part takes them."""
    register(conf)
    try:
        proxy = common.ConfigOptsProxy(conf, url, GROUP)
    except (cfg.NoSuchOptError, ValueError) as error:
        raise errors.InvalidOptions(
            f"the query of transport_url sets options of [{GROUP}]: {error}"
        ) from error
    found: list[tuple[str, str]] = []
    of_table = {row["name"]: row for row in _native.option_table()}
    for group, opts in options().items():
        for opt in opts:
            value = getattr(proxy[group], opt.dest)
            if value is None or value == []:
                continue
            name = opt.name
            native = of_table[name]["group"]
            found.append((f"{native}.{name}", _text(value)))
    found.append(("DEFAULT.transport_url", _url(url)))
    if control_exchange:
        found.append(("DEFAULT.control_exchange", control_exchange))
    return found
