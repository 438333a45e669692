"""What the events API tells about itself: limits, event types, and JSON Schemas of their parts."""

from typing import Any

from twinfra.data.edge.events.frames import EVENTS, GROUPS, MOVE, OPTIONS, SELF
from twinfra.data.edge.settings import EdgeSettings

DRAFT = "http://json-schema.org/draft-06/schema#"
DESCRIPTION = "Changes of files and directories, in the words of inotify(7)"
ID = "urn:twinfra:edge:events:inotify:"
MANAGEMENT = ("IN_IGNORED",)


def about(settings: EdgeSettings) -> dict[str, Any]:
    """Return the limits of channels."""
    return {
        "channels": {
            "lifetimeWhenDisconnected": {
                "maximum": settings.channel_timeout_max_s,
                "minimum": 1,
                "default": settings.channel_timeout_s,
            },
            "maximumPerUser": settings.max_channels_per_user,
        }
    }


def selector() -> dict[str, Any]:
    """Return the schema of an ``inotify`` selector."""
    flags = sorted(EVENTS | OPTIONS | set(GROUPS))
    return {
        "$id": ID + "selector",
        "$schema": DRAFT,
        "type": "object",
        "required": ["path"],
        "additionalProperties": False,
        "properties": {
            "path": {
                "description": "a directory or file below /dav that exists",
                "type": "string",
                "pattern": "^/(.*[^/])?$",
            },
            "flags": {
                "description": "which events; all by default",
                "type": "array",
                "items": {"type": "string", "enum": flags},
            },
            "recursive": {
                "description": "also everything below; names are then paths within it",
                "type": "boolean",
                "default": False,
            },
        },
    }


def event() -> dict[str, Any]:
    """Return the schema of an ``inotify`` event."""
    masks = sorted(EVENTS - MOVE - SELF)
    return {
        "$id": ID + "event",
        "$schema": DRAFT,
        "oneOf": [
            _event([*masks, "IN_ISDIR"], "name"),
            _event([*sorted(MOVE), "IN_ISDIR"], "name", "cookie"),
            _event([*sorted(EVENTS - MOVE), "IN_ISDIR"]),
            _event(list(MANAGEMENT)),
        ],
    }


def _event(masks: list[str], *names: str) -> dict[str, Any]:
    mask = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": masks}}
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["mask", *names],
        "additionalProperties": False,
        "properties": {"mask": mask, **dict.fromkeys(names, text)},
    }
