"""The web page and the JSON API of ``deepscan serve``. Needs the optional part: ``pip install 'deepscan[web]'``."""
