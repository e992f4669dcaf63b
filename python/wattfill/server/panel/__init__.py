"""The admin panel: pages of HTML under ``/admin``, over the functions that the API uses.

Every page works without script; a small one keeps the pictures fresh and moves the what-if.
"""

from wattfill.server.panel.pages import routes

__all__ = ["routes"]
