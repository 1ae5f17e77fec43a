"""Fuzz targets: whatever bytes a stranger sends, a parser says what is wrong with them, soon, and in little memory.

::

    python -m tests.fuzz --list
    python -m tests.fuzz xml_events --seconds 60
    python -m tests.fuzz --all --seconds 30 --jobs 2

    __main__ --one process per target--> child --> atheris, or where that is not installed `mutation`
                                           `-----> targets/NAME.py: one `Target` each

``corpus/NAME`` holds inputs of our own: made by hand, and what the long runs found, made small. ``test_corpus`` gives
all of them to their targets, so that what was found once stays found.
"""
