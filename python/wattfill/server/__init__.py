"""The REST API: groups, charge stations and sessions over HTTP, kept in SQLite or PostgreSQL.

``wattfill serve`` starts it; ``docs/server.md`` is its manual. `wattfill.server.app.create` makes
the application for whoever runs it otherwise. The extra ``server`` has the libraries that it needs.
"""
