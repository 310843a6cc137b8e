"""The inspector: a page that shows runs, and the reader of histories in JavaScript that it is made with."""
