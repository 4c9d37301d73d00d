"""The page at ``/docs``: it reads ``/openapi.json`` and shows it. One file, nothing fetched from elsewhere."""

from pathlib import Path

DOCS_PAGE = Path(__file__).with_name("docs.html").read_bytes()
