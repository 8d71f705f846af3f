"""Damaged files, made by their structure, for every reader of untrusted input.

    python -m tests.fuzz --n 10000 --seed 7    so many cases a reader, and a table

A case writes intact files into a folder of its own, damages them once or a few times
(`damage.py`), signs half of them anew so that the readers behind digests are reached,
and reads them (`readers.py`). It must end in one of two ways: refused in one line; or
accepted, bounded, finite, of the right types, and equal to the intact files wherever no
valid digest vouches for the change (`harness.py`). Files that have no digests, such as
captions and configs, are the exception: a change that leaves them well formed cannot be
told from what a user wrote.
"""
