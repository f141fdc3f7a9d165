"""What the network sees: from a file to sampled frames, faces, followed people and their crops.

Rooms: :mod:`images`, :mod:`video` and :mod:`isolation` read files, :mod:`file_facts` what they say of themselves,
:mod:`faces` finds faces; the modules beside them turn arguments into files, and faces into tracks, crops and people.
"""
