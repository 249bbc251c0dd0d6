"""Who the user is, and good-till-triggered orders, over HTTP. Sessions, which need no token, are the server's."""

from typing import Any

from broker_connector.paper import wire
from broker_connector.paper.gtt import trigger_json, wish_of
from broker_connector.paper.operations import Asked, Operation


def profile(asked: Asked) -> Any:
    """GET /user/profile."""
    return wire.profile_json(asked.account.account_id)


def full_profile(asked: Asked) -> Any:
    """GET /user/profile/full."""
    return wire.full_profile_json(asked.account.account_id)


def triggers(asked: Asked) -> Any:
    """GET /gtt/triggers."""
    account = asked.account
    return [trigger_json(account.account_id, trigger) for trigger in account.triggers.by_id.values()]


def trigger(asked: Asked) -> Any:
    """GET /gtt/triggers/{trigger_id}."""
    return trigger_json(asked.account.account_id, asked.account.triggers.find(asked.path["trigger_id"]))


def place_trigger(asked: Asked) -> Any:
    """POST /gtt/triggers."""
    wish = wish_of(asked.form, asked.exchange.by_name)
    return {"trigger_id": asked.account.triggers.add(wish, asked.now).trigger_id}


def modify_trigger(asked: Asked) -> Any:
    """PUT /gtt/triggers/{trigger_id}."""
    wish = wish_of(asked.form, asked.exchange.by_name)
    return {"trigger_id": asked.account.triggers.change(asked.path["trigger_id"], wish, asked.now).trigger_id}


def delete_trigger(asked: Asked) -> Any:
    """DELETE /gtt/triggers/{trigger_id}."""
    return {"trigger_id": asked.account.triggers.remove(asked.path["trigger_id"]).trigger_id}


OPERATIONS = (
    Operation("profile", "GET", "/user/profile", profile),
    Operation("profile", "GET", "/user/profile/full", full_profile),
    Operation("triggers", "GET", "/gtt/triggers", triggers),
    Operation("trigger", "GET", "/gtt/triggers/{trigger_id}", trigger),
    Operation("place_trigger", "POST", "/gtt/triggers", place_trigger),
    Operation("modify_trigger", "PUT", "/gtt/triggers/{trigger_id}", modify_trigger),
    Operation("delete_trigger", "DELETE", "/gtt/triggers/{trigger_id}", delete_trigger),
)
