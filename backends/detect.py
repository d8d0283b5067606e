"""Finding out what answers at an address, and what it says of itself."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from core.errors import ConfigError, SetupError

DEFAULT_URL = "http://localhost:30000"
# An engine's description may hold what nobody should find in a run folder.
SECRET = re.compile(r"api_key|secret|password|hf_token|authorization", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What one replica says it is. None where it does not say."""

    url: str
    kind: str  # a key of BACKENDS
    version: str | None
    model: str | None
    context_length: int | None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Address:
    """One replica's resolved address: workers connect without asking a name server again."""

    url: str
    host_header: str
    ip: str
    port: int


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of a replica's URL. Raises ConfigError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(f"--server-url {url}: the port is not a number up to 65535") from None
    if parts.scheme != "http":
        raise ConfigError(
            f"--server-url {url}: only http:// is supported, engines serve plain HTTP"
        )
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"--server-url {url}: expected http://HOST:PORT and nothing else")
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
    if model_info is not None:
        return _describe_sglang(address, model_info, timeout_s)
    version = _first(address, ("/version",), timeout_s)
    models = _first(address, ("/v1/models",), timeout_s)
    if version is None and models is None:
        raise SetupError(
            f"{address.url}: something answers, but it is neither SGLang nor vLLM: "
            "check the address, or name the engine with --backend"
        )
    return _describe_vllm(address, version or {}, models or {})


def _describe_sglang(address: Address, model: dict[str, Any], timeout_s: float) -> EngineInfo:
    server = _first(address, ("/server_info", "/get_server_info"), timeout_s) or {}
    return EngineInfo(
        url=address.url,
        kind="sglang",
        version=server.get("version"),
        model=model.get("model_path"),
        context_length=server.get("context_length"),
        details={"model_info": without_secrets(model), "server_info": without_secrets(server)},
    )


def _describe_vllm(address: Address, version: dict[str, Any], models: dict[str, Any]) -> EngineInfo:
    served = (models.get("data") or [{}])[0]
    return EngineInfo(
        url=address.url,
        kind="vllm",
        version=version.get("version"),
        model=served.get("id"),
        context_length=served.get("max_model_len"),
        details={"models": without_secrets(models)},
    )


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
    # No proxy from the environment: the measurement talks to the engine directly, so do we.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address.url + path, timeout=timeout_s) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError:
        return None
    except ValueError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SetupError(
            f"no engine answers at {address.url} ({reason}): start one, or correct --server-url"
        ) from None
    return found if isinstance(found, dict) else None
