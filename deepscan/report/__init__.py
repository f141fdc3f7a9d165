"""Results for people and programs: tables, JSON, CSV, the log that a run resumes from, model cards; pages in html/."""
