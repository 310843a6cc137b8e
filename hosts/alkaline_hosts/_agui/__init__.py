"""AG-UI: a workflow as an agent that a page talks to. `ag_ui_app` is the door."""
