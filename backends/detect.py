"""Finding out what answers at an address, and what it says of itself."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from backends.info import EngineInfo, sglang_info, vllm_info
from backends.pages import fetch
from core.errors import ConfigError, SetupError

DEFAULT_URL = "http://localhost:30000"
# vLLM in development mode first looks at the whole machine for it, once.
VLLM_CONFIG, VLLM_CONFIG_TIMEOUT_S = "/server_info?config_format=json", 20.0
# An engine's description may hold what nobody should find in a run folder.
SECRET = re.compile(r"api_key|secret|password|hf_token|authorization", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """One replica's resolved address: workers connect without asking a name server again."""

    url: str
    host_header: str
    ip: str
    port: int


def parse_url(url: str, where: str = "--server-url") -> tuple[str, int]:
    """Host and port of a replica's URL. Raises ConfigError, which says `where` the URL stands."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(f"{where} {url}: the port is not a number up to 65535") from None
    if parts.scheme != "http":
        raise ConfigError(f"{where} {url}: only http:// is supported, engines serve plain HTTP")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"{where} {url}: expected http://HOST:PORT and nothing else")
    return parts.hostname, port or 80


def resolve(url: str) -> Address:
    """Look a replica's host up once. Raises SetupError when its name is unknown."""
    host, port = parse_url(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"--server-url {url}: host {host!r} is unknown ({error})") from None
    # Engines listen on IPv4 more often than on IPv6; "localhost" may give both.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    literal = f"[{host}]" if ":" in host else host
    return Address(f"http://{literal}:{port}", f"{literal}:{port}", str(found[0][4][0]), port)


def describe(address: Address, timeout_s: float) -> EngineInfo:
    """Ask the engine at `address` what it is. Raises SetupError when nothing usable answers."""
    model_info = _first(address, ("/model_info", "/get_model_info"), timeout_s)
    models = get_json(address, "/v1/models", timeout_s)
    if model_info is not None:
        server = _first(address, ("/server_info", "/get_server_info"), timeout_s)
        return sglang_info(
            address.url, without_secrets(model_info), without_secrets(server), models
        )
    version = get_json(address, "/version", timeout_s)
    if version is None and models is None:
        raise SetupError(
            f"{address.url}: something answers, but it is neither SGLang nor vLLM: "
            "check the address, or name the engine with --backend"
        )
    config = without_secrets(_vllm_config(address))
    return vllm_info(
        address.url, version, without_secrets(models), _metrics(address, timeout_s), config
    )


def _metrics(address: Address, timeout_s: float) -> bytes:
    """The page with the engine's figures; empty where it has none or is too slow with it."""
    try:
        status, page = fetch(f"{address.url}/metrics", timeout_s)
    except OSError:
        return b""
    return page if status == 200 else b""


def _vllm_config(address: Address) -> dict[str, Any] | None:
    """What vLLM says in development mode; a slow answer is none, as it is only a nicety."""
    try:
        found = get_json(address, VLLM_CONFIG, VLLM_CONFIG_TIMEOUT_S)
    except SetupError:
        return None
    if found is not None:
        found.pop("system_env", None)  # a list of all that is installed there
    return found


def without_secrets(value: Any) -> Any:
    """The same JSON value with the contents of secret-looking fields replaced."""
    if isinstance(value, dict):
        return {
            key: "***" if SECRET.search(str(key)) and item else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def _first(address: Address, paths: tuple[str, ...], timeout_s: float) -> dict[str, Any] | None:
    """The JSON object at the first path that has one; None where all answer something else."""
    for path in paths:
        found = get_json(address, path, timeout_s)
        if found is not None:
            return found
    return None


def get_json(address: Address, path: str, timeout_s: float) -> dict[str, Any] | None:
    """GET a JSON object; None for any other answer. Raises SetupError when nothing answers."""
    try:
        status, body = fetch(address.url + path, timeout_s)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SetupError(
            f"no engine answers at {address.url} ({reason}): start one, or correct --server-url"
        ) from None
    try:
        found = json.loads(body) if status == 200 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
