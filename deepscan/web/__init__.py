"""The web page and the JSON API of ``deepscan serve``. Needs ``pip install 'deepscan-video[web]'``."""
