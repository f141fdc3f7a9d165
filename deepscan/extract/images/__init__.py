"""Stills: reading them as they are displayed, and high dynamic range, which videos have, too."""
