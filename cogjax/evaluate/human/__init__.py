"""Images judged by people: a page for raters, and what their answers say."""
