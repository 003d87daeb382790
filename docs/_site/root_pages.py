"""Pages of the site that are files at the repository's root, so that each text exists once."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that MkDocs has found in the folder docs/."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        content = in_the_site((root / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=content))
    return files


def in_the_site(text: str) -> str:
    """Return a text with links to pages of the site.

    A link to a file that is not on the site becomes plain text.
    """
    text = re.sub(r"\]\(docs/", "](", text)
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?:deploy|examples)/[^)]*\)", r"\1", text)
