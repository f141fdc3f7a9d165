"""Crops on disk: archives of people, their manifest, packs of stills, and the journal that a run resumes from."""
