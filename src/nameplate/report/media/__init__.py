"""Media: a view laid out for a terminal, as Markdown and as an HTML page. None decides what is said."""
