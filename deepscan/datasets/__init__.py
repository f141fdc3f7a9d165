"""Corpora for training and measuring.

What belongs here: reading a corpus (``readers``), dividing it (``splits``), cutting its faces into a store
(``preprocess``, ``store``), opening stores and corpora as samples (``dataset``, ``data``, ``training_sources``), and
the page to look at before training (``contact_sheet``, ``dataset_stats``). Nothing here knows of a network's training.
"""
