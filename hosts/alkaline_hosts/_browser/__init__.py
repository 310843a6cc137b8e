"""The JavaScript of the hosts in a browser, and how a page that allows no eval gets it."""
