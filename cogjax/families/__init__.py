"""What each paper is: sizes, vocabularies and layouts, one family per file."""
