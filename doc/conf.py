import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import taky_twisted

project = "taky_twisted"
author = "taky_twisted contributors"
copyright = f"2026, {author}"
version = release = taky_twisted.__version__

nitpicky = True
exclude_patterns = ["_build", "newsfragments"]
html_theme = "alabaster"
html_theme_options = {"description": "A TAK server", "page_width": "60rem", "fixed_sidebar": True}
html_show_sourcelink = False
