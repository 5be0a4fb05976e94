"""No request may send an engine, or what an engine calls, to an address of the client's choice (SSRF).

Engines fetch the images, videos and audio that a message names by URL, from inside the operator's network, where
clouds keep their credentials at well-known addresses. So a URL that is not `data:` is refused unless its host is
allowed. Redirects of an allowed host are followed by the engine, not seen here: allow hosts that do not redirect
for strangers, and start vLLM with `--allowed-media-domains` as well.

Also refused are fields by which a request tells the engine other addresses: vLLM's `kv_transfer_params` and
`ec_transfer_params` (machines that hold a prompt's cache), and `server_url` of MCP tools.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from alphatier_server.errors import InvalidRequest

# What ends every such key; JSON may spell any letter as \\u0075, so a body with such an escape is looked at as well.
_HINTS = (b'url"', b'_params"', b"\\u")
_TRANSFERS = ("kv_transfer_params", "ec_transfer_params")
_ROOTS = ("messages", "input", "system", "instructions", "prompt")
_MEDIA = frozenset({"image_url", "video_url", "audio_url", "file_url"})
_SOURCES = ("url", "image", "document", "file")
_ARGUMENTS = ("tool_use", "server_tool_use", "mcp_tool_use")

# Strict on purpose: what two parsers might read differently (user:password@, backslashes, spaces) is no URL here.
_URL = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?#][^\s\\\x00-\x1f\x7f]*)?", re.I)


def refuse_remote_media(raw: bytes, values: Mapping[str, Any], allowed_hosts: Collection[str] = ()) -> None:
    """Raise InvalidRequest where the body, `values` as parsed from `raw`, names an address that is not allowed.

    `allowed_hosts` are hosts (`example.org`) or all below one (`*.example.org`), in lower case. A body without
    any such field costs three searches in its bytes.
    """
    find = raw.find  # cheaper than `in`, which first tries bytes as a number
    if find(_HINTS[0]) < 0 and find(_HINTS[1]) < 0 and find(_HINTS[2]) < 0:
        return
    extra = values.get("vllm_xargs")
    for name in _TRANSFERS:
        if values.get(name) is not None or (isinstance(extra, dict) and name in extra):
            raise InvalidRequest(
                f"{name} names other machines to the engine; the gateway does not take it from clients.",
                code="field_not_allowed",
                param=name,
            )
    for tool in _list(values.get("tools")):
        if isinstance(tool, dict) and tool.get("server_url") is not None:
            _check("tools", "server_url", tool["server_url"], allowed_hosts)
    for name in _ROOTS:
        _walk(name, values.get(name), allowed_hosts)


def _walk(root: str, value: Any, allowed: Collection[str]) -> None:
    """Check every object below a member of the body, without recursion: a client chooses how deep it goes."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += [item for item in value if item and isinstance(item, (dict, list))]
        elif isinstance(value, dict):
            waiting.extend(_parts(root, value, allowed))


def _parts(root: str, part: dict[str, Any], allowed: Collection[str]) -> Iterator[Any]:
    """Check one object's own URLs; yield the members that may hold others.

    Arguments of tool calls are words between model and client: nobody fetches a URL in them.
    """
    kind = part.get("type")
    for key, value in part.items():
        if key in _MEDIA:
            url = value.get("url") if isinstance(value, dict) else value
            if url is not None:
                _check(root, key, url, allowed)
        elif key == "url" and kind in _SOURCES:
            _check(root, key, value, allowed)
        elif isinstance(value, (dict, list)) and not (key == "input" and kind in _ARGUMENTS):
            yield value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check(root: str, key: str, url: Any, allowed: Collection[str]) -> None:
    if isinstance(url, str):
        if url[:5].lower() == "data:":
            return
        found = _URL.fullmatch(url)
        if found is not None and _is_allowed(found[1].lower().rstrip("."), allowed):
            return
    hosts = f"data: URLs and the hosts {', '.join(sorted(allowed))}" if allowed else "only data: URLs"
    raise InvalidRequest(
        f"{key} in {root} is a URL that the gateway does not let engines fetch; it takes {hosts}.",
        code="url_not_allowed",
        param=root,
    )


def _is_allowed(host: str, allowed: Collection[str]) -> bool:
    if host in allowed:
        return True
    return any(pattern.startswith("*.") and host.endswith(pattern[1:]) for pattern in allowed)
