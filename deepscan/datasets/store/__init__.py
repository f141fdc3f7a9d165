"""Crops on disk: archives of a video's people, their manifest, packs of stills, and the journal that a run resumes from."""
