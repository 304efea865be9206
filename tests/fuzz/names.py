"""The targets' names, apart from the targets: atheris must see what those import being imported."""

NAMES = (
    *("from_host", "from_peer", "opener", "host", "peer"),
    *("http", "media_request", "playlist", "tags", "inspect", "ogg", "mpeg"),
    *("config", "options", "keys", "identity", "journal", "snapshot", "rows", "search"),
)
