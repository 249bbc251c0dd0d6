"""The HTTP interface's process."""

from functools import partial

import uvicorn

from engine import bootstrap
from engine.api.app import Hooks, create_app
from models.repositories.accounts import Accounts


def main() -> None:
    """Serve until told to stop."""
    shared = bootstrap.parts("api")
    accounts = Accounts(bootstrap.database(shared.settings))
    host, port = shared.settings.api_host, shared.settings.api_port
    hooks = Hooks(accounts.named, bootstrap.postbacks(shared).follow, shared.log)
    app = create_app(hooks, partial(shared.log, "api_ready", host=host, port=port))
    uvicorn.run(app, host=host, port=port, log_config=None, access_log=False)
