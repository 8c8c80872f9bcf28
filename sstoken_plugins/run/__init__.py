"""A selection at work: passes, loss, metrics, and `selector`, the facade that integrations talk to."""
