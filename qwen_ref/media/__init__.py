"""Pictures and clips to what the vision tower is given. Read it in this order:

    parts.py       the parts of a message that are pictures or clips, and what fields they may have
    uri.py         what a text may be: a path, a file:// URL, a data URI
    images.py      a file, bytes, a Pillow image or an array -> patches of one image
    video.py       a file, a folder, images or an array -> frames chosen, and their patches pair by pair
    patches.py     resized pixels -> normalized patches, in the order that both share
    show.py        an image -> coloured text, for people

Bit for bit what transformers' processors for Qwen3.5 give; images.py says what differs of a file with
transparency, video.py where a resized frame may differ, and by how much.
"""
