"""What the services share: values, events, the fold/mark/settle core and the shells around it."""
