"""Pages that suites write: HTML, inline SVG, one page a suite."""
